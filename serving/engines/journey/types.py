"""JSON types of the journey question: the events of a session in, what comes next and the friction out."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from kernels.sessions.friction import KINDS
from serving.engines.consent import Consent
from serving.engines.journey.friction_states import EmotionalState, Evidence, FrictionLevel, StateScore
from serving.engines.journey.next_step import MAX_CONTACTS, Contact, NextBestStep
from serving.engines.types import (
    AnswerBasis,
    ApiModel,
    Currency,
    Degradation,
    Download,
    Fraction,
    Id,
    Ignored,
    LinkTarget,
    Milliseconds,
    Moment,
    Money,
    MoreIgnored,
    Name,
    Pixel,
    Url,
)

MAX_EVENTS, MAX_ATTRIBUTES = 10_000, 200
Remark = Literal["recomputed"]
Whole = Annotated[float, Meta(ge=0, le=1e9, multiple_of=1)]


class JourneyEvent(ApiModel, frozen=True, kw_only=True):
    """One event of a session. Unknown types and page kinds count as unknown."""

    type: Annotated[
        Name,
        Meta(
            description=f"page_view, or one of {', '.join(KINDS[1:])}. Other types that the training table has, such as add_to_cart, are "
            "steps of the session; names of Google Analytics 4 and Segment, such as view_cart or Cart Viewed, are responses to clicks; the "
            "rest count as unknown (ignored)."
        ),
    ]
    timestamp: Annotated[Moment, Meta(description="ISO 8601 with a zone, or milliseconds since 1970-01-01 UTC; in the order of the list.")]
    page_kind: Annotated[Name | None, Meta(description="The kind of page that is shown, as the training table names it.")] = None
    page: Annotated[Url | None, Meta(description="Path or URL of the page, which separates pages of one kind. Absent: pageKind.")] = None
    element_id: Annotated[Name | None, Meta(description="What was clicked, focused or hovered over.")] = None
    x: Annotated[Pixel | None, Meta(description="Pixels from the left of the page.")] = None
    y: Annotated[Pixel | None, Meta(description="Pixels from the top of the page.")] = None
    wait_ms: Annotated[Milliseconds | None, Meta(description="For a wait: how long the shopper waited for the shop, in milliseconds.")] = (
        None
    )
    target: LinkTarget = None
    download: Download = None


class JourneyRequest(ApiModel, frozen=True, kw_only=True):
    """One session at one moment."""

    session_id: Annotated[Id, Meta(description="The caller's id of the session.")]
    events: Annotated[
        list[JourneyEvent],
        Meta(description=f"In the order in which they happened; at most {MAX_EVENTS:,}.", extra_json_schema={"maxItems": MAX_EVENTS}),
    ]
    session_ended: Annotated[
        bool | None, Meta(description="Whether the session is known to have ended; absent: it has not. Never guessed from its length.")
    ] = None
    attributes: Annotated[
        Annotated[dict[Name, float | None], Meta(max_length=MAX_ATTRIBUTES)] | None,
        Meta(description="Other columns of the training table of sessions. Absent is missing."),
    ] = None
    customer_id: Annotated[Id | None, Meta(description="The customer, if known; returned in the answer.")] = None
    consent: Consent = None
    as_of: Annotated[Moment | None, Meta(description="The moment of the answer; later events do not count. Absent: now.")] = None
    remember: Annotated[
        bool | None,
        Meta(description="Keep the state of this session for an hour: the next request then needs only the new events (eventsBefore)."),
    ] = None
    events_before: Annotated[
        Whole | None,
        Meta(description="The number of events of this session that were sent before, with remember; `events` are those after them."),
    ] = None
    order_value: Annotated[
        Money | None, Meta(description="The value of an order in this session. Absent: the model's estimate, if it has one.")
    ] = None
    currency: Annotated[Currency | None, Meta(description="ISO 4217, of orderValue and of the amounts in the answer.")] = None
    contacts: Annotated[
        Annotated[list[Contact], Meta(max_length=MAX_CONTACTS)] | None,
        Meta(description="Earlier contacts with this customer, for the contact policy. Absent: none."),
    ] = None
    utc_offset_minutes: Annotated[
        Annotated[float, Meta(ge=-1080, le=1080)] | None,
        Meta(description="The customer's local time minus UTC. Absent: unknown, and no message is sent at any hour."),
    ] = None


class NextStep(ApiModel, frozen=True, kw_only=True):
    """A step that may come next."""

    step: Annotated[
        str,
        Meta(description="A kind of page, or event: and a type, such as event:add_to_cart; unknown: a page that the model does not have."),
    ]
    probability: Annotated[Fraction, Meta(description="That it is the next step.")]


class JourneyResponse(ApiModel, frozen=True, kw_only=True):
    """What comes next, what to do now, and the friction so far. Times are ISO 8601 in UTC."""

    session_id: Annotated[str, Meta(description="As in the request.")]
    customer_id: Annotated[str | None, Meta(description="As in the request.")]
    current_step: Annotated[str | None, Meta(description="The latest step: a kind of page, or event: and a type; null without one.")]
    conversion_probability: Annotated[Fraction, Meta(description="Calibrated probability that the session has bought when it ends.")]
    exit_probability: Annotated[
        Fraction, Meta(description="Calibrated probability that no further step comes; 1 where the session has ended.")
    ]
    next_steps: Annotated[list[NextStep], Meta(description="The probabilities of the next step, if there is one; most probable first.")]
    value_prediction: Annotated[
        float | None,
        Meta(description="conversionProbability times the value of an order; null where that is unknown."),
    ]
    churn_risk: Annotated[
        Fraction | None,
        Meta(description="Calibrated probability that the customer does not come back; null where the training table does not have it."),
    ]
    currency: Annotated[str | None, Meta(description="ISO 4217, of every amount: the request's with orderValue, else the model's.")]
    next_best_step: Annotated[NextBestStep, Meta(description="What to do now; the steps and the contact policy are in configs/steps.yaml.")]
    emotional_state: Annotated[
        EmotionalState, Meta(description="The friction state with the highest score, by rules. It is not a measured feeling.")
    ]
    state_scores: Annotated[list[StateScore], Meta(description="The score of every friction state, 0 to 1, with its evidence.")]
    friction_score: Annotated[
        float, Meta(ge=0, description="5 for each script error, 4 for each rage or error click, 2 for each dead click.")
    ]
    friction_level: Annotated[FrictionLevel, Meta(description="How much friction the session has, of all states together.")]
    friction: Annotated[list[Evidence], Meta(description="What was counted over all events; zero counts are left out.")]
    missing_features: Annotated[list[str], Meta(description="The model's attributes that are not known.")]
    ignored: Ignored
    more_ignored: MoreIgnored
    unknown_pages: Annotated[int, Meta(ge=0, description="The number of page events whose pageKind the model does not have.")]
    later_events: Annotated[int, Meta(ge=0, description="The number of events after asOf, which do not count.")]
    known_events: Annotated[
        int, Meta(ge=0, description="The number of events of the session that were sent so far: the next eventsBefore.")
    ]
    remarks: Annotated[
        list[Remark], Meta(description="recomputed: the stored state was another model's and was computed again from the steps.")
    ]
    degradation: Annotated[
        Degradation, Meta(description="What the answer does without under load: nothing, or freshness (a cached answer, see Age).")
    ]
    as_of: Annotated[datetime, Meta(tz=True, description="The moment of the answer.")]
    basis: AnswerBasis = "model"
    model_version: Annotated[str, Meta(description="The model that answered.")]
    timestamp: Annotated[datetime, Meta(tz=True, description="When the answer was computed.")]
