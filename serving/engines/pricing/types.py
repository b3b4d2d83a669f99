"""JSON types of the pricing question: a product and a policy in, a price with its explanation out."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from serving.engines.consent import Purposes
from serving.engines.pricing.guard_rails import RuleName
from serving.engines.types import ApiModel, Count, Currency, Id, Moment, Name, Url

MIN_PRICE = 1e-6  # of any currency
Price = Annotated[float, Meta(ge=MIN_PRICE, le=1e9)]
Share = Annotated[float, Meta(ge=0, le=100)]
Days = Annotated[float, Meta(gt=0, le=366)]
Objective = Literal["profit", "revenue", "mix"]
Reason = Literal["raised", "lowered", "kept", "kept_out_of_stock", "raised_by_rule", "lowered_by_rule", "kept_by_rule"]
Source = Literal["product", "category", "prior"]

MAX_RUNGS, MAX_COMPETITORS = 256, 100
PERSONALISED_PRICING = "personalised_pricing"


class CompetitorPrice(ApiModel, frozen=True, kw_only=True):
    """A competitor's price for the same product."""

    price: Price
    competitor: Annotated[Name | None, Meta(description="The competitor's name, as in the training data if it is there.")] = None
    currency: Annotated[Currency | None, Meta(description="Absent: the currency of the answer.")] = None
    url: Url | None = None


class PricingContext(ApiModel, frozen=True, kw_only=True):
    """What is known of the product now. Only the first three fields are required."""

    current_demand: Annotated[Count, Meta(description="Units sold in the last demandPeriodDays. 0: the model's own estimate is used.")]
    competitor_prices: Annotated[list[CompetitorPrice], Meta(max_length=MAX_COMPETITORS)]
    inventory_level: Annotated[Count, Meta(description="Units available for the next horizonDays. 0 keeps the price.")]
    customer_segment: Annotated[Name | None, Meta(description="Makes the price personal: see consent.")] = None
    current_price: Annotated[Price | None, Meta(description="Absent: the product's latest in the training data.")] = None
    price_at_day_start: Annotated[Price | None, Meta(description="The price before today's changes; absent: currentPrice.")] = None
    unit_cost: Annotated[Annotated[float, Meta(ge=0, le=1e9)] | None, Meta(description="Absent: the latest in the training data.")] = None
    previous_unit_cost: Annotated[
        Annotated[float, Meta(ge=0, le=1e9)] | None, Meta(description="The cost before its last change; required by costPassThrough.")
    ] = None
    currency: Annotated[Currency | None, Meta(description="ISO 4217, of every amount; absent: the model's.")] = None
    demand_period_days: Annotated[Days | None, Meta(description="The days that currentDemand covers. [7]")] = None
    lowest_price30_days: Annotated[
        Price | None, Meta(description="The lowest price of the last 30 days, which the announcement of a reduction must state.")
    ] = None


class PricePolicy(ApiModel, frozen=True, kw_only=True):
    """The objective of the price, and its guard rails.

    Where guard rails contradict each other, the margin floor takes precedence, then the price bounds, and so on upwards. Absent fields have
    the default in brackets; a guard rail without a default does not apply.
    """

    objective: Objective | None = None
    revenue_weight: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None, Meta(description="The weight of revenue in a mix; profit has the rest. [0.5]")
    ] = None
    risk_aversion: Annotated[
        Annotated[float, Meta(ge=0, le=10)] | None, Meta(description="Standard deviations subtracted from the expectation. [0]")
    ] = None
    horizon_days: Annotated[Days | None, Meta(description="The period of expectedImpact, for which inventoryLevel must last. [7]")] = None
    min_margin_share: Annotated[
        Annotated[float, Meta(ge=0, lt=1)] | None, Meta(description="Share of the price. [0: no price below cost]")
    ] = None
    min_margin: Annotated[Annotated[float, Meta(ge=0, le=1e9)] | None, Meta(description="Money per unit. [0]")] = None
    min_price: Price | None = None
    max_price: Price | None = None
    max_change: Annotated[Share | None, Meta(description="Share of currentPrice by which one step may change it. [0.25]")] = None
    max_change_per_day: Annotated[Share | None, Meta(description="Share of priceAtDayStart.")] = None
    competitor_low: Annotated[Share | None, Meta(description="Lowest price as a share of the competitors' median.")] = None
    competitor_high: Annotated[Share | None, Meta(description="Highest price as a share of the competitors' median.")] = None
    cost_pass_through: Annotated[Share | None, Meta(description="Share of a cost increase that the price must follow.")] = None
    ladder: Annotated[
        Annotated[list[Price], Meta(min_length=1, max_length=MAX_RUNGS)] | None,
        Meta(description="The only prices allowed. [63 from half to twice currentPrice, by equal factors]"),
    ] = None
    tick: Annotated[
        Annotated[float, Meta(gt=0, le=1e6)] | None, Meta(description="The default ladder is rounded to multiples of it. [0.01]")
    ] = None
    endings: Annotated[
        Annotated[list[Annotated[float, Meta(ge=0, lt=1)]], Meta(min_length=1, max_length=20)] | None,
        Meta(description="Endings of the prices of the default ladder, such as 0.99 and 0.49; instead of tick."),
    ] = None
    exploration: Annotated[
        Annotated[float, Meta(ge=0, le=0.5)] | None,
        Meta(description="Share of products priced one rung beside the best one, drawn daily, to learn demand. [0]"),
    ] = None
    valid_hours: Annotated[Annotated[float, Meta(gt=0, le=8784)] | None, Meta(description="How long the price is valid. [24]")] = None


class DynamicPricingRequest(ApiModel, frozen=True, kw_only=True):
    """One product at one moment."""

    product_id: Id
    context_data: PricingContext
    customer_id: Annotated[Id | None, Meta(description="Makes the price personal: see consent.")] = None
    consent: Annotated[
        Purposes | None,
        Meta(description=f"The purposes that the customer has consented to. Without {PERSONALISED_PRICING} all get the same price."),
    ] = None
    policy: PricePolicy | None = None
    as_of: Moment | None = None


class Impact(ApiModel, frozen=True, kw_only=True):
    """The effect of the recommended price over horizonDays against the current one: the expectation, and the middle 80 % of outcomes."""

    demand_change: Annotated[float, Meta(description="Units.")]
    revenue_change: Annotated[float, Meta(description="Money.")]
    profit_change: Annotated[float | None, Meta(description="Money; null where no cost is known.")]
    demand_change80: tuple[float, float]
    revenue_change80: tuple[float, float]
    profit_change80: tuple[float, float] | None
    horizon_days: float


class ElasticityUsed(ApiModel, frozen=True, kw_only=True):
    """Per cent by which demand changes when the price is one per cent higher, with its uncertainty and its source."""

    value: float
    standard_deviation: float
    source: Annotated[Source, Meta(description="product: its own history; category: that of its category; prior: published elasticities.")]


class Exploration(ApiModel, frozen=True, kw_only=True):
    """What must be logged with a price so that demand can be learned from it."""

    explored: Annotated[bool, Meta(description="Whether the price is one rung beside the best one.")]
    propensity: Annotated[float, Meta(gt=0, le=1, description="The probability with which this price was drawn.")]


class PriceAdjustment(ApiModel, frozen=True, kw_only=True):
    """A rule that moved the price, with the price before and after."""

    rule: RuleName
    before: float
    after: float


class DynamicPricingResponse(ApiModel, frozen=True, kw_only=True):
    """The price, its explanation and its expected impact. Times are ISO 8601 in UTC."""

    product_id: str
    recommended_price: float
    current_price: float
    currency: Annotated[str, Meta(description="ISO 4217; XXX: neither the request nor the training data have one.")]
    price_change_reason: Reason
    explanation: Annotated[str, Meta(description="The reason in a sentence.")]
    binding_rule: Annotated[RuleName | None, Meta(description="The last rule that moved the price; null: none did.")]
    unconstrained_price: Annotated[float, Meta(description="The rung that would earn most without any rule.")]
    adjustments: Annotated[list[PriceAdjustment], Meta(description="Every rule that moved the price, in order.")]
    expected_impact: Impact
    confidence: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Probability that the price earns no less than the current one and that demand is elastic; where demand is "
            "inelastic, the best price is a bound.",
        ),
    ]
    elasticity: ElasticityUsed
    exploration: Annotated[Exploration | None, Meta(description="Null without policy.exploration.")]
    shadow_price: Annotated[float, Meta(description="What one more unit of stock would earn.")]
    objective: Objective
    personalised: Annotated[bool, Meta(description="Whether the price may depend on the customer.")]
    disclosure: Annotated[str | None, Meta(description="To be shown next to a personalised price.")]
    lowest_price30_days: Annotated[float, Meta(description="The lowest price of the last 30 days, as far as the request states it.")]
    valid_until: Annotated[datetime, Meta(tz=True)]
    as_of: Annotated[datetime, Meta(tz=True, description="The moment of the price.")]
    model_version: str
    timestamp: Annotated[datetime, Meta(tz=True, description="When the price was computed.")]
