"""Price predictions as responses: the price, the rules that moved it, and its expected impact."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from kernels.pricing import ladder as kernel
from serving.engines.pricing.columns import DEFAULT_POLICY, PriceQuery
from serving.engines.pricing.explanation import adjustments, reason, sentence
from serving.engines.pricing.optimize import PricePredictions
from serving.engines.pricing.types import (
    PERSONALISED_PRICING,
    DynamicPricingRequest,
    DynamicPricingResponse,
    ElasticityUsed,
    Exploration,
    Impact,
    PriceAdjustment,
)
from serving.engines.types import UNKNOWN_CURRENCY, from_epoch_ms

if TYPE_CHECKING:
    from training.models.pricing.model import PricingModel

VALID_HOURS = 24.0
DISCLOSURE = "THIS PRICE WAS SET BY AN ALGORITHM USING YOUR PERSONAL DATA."


def responses(
    model: "PricingModel", requests: Sequence[DynamicPricingRequest], predictions: PricePredictions, now: datetime
) -> list[DynamicPricingResponse]:
    """Return one response for each request, in order."""
    table = zip(
        requests,
        predictions.columns.queries,
        predictions.price.tolist(),
        predictions.best.tolist(),
        predictions.unconstrained.tolist(),
        predictions.with_stock.tolist(),
        predictions.shadow.tolist(),
        predictions.propensity.tolist(),
        predictions.changes.tolist(),
        strict=True,
    )
    return [_response(model, now, *row) for row in table]


def _response(
    model: "PricingModel",
    now: datetime,
    request: DynamicPricingRequest,
    query: PriceQuery,
    price: float,
    best: float,
    unconstrained: float,
    with_stock: float,
    shadow: float,
    propensity: float,
    changes: list[float],
) -> DynamicPricingResponse:
    context, current, place = request.context_data, query.row[kernel.PRICE], query.place
    policy = request.policy or DEFAULT_POLICY
    explored = query.exploration > 0 and best == best and price != best and context.inventory_level > 0
    moved = adjustments(query.allowed, context.inventory_level, unconstrained, with_stock, best if explored else price)
    if explored:
        moved.append(PriceAdjustment(rule="exploration", before=best, after=price))
    code = reason(price, current, moved)
    as_of = now if request.as_of is None else from_epoch_ms(query.as_of_ms)
    personal = (request.customer_id is not None or context.customer_segment is not None) and PERSONALISED_PRICING in (request.consent or ())
    return DynamicPricingResponse(
        product_id=request.product_id,
        recommended_price=price,
        current_price=current,
        currency=context.currency or model.currency or UNKNOWN_CURRENCY,
        price_change_reason=code,
        explanation=sentence(code, price, current, moved),
        binding_rule=moved[-1].rule if moved else None,
        unconstrained_price=unconstrained,
        adjustments=moved,
        expected_impact=_impact(query, changes),
        confidence=changes[kernel.CONFIDENCE],
        elasticity=ElasticityUsed(
            value=query.row[kernel.ELASTICITY],
            standard_deviation=query.row[kernel.SD],
            source="prior" if place == len(model.places) else "category" if model.insufficient[place] else "product",
        ),
        exploration=Exploration(explored=explored, propensity=propensity) if query.exploration > 0 else None,
        shadow_price=shadow,
        objective=(policy.objective or "profit") if query.has_cost else "revenue",
        personalised=personal,
        disclosure=DISCLOSURE if personal else None,
        lowest_price30_days=min(current, context.lowest_price30_days or current),
        valid_until=as_of + timedelta(hours=policy.valid_hours or VALID_HOURS),
        as_of=as_of,
        model_version=model.version,
        timestamp=now,
    )


def _impact(query: PriceQuery, changes: list[float]) -> Impact:
    demand, revenue, profit, *ends = changes[: kernel.CONFIDENCE]
    return Impact(
        demand_change=demand,
        revenue_change=revenue,
        profit_change=profit if query.has_cost else None,
        demand_change80=_ordered(ends[0], ends[3]),
        revenue_change80=_ordered(ends[1], ends[4]),
        profit_change80=_ordered(ends[2], ends[5]) if query.has_cost else None,
        horizon_days=query.horizon_days,
    )


def _ordered(one: float, other: float) -> tuple[float, float]:
    return (one, other) if one <= other else (other, one)
