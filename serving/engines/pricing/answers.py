"""Price predictions as responses: the price, the rules that moved it, and its expected impact."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from kernels.pricing import ladder as kernel
from kernels.pricing.trail import BINDING, FREE, SHADOW_PRICE
from serving.engines.pricing.columns import DEFAULT_POLICY, PriceQuery
from serving.engines.pricing.explanation import RULES, PriceFinding, adjustments, binding_rule, explanation, reason
from serving.engines.pricing.optimize import PricePredictions
from serving.engines.pricing.types import (
    PERSONALISED_PRICING,
    DynamicPricingRequest,
    DynamicPricingResponse,
    ElasticityUsed,
    Exploration,
    Impact,
    Interval,
)
from serving.engines.types import from_epoch_ms
from training.currencies import shown_digits

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
        predictions.decided.tolist(),
        predictions.trail.tolist(),
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
    decided: float,
    trail: list[float],
    propensity: float,
    changes: list[float],
) -> DynamicPricingResponse:
    context, current = request.context_data, query.row[kernel.PRICE]
    policy = request.policy or DEFAULT_POLICY
    found = PriceFinding(
        price=price,
        decided=decided,
        current=current,
        stock=context.inventory_level,
        trail=trail,
        allowed=query.allowed,
        digits=shown_digits(query.currency),
        objective=query.objective,
        wanted=policy.objective or "profit",
        risk=query.row[kernel.RISK] > 0,
        source=query.source,
        has_cost=query.has_cost,
        has_demand=query.has_demand,
    )
    moved, binding = adjustments(found), binding_rule(found)
    as_of = now if request.as_of is None else from_epoch_ms(query.as_of_ms)
    personal = (request.customer_id is not None or context.customer_segment is not None) and PERSONALISED_PRICING in (request.consent or ())
    return DynamicPricingResponse(
        product_id=request.product_id,
        recommended_price=price,
        current_price=current,
        currency=query.currency,
        price_change_reason=reason(price, current, binding),
        explanation=explanation(found, moved),
        binding_rule=binding,
        unconstrained_price=trail[FREE],
        adjustments=moved,
        expected_impact=_impact(query, changes),
        confidence=changes[kernel.CONFIDENCE],
        elasticity=ElasticityUsed(value=query.row[kernel.ELASTICITY], standard_deviation=query.row[kernel.SD], source=query.source),
        exploration=Exploration(explored=price != decided, propensity=propensity) if query.exploration > 0 else None,
        shadow_price=trail[SHADOW_PRICE],
        objective=query.objective,
        personalised=personal,
        disclosure=DISCLOSURE if personal else None,
        lowest_price30_days=min(current, context.lowest_price30_days or current),
        valid_until=as_of + timedelta(hours=policy.valid_hours or VALID_HOURS),
        as_of=as_of,
        model_version=model.version,
        timestamp=now,
    )


def binding_rules(predictions: PricePredictions) -> list[str]:
    """Return for each row the rule that decided its price, "" where none did."""
    decided = [RULES[number] or "" for number in predictions.trail[:, BINDING].astype(np.int64).tolist()]
    sold_out, aligned = predictions.columns.inputs[:, kernel.STOCK] == 0, predictions.aligned_by or [""] * len(decided)
    explored = predictions.price != predictions.decided
    for row in np.flatnonzero(sold_out | explored).tolist():
        decided[row] = aligned[row] or ("out_of_stock" if sold_out[row] else "exploration")
    return decided


def _impact(query: PriceQuery, changes: list[float]) -> Impact:
    demand, revenue, profit, *ends = changes[: kernel.CONFIDENCE]
    return Impact(
        demand_change=demand,
        revenue_change=revenue,
        profit_change=profit if query.has_cost else None,
        demand_change80=_interval(ends[0], ends[3]),
        revenue_change80=_interval(ends[1], ends[4]),
        profit_change80=_interval(ends[2], ends[5]) if query.has_cost else None,
        horizon_days=query.horizon_days,
    )


def _interval(one: float, other: float) -> Interval:
    return Interval(low=min(one, other), high=max(one, other))
