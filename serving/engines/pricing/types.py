"""JSON types of the pricing question: a product and a policy in, a price with its explanation out."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from serving.engines.consent import Purposes
from serving.engines.pricing.guard_rails import RuleName
from serving.engines.types import AnswerBasis, ApiModel, Count, Currency, Id, Moment, Name, Url

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

    price: Annotated[Price, Meta(description="Money a unit.")]
    competitor: Annotated[Name | None, Meta(description="The competitor's name, as in the training data if it is there.")] = None
    currency: Annotated[Currency | None, Meta(description="Absent: the currency of the answer.")] = None
    url: Annotated[Url | None, Meta(description="Where the price was seen. Not used for the price.")] = None


class PricingContext(ApiModel, frozen=True, kw_only=True):
    """What is known of the product now. Only currentDemand and inventoryLevel are required."""

    current_demand: Annotated[Count, Meta(description="Units sold in the last demandPeriodDays. 0: the model's own estimate is used.")]
    inventory_level: Annotated[Count, Meta(description="Units available for the next horizonDays. 0 keeps the price.")]
    competitor_prices: Annotated[
        Annotated[list[CompetitorPrice], Meta(max_length=MAX_COMPETITORS)] | None,
        Meta(description="Absent or empty: no rule about competitors applies."),
    ] = None
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

    objective: Annotated[
        Objective | None,
        Meta(description="What the price is to earn: profit, revenue, or a mix of both. [profit where a cost is known, else revenue]"),
    ] = None
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
    min_price: Annotated[Price | None, Meta(description="The lowest price allowed, money.")] = None
    max_price: Annotated[Price | None, Meta(description="The highest price allowed, money.")] = None
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
        Annotated[float, Meta(gt=0, le=1e6)] | None,
        Meta(
            description="The default ladder is rounded to multiples of it; a multiple of the currency's minor unit by ISO 4217. [The minor "
            "unit, such as 0.01 of EUR and 1 of JPY; 0.01 without a currency]"
        ),
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

    product_id: Annotated[Id, Meta(description="The product, as in the training data.")]
    context_data: Annotated[PricingContext, Meta(description="The product's state now.")]
    customer_id: Annotated[Id | None, Meta(description="Makes the price personal: see consent.")] = None
    consent: Annotated[
        Purposes | None,
        Meta(description=f"The purposes that the customer has consented to. Without {PERSONALISED_PRICING} all get the same price."),
    ] = None
    policy: Annotated[PricePolicy | None, Meta(description="Absent: the defaults of every field.")] = None
    as_of: Annotated[Moment | None, Meta(description="The moment of the price; absent: now.")] = None


class Interval(ApiModel, frozen=True, kw_only=True):
    """The range that a quantity is expected in."""

    low: Annotated[float, Meta(description="The lower end.")]
    high: Annotated[float, Meta(description="The upper end.")]


class Impact(ApiModel, frozen=True, kw_only=True):
    """The effect of the recommended price over horizonDays against the current one: the expectation, and the middle 80 % of outcomes."""

    demand_change: Annotated[float, Meta(description="Units.")]
    revenue_change: Annotated[float, Meta(description="Money.")]
    profit_change: Annotated[float | None, Meta(description="Money; null where no cost is known.")]
    demand_change80: Annotated[Interval, Meta(description="Units: the middle 80 % of outcomes.")]
    revenue_change80: Annotated[Interval, Meta(description="Money: the middle 80 % of outcomes.")]
    profit_change80: Annotated[Interval | None, Meta(description="Money: the middle 80 % of outcomes; null where no cost is known.")]
    horizon_days: Annotated[float, Meta(description="The days that the impact covers.")]


class ElasticityUsed(ApiModel, frozen=True, kw_only=True):
    """Per cent by which demand changes when the price is one per cent higher, with its uncertainty and its source."""

    value: Annotated[float, Meta(description="Per cent; negative where demand falls as the price rises.")]
    standard_deviation: Annotated[float, Meta(description="Of the elasticity, in the same unit.")]
    source: Annotated[
        Source,
        Meta(
            description="product: its own history; category: that of its category; prior: the product is not in the training data, and its "
            "elasticity is what the products there and published elasticities have in common."
        ),
    ]


class Exploration(ApiModel, frozen=True, kw_only=True):
    """What must be logged with a price so that demand can be learned from it."""

    explored: Annotated[bool, Meta(description="Whether the price is one rung beside the best one.")]
    propensity: Annotated[float, Meta(gt=0, le=1, description="The probability with which this price was drawn.")]


class PriceAdjustment(ApiModel, frozen=True, kw_only=True):
    """A rule that moved the price, with the price before and after."""

    rule: Annotated[RuleName, Meta(description="The rule.")]
    before: Annotated[float, Meta(description="Money, before the rule.")]
    after: Annotated[float, Meta(description="Money, after the rule.")]


class DynamicPricingResponse(ApiModel, frozen=True, kw_only=True):
    """The price, its explanation and its expected impact. Times are ISO 8601 in UTC."""

    product_id: Annotated[str, Meta(description="As in the request.")]
    recommended_price: Annotated[float, Meta(description="Money, a multiple of the currency's minor unit.")]
    current_price: Annotated[float, Meta(description="Money: that of the request, or the latest in the training data.")]
    currency: Annotated[str, Meta(description="ISO 4217; XXX: neither the request nor the training data have one.")]
    price_change_reason: Annotated[Reason, Meta(description="What happened to the price; the suffix by_rule: a rule did it, not demand.")]
    explanation: Annotated[str, Meta(description="The reason in sentences.")]
    binding_rule: Annotated[
        RuleName | None,
        Meta(description="The rule that decided the price: the last one that moved it, never price_ladder (rounding); null: none did."),
    ]
    unconstrained_price: Annotated[
        float, Meta(description="The price of the ladder that would earn most by demand alone: before the stock and every other rule.")
    ]
    adjustments: Annotated[list[PriceAdjustment], Meta(description="Every rule that moved the price, in order.")]
    expected_impact: Annotated[Impact, Meta(description="The effect of the price against the current one.")]
    confidence: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Probability that the price earns no less than the current one and that demand is elastic; where demand is "
            "inelastic, the best price is a bound.",
        ),
    ]
    elasticity: Annotated[ElasticityUsed, Meta(description="The elasticity that the price was computed with.")]
    exploration: Annotated[Exploration | None, Meta(description="Null without policy.exploration.")]
    shadow_price: Annotated[float, Meta(description="What one more unit of stock would earn.")]
    objective: Annotated[Objective, Meta(description="What the price is to earn.")]
    personalised: Annotated[bool, Meta(description="Whether the price may depend on the customer.")]
    disclosure: Annotated[str | None, Meta(description="To be shown next to a personalised price.")]
    lowest_price30_days: Annotated[float, Meta(description="The lowest price of the last 30 days, as far as the request states it.")]
    valid_until: Annotated[datetime, Meta(tz=True, description="When the price ceases to be valid.")]
    as_of: Annotated[datetime, Meta(tz=True, description="The moment of the price.")]
    basis: AnswerBasis = "model"
    model_version: Annotated[str, Meta(description="The model that answered.")]
    timestamp: Annotated[datetime, Meta(tz=True, description="When the price was computed.")]
