"""Pricing requests as columns: what the price kernel computes with, and the guard rails of each request."""

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kernels.pricing import ladder as kernel
from kernels.types import F64, Bool
from serving.engines.pricing.groups import PriceGroups
from serving.engines.pricing.guard_rails import GUARD_RAILS, Band, PriceFacts, bands, intersection
from serving.engines.pricing.types import DynamicPricingRequest, Objective, PricePolicy, Source
from serving.engines.types import UNKNOWN_CURRENCY, epoch_ms, from_epoch_ms
from training import currencies

if TYPE_CHECKING:
    from training.models.pricing.model import PricingModel

REACH, RUNGS = 2.0, 63  # of the default ladder: from half to twice the price, with the price itself in the middle
RATIOS = np.geomspace(1 / REACH, REACH, RUNGS)
RATIOS[RUNGS // 2] = 1.0
WEEK_DAYS = 7.0
MAX_CHANGE, REVENUE_WEIGHT = 0.25, 0.5  # defaults of the policy
TICK = 0.01  # of a currency without a minor unit
DEFAULT_POLICY = PricePolicy()


class PriceQuery(NamedTuple):
    """One request in numbers.

    row: the kernel's columns (kernels.pricing.ladder); allowed: the band of each guard rail; objective: what the price maximises, revenue
    where no cost is known; source: of the elasticity.
    """

    place: int  # of the product in the model
    row: tuple[float, ...]
    allowed: list[Band]
    has_cost: bool
    has_demand: bool
    horizon_days: float
    as_of_ms: float
    exploration: float
    product: str
    currency: str
    objective: Objective
    source: Source


class PriceColumns(NamedTuple):
    """Requests as columns.

    ladder: float64 [n, rungs + kernels.pricing.ladder.EDGES], NaN where a ladder is shorter.
    inputs: float64 [n, kernels.pricing.ladder.INPUTS]; its bounds are those of all guard rails together.
    rails: float64 [n, guard rails, 2], the band of each.
    has_demand: bool [n].
    groups: the products of a catalogue whose prices must agree, None where there are none.
    """

    queries: list[PriceQuery]
    ladder: F64
    inputs: F64
    rails: F64
    has_demand: Bool
    groups: PriceGroups | None = None


class PriceColumnsBuilder:
    """Builds the columns of requests, with values of the model where a request does not state them."""

    def __init__(self, model: "PricingModel") -> None:
        self._model = model
        # As lists: reading a number from an array takes ten times as long.
        self._price, self._quantity, self._cost = model.price.tolist(), model.quantity.tolist(), model.cost.tolist()
        self._elasticity, self._sd = model.elasticity.tolist(), model.sd.tolist()
        self._currency = model.currency or UNKNOWN_CURRENCY
        self._tick = currencies.minor_unit(self._currency) or TICK
        self._source: list[Source] = ["category" if insufficient else "product" for insufficient in model.insufficient.tolist()]
        self._source[-1] = "prior"  # of the products that the model does not have

    def columns(self, requests: Sequence[DynamicPricingRequest], now_ms: float) -> PriceColumns:
        """Return the requests as columns; now_ms: the moment of requests without asOf."""
        queries = [self._query(request, now_ms) for request in requests]
        inputs = np.array([query.row for query in queries], np.float64).reshape(len(queries), kernel.INPUTS)
        own = [(row, request.policy.ladder) for row, request in enumerate(requests) if request.policy and request.policy.ladder]
        ladder = np.full((len(queries), max([RUNGS, *(len(rungs) for _, rungs in own)]) + kernel.EDGES), np.nan)
        kernel.ladders(RATIOS, inputs, ladder)
        for row, rungs in own:
            ladder[row] = np.nan
            ladder[row, : len(rungs)] = sorted(rungs)
            inputs[row, kernel.TICK] = kernel.PRICES  # no other price may be asked
        for row, request in enumerate(requests):
            if request.policy and request.policy.endings and not request.policy.ladder:
                ladder[row, :RUNGS] = _with_endings(ladder[row, :RUNGS], request.policy.endings)
                inputs[row, kernel.TICK] = kernel.PRICES
        kernel.add_edges(inputs, ladder)
        inputs[:, kernel.TICK] = kernel.PRICES  # the ladder now holds prices, not ratios, also where it has one row
        rails = np.array([query.allowed for query in queries], np.float64).reshape(len(queries), len(GUARD_RAILS), 2)
        return PriceColumns(queries, ladder, inputs, rails, np.array([query.has_demand for query in queries], bool))

    def _query(self, request: DynamicPricingRequest, now_ms: float) -> PriceQuery:
        place, context, policy = self._model.place(request.product_id), request.context_data, request.policy or DEFAULT_POLICY
        price = self._price[place] if context.current_price is None else context.current_price
        price = price if price == price else 1.0  # checks.refusal has refused such a request where it was called
        learned_cost = self._cost[place]
        cost = context.unit_cost if context.unit_cost is not None else learned_cost if learned_cost == learned_cost else None
        as_of_ms = now_ms if request.as_of is None else epoch_ms(request.as_of)
        horizon = policy.horizon_days or WEEK_DAYS
        if context.current_demand > 0:
            a_day = context.current_demand / (context.demand_period_days or WEEK_DAYS)
        else:
            a_day = self._weekly_demand(request, place, price, as_of_ms) / WEEK_DAYS
        allowed = bands(_facts(request, policy, price, cost))
        low, high = intersection(allowed)
        # Without a cost there is no profit to compute: revenue is maximised.
        revenue = _revenue_weight(policy) if cost is not None else 1.0
        row = (
            price,
            a_day * horizon if a_day > 0 else 1.0,
            self._elasticity[place],
            self._sd[place],
            cost or 0.0,
            low,
            high,
            # Without a demand nothing tells how long the stock lasts.
            context.inventory_level if a_day > 0 or context.inventory_level == 0 else math.inf,
            1 - revenue,
            revenue,
            policy.risk_aversion or 0.0,
            policy.tick or self._minor_unit(context.currency),
        )
        return PriceQuery(
            place,
            row,
            allowed,
            cost is not None,
            a_day > 0,
            horizon,
            as_of_ms,
            policy.exploration or 0.0,
            request.product_id,
            context.currency or self._currency,
            (policy.objective or "profit") if cost is not None else "revenue",
            self._source[place],
        )

    def _minor_unit(self, currency: str | None) -> float:
        return self._tick if currency is None else currencies.minor_unit(currency) or TICK

    def _weekly_demand(self, request: DynamicPricingRequest, place: int, price: float, as_of_ms: float) -> float:
        """Return the units that a product is expected to sell in a week at its current price: by elasticities, competitors and season."""
        quantity, reference = self._quantity[place], self._price[place]
        if not (quantity > 0 and reference > 0):
            return 0.0
        season = self._model.season
        factor = season.get(from_epoch_ms(as_of_ms).isocalendar().week, 1.0) if season else 1.0
        return float(quantity * (price / reference) ** self._elasticity[place] * self._competitor_factor(request, place) * factor)

    def _competitor_factor(self, request: DynamicPricingRequest, place: int) -> float:
        """Return the factor by which the competitors' current prices, against those in the training data, change demand."""
        factor, competitors = 1.0, self._model.competitors
        stated = {one.competitor or "": one.price for one in request.context_data.competitor_prices or ()}
        if len(competitors) == 1 and stated and not stated.keys() & competitors.keys():
            (only,) = competitors.values()
            return _demand_ratio(statistics.median(stated.values()), only.price[place], only.elasticity[place])
        for name, price in stated.items():
            if name in competitors:
                factor *= _demand_ratio(price, competitors[name].price[place], competitors[name].elasticity[place])
        return factor


def _facts(request: DynamicPricingRequest, policy: PricePolicy, price: float, cost: float | None) -> PriceFacts:
    context = request.context_data
    return PriceFacts(
        price=price,
        price_at_day_start=price if context.price_at_day_start is None else context.price_at_day_start,
        cost=cost,
        previous_cost=context.previous_unit_cost,
        competitor=_median([one.price for one in context.competitor_prices or ()]),
        pass_through=policy.cost_pass_through,
        competitor_low=policy.competitor_low,
        competitor_high=policy.competitor_high,
        max_change=MAX_CHANGE if policy.max_change is None else policy.max_change,
        max_change_per_day=policy.max_change_per_day,
        min_price=policy.min_price,
        max_price=policy.max_price,
        min_margin_share=policy.min_margin_share or 0.0,
        min_margin=policy.min_margin or 0.0,
    )


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _demand_ratio(price: float, reference: float, elasticity: float) -> float:
    return float((price / reference) ** elasticity) if reference > 0 else 1.0


def _revenue_weight(policy: PricePolicy) -> float:
    if policy.objective == "mix":
        return REVENUE_WEIGHT if policy.revenue_weight is None else policy.revenue_weight
    return 1.0 if policy.objective == "revenue" else 0.0


def _with_endings(prices: F64, endings: Sequence[float]) -> F64:
    """Return for each price the nearest one that has one of the endings."""
    wholes = np.floor(prices)[:, None, None] + np.array([-1.0, 0.0, 1.0])[None, :, None]
    candidates = np.round(wholes + np.array(endings)[None, None, :], 10).reshape(len(prices), -1)
    away = np.where(candidates > 0, np.abs(candidates - prices[:, None]), np.inf)
    return np.asarray(candidates[np.arange(len(prices)), away.argmin(axis=1)])
