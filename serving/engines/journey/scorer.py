"""What happens next in this session? Events in; probabilities, the next best step, and friction out."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Arrays
from kernels.sessions import friction
from kernels.types import F32
from serving.engines.engine import Engine, Scorer
from serving.engines.journey import next_step
from serving.engines.journey.answers import JourneyPredictions, response
from serving.engines.journey.checks import check
from serving.engines.journey.columns import JourneyInputs, JourneyInputsBuilder, SessionSnapshot
from serving.engines.journey.next_step import StepChooser
from serving.engines.journey.session_memory import MEMORY
from serving.engines.journey.types import JourneyRequest, JourneyResponse
from serving.settings import CONFIGS, Settings
from training import device

if TYPE_CHECKING:
    from training.models.journey.model import JourneyModel
    from training.registry.bundle import Bundle


class JourneyScorer:
    """The journey question's Scorer. `clock` returns seconds since 1970."""

    def __init__(self, model: "JourneyModel", chooser: StepChooser, clock: Callable[[], float] = time.time) -> None:
        self._model, self._chooser, self._clock = model, chooser, clock
        self._builder = JourneyInputsBuilder(model)

    @property
    def version(self) -> str:
        """Return the version of the model."""
        return self._model.version

    def tune(self, live: Scorer | None = None) -> Sequence[str]:
        """Choose the fastest implementation, by measuring or as `live` did, and return what was chosen and why."""
        return self._model.tune(live._model if isinstance(live, JourneyScorer) else None)

    def refusal(self, request: JourneyRequest) -> None:
        """Return None: whatever is not known of a session is missing."""

    def columns(self, requests: Sequence[JourneyRequest]) -> JourneyInputs:
        """Return the requests as columns."""
        return self._builder.of_requests(requests, self._clock() * 1000)

    def without_explanations(self, columns: JourneyInputs) -> JourneyInputs:
        """Return the columns unchanged: nothing can be left out."""
        return columns

    def base_rate(self, request: JourneyRequest) -> None:
        """Return None: an answer that is the same for every session is of no use."""

    def run(self, columns: JourneyInputs) -> JourneyPredictions:
        """Return scores as columns."""
        score = np.empty(len(columns.counts))
        friction.friction_scores(columns.counts, score)
        scores = self._model.score(columns.columns, [one.before for one in columns.snapshots])
        return JourneyPredictions(columns, scores, score)

    def rows(self, requests: Sequence[JourneyRequest], predictions: JourneyPredictions) -> list[JourneyResponse]:
        """Return one response for each request, in order."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        return [response(self._model, self._chooser, request, row, predictions, now) for row, request in enumerate(requests)]

    def table(self, frame: Any) -> JourneyInputs:
        """Return the sessions of a table of events as columns; they have steps only, and no friction."""
        return self._builder.of_table(frame)

    def output_columns(self, predictions: JourneyPredictions) -> dict[str, NDArray[Any] | list[Any]]:
        """Return the output columns of a batch job."""
        scores, inputs = predictions.scores, predictions.inputs
        value = None if scores.order_value is None else scores.conversion * scores.order_value
        optional = {"valuePrediction": value, "churnRisk": scores.churn}
        return {
            "sessionId": inputs.ids,
            "conversionProbability": scores.conversion,
            "exitProbability": scores.exit,
            **{name: column for name, column in optional.items() if column is not None},
            "unknownPages": inputs.unknown_pages,
            "missingFeatureCount": np.isnan(inputs.columns.attributes).sum(axis=1),
            "modelVersion": [self.version] * len(scores.conversion),
        }

    def snapshots(self, requests: Sequence[JourneyRequest], predictions: JourneyPredictions) -> list[bytes | None]:
        """Return the state to store for each session, None where the request does not ask for it."""
        table = zip(requests, predictions.inputs.snapshots, predictions.scores.after, strict=True)
        return [self._packed(snapshot, states) if request.remember else None for request, snapshot, states in table]

    def _packed(self, snapshot: SessionSnapshot, states: "F32 | None") -> bytes | None:
        if snapshot.pending is not None:
            return snapshot.pending.pack()
        if snapshot.state is None or states is None:
            return None
        return snapshot.state._replace(version=self.version, states=states).pack()


def prepare(bundle: "Bundle") -> Arrays:
    """Return the trees of a bundle as arrays, checked against XGBoost. Raises BundleError."""
    from training.models.journey.model import JourneyModel

    return JourneyModel.prepare(bundle)


def load(bundle: "Bundle", settings: Settings, arrays: Arrays | None = None) -> JourneyScorer:
    """Return the scorer of a bundle. Raises BundleError for a bundle that does not fit, SettingsError for steps that do not."""
    from training.models.journey.model import JourneyModel

    model = JourneyModel.load(bundle, arrays, device.resolve(settings.device))
    return JourneyScorer(model, next_step.load(CONFIGS / "steps.yaml", model.steps))


EXAMPLE: Mapping[str, Any] = {
    "sessionId": "s-1",
    "events": [
        {"type": "page_view", "timestamp": "2026-11-20T19:58:00Z", "page": "/", "pageKind": "home"},
        {"type": "page_view", "timestamp": "2026-11-20T19:58:21Z", "page": "/p/81", "pageKind": "product"},
        {"type": "click", "timestamp": "2026-11-20T19:58:40Z", "elementId": "add-to-cart", "x": 610, "y": 402},
        {"type": "click", "timestamp": "2026-11-20T19:58:40.4Z", "elementId": "add-to-cart", "x": 611, "y": 402},
        {"type": "click", "timestamp": "2026-11-20T19:58:40.8Z", "elementId": "add-to-cart", "x": 611, "y": 403},
        {"type": "page_view", "timestamp": "2026-11-20T19:58:50Z", "page": "/p/82", "pageKind": "product"},
        {"type": "wait", "timestamp": "2026-11-20T19:58:55Z", "waitMs": 5200},
        {"type": "page_view", "timestamp": "2026-11-20T19:59:30Z", "page": "/", "pageKind": "home"},
    ],
    "attributes": {"returning": 1, "mobile": 0, "timeOfDay": 20.97},
    "orderValue": 80,
    "currency": "EUR",
    "consent": ["marketing"],
    "utcOffsetMinutes": 60,
}

JOURNEY = Engine(
    name="journey",
    route="/v1/journey",
    summary="What happens next in this session? Purchase, exit, the next step, the best thing to do, and friction with its evidence.",
    request=JourneyRequest,
    response=JourneyResponse,
    example=EXAMPLE,
    check=check,
    prepare=prepare,
    load=load,
    optional=True,
    memory=MEMORY,
    pooled=True,
)
