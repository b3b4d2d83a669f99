"""JSON types of the purchase question: a session in, a probability with its explanation out."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from serving.engines.compiled_fields import COMPILED, CompiledField
from serving.engines.purchase import fast_events
from serving.engines.purchase.columns import read
from serving.engines.types import (
    AnswerBasis,
    ApiModel,
    Category,
    Count,
    DayOfWeek,
    Degradation,
    Fraction,
    GeoLocation,
    Id,
    Ignored,
    InteractionEvent,
    Moment,
    Money,
    Month,
    MoreIgnored,
    Name,
    PredictionFactor,
    RecommendedAction,
    Seconds,
    Url,
)
from training.features import FEATURES

MAX_INTERACTIONS = 10_000
DEFAULT_FACTORS = 5


class Aggregates(ApiModel, frozen=True, kw_only=True):
    """Statistics of the session from a web analytics tool. A value given here is used; the others are counted from the interactions."""

    administrative_count: Annotated[Count | None, Meta(description="Pages viewed of kind administrative.")] = None
    administrative_seconds: Annotated[Seconds | None, Meta(description="Seconds on pages of kind administrative.")] = None
    informational_count: Annotated[Count | None, Meta(description="Pages viewed of kind informational.")] = None
    informational_seconds: Annotated[Seconds | None, Meta(description="Seconds on pages of kind informational.")] = None
    product_count: Annotated[Count | None, Meta(description="Pages viewed of kind product.")] = None
    product_seconds: Annotated[Seconds | None, Meta(description="Seconds on pages of kind product.")] = None
    bounce_rate: Annotated[Fraction | None, Meta(description="Average bounce rate of the pages visited.")] = None
    exit_rate: Annotated[Fraction | None, Meta(description="Average exit rate of the pages visited.")] = None
    page_value: Annotated[Money | None, Meta(description="Average value of the pages visited, as in the training data.")] = None


class BehaviorData(ApiModel, frozen=True, kw_only=True):
    """What happened in the session so far."""

    page_views: Annotated[Count, Meta(description="Pages viewed, as the caller counts them.")]
    time_on_site: Annotated[Seconds, Meta(description="Seconds since the session began, as the caller measures them.")]
    interactions: Annotated[
        list[InteractionEvent],
        Meta(
            description=f"Events, in any order; at most {MAX_INTERACTIONS:,}. Empty: nothing is known, not nothing happened.",
            extra_json_schema={"maxItems": MAX_INTERACTIONS},
            extra={COMPILED: CompiledField(fast_events.read, read)},
        ),
    ]
    current_page: Annotated[Url, Meta(description="Path or URL of the page that is shown now; may be empty.")]
    referrer: Annotated[Url | None, Meta(description="Where the shopper came from; empty: typed in or bookmarked.")] = None
    aggregates: Annotated[Aggregates | None, Meta(description="Counts of a session whose events are not known.")] = None


class ContextData(ApiModel, frozen=True, kw_only=True):
    """The device, place and time of the session. Category values are those of the training data; others count as missing."""

    device_type: Annotated[Name, Meta(description="desktop, mobile, tablet ...; unknown counts as missing.")]
    time_of_day: Annotated[float, Meta(ge=0, lt=24, description="Hours since the shopper's local midnight.")]
    day_of_week: Annotated[DayOfWeek, Meta(description="The shopper's local day: 0 Sunday to 6 Saturday.")]
    location: Annotated[GeoLocation | None, Meta(description="Where the shopper is.")] = None
    month: Annotated[Month | None, Meta(description="1 to 12; absent: the UTC month of asOf, else of the latest interaction.")] = None
    special_day: Annotated[Fraction | None, Meta(description="Closeness to a special day such as Mother's Day; 1 on the day.")] = None
    operating_system: Annotated[Category | None, Meta(description="As it is named in the training data.")] = None
    browser: Annotated[Category | None, Meta(description="As it is named in the training data.")] = None
    traffic_type: Annotated[Category | None, Meta(description="Absent: derived from referrer, where training has seen that class.")] = None
    visitor_type: Annotated[Category | None, Meta(description="new, returning or other.")] = None


class PurchasePredictionRequest(ApiModel, frozen=True, kw_only=True):
    """One session at one moment."""

    session_id: Annotated[Id, Meta(description="The caller's id of the session.")]
    behavior_data: Annotated[BehaviorData, Meta(description="What happened in the session so far.")]
    context_data: Annotated[ContextData, Meta(description="What is known of the device, the time and the place.")]
    customer_id: Annotated[Id | None, Meta(description="The customer, where the shopper is signed in.")] = None
    as_of: Annotated[
        Moment | None,
        Meta(description="The moment of the score; later interactions are not counted. Absent: the latest interaction, else now."),
    ] = None
    max_factors: Annotated[
        Annotated[int, Meta(ge=0, le=len(FEATURES))] | None,
        Meta(description=f"The most factors to list; absent: {DEFAULT_FACTORS}. 0 saves their computation."),
    ] = None


class PurchasePredictionResponse(ApiModel, frozen=True, kw_only=True):
    """The score, its confidence, its factors, recommended actions, and the model version. Times are ISO 8601 in UTC."""

    customer_id: Annotated[str | None, Meta(description="As in the request.")]
    session_id: Annotated[str, Meta(description="As in the request.")]
    purchase_probability: Annotated[Fraction, Meta(description="Calibrated probability that this session ends in a purchase.")]
    confidence_score: Annotated[
        Fraction,
        Meta(description="1 minus how far purchaseProbability may be off, at 90 % confidence, given what is known of the session."),
    ]
    recommended_actions: Annotated[list[RecommendedAction], Meta(description="By priority; the rules are in configs/actions.yaml.")]
    predicted_value: Annotated[
        float, Meta(description="purchaseProbability times the average order of the training data, in currency: an expectation.")
    ]
    currency: Annotated[str, Meta(description="ISO 4217. XXX: no order value is known, and predictedValue counts average orders.")]
    factors: Annotated[
        list[PredictionFactor],
        Meta(description="Associations, not causes. Their contributions plus bias equal margin; the last may be otherFeatures, the rest."),
    ]
    bias: Annotated[float, Meta(description="The model's average margin, in log-odds.")]
    margin: Annotated[float, Meta(description="Log-odds: purchaseProbability = 1 / (1 + exp(-margin)).")]
    degradation: Annotated[
        Degradation,
        Meta(
            description="What the answer does without under load: nothing; its factors; freshness (a cached answer, see Age); the model "
            "(how often sessions on this device at this hour buy)."
        ),
    ]
    horizon: Annotated[Literal["session"], Meta(description="The probability is for this session, not for later ones.")]
    as_of: Annotated[datetime, Meta(tz=True, description="The moment of the score.")]
    basis: AnswerBasis = "model"
    model_version: Annotated[str, Meta(description="The model that answered.")]
    missing_features: Annotated[list[str], Meta(description="Features that are neither stated in the request nor countable from it.")]
    ignored: Ignored
    more_ignored: MoreIgnored
    timestamp: Annotated[datetime, Meta(tz=True, description="When the score was computed.")]
