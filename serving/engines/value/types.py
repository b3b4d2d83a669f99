"""ApiModel types of the value question: what is known of a customer in, what is to be expected of him out."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from serving.engines.churn.scorer import Band
from serving.engines.types import ApiModel, Degradation, Fraction, Id, Moment, Money, RecommendedAction
from training.models.value.defaults import DISCOUNT, HORIZON_DAYS, LEVEL, QUIET_DAYS

MAX_DAYS = 3650

Days = Annotated[float, Meta(ge=0, le=100_000)]
Driver = Literal["probabilityAlive", "purchasesWhileActive", "spendPerPurchase"]
Basis = Literal["stored", "request", "prior"]


class CustomerSummary(ApiModel, frozen=True, kw_only=True):
    """What a customer has bought: purchases of one day count as one."""

    frequency: Annotated[float, Meta(ge=0, le=1e6, multiple_of=1, description="Repeat purchases: days of purchases after the first.")]
    recency_days: Annotated[Days, Meta(description="Days from the first purchase to the last; 0 where frequency is 0.")]
    age_days: Annotated[Days, Meta(description="Days from the first purchase to asOf.")]
    mean_spend: Annotated[Money | None, Meta(description="Money at a repeat purchase, on average. Absent: not known.")] = None
    repeats_with_spend: Annotated[
        Annotated[float, Meta(ge=0, le=1e6, multiple_of=1)] | None,
        Meta(description="Those of the repeat purchases that meanSpend is the mean of. Absent: all."),
    ] = None
    current_value: Annotated[Money | None, Meta(description="Money of all purchases. Absent: (1 + frequency) * meanSpend.")] = None


class StoredSummary(CustomerSummary, frozen=True, kw_only=True):
    """A summary from the feature store, to the last bit; `vector`: training.tables.summaries.NAMES."""

    vector: tuple[float, ...]


class CustomerValueRequest(ApiModel, frozen=True, kw_only=True):
    """Whose value is asked for; what is known of the customer is read from the feature store where the request does not say it."""

    customer_id: Id
    prediction_horizon: Annotated[
        Annotated[float, Meta(gt=0, le=MAX_DAYS)] | None,
        Meta(description=f"Days from asOf that lifetimeValue is about. Absent: {HORIZON_DAYS:g}."),
    ] = None
    include_history: Annotated[bool | None, Meta(description="Whether the answer has `history`.")] = None
    discount_rate: Annotated[
        Annotated[float, Meta(ge=0, le=10)] | None, Meta(description=f"Yearly, 0.1 for 10 %. Absent: {DISCOUNT:g}.")
    ] = None
    summary: Annotated[
        CustomerSummary | None, Meta(description="What the customer has bought. Absent: as `batch value --publish` has stored it.")
    ] = None
    as_of: Annotated[
        Moment | None, Meta(description="The moment that `summary` is of. Absent: now. Without a summary: that of the stored one.")
    ] = None
    allow_prior: Annotated[
        bool | None, Meta(description="Answer as for a new customer where nothing is known of this one, instead of 404.")
    ] = None


class ValueDriver(ApiModel, frozen=True, kw_only=True):
    """One of the three factors whose product is lifetimeValue, against that of a new customer."""

    name: Driver
    value: float
    of_new_customer: float
    unit: Annotated[str, Meta(description="probability; purchases, discounted; or the currency.")]
    contribution: Annotated[
        float, Meta(description="Money (Shapley value of the product): all contributions plus newCustomerValue equal lifetimeValue.")
    ]
    direction: Literal["raises", "lowers"]


class RiskFactor(ApiModel, frozen=True, kw_only=True):
    """Why the customer may be lost; all contributions add up to churnRisk."""

    name: Annotated[
        Literal["timeSinceLastPurchase", "everyPurchaseMayBeTheLast"],
        Meta(description="The second is the risk that there was right after the last purchase."),
    ]
    value: Annotated[float, Meta(description="Days since the last purchase; or how many purchases there were.")]
    usual: Annotated[float | None, Meta(description="Days between this customer's purchases, on average; null before there were two.")]
    unit: Literal["days", "purchases"]
    contribution: Fraction


class ValueInterval(ApiModel, frozen=True, kw_only=True):
    """Between what bounds what the customer will bring lies."""

    low: float
    high: Annotated[float, Meta(description="Never below lifetimeValue: most customers bring less than the mean, a few much more.")]
    level: Annotated[float, Meta(description=f"At least this share of such customers lies within: {LEVEL:g}.")]


class CustomerHistory(ApiModel, frozen=True, kw_only=True):
    """What the summary says of the past. Times are ISO 8601 in UTC."""

    purchases: Annotated[float, Meta(description="Days of purchases.")]
    first_purchase_at: Annotated[datetime, Meta(tz=True)]
    last_purchase_at: Annotated[datetime, Meta(tz=True)]
    days_between_purchases: float | None
    mean_spend: Annotated[float | None, Meta(description="At a repeat purchase.")]


class CustomerValueResponse(ApiModel, frozen=True, kw_only=True):
    """What a customer is worth, whether he still is one, why, and what to do. Numbers are null where insufficientData says why."""

    customer_id: str
    current_value: Annotated[float | None, Meta(description="Money of all purchases until asOf.")]
    lifetime_value: Annotated[float | None, Meta(description="Present value of the purchases expected within predictionHorizon.")]
    lifetime_value_interval: ValueInterval | None
    expected_purchases: Annotated[float | None, Meta(description="Within predictionHorizon, not discounted.")]
    expected_spend: Annotated[float | None, Meta(description="At a purchase.")]
    probability_alive: Fraction | None
    churn_risk: Annotated[Fraction | None, Meta(description="1 - probabilityAlive.")]
    no_purchase_risk: Annotated[Fraction | None, Meta(description=f"That there is no purchase within {QUIET_DAYS:g} days of asOf.")]
    risk_band: Annotated[Band | None, Meta(description="Of noPurchaseRisk. low: below 0.33; high: above 0.66; medium: between.")]
    segment: Annotated[str, Meta(description="By fifths of recency, frequency and money: champion, loyal, ..., lost.")]
    segment_scores: Annotated[list[int], Meta(description="Recency, frequency, money: 1 to 5, 5 is best.")]
    value_drivers: Annotated[list[ValueDriver], Meta(description="The largest contribution first.")]
    new_customer_value: Annotated[float | None, Meta(description="lifetimeValue of a customer who has just bought for the first time.")]
    risk_factors: Annotated[list[RiskFactor], Meta(description="The largest contribution first.")]
    next_best_action: Annotated[RecommendedAction | None, Meta(description="By a rule of configs/actions.yaml; null where none fires.")]
    history: Annotated[CustomerHistory | None, Meta(description="Where includeHistory asks for it.")]
    prediction_horizon: Annotated[float, Meta(description="Days.")]
    discount_rate: float
    currency: Annotated[str, Meta(description="ISO 4217; XXX: the purchases learned from name none.")]
    basis: Annotated[Basis, Meta(description="What is known of the customer: stored, said by the request, or nothing (a new customer).")]
    insufficient_data: Annotated[list[str], Meta(description="What the purchases learned from lack; empty where they are enough.")]
    degradation: Degradation
    as_of: Annotated[datetime, Meta(tz=True, description="The moment that the answer is for.")]
    model_version: str
    timestamp: Annotated[datetime, Meta(tz=True, description="When the answer was computed.")]
