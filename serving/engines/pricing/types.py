"""ApiModel types of pricing: what is known of a product, what its price is for and may be, and the price with the whole way to it."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from serving.engines.pricing.guard_rails import RuleName
from serving.engines.types import ApiModel, Count, Id, Moment, Name, Url

MIN_PRICE = 1e-6  # of any currency
Price = Annotated[float, Meta(ge=MIN_PRICE, le=1e9)]
Share = Annotated[float, Meta(ge=0, le=100)]
Days = Annotated[float, Meta(gt=0, le=366)]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
Objective = Literal["profit", "revenue", "mix"]
Reason = Literal["raised", "lowered", "kept", "kept_out_of_stock", "raised_by_rule", "lowered_by_rule", "kept_by_rule"]
Source = Literal["product", "category", "prior"]

MAX_RUNGS, MAX_COMPETITORS = 256, 100
PURPOSE = "personalised_pricing"


class CompetitorPrice(ApiModel, frozen=True, kw_only=True):
    """What a competitor asks for the same product."""

    price: Price
    competitor: Annotated[Name | None, Meta(description="Who; as its column is called in the training data, where it is there.")] = None
    currency: Annotated[Currency | None, Meta(description="Absent: that of the answer.")] = None
    url: Url | None = None


class PricingContext(ApiModel, frozen=True, kw_only=True):
    """What is known of the product now. Only the first three are needed."""

    current_demand: Annotated[Count, Meta(description="Units sold lately in demandPeriodDays; 0: use what the model has learned.")]
    competitor_prices: Annotated[list[CompetitorPrice], Meta(max_length=MAX_COMPETITORS)]
    inventory_level: Annotated[Count, Meta(description="Units at hand for the next horizonDays. 0 keeps the price.")]
    customer_segment: Annotated[Name | None, Meta(description="Makes the price personal: see consentPurposes.")] = None
    current_price: Annotated[Price | None, Meta(description="Absent: the product's latest in the training data.")] = None
    price_at_day_start: Annotated[Price | None, Meta(description="Before the changes of today; absent: currentPrice.")] = None
    unit_cost: Annotated[Annotated[float, Meta(ge=0, le=1e9)] | None, Meta(description="Absent: the latest in the training data.")] = None
    previous_unit_cost: Annotated[
        Annotated[float, Meta(ge=0, le=1e9)] | None, Meta(description="Before it last changed; costPassThrough needs it.")
    ] = None
    currency: Annotated[Currency | None, Meta(description="Of every amount; absent: that of the model.")] = None
    demand_period_days: Annotated[Days | None, Meta(description="What currentDemand counts. [7]")] = None
    lowest_price30_days: Annotated[Price | None, Meta(description="Before a reduction is announced it has to be told.")] = None


class Policy(ApiModel, frozen=True, kw_only=True):
    """What the price is for, and what it may be.

    Where rails contradict each other the margin floor holds, then the price bounds, and so on up. Absent is the default; a rail without one
    is not asked for.
    """

    objective: Objective | None = None
    revenue_weight: Annotated[Annotated[float, Meta(ge=0, le=1)] | None, Meta(description="Of the mix; profit has the rest. [0.5]")] = None
    risk_aversion: Annotated[
        Annotated[float, Meta(ge=0, le=10)] | None, Meta(description="Standard deviations that are taken off what is expected. [0]")
    ] = None
    horizon_days: Annotated[Days | None, Meta(description="What expectedImpact counts and inventoryLevel must last for. [7]")] = None
    min_margin_share: Annotated[Annotated[float, Meta(ge=0, lt=1)] | None, Meta(description="Of the price. [0: no price below cost]")] = (
        None
    )
    min_margin: Annotated[Annotated[float, Meta(ge=0, le=1e9)] | None, Meta(description="Money a unit. [0]")] = None
    min_price: Price | None = None
    max_price: Price | None = None
    max_change: Annotated[Share | None, Meta(description="Share of currentPrice by which one step may change it. [0.25]")] = None
    max_change_per_day: Annotated[Share | None, Meta(description="Share of priceAtDayStart.")] = None
    competitor_low: Annotated[Share | None, Meta(description="Lowest price as a share of the competitors' median.")] = None
    competitor_high: Annotated[Share | None, Meta(description="Highest price as a share of the competitors' median.")] = None
    cost_pass_through: Annotated[Share | None, Meta(description="Share of a rise of the cost that the price must follow.")] = None
    ladder: Annotated[
        Annotated[list[Price], Meta(min_length=1, max_length=MAX_RUNGS)] | None,
        Meta(description="The only prices that may be asked. [63 from half to twice currentPrice, by equal factors]"),
    ] = None
    tick: Annotated[Annotated[float, Meta(gt=0, le=1e6)] | None, Meta(description="The usual ladder is rounded to it. [0.01]")] = None
    endings: Annotated[
        Annotated[list[Annotated[float, Meta(ge=0, lt=1)]], Meta(min_length=1, max_length=20)] | None,
        Meta(description="What the prices of the usual ladder end in, such as 0.99 and 0.49; instead of tick."),
    ] = None
    exploration: Annotated[
        Annotated[float, Meta(ge=0, le=0.5)] | None,
        Meta(description="Share of products that are priced a rung beside the best one, anew each day, to keep learning. [0]"),
    ] = None
    valid_hours: Annotated[Annotated[float, Meta(gt=0, le=8784)] | None, Meta(description="How long the price stands. [24]")] = None


class DynamicPricingRequest(ApiModel, frozen=True, kw_only=True):
    """One product as of one moment."""

    product_id: Id
    context_data: PricingContext
    customer_id: Annotated[Id | None, Meta(description="Makes the price personal: see consentPurposes.")] = None
    consent_purposes: Annotated[
        Annotated[list[Name], Meta(max_length=100)] | None,
        Meta(description=f"What the customer has consented to. Without {PURPOSE} the price is the same for everybody."),
    ] = None
    policy: Policy | None = None
    as_of: Moment | None = None


class Impact(ApiModel, frozen=True, kw_only=True):
    """What the recommended price changes in horizonDays against the current one: in expectation, and the middle 80 % of what it may be."""

    demand_change: Annotated[float, Meta(description="Units.")]
    revenue_change: Annotated[float, Meta(description="Money.")]
    profit_change: Annotated[float | None, Meta(description="Money; null where no cost is known.")]
    demand_change80: tuple[float, float]
    revenue_change80: tuple[float, float]
    profit_change80: tuple[float, float] | None
    horizon_days: float


class ElasticityUsed(ApiModel, frozen=True, kw_only=True):
    """Per cent by which demand changes when the price is one per cent higher, how sure that is, and where it is from."""

    value: float
    standard_deviation: float
    source: Annotated[Source, Meta(description="The product's own history; its category's; what all products have in common.")]


class Exploration(ApiModel, frozen=True, kw_only=True):
    """What has to be kept with a price so that demand can be learned from it: how probable it was to be chosen."""

    explored: Annotated[bool, Meta(description="Whether the price is beside the best one.")]
    propensity: Annotated[float, Meta(gt=0, le=1)]


class Clamp(ApiModel, frozen=True, kw_only=True):
    """One step on the way from the price that earns most to the one that is allowed."""

    rule: RuleName
    before: float
    after: float


class DynamicPricingResponse(ApiModel, frozen=True, kw_only=True):
    """The price, why, and what it will do."""

    product_id: str
    recommended_price: float
    current_price: float
    currency: Annotated[str, Meta(description="ISO 4217; XXX: neither the request nor the training data say.")]
    price_change_reason: Reason
    explanation: Annotated[str, Meta(description="The reason in a sentence.")]
    binding_rule: Annotated[RuleName | None, Meta(description="The last rule that moved the price; null: none did.")]
    unconstrained_price: Annotated[float, Meta(description="The rung that earns most, were there no rule.")]
    trail: Annotated[list[Clamp], Meta(description="Every rule that moved it, in order.")]
    expected_impact: Impact
    confidence: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Probability that the price earns no less than the current one, and that demand is elastic: else no price "
            "but the bounds is best.",
        ),
    ]
    elasticity: ElasticityUsed
    exploration: Annotated[Exploration | None, Meta(description="Null where the policy asks for none.")]
    shadow_price: Annotated[float, Meta(description="What one unit more of stock would earn.")]
    objective: Objective
    personalised: bool
    disclosure: Annotated[str | None, Meta(description="To be shown next to a personalised price.")]
    lowest_price30_days: Annotated[float, Meta(description="The lowest price of the last 30 days, as far as the request tells.")]
    valid_until: Annotated[datetime, Meta(tz=True)]
    as_of: Annotated[datetime, Meta(tz=True)]
    model_version: str
    timestamp: Annotated[datetime, Meta(tz=True, description="When the price was computed.")]
