"""What an engine is: one question of the API as data, and what a loaded model of it can do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from numpy.typing import NDArray

from kernels.arrays import Arrays
from serving.engines.lookup import Lookup
from serving.engines.session_memory import SessionMemory
from serving.errors import RevenueEngineError
from serving.settings import Settings

if TYPE_CHECKING:
    from training.registry.bundle import Bundle


class Scorer(Protocol):
    """A loaded, warm model of one engine; it knows nothing of Ray, HTTP or Redis. A batch never changes an answer."""

    @property
    def version(self) -> str:
        """Return the version of the model, as every answer carries it."""

    def tune(self, live: "Scorer | None" = None) -> Sequence[str]:
        """Choose what is fastest on this machine, by measuring it; return what was chosen and why, a line each.

        `live`: what answers meanwhile, and has measured already what it has in common with this one.
        """

    def refusal(self, request: Any) -> RevenueEngineError | None:
        """Return why this model cannot answer a request that is right in itself, None where it can."""

    def columns(self, requests: Sequence[Any]) -> Any:
        """Return the requests' features as columns: rows end here."""

    def without_explanations(self, columns: Any) -> Any:
        """Return the columns of an answer that leaves out what takes long and is not the score; as they are where nothing can be."""

    def base_rate(self, request: Any) -> Any | None:
        """Return the response that is best without a look at the model, or None where there is none."""

    def run(self, columns: Any) -> Any:
        """Return the answers as columns; row i depends on row i alone, bit for bit, but where a table says what ties its rows together."""

    def rows(self, requests: Sequence[Any], answers: Any) -> list[Any]:
        """Return one response Struct for each request, in order."""

    def table(self, frame: Any) -> Any:
        """Return a table's rows as the columns that `run` takes."""

    def answers_frame(self, answers: Any) -> dict[str, NDArray[Any] | list[Any]]:
        """Return the output columns of a batch job, by name."""


class Load(Protocol):
    """How a model is loaded."""

    def __call__(self, bundle: "Bundle", settings: Settings, parts: Arrays | None = None) -> Scorer:
        """Return the scorer of a verified bundle; `parts`: what `prepare` returned for it, where it was asked before."""


def _nothing(bundle: "Bundle") -> Arrays:
    return {}


@dataclass(frozen=True, slots=True)
class Engine:
    """One question: its route, its types, and how to load a model that answers it. Everything else follows from these fields.

    `check` raises what types cannot say: TooLargeError or InvalidRequestError. `example` serves the docs and warms a new model. `prepare`
    does what takes long about a bundle, perhaps in another process, and `load` makes a scorer of that and the bundle, or does it all.
    `lookup`: what a request may leave to be read from the feature store.
    `memory`: what is remembered from one request to the next.
    `pooled`: what it takes to answer would delay other questions, so that a process of its own does; settings may place it elsewhere.
    `optional`: a server is ready without a model of it, and answers 503 there until the registry has one: none can be made beforehand.
    """

    name: str
    route: str
    summary: str
    request: type[msgspec.Struct]
    response: type[msgspec.Struct]
    example: Mapping[str, Any]
    check: Callable[[Any], None]
    load: "Load"
    prepare: Callable[["Bundle"], Arrays] = _nothing
    optional: bool = False
    lookup: Lookup | None = None
    memory: SessionMemory | None = None
    pooled: bool = False

    def decode_example(self) -> Any:
        """Return the example as a request, decoded as one from a caller would be."""
        return msgspec.json.decode(msgspec.json.encode(self.example), type=self.request)
