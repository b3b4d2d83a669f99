"""JSON types of the value question: what is known of a customer in, their expected value out."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from serving.engines.types import ApiModel, Degradation, Fraction, Id, Moment, Money, RecommendedAction, RiskBand
from training.models.value.defaults import DISCOUNT, HORIZON_DAYS, LEVEL, NO_PURCHASE_DAYS, NoChurnReason

MAX_DAYS = 3650

Days = Annotated[float, Meta(ge=0, le=100_000)]
DriverName = Literal["probabilityAlive", "purchasesWhileActive", "spendPerPurchase"]
Basis = Literal["stored", "request", "prior", "demo"]


class CustomerSummary(ApiModel, frozen=True, kw_only=True):
    """The purchases of a customer; purchases of one day count as one."""

    frequency: Annotated[float, Meta(ge=0, le=1e6, multiple_of=1, description="Repeat purchases: days of purchases after the first.")]
    recency_days: Annotated[Days, Meta(description="Days from the first purchase to the last; 0 where frequency is 0.")]
    age_days: Annotated[Days, Meta(description="Days from the first purchase to asOf.")]
    mean_spend: Annotated[Money | None, Meta(description="Average money of a repeat purchase. Absent: unknown.")] = None
    repeats_with_spend: Annotated[
        Annotated[float, Meta(ge=0, le=1e6, multiple_of=1)] | None,
        Meta(description="The number of repeat purchases that meanSpend is the mean of. Absent: all."),
    ] = None
    current_value: Annotated[
        Money | None, Meta(description="Money of all purchases. Absent: (1 + frequency) * meanSpend, if that is given.")
    ] = None


class StoredSummary(CustomerSummary, frozen=True, kw_only=True):
    """A summary from the feature store, to the bit; `vector`: in the order of training.tables.summaries.NAMES."""

    vector: tuple[float, ...]


class CustomerValueRequest(ApiModel, frozen=True, kw_only=True):
    """One customer. Without `summary`, what is known of them is read from the feature store."""

    customer_id: Annotated[Id, Meta(description="The customer.")]
    prediction_horizon: Annotated[
        Annotated[float, Meta(gt=0, le=MAX_DAYS)] | None,
        Meta(description=f"The days from asOf that lifetimeValue covers. Absent: {HORIZON_DAYS:g}."),
    ] = None
    include_history: Annotated[bool | None, Meta(description="Whether the answer includes `history`.")] = None
    discount_rate: Annotated[
        Annotated[float, Meta(ge=0, le=10)] | None, Meta(description=f"Yearly, 0.1 for 10 %. Absent: {DISCOUNT:g}.")
    ] = None
    summary: Annotated[
        CustomerSummary | None, Meta(description="The customer's purchases. Absent: as stored by `batch value --publish`.")
    ] = None
    as_of: Annotated[
        Moment | None, Meta(description="The moment at which `summary` was true. Absent: now; for a stored summary, its own moment.")
    ] = None
    allow_prior: Annotated[
        bool | None, Meta(description="Where nothing is known of the customer, answer as for a new one instead of 404.")
    ] = None


class ValueDriver(ApiModel, frozen=True, kw_only=True):
    """One of the three quantities whose product is lifetimeValue, compared with that of a new customer.

    probabilityAlive is left out where it is null: it is then taken as 1.
    """

    name: Annotated[DriverName, Meta(description="The quantity that moves the value.")]
    value: Annotated[float, Meta(description="The customer's.")]
    of_new_customer: Annotated[float, Meta(description="That of a customer of whom nothing is known yet.")]
    unit: Annotated[str, Meta(description="probability; purchases, discounted; or the currency.")]
    contribution: Annotated[
        float, Meta(description="Money (Shapley value of the product): all contributions plus newCustomerValue equal lifetimeValue.")
    ]
    direction: Annotated[Literal["raises", "lowers"], Meta(description="Whether it raises or lowers the value.")]


class RiskFactor(ApiModel, frozen=True, kw_only=True):
    """A part of churnRisk; all contributions add up to it. There are none where it is null."""

    name: Annotated[
        Literal["timeSinceLastPurchase", "everyPurchaseMayBeTheLast"],
        Meta(description="everyPurchaseMayBeTheLast: the risk right after the last purchase; timeSinceLastPurchase: what was added since."),
    ]
    value: Annotated[float, Meta(description="Days since the last purchase, or the number of purchases.")]
    usual: Annotated[float | None, Meta(description="Average days between this customer's purchases; null before the second.")]
    unit: Annotated[Literal["days", "purchases"], Meta(description="The unit of value.")]
    contribution: Annotated[Fraction, Meta(description="Its part of churnRisk.")]


class ValueInterval(ApiModel, frozen=True, kw_only=True):
    """An interval for the money that the customer will spend."""

    low: Annotated[float, Meta(description="Money.")]
    high: Annotated[float, Meta(description="Never below lifetimeValue: most customers spend less than the mean, a few much more.")]
    level: Annotated[float, Meta(description=f"At least this share of such customers is within the interval: {LEVEL:g}.")]


class CustomerHistory(ApiModel, frozen=True, kw_only=True):
    """The customer's past, computed from the summary. Times are ISO 8601 in UTC."""

    purchases: Annotated[float, Meta(description="The number of days with purchases.")]
    first_purchase_at: Annotated[datetime, Meta(tz=True, description="The day of the first purchase.")]
    last_purchase_at: Annotated[datetime, Meta(tz=True, description="The day of the last purchase.")]
    days_between_purchases: Annotated[float | None, Meta(description="Mean number of days; null for a customer with one purchase.")]
    mean_spend: Annotated[float | None, Meta(description="Average money of a repeat purchase.")]


class CustomerValueResponse(ApiModel, frozen=True, kw_only=True):
    """Value, risk of leaving, what drives both, and the next action. Numbers are null where insufficientData is not empty."""

    customer_id: Annotated[str, Meta(description="As in the request.")]
    current_value: Annotated[float | None, Meta(description="Money of all purchases until asOf; null where it is not known.")]
    lifetime_value: Annotated[float | None, Meta(description="Present value of the purchases expected within predictionHorizon.")]
    lifetime_value_interval: Annotated[ValueInterval | None, Meta(description="An interval for lifetimeValue; null where that is.")]
    expected_purchases: Annotated[float | None, Meta(description="Purchases within predictionHorizon, not discounted.")]
    expected_spend: Annotated[float | None, Meta(description="Average money of a purchase.")]
    probability_alive: Annotated[Fraction | None, Meta(description="Probability that they still are a customer.")]
    churn_risk: Annotated[Fraction | None, Meta(description="1 - probabilityAlive.")]
    churn_risk_reason: Annotated[
        NoChurnReason | None,
        Meta(
            description="Why probabilityAlive and churnRisk are null; null where they are not. no-churn-in-model: the served model, NBD, "
            "has none; no-repeat-purchase: by the served model, BG/NBD, nobody leaves before a repeat purchase; insufficient-data: see "
            "insufficientData."
        ),
    ]
    no_purchase_risk: Annotated[
        Fraction | None, Meta(description=f"Probability that they buy nothing within {NO_PURCHASE_DAYS:g} days of asOf.")
    ]
    risk_band: Annotated[RiskBand | None, Meta(description="Of noPurchaseRisk. low: below 0.33; high: above 0.66; medium: between.")]
    segment: Annotated[
        str,
        Meta(
            description="By fifths of recency, frequency and money: champion, loyal, ..., lost. With a churnRisk of 0.5 or more recency "
            "counts as 2 at most, with one below 0.33 as 2 at least, and with a low riskBand as 3 at least, so that they do not disagree."
        ),
    ]
    segment_scores: Annotated[
        list[int], Meta(description="Fifths of recency, frequency and money: 1 to 5, 5 is best. Money: as frequency, where unknown.")
    ]
    value_drivers: Annotated[list[ValueDriver], Meta(description="The largest contribution first.")]
    new_customer_value: Annotated[float | None, Meta(description="lifetimeValue of a customer who has just made their first purchase.")]
    risk_factors: Annotated[list[RiskFactor], Meta(description="The largest contribution first.")]
    next_best_action: Annotated[
        RecommendedAction | None, Meta(description="The first rule of configs/actions.yaml that fires; null where none does.")
    ]
    history: Annotated[CustomerHistory | None, Meta(description="With includeHistory.")]
    prediction_horizon: Annotated[float, Meta(description="Days.")]
    discount_rate: Annotated[float, Meta(description="Yearly, as used for lifetimeValue.")]
    currency: Annotated[str, Meta(description="ISO 4217; XXX: the training data have no currency.")]
    basis: Annotated[
        Basis,
        Meta(
            description="The source of the summary: the feature store, the request, or none (prior: a new customer). demo, whatever that "
            "is: the model was learned from a simulated shop, for demonstration alone."
        ),
    ]
    insufficient_data: Annotated[list[str], Meta(description="What the training data lack; empty where they are sufficient.")]
    degradation: Annotated[
        Degradation,
        Meta(description="What the answer does without under load: nothing, its drivers, or freshness (a cached answer, see Age)."),
    ]
    as_of: Annotated[datetime, Meta(tz=True, description="The moment of the answer.")]
    model_version: Annotated[str, Meta(description="The model that answered.")]
    timestamp: Annotated[datetime, Meta(tz=True, description="When the answer was computed.")]
