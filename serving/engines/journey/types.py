"""The journey engine's wire types: what is asked of a session, and what is answered."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from kernels.sessions.friction import KINDS
from serving.engines.consent import Consent
from serving.engines.journey.next_step import MAX_CONTACTS, Contact, NextBestStep
from serving.engines.journey.states import EmotionalState, Evidence, Level, StateScore
from serving.engines.pricing.types import Currency
from serving.engines.types import ApiModel, Degradation, Fraction, Id, Milliseconds, Moment, Money, Name, Pixel, Url

MAX_EVENTS, MAX_ATTRIBUTES = 10_000, 200
Remark = Literal["recomputed"]
Whole = Annotated[float, Meta(ge=0, le=1e9, multiple_of=1)]


class JourneyEvent(ApiModel, frozen=True, kw_only=True):
    """One thing that happened in a session. Unknown types and pages are counted as unknown."""

    type: Annotated[
        Name,
        Meta(
            description=f"page_view, or one of {', '.join(KINDS[1:])}; of others, such as add_to_cart, those that the "
            "model's table has are steps of the session, and the rest count as unknown."
        ),
    ]
    timestamp: Annotated[Moment, Meta(description="ISO 8601 with a zone, or milliseconds since 1970-01-01 UTC; in the order of the list.")]
    page: Annotated[Name | None, Meta(description="The kind of page that is shown, as the model's table names it.")] = None
    url: Annotated[Url | None, Meta(description="Of the page, to tell visits of one page apart; absent: page.")] = None
    element_id: Annotated[Name | None, Meta(description="What was clicked, focused or hovered over.")] = None
    x: Annotated[Pixel | None, Meta(description="Pixels from the left of the page.")] = None
    y: Annotated[Pixel | None, Meta(description="Pixels from the top of the page.")] = None
    wait_ms: Annotated[Milliseconds | None, Meta(description="Of a wait: how long the shopper waited for the shop.")] = None


class JourneyRequest(ApiModel, frozen=True, kw_only=True):
    """One session as of one moment."""

    session_id: Id
    events: Annotated[
        list[JourneyEvent],
        Meta(description=f"In the order in which they came; at most {MAX_EVENTS:,}.", extra_json_schema={"maxItems": MAX_EVENTS}),
    ]
    session_ended: Annotated[
        bool | None, Meta(description="Whether the session is known to have ended; absent: it has not. Never guessed from its length.")
    ] = None
    attributes: Annotated[
        Annotated[dict[Name, float | None], Meta(max_length=MAX_ATTRIBUTES)] | None,
        Meta(description="What else the model's table knows of sessions, by column. Absent is missing."),
    ] = None
    customer_id: Annotated[Id | None, Meta(description="Whose session it is, where that is known; passed through.")] = None
    consent: Consent = None
    as_of: Annotated[Moment | None, Meta(description="Events later than this are not known yet. Absent: now.")] = None
    remember: Annotated[
        bool | None,
        Meta(description="Keep what is known of this session for an hour: the next request then needs only what is new (eventsBefore)."),
    ] = None
    events_before: Annotated[
        Whole | None,
        Meta(description="How many events of this session were sent before, with remember; `events` are those after them."),
    ] = None
    order_value: Annotated[
        Money | None, Meta(description="What an order of this session would be worth; absent: what the model expects, where it can.")
    ] = None
    currency: Annotated[Currency | None, Meta(description="Of orderValue, ISO 4217; the answer's amounts are in it.")] = None
    contacts: Annotated[
        Annotated[list[Contact], Meta(max_length=MAX_CONTACTS)] | None,
        Meta(description="What was done before about this customer or session, for the contact policy; absent: nothing."),
    ] = None
    utc_offset_minutes: Annotated[
        Annotated[float, Meta(ge=-1080, le=1080)] | None,
        Meta(description="The customer's local time less UTC. Absent: not known, and so no message is sent at any hour."),
    ] = None


class Step(ApiModel, frozen=True, kw_only=True):
    """What may come next."""

    step: Annotated[str, Meta(description="A page, or event: and a type, such as event:add_to_cart; unknown: none that the model knows.")]
    probability: Fraction


class JourneyResponse(ApiModel, frozen=True, kw_only=True):
    """What will come, and what went badly so far. Times are ISO 8601 in UTC."""

    session_id: str
    customer_id: str | None
    current_step: Annotated[str | None, Meta(description="The latest: a page, or event: and the type of what was done; null without one.")]
    conversion_probability: Annotated[Fraction, Meta(description="Calibrated: that the session will have bought when it ends.")]
    exit_probability: Annotated[Fraction, Meta(description="Calibrated: that no step comes any more; 1 where the session has ended.")]
    next_steps: Annotated[list[Step], Meta(description="The steps that may come next, if one does, the likeliest first.")]
    value_prediction: Annotated[
        float | None,
        Meta(description="Expected of the session: conversionProbability times an order's value; null: not known."),
    ]
    churn_risk: Annotated[
        Fraction | None, Meta(description="Calibrated: that the customer does not come back; null where the model's table does not say.")
    ]
    currency: Annotated[str | None, Meta(description="Of every amount: the request's with orderValue, else the model's.")]
    next_best_step: Annotated[NextBestStep, Meta(description="What to do now; the steps and the contact policy are in configs/steps.yaml.")]
    emotional_state: Annotated[EmotionalState, Meta(description="What the friction comes to, by rules; nothing of it is measured feeling.")]
    state_scores: Annotated[list[StateScore], Meta(description="Of every state, 0 to 1, with its evidence.")]
    friction_score: Annotated[float, Meta(ge=0, description="5 an error of a script, 4 a rage or error click, 2 a dead click.")]
    friction_level: Level
    friction: Annotated[list[Evidence], Meta(description="What was counted, of all events; what never came is left out.")]
    missing: Annotated[list[str], Meta(description="The model's attributes that are not known.")]
    ignored: Annotated[int, Meta(ge=0, description="Attributes that the model does not know.")]
    unknown_pages: Annotated[int, Meta(ge=0, description="Page events whose page the model does not know.")]
    later_events: Annotated[int, Meta(ge=0, description="Events after asOf, which were left out.")]
    known_events: Annotated[int, Meta(ge=0, description="How many events of the session were sent so far: the next eventsBefore.")]
    remarks: Annotated[
        list[Remark], Meta(description="recomputed: what was remembered was another model's, and was made anew from the events.")
    ]
    degradation: Annotated[
        Degradation, Meta(description="What there was time for under load: everything, or an answer of a while ago (Age).")
    ]
    as_of: Annotated[datetime, Meta(tz=True, description="The moment the answer is for.")]
    model_version: str
    timestamp: Annotated[datetime, Meta(tz=True, description="When the answer was computed.")]
