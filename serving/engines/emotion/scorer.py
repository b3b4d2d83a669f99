"""How does this text feel? A message or review in, calibrated probabilities of emotions out, with the groups and a score of frustration."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from kernels.arrays import Arrays
from kernels.types import F64, Bool
from serving.engines.consent import PROFILING, Consent, lacking
from serving.engines.engine import Engine, Scorer
from serving.engines.types import ApiModel, Degradation, Fraction, Id, Moment, epoch_ms, is_sane, moment, not_sane
from serving.errors import InvalidRequestError
from serving.settings import Settings
from training import device
from training.tables import texts as emotion_table
from training.tables.texts import EKMAN, EMOTIONS, FRUSTRATION

if TYPE_CHECKING:
    from training.models.emotion.model import EmotionModel, Scores
    from training.registry.bundle import Bundle

MAX_LETTERS = 100_000
Remark = Literal["cut", "empty"]
REMARKS: tuple[Remark, ...] = ("cut", "empty")


class EmotionRequest(ApiModel, frozen=True, kw_only=True):
    """A text that a customer has sent, in English."""

    text: Annotated[str, Meta(max_length=MAX_LETTERS, description="A support message, a review. The first 256 word pieces are read.")]
    customer_id: Annotated[Id | None, Meta(description="Who wrote it, where that is known; passed through.")] = None
    consent: Consent = None
    session_id: Annotated[Id | None, Meta(description="The session it was written in; passed through.")] = None
    min_probability: Annotated[
        Fraction | None, Meta(description="From which probability on an emotion or group is a label; absent: each has its own threshold.")
    ] = None
    as_of: Annotated[Moment | None, Meta(description="When it was written; passed through. Absent: now.")] = None


class EmotionResponse(ApiModel, frozen=True, kw_only=True):
    """What readers of such a text mostly find in it: nothing about how its writer feels, and nothing to decide about a person by."""

    customer_id: str | None
    session_id: str | None
    labels: Annotated[list[str], Meta(description="The emotions above their threshold, the likeliest first; neutral is one. May be empty.")]
    probabilities: Annotated[
        dict[str, Fraction],
        Meta(description=f"Calibrated, of each of {len(EMOTIONS)}; several may be in a text, so that they need not add up to 1."),
    ]
    ekman: Annotated[dict[str, Fraction], Meta(description=f"Of any emotion of a group: {', '.join(EKMAN)}.")]
    ekman_labels: Annotated[list[str], Meta(description="The groups above their threshold, the likeliest first.")]
    frustration: Annotated[Fraction, Meta(description=f"Probability of any of {', '.join(FRUSTRATION)}.")]
    remarks: Annotated[
        list[Remark],
        Meta(description="cut: the text was longer than what is read; empty: nothing to read, the numbers are the training texts' shares."),
    ]
    degradation: Annotated[
        Degradation, Meta(description="What there was time for under load: everything, or an answer of a while ago (Age).")
    ]
    as_of: Annotated[datetime, Meta(tz=True, description="The request's, else when the answer was computed.")]
    model_version: str
    timestamp: Annotated[datetime, Meta(tz=True, description="When the answer was computed.")]


class Columns(NamedTuple):
    """Texts, and from which probability on something is a label of each: float64 [texts], NaN for the model's own thresholds."""

    texts: Sequence[str]
    least: F64


class EmotionScorer:
    """A loaded emotion model behind the engine's seam. `clock` returns seconds since 1970."""

    def __init__(self, model: "EmotionModel", clock: Callable[[], float] = time.time) -> None:
        self._model, self._clock = model, clock

    @property
    def version(self) -> str:
        """Return the version of the model."""
        return self._model.version

    def tune(self, live: Scorer | None = None) -> Sequence[str]:
        """Return nothing: there is nothing to choose."""
        return ()

    def refusal(self, request: EmotionRequest) -> None:
        """Return nothing: every text can be read."""

    def columns(self, requests: Sequence[EmotionRequest]) -> Columns:
        """Return the requests' texts."""
        least = [np.nan if request.min_probability is None else request.min_probability for request in requests]
        return Columns([request.text for request in requests], np.array(least, np.float64))

    def without_explanations(self, columns: Columns) -> Columns:
        """Return the columns as they are: nothing can be left out."""
        return columns

    def base_rate(self, request: EmotionRequest) -> None:
        """Return nothing: the same for every text says nothing of one."""

    def run(self, columns: Columns) -> "Scores":
        """Return probabilities as columns."""
        scores, least = self._model.score(columns.texts), columns.least[:, None]
        return scores._replace(present=np.where(np.isnan(least), scores.present, scores.probability >= least))

    def rows(self, requests: Sequence[EmotionRequest], answers: "Scores") -> list[EmotionResponse]:
        """Return one response for each request, in order."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        ekman = slice(len(EMOTIONS), len(EMOTIONS) + len(EKMAN))
        table = zip(requests, answers.probability, answers.present, answers.cut, answers.empty, strict=True)
        return [
            EmotionResponse(
                customer_id=request.customer_id,
                session_id=request.session_id,
                labels=above(EMOTIONS, p, present),
                probabilities=dict(zip(EMOTIONS, p[: len(EMOTIONS)].tolist(), strict=True)),
                ekman=dict(zip(EKMAN, p[ekman].tolist(), strict=True)),
                ekman_labels=above(tuple(EKMAN), p[ekman], present[ekman]),
                frustration=float(p[-1]),
                remarks=remarks(cut, empty),
                degradation="none",
                as_of=now if request.as_of is None else moment(epoch_ms(request.as_of)),
                model_version=self.version,
                timestamp=now,
            )
            for request, p, present, cut, empty in table
        ]

    def table(self, frame: Any) -> Columns:
        """Return a table's texts."""
        texts = emotion_table.texts(frame)
        return Columns(texts, np.full(len(texts), np.nan))

    def answers_frame(self, answers: "Scores") -> dict[str, NDArray[Any] | list[Any]]:
        """Return the output columns of a batch job: a probability for each label, then the labels, groups, frustration and remarks."""
        p, present = answers.probability, answers.present
        ekman = slice(len(EMOTIONS), len(EMOTIONS) + len(EKMAN))
        return {
            **{name: p[:, place] for place, name in enumerate(EMOTIONS)},
            "labels": [",".join(above(EMOTIONS, *row)) for row in zip(p, present, strict=True)],
            **{f"ekman:{name}": p[:, ekman][:, place] for place, name in enumerate(EKMAN)},
            "ekmanLabels": [",".join(above(tuple(EKMAN), *row)) for row in zip(p[:, ekman], present[:, ekman], strict=True)],
            "frustration": p[:, -1],
            "remarks": [",".join(remarks(*row)) for row in zip(answers.cut, answers.empty, strict=True)],
            "modelVersion": [self.version] * len(p),
        }


def remarks(cut: bool, empty: bool) -> list[Remark]:
    """Return what is to be said of how a text was read."""
    return [remark for remark, holds in zip(REMARKS, (cut, empty), strict=True) if holds]


def above(names: Sequence[str], p: F64, present: Bool) -> list[str]:
    """Return the names that are present, by their probability; p, present: [>= names]."""
    return [names[place] for place in np.argsort(-p[: len(names)], kind="stable").tolist() if present[place]]


def check(request: EmotionRequest) -> None:
    """Raise InvalidRequestError for what types cannot say."""
    wrong = [not_sane("asOf")] if request.as_of is not None and not is_sane(request.as_of) else []
    wrong += lacking(request.customer_id, request.consent)
    if wrong:
        raise InvalidRequestError(wrong)


def load(bundle: "Bundle", settings: Settings, parts: Arrays | None = None) -> EmotionScorer:
    """Return the scorer of a bundle. Raises BundleError for a bundle that does not match."""
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
    summary="What feeling is in this text? 27 emotions and neutral, their groups, and a score of frustration.",
    request=EmotionRequest,
    response=EmotionResponse,
    example=EXAMPLE,
    check=check,
    load=load,
    optional=True,
    pooled=True,
)
