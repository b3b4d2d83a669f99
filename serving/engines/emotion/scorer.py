"""Which emotions are in this text? A message or review in, calibrated probabilities of emotions, groups and frustration out."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Arrays
from kernels.types import F64, Bool
from serving.engines.consent import PROFILING, profiling_problems
from serving.engines.emotion.types import REMARKS, EmotionRequest, EmotionResponse, Remark
from serving.engines.engine import Engine, Scorer
from serving.engines.types import epoch_ms, from_epoch_ms, invalid_moment, is_valid_moment
from serving.errors import InvalidRequestError
from serving.settings import Settings
from training import device
from training.tables import texts as text_table
from training.tables.texts import EKMAN, EMOTIONS

if TYPE_CHECKING:
    from training.models.emotion.model import EmotionModel, EmotionScores
    from training.registry.bundle import Bundle


class EmotionColumns(NamedTuple):
    """Texts, and the threshold of each for its labels: float64 [texts], NaN for the model's own thresholds."""

    texts: Sequence[str]
    min_probability: F64


class EmotionScorer:
    """The emotion question's Scorer. `clock` returns seconds since 1970."""

    def __init__(self, model: "EmotionModel", clock: Callable[[], float] = time.time) -> None:
        self._model, self._clock = model, clock

    @property
    def version(self) -> str:
        """Return the version of the model."""
        return self._model.version

    def tune(self, live: Scorer | None = None) -> Sequence[str]:
        """Return nothing: there is only one implementation."""
        return ()

    def refusal(self, request: EmotionRequest) -> None:
        """Return None: every text can be scored."""

    def columns(self, requests: Sequence[EmotionRequest]) -> EmotionColumns:
        """Return the requests' texts."""
        thresholds = [np.nan if request.min_probability is None else request.min_probability for request in requests]
        return EmotionColumns([request.text for request in requests], np.array(thresholds, np.float64))

    def without_explanations(self, columns: EmotionColumns) -> EmotionColumns:
        """Return the columns unchanged: nothing can be left out."""
        return columns

    def base_rate(self, request: EmotionRequest) -> None:
        """Return None: an answer that is the same for every text is of no use."""

    def run(self, columns: EmotionColumns) -> "EmotionScores":
        """Return probabilities as columns."""
        scores, threshold = self._model.score(columns.texts), columns.min_probability[:, None]
        return scores._replace(present=np.where(np.isnan(threshold), scores.present, scores.probability >= threshold))

    def rows(self, requests: Sequence[EmotionRequest], predictions: "EmotionScores") -> list[EmotionResponse]:
        """Return one response for each request, in order."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        ekman = slice(len(EMOTIONS), len(EMOTIONS) + len(EKMAN))
        table = zip(requests, predictions.probability, predictions.present, remarks_of(predictions), strict=True)
        return [
            EmotionResponse(
                customer_id=request.customer_id,
                session_id=request.session_id,
                labels=above(EMOTIONS, p, present),
                probabilities=dict(zip(EMOTIONS, p[: len(EMOTIONS)].tolist(), strict=True)),
                ekman=dict(zip(EKMAN, p[ekman].tolist(), strict=True)),
                ekman_labels=above(tuple(EKMAN), p[ekman], present[ekman]),
                frustration=float(p[-1]),
                frustration_threshold=self._model.frustration_threshold,
                remarks=remarks,
                degradation="none",
                as_of=now if request.as_of is None else from_epoch_ms(epoch_ms(request.as_of)),
                model_version=self.version,
                timestamp=now,
            )
            for request, p, present, remarks in table
        ]

    def table(self, frame: Any) -> EmotionColumns:
        """Return a table's texts."""
        texts = text_table.texts(frame)
        return EmotionColumns(texts, np.full(len(texts), np.nan))

    def output_columns(self, predictions: "EmotionScores") -> dict[str, NDArray[Any] | list[Any]]:
        """Return the output columns of a batch job: a probability for each emotion, then labels, groups, frustration and remarks."""
        p, present = predictions.probability, predictions.present
        ekman = slice(len(EMOTIONS), len(EMOTIONS) + len(EKMAN))
        return {
            **{name: p[:, place] for place, name in enumerate(EMOTIONS)},
            "labels": [",".join(above(EMOTIONS, *row)) for row in zip(p, present, strict=True)],
            **{f"ekman:{name}": p[:, ekman][:, place] for place, name in enumerate(EKMAN)},
            "ekmanLabels": [",".join(above(tuple(EKMAN), *row)) for row in zip(p[:, ekman], present[:, ekman], strict=True)],
            "frustration": p[:, -1],
            "frustrationThreshold": [self._model.frustration_threshold] * len(p),
            "remarks": [",".join(remarks) for remarks in remarks_of(predictions)],
            "modelVersion": [self.version] * len(p),
        }


def remarks_of(predictions: "EmotionScores") -> list[list[Remark]]:
    """Return the remarks on how each text was read."""
    table = zip(predictions.cut, predictions.empty, predictions.unreadable, predictions.foreign, strict=True)
    return [list(compress(REMARKS, row)) for row in table]


def above(names: Sequence[str], p: F64, present: Bool) -> list[str]:
    """Return the names that are present, most probable first; p, present: [at least names]."""
    return [names[place] for place in np.argsort(-p[: len(names)], kind="stable").tolist() if present[place]]


def check(request: EmotionRequest) -> None:
    """Raise InvalidRequestError for what types cannot express."""
    wrong = [invalid_moment("asOf")] if request.as_of is not None and not is_valid_moment(request.as_of) else []
    wrong += profiling_problems(request.customer_id, request.consent)
    if wrong:
        raise InvalidRequestError(wrong)


def load(bundle: "Bundle", settings: Settings, arrays: Arrays | None = None) -> EmotionScorer:
    """Return the scorer of a bundle. Raises BundleError for a bundle that does not fit."""
    from training.models.emotion.model import EmotionModel

    return EmotionScorer(EmotionModel.load(bundle, device.resolve(settings.device)))


EXAMPLE: Mapping[str, Any] = {
    "text": "Third time the parcel is late, and nobody answers the phone. I have had enough!",
    "customerId": "c-1",
    "consent": [PROFILING],
    "sessionId": "s-1",
    "minProbability": 0.25,
}

EMOTION = Engine(
    name="emotion",
    route="/v1/emotion",
    summary="Which emotions are in this text? 27 emotions and neutral, their groups, and the probability of frustration.",
    request=EmotionRequest,
    response=EmotionResponse,
    example=EXAMPLE,
    check=check,
    load=load,
    optional=True,
    pooled=True,
)
