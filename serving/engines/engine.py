"""What an engine is: one question of the API as data, and what a loaded model of it must be able to do.

A question is a folder of `serving/engines/` and one line in ENGINES (`serving/engines/__init__.py`). Route, decoding, batching, caching,
metrics, OpenAPI, batch job and contract tests follow from the fields of `Engine`. The smallest folder has two files:

    serving/engines/returns/types.py        what a request and a response are in JSON

        class ReturnRiskRequest(ApiModel, frozen=True, kw_only=True):
            order_id: Id
            features: dict[str, float | None]

        class ReturnRiskResponse(ApiModel, frozen=True, kw_only=True):
            order_id: str
            return_risk: Fraction
            degradation: Degradation
            basis: AnswerBasis = "model"
            model_version: str

    serving/engines/returns/scorer.py       a `Scorer`, and the `Engine` that describes the question

        class ReturnRiskColumns(NamedTuple):
            X: F32

        class ReturnRiskPredictions(NamedTuple):
            risk: F64

        class ReturnRiskScorer:
            def __init__(self, model: "ReturnRiskModel") -> None: ...
            def columns(self, requests: Sequence[ReturnRiskRequest]) -> ReturnRiskColumns: ...
            def run(self, columns: ReturnRiskColumns) -> ReturnRiskPredictions: ...
            def rows(self, requests, predictions) -> list[ReturnRiskResponse]: ...
            ...  # the other methods of `Scorer`

        def check(request: ReturnRiskRequest) -> None: ...
        def load(bundle: "Bundle", settings: Settings, arrays: Arrays | None = None) -> ReturnRiskScorer: ...

        RETURNS = Engine(name="returns", route="/v1/return-risk", ..., example=EXAMPLE, check=check, load=load)

A folder imports no other question's folder: what two questions share is a module beside this one. Models are imported inside `load` and
`prepare` (and under TYPE_CHECKING), so that importing ENGINES loads neither XGBoost nor Torch. `churn` is a small example to start from.

The order of calls in a server, for each model version:

    prepare(bundle)                      once per node, in another process; Arrays of NumPy arrays, shared with the replicas
    load(bundle, settings, arrays)       once per replica
    tune(live)                           once, before the model is live; then `example` is scored until it is warm

and for each batch of requests, where the calls of one batch run in one thread:

    check(request)                       once per request, right after decoding
    refusal(request)                     once per request, against the live model; a refused request is not part of a batch
    columns(requests)                    rows end here
    without_explanations(columns)        only when time is short
    run(columns)                         the model
    rows(requests, predictions)          one response for each request, in order

A batch job calls `table(frame)`, or `columns(requests)` for files of requests, then `run` and `output_columns`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from numpy.typing import NDArray

from kernels.arrays import Arrays
from serving.engines.details import NO_DETAILS, BatchDetails
from serving.engines.lookup import Lookup
from serving.engines.session_memory import SessionMemory
from serving.errors import RevenueEngineError
from serving.settings import Settings

if TYPE_CHECKING:
    from training.registry.bundle import Bundle


class Scorer(Protocol):
    """A loaded, warm model of one engine; it imports no Ray, HTTP or Redis.

    Every method but `tune` may be called from several threads and changes no state. n is the number of requests or table rows; n may be 0.
    """

    @property
    def version(self) -> str:
        """Return the version of the model, as every answer has it: `Bundle.version`."""

    def tune(self, live: "Scorer | None" = None) -> Sequence[str]:
        """Choose the fastest implementation on this machine by measuring, and return what was chosen and why, one line each.

        `live`: the scorer that answers meanwhile, of another version; its measurements may be taken over. Empty where nothing is chosen.
        """

    def refusal(self, request: Any) -> RevenueEngineError | None:
        """Return why this model cannot answer a valid request, None where it can: for example a text where it was trained on numbers."""

    def columns(self, requests: Sequence[Any]) -> Any:
        """Return the features of n requests as columns: a NamedTuple of the engine's own whose arrays and lists have length n.

        What time is short for is a field of it (`degradation`), so that `rows` can state it.
        """

    def without_explanations(self, columns: Any) -> Any:
        """Return the columns of answers without what is slow and not the score (degradation `no-explanation`).

        Returns them unchanged where nothing can be left out. The score must be the same to the bit.
        """

    def base_rate(self, request: Any) -> Any | None:
        """Return the best response without running the model (degradation `base-rate`), or None where there is no useful one.

        It is called when time is short: tens of microseconds at most.
        """

    def run(self, columns: Any) -> Any:
        """Return the predictions for n columns: a NamedTuple of the engine's own with n rows in every array.

        Row i depends on row i of the columns alone, to the bit, whatever else is in the batch. The exception is a table whose rows belong
        together, such as a catalogue of prices.
        """

    def rows(self, requests: Sequence[Any], predictions: Any) -> list[Any]:
        """Return one response Struct for each of the n requests, in order."""

    def table(self, frame: Any) -> Any:
        """Return the rows of a table (polars or pandas, columns named as for training) as `run` takes them.

        Raises CellError for a wrong cell and TableError for a wrong table.
        """

    def output_columns(self, predictions: Any) -> dict[str, NDArray[Any] | list[Any]]:
        """Return the output columns of a batch job by name, each of length n; `modelVersion` is one of them.

        Names and values are those of the response where they mean the same.
        """


class Load(Protocol):
    """How a model is loaded."""

    def __call__(self, bundle: "Bundle", settings: Settings, arrays: Arrays | None = None, /) -> Scorer:
        """Return the scorer of a verified bundle; `arrays`: what `prepare` returned for it, None to do that work here.

        Raises BundleError for a bundle of another task or format, SettingsError for a configuration file that does not fit the model.
        """


def _no_arrays(bundle: "Bundle") -> Arrays:
    return {}


@dataclass(frozen=True, slots=True)
class Engine:
    """One question: its route, its types, and how to load a model that answers it. Everything else follows from these fields.

    name: lower-case letters; the task's name on the command line, in the registry, in metrics and in placement settings.
    route: the path of its POST route, /v1/...
    summary: one sentence for the API documentation.
    request, response: msgspec Structs derived from `types.ApiModel`, keyword-only; optional request fields are `T | None = None`.
    example: a valid request as plain JSON values; it is shown in the documentation and warms a new model.
    check: raises InvalidRequestError or TooLargeError for what types cannot express.
    load: returns the scorer of a bundle.
    prepare: does the slow work of loading a bundle ahead of time, in another process, and returns its result as arrays. Absent: `load`
        does everything.
    optional: the server is ready without a model, and answers 503 until the registry has one; for questions without a default model.
    lookup: what a request may leave out because the feature store has it.
    memory: what is kept from one request to the next.
    pooled: the model is so slow that it would delay other questions, so a process of its own answers; settings may place it elsewhere.
    details: what a batch job can add to the answers.
    """

    name: str
    route: str
    summary: str
    request: type[msgspec.Struct]
    response: type[msgspec.Struct]
    example: Mapping[str, Any]
    check: Callable[[Any], None]
    load: Load
    prepare: Callable[["Bundle"], Arrays] = _no_arrays
    optional: bool = False
    lookup: Lookup | None = None
    memory: SessionMemory | None = None
    pooled: bool = False
    details: BatchDetails = NO_DETAILS

    def decode_example(self) -> Any:
        """Return the example as a request, decoded as one from a caller would be."""
        return msgspec.json.decode(msgspec.json.encode(self.example), type=self.request)
