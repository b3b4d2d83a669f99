"""The right price: what a product's demand says, within the bounds that a person has set, with the whole way from one to the other."""

import math
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from kernels.pricing import ladder as kernel
from kernels.types import F64, Bool
from serving.engines.engine import Engine, Scorer
from serving.engines.pricing import groups
from serving.engines.pricing import table as price_table
from serving.engines.pricing.explanation import explained, reason, trail
from serving.engines.pricing.groups import Tie, Ties, best, tied
from serving.engines.pricing.guard_rails import Band, Facts, bands, together
from serving.engines.pricing.types import (
    PURPOSE,
    Clamp,
    DynamicPricingRequest,
    DynamicPricingResponse,
    ElasticityUsed,
    Exploration,
    Impact,
    Policy,
)
from serving.engines.types import epoch_ms, is_sane, moment, not_sane
from serving.errors import FieldProblem, InvalidRequestError, RevenueEngineError
from serving.settings import Settings

if TYPE_CHECKING:
    from training.models.pricing.model import PricingModel
    from training.registry.bundle import Bundle


REACH, RUNGS = 2.0, 63  # of the usual ladder: from half to twice the price, the price itself in the middle
RATIOS = np.geomspace(1 / REACH, REACH, RUNGS)
RATIOS[RUNGS // 2] = 1.0
WEEK_DAYS = 7.0
MAX_CHANGE, TICK, VALID_HOURS, MIX = 0.25, 0.01, 24.0, 0.5  # where the policy does not say
ENDS = np.array([NormalDist().inv_cdf(share) for share in (0.1, 0.9)])
DISCLOSURE = "THIS PRICE WAS SET BY AN ALGORITHM USING YOUR PERSONAL DATA."
# What no price may follow, whoever asks for it: the attributes that the law protects.
_PROTECTED = re.compile(
    r"(?<![a-z])(gender|sex|male|female|race|racial|ethnic\w*|religio\w*|muslim|jewish|christian|disab\w*|pregnan\w*|nationality|"
    r"sexual\w*|gay|lesbian|age|senior|political\w*|union)(?![a-z])"
)
_USUAL = Policy()


class Asked(NamedTuple):
    """One request as the kernel and the rails see it: `row` are the kernel's columns."""

    place: int
    row: tuple[float, ...]
    allowed: list[Band]  # by rail
    costed: bool
    demand: bool  # whether any is known
    horizon_days: float
    as_of_ms: float
    exploration: float
    product: str


class Columns(NamedTuple):
    """Requests as columns.

    ladder: float64 [n, rungs], NaN where a ladder is shorter; asked: float64 [n, kernels.pricing.ladder.ASKED], within all guard rails;
    demand: float64 [n]; ties: the groups of a catalogue whose prices must agree.
    """

    each: list[Asked]
    ladder: F64
    asked: F64
    demand: Bool
    ties: Ties | None = None


class Answers(NamedTuple):
    """Answers as columns, [n]; changes are [n, kernels.pricing.ladder.CHANGED].

    best: the rung that earns most within the rails, NaN where there is none; free, stocked: without any rule, and with none but the stock.
    moved: what made a price agree with others, of a catalogue with ties.
    """

    columns: Columns
    price: F64
    best: F64
    free: F64
    stocked: F64
    shadow: F64
    propensity: F64
    changes: F64
    moved: list[Tie]


class PricingScorer:
    """A loaded pricing model behind the engine's seam. `clock` returns seconds since 1970."""

    def __init__(self, model: "PricingModel", clock: Callable[[], float] = time.time) -> None:
        self._model, self._clock = model, clock
        # As lists: a number of an array costs ten times one of a list.
        self._price, self._quantity, self._cost = model.price.tolist(), model.quantity.tolist(), model.cost.tolist()
        self._elasticity, self._sd = model.elasticity.tolist(), model.sd.tolist()

    @property
    def version(self) -> str:
        """Return the version of the model."""
        return self._model.version

    def tune(self, live: Scorer | None = None) -> Sequence[str]:
        """Return nothing: there is one way to find a price."""
        return ()

    def without_explanations(self, columns: Columns) -> Columns:
        """Return the columns as they are: nothing can be left out."""
        return columns

    def base_rate(self, request: DynamicPricingRequest) -> None:
        """Return nothing: no price is better than one that nobody looked at."""

    def refusal(self, request: DynamicPricingRequest) -> RevenueEngineError | None:
        """Return why this model cannot price it: a product that it does not know needs a price to begin with; currencies must agree."""
        model, context = self._model, request.context_data
        wrong = []
        if context.current_price is None and not math.isfinite(self._price[model.place(request.product_id)]):
            wrong.append(
                FieldProblem(
                    "contextData.currentPrice", f"is needed: product {request.product_id} is not in the training data of the model"
                )
            )
        currency = context.currency or model.currency
        if (
            context.currency
            and model.currency
            and context.currency != model.currency
            and (context.current_price is None or context.unit_cost is None)
        ):
            wrong.append(
                FieldProblem(
                    "contextData.currency",
                    f"is {context.currency}, the model's prices are in {model.currency}: state currentPrice and unitCost",
                )
            )
        wrong += [
            FieldProblem(
                f"contextData.competitorPrices[{number}].currency", f"is {one.currency}, the other amounts are in {currency or 'none'}"
            )
            for number, one in enumerate(context.competitor_prices)
            if one.currency is not None and currency is not None and one.currency != currency
        ]
        return InvalidRequestError(wrong) if wrong else None

    def columns(self, requests: Sequence[DynamicPricingRequest]) -> Columns:
        """Return the requests as columns."""
        now_ms = self._clock() * 1000
        each = [self._asked(request, now_ms) for request in requests]
        asked = np.array([one.row for one in each], np.float64).reshape(len(each), kernel.ASKED)
        own = [(row, request.policy.ladder) for row, request in enumerate(requests) if request.policy and request.policy.ladder]
        ladder = np.full((len(each), max([RUNGS, *(len(rungs) for _, rungs in own)])), np.nan)
        kernel.ladders(RATIOS, asked, ladder)
        asked[:, kernel.TICK] = kernel.PRICES  # from here on, also where there is one product alone
        for row, rungs in own:
            ladder[row] = np.nan
            ladder[row, : len(rungs)] = sorted(rungs)
        for row, request in enumerate(requests):
            if request.policy and request.policy.endings and not request.policy.ladder:
                ladder[row, :RUNGS] = _ending(ladder[row, :RUNGS], request.policy.endings)
        return Columns(each, ladder, asked, np.array([one.demand for one in each], bool))

    def run(self, columns: Columns) -> Answers:
        """Return the prices and what they do as columns."""
        asked, ladder, rows = columns.asked, columns.ladder, len(columns.asked)
        found, stocked, free = np.empty((3, rows, kernel.ANSWERED))
        kernel.prices(ladder, asked, found)
        unbound = asked.copy()
        unbound[:, kernel.LOW], unbound[:, kernel.HIGH] = 0.0, np.inf
        kernel.prices(ladder, unbound, stocked)
        unbound[:, kernel.STOCK] = np.inf
        kernel.prices(ladder, unbound, free)
        price, shadow = found[:, kernel.BEST].copy(), found[:, kernel.SHADOW].copy()
        for row in np.flatnonzero(np.isnan(price)).tolist():
            one = columns.each[row]
            price[row] = best(ladder[row : row + 1], asked[row : row + 1], one.allowed, one.row[kernel.TICK])
        empty = asked[:, kernel.STOCK] == 0
        price[empty], shadow[empty] = asked[empty, kernel.PRICE], 0.0
        propensity = np.ones(rows)
        for row, one in enumerate(columns.each):
            if one.exploration > 0 and not empty[row]:
                price[row], propensity[row] = _explored(columns, row, float(price[row]))
        moved = list[Tie]()
        if columns.ties is not None:
            rails, ticks = [one.allowed for one in columns.each], [one.row[kernel.TICK] for one in columns.each]
            moved = tied(columns.ties, ladder, asked, rails, ticks, price)
        changes = np.empty((rows, kernel.CHANGED))
        kernel.impacts(asked, price, columns.demand, ENDS, changes)
        within, ever, in_stock = (each[:, kernel.BEST] for each in (found, free, stocked))
        return Answers(columns, price, within, ever, in_stock, shadow, propensity, changes, moved)

    def rows(self, requests: Sequence[DynamicPricingRequest], answers: Answers) -> list[DynamicPricingResponse]:
        """Return one response for each request, in order."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        table = zip(
            requests,
            answers.columns.each,
            answers.price.tolist(),
            answers.best.tolist(),
            answers.free.tolist(),
            answers.stocked.tolist(),
            answers.shadow.tolist(),
            answers.propensity.tolist(),
            answers.changes.tolist(),
            strict=True,
        )
        return [self._row(now, *row) for row in table]

    def table(self, frame: Any) -> Columns:
        """Return a table's rows as columns: today's prices and what was sold at them, named as for training."""
        return self.columns(price_table.requests(frame, self._model))._replace(ties=groups.read(frame))

    def answers_frame(self, answers: Answers) -> dict[str, NDArray[Any] | list[Any]]:
        """Return the output columns of a batch job."""
        costed = np.array([one.costed for one in answers.columns.each], bool)
        return {
            "recommendedPrice": answers.price,
            "currentPrice": answers.columns.asked[:, kernel.PRICE],
            "unconstrainedPrice": answers.free,
            "confidence": answers.changes[:, kernel.SURE],
            "profitChange": np.where(costed, answers.changes[:, kernel.PROFIT_CHANGE], np.nan),
            **({"tiedBy": answers.moved} if answers.columns.ties is not None else {}),
            "modelVersion": [self.version] * len(answers.price),
        }

    def _asked(self, request: DynamicPricingRequest, now_ms: float) -> Asked:
        """Return a request as the kernel and the rails see it, what it does not state taken from the model."""
        place, context, policy = self._model.place(request.product_id), request.context_data, request.policy or _USUAL
        price = self._price[place] if context.current_price is None else context.current_price
        price = price if price == price else 1.0  # `refusal` has said so, to whoever asked it
        learned_cost = self._cost[place]
        cost = context.unit_cost if context.unit_cost is not None else learned_cost if learned_cost == learned_cost else None
        as_of_ms = now_ms if request.as_of is None else epoch_ms(request.as_of)
        horizon = policy.horizon_days or WEEK_DAYS
        if context.current_demand > 0:
            a_day = context.current_demand / (context.demand_period_days or WEEK_DAYS)
        else:
            a_day = self._learned(request, place, price, as_of_ms) / WEEK_DAYS
        facts = Facts(
            price=price,
            price_of_day=price if context.price_at_day_start is None else context.price_at_day_start,
            cost=cost,
            cost_before=context.previous_unit_cost,
            competitor=_median([one.price for one in context.competitor_prices]),
            pass_through=policy.cost_pass_through,
            band_low=policy.competitor_low,
            band_high=policy.competitor_high,
            change_per_step=MAX_CHANGE if policy.max_change is None else policy.max_change,
            change_per_day=policy.max_change_per_day,
            lowest=policy.min_price,
            highest=policy.max_price,
            margin_share=policy.min_margin_share or 0.0,
            margin=policy.min_margin or 0.0,
        )
        allowed = bands(facts)
        low, high = together(allowed)
        # Without a cost there is no profit to reckon with: what is left is revenue.
        revenue = _revenue_weight(policy) if cost is not None else 1.0
        row = (
            price,
            a_day * horizon if a_day > 0 else 1.0,
            self._elasticity[place],
            self._sd[place],
            cost or 0.0,
            low,
            high,
            context.inventory_level,
            1 - revenue,
            revenue,
            policy.risk_aversion or 0.0,
            policy.tick or TICK,
        )
        return Asked(place, row, allowed, cost is not None, a_day > 0, horizon, as_of_ms, policy.exploration or 0.0, request.product_id)

    def _learned(self, request: DynamicPricingRequest, place: int, price: float, as_of_ms: float) -> float:
        """Return what the model expects a product to sell in a week at its price now: by its elasticities, competitors and the season."""
        quantity, reference = self._quantity[place], self._price[place]
        if not (quantity > 0 and reference > 0):
            return 0.0
        season = self._model.season
        factor = season.get(moment(as_of_ms).isocalendar().week, 1.0) if season else 1.0
        return float(quantity * (price / reference) ** self._elasticity[place] * self._pressed(request, place) * factor)

    def _pressed(self, request: DynamicPricingRequest, place: int) -> float:
        """Return the factor by which the competitors' prices now, against those in the training data, change demand."""
        factor, competitors = 1.0, self._model.competitors
        stated = {one.competitor or "": one.price for one in request.context_data.competitor_prices}
        if len(competitors) == 1 and stated and not stated.keys() & competitors.keys():
            (only,) = competitors.values()
            return _ratio(statistics.median(stated.values()), only.price[place], only.elasticity[place])
        for name, price in stated.items():
            if name in competitors:
                factor *= _ratio(price, competitors[name].price[place], competitors[name].elasticity[place])
        return factor

    def _row(
        self,
        now: datetime,
        request: DynamicPricingRequest,
        asked: Asked,
        price: float,
        best: float,
        free: float,
        stocked: float,
        shadow: float,
        propensity: float,
        changes: list[float],
    ) -> DynamicPricingResponse:
        context, model, current, place = request.context_data, self._model, asked.row[kernel.PRICE], asked.place
        policy = request.policy or _USUAL
        explored = asked.exploration > 0 and best == best and price != best and context.inventory_level > 0
        clamps = trail(asked.allowed, context.inventory_level, free, stocked, best if explored else price)
        if explored:
            clamps.append(Clamp(rule="exploration", before=best, after=price))
        code = reason(price, current, clamps)
        as_of = now if request.as_of is None else moment(asked.as_of_ms)
        personal = (request.customer_id is not None or context.customer_segment is not None) and PURPOSE in (request.consent_purposes or ())
        demand, revenue, profit, *ends = changes[: kernel.SURE]
        return DynamicPricingResponse(
            product_id=request.product_id,
            recommended_price=price,
            current_price=current,
            currency=context.currency or model.currency or "XXX",
            price_change_reason=code,
            explanation=explained(code, price, current, clamps),
            binding_rule=clamps[-1].rule if clamps else None,
            unconstrained_price=free,
            trail=clamps,
            expected_impact=Impact(
                demand_change=demand,
                revenue_change=revenue,
                profit_change=profit if asked.costed else None,
                demand_change80=_ordered(ends[0], ends[3]),
                revenue_change80=_ordered(ends[1], ends[4]),
                profit_change80=_ordered(ends[2], ends[5]) if asked.costed else None,
                horizon_days=asked.horizon_days,
            ),
            confidence=changes[kernel.SURE],
            elasticity=ElasticityUsed(
                value=self._elasticity[place],
                standard_deviation=self._sd[place],
                source="prior" if place == len(model.places) else "category" if model.insufficient[place] else "product",
            ),
            exploration=Exploration(explored=explored, propensity=propensity) if asked.exploration > 0 else None,
            shadow_price=shadow,
            objective=(policy.objective or "profit") if asked.costed else "revenue",
            personalised=personal,
            disclosure=DISCLOSURE if personal else None,
            lowest_price30_days=min(current, context.lowest_price30_days or current),
            valid_until=as_of + timedelta(hours=policy.valid_hours or VALID_HOURS),
            as_of=as_of,
            model_version=model.version,
            timestamp=now,
        )


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _ratio(price: float, reference: float, elasticity: float) -> float:
    return float((price / reference) ** elasticity) if reference > 0 else 1.0


def _ordered(one: float, other: float) -> tuple[float, float]:
    return (one, other) if one <= other else (other, one)


def _revenue_weight(policy: Policy) -> float:
    if policy.objective == "mix":
        return MIX if policy.revenue_weight is None else policy.revenue_weight
    return 1.0 if policy.objective == "revenue" else 0.0


def _ending(prices: F64, endings: Sequence[float]) -> F64:
    """Return prices with one of the endings, each the one that is next to a price."""
    wholes = np.floor(prices)[:, None, None] + np.array([-1.0, 0.0, 1.0])[None, :, None]
    candidates = np.round(wholes + np.array(endings)[None, None, :], 10).reshape(len(prices), -1)
    away = np.where(candidates > 0, np.abs(candidates - prices[:, None]), np.inf)
    return np.asarray(candidates[np.arange(len(prices)), away.argmin(axis=1)])


def _explored(columns: Columns, row: int, price: float) -> tuple[float, float]:
    """Return a price on the ladder or beside it, and how probable that was: the same for everybody who asks for the product on a day."""
    asked = columns.each[row]
    low, high = asked.row[kernel.LOW], asked.row[kernel.HIGH]
    rungs = np.unique(columns.ladder[row])
    rungs = rungs[(rungs >= low) & (rungs <= high)].tolist()
    if price not in rungs or len(rungs) == 1:
        return price, 1.0
    at = rungs.index(price)
    beside = [rungs[place] for place in (at - 1, at + 1) if 0 <= place < len(rungs)]
    chance = xxhash.xxh64_intdigest(f"{asked.product}|{moment(asked.as_of_ms).date()}".encode()) / 2**64
    if chance >= asked.exploration:
        return price, 1 - asked.exploration
    return beside[int(chance / asked.exploration * len(beside))], asked.exploration / len(beside)


def check(request: DynamicPricingRequest) -> None:
    """Raise InvalidRequestError for what types cannot say."""
    wrong, policy, context = list[FieldProblem](), request.policy or _USUAL, request.context_data
    for low, high in (("min_price", "max_price"), ("competitor_low", "competitor_high")):
        least, most = getattr(policy, low), getattr(policy, high)
        if least is not None and most is not None and least > most:
            wrong.append(
                FieldProblem(f"policy.{_camel(low)}", f"is {least:g}, more than {_camel(high)}, {most:g}: no price is within both")
            )
    if context.customer_segment is not None and (found := _PROTECTED.search(context.customer_segment.lower().replace("_", " "))):
        wrong.append(FieldProblem("contextData.customerSegment", f"names {found[0]!r}: no price may follow what the law protects"))
    if request.as_of is not None and not is_sane(request.as_of):
        wrong.append(not_sane("asOf"))
    if wrong:
        raise InvalidRequestError(wrong)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def load(bundle: "Bundle", settings: Settings, parts: Any = None) -> PricingScorer:
    """Return the scorer of a bundle. Raises BundleError for a bundle that does not match."""
    from training.models.pricing.model import PricingModel

    return PricingScorer(PricingModel.load(bundle))


EXAMPLE: Mapping[str, Any] = {
    "productId": "P0077",
    "contextData": {
        "currentDemand": 42,
        "competitorPrices": [{"competitor": "rival", "price": 31.5}, {"competitor": "other", "price": 29.9}],
        "inventoryLevel": 400,
        "currentPrice": 29.9,
        "priceAtDayStart": 29.9,
        "unitCost": 16.4,
        "previousUnitCost": 16.1,
        "currency": "EUR",
        "demandPeriodDays": 7,
        "lowestPrice30Days": 27.9,
    },
    "policy": {
        "objective": "mix",
        "revenueWeight": 0.2,
        "riskAversion": 0.1,
        "horizonDays": 14,
        "minMarginShare": 0.15,
        "maxChange": 0.2,
        "maxChangePerDay": 0.3,
        "competitorLow": 0.8,
        "competitorHigh": 1.2,
        "costPassThrough": 0.5,
        "validHours": 12,
    },
}

PRICING = Engine(
    name="pricing",
    route="/v1/dynamic-pricing",
    summary="The right price: demand learned from history, chosen under guard rails, with the whole trail of what bound it.",
    request=DynamicPricingRequest,
    response=DynamicPricingResponse,
    example=EXAMPLE,
    check=check,
    load=load,
)
