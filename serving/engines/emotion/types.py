"""JSON types of the emotion question: a text in, probabilities of emotions out."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from serving.engines.consent import Consent
from serving.engines.types import AnswerBasis, ApiModel, Degradation, Fraction, Id, Moment
from training.tables.texts import EKMAN, EMOTIONS

MAX_LETTERS = 100_000
Remark = Literal["cut", "empty", "unreadable", "language"]
REMARKS: tuple[Remark, ...] = ("cut", "empty", "unreadable", "language")


class EmotionRequest(ApiModel, frozen=True, kw_only=True):
    """A text that a customer has written, in English."""

    text: Annotated[str, Meta(max_length=MAX_LETTERS, description="A support message or a review. The first 256 word pieces are read.")]
    customer_id: Annotated[Id | None, Meta(description="Who wrote it, if known; returned in the answer.")] = None
    consent: Consent = None
    session_id: Annotated[Id | None, Meta(description="The session it was written in; returned in the answer.")] = None
    min_probability: Annotated[
        Fraction | None, Meta(description="The threshold above which an emotion or group is a label; absent: each has its own.")
    ] = None
    as_of: Annotated[Moment | None, Meta(description="When it was written; returned in the answer. Absent: now.")] = None


class EmotionResponse(ApiModel, frozen=True, kw_only=True):
    """The emotions that readers find in such a text: no evidence of how the writer feels, no basis for decisions about a person."""

    customer_id: Annotated[str | None, Meta(description="As in the request.")]
    session_id: Annotated[str | None, Meta(description="As in the request.")]
    labels: Annotated[
        list[str], Meta(description="The emotions above their threshold, most probable first; neutral is one of them. May be empty.")
    ]
    probabilities: Annotated[
        dict[str, Fraction],
        Meta(description=f"Calibrated, of each of {len(EMOTIONS)} emotions. A text may have several, so they need not add up to 1."),
    ]
    ekman: Annotated[dict[str, Fraction], Meta(description=f"Probability of any emotion of each group: {', '.join(EKMAN)}.")]
    ekman_labels: Annotated[list[str], Meta(description="The groups above their threshold, most probable first.")]
    frustration: Annotated[
        Fraction, Meta(description="Probability that a support agent would read frustration in it: a complaint, also in polite words.")
    ]
    frustration_threshold: Annotated[Fraction, Meta(description="The probability from which the model counts a text as frustrated.")]
    remarks: Annotated[
        list[Remark],
        Meta(
            description="cut: the text was longer than what is read; empty: no text; unreadable: no known word, as of emoji; language: "
            "not in English. Of an empty or unreadable text the numbers are shares of the training texts."
        ),
    ]
    degradation: Annotated[
        Degradation, Meta(description="What the answer does without under load: nothing, or freshness (a cached answer, see Age).")
    ]
    as_of: Annotated[datetime, Meta(tz=True, description="The request's, else when the answer was computed.")]
    basis: AnswerBasis = "model"
    model_version: Annotated[str, Meta(description="The model that answered.")]
    timestamp: Annotated[datetime, Meta(tz=True, description="When the answer was computed.")]
