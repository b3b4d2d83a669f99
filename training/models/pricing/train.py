"""Train the pricing model: read sales, estimate elasticities, assemble the bundle's files.

Each product has its own regression, whose slope is then shrunk to its category's, the more the less precise it is (`shrinkage`), so that a
short history never yields a positive or an implausible elasticity. `metrics.json` has both, and marks products with insufficient data.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kernels.types import F64, Bool
from training.currencies import shown_digits
from training.errors import CellError, TableError
from training.models.pricing import card as pricing_card
from training.models.pricing import double_ml
from training.models.pricing import model as pricing
from training.models.pricing.shrinkage import CROSS, OWN, Posterior, sd_of_another, shrunk
from training.models.pricing.slopes import MIN_PRICES, MIN_ROWS, SlopeEstimates, Slopes, of_products, pooled
from training.registry import bundle as bundles
from training.registry.bundle import Bundle
from training.registry.provenance import origin, software
from training.tables import frames
from training.tables import sales as sales_table
from training.tables.cells import DEFAULT, CellOptions
from training.tables.sales import EFFECTS, PERIOD, PRODUCT, STORE, Sales

SALES = "sales.parquet"  # of a folder that `revenue-engine simulate` wrote
MIN_STATE_ROWS = 400  # of each product with and without promotion, for each state to have a separate slope
MIN_PERIOD_ROWS = 2  # for the effect of a period to be identified beside those of prices
RECENT = 8  # periods, from which a product's current price and demand are taken

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Demand:
    """The fitted demand. states: {promotion, None for all rows: estimates of each product, posterior of its own elasticity}.

    served: the state by which prices are set. cross: by column the posterior of each product's cross elasticity.
    """

    sales: Sales
    effects: tuple[str, ...]
    pooled: Mapping[str, tuple[float, float]]
    states: Mapping[int | None, tuple[SlopeEstimates, Posterior]]
    served: int | None
    cross: Mapping[str, Posterior]


def train(
    data: Path,
    out: Path,
    *,
    mapping: Mapping[str, str | Sequence[str]],
    cells: CellOptions = DEFAULT,
    seed: int,
    progress: Progress,
    effects: Collection[str] | None = None,
) -> Bundle:
    """Fit demand on the table in `data`, write the bundle into `out` (new or empty) and return it.

    data: .csv, .csv.gz, .parquet, a folder of them, or one that `revenue-engine simulate` wrote. mapping: FIELD to COLUMN, or to several.
    effects: of EFFECTS, by default those whose field the table has. Raises TableError for a wrong or insufficient table, BundleError when
    `out` is taken. seed: of the folds of double machine learning, where there are controls; nothing else is drawn at random.
    """
    bundles.require_free(out)  # fail before the work, not after it
    progress("reading", 0.0)
    path = data / SALES if (data / SALES).is_file() else data
    frame = frames.read(path, numbers=sales_table.TABLE.number_columns(mapping), options=cells)
    try:
        columns = sales_table.resolve(frame.columns, mapping)
        sales = sales_table.read(frame, mapping, options=cells)
        demand = fit(sales, chosen(effects, sales), lambda share: progress("fitting demand", 0.1 + 0.8 * share), seed)
    except CellError as error:
        raise error.at(frames.place(path, error.row)) from None
    except TableError as error:
        raise TableError(f"{path}: {error}") from None
    progress("writing", 0.95)
    measured = metrics(demand)
    meta = {
        "currency": sales.currency,
        "trainingData": {
            "name": path.name,
            "rows": len(sales),
            "leftOut": dict(sales.left_out),
            **origin(path),
            "columns": {field: list(names) for field, names in columns.of.items()},
            "ignored": list(columns.ignored),
            "periodForm": sales.period_form if sales.period is not None else None,
        },
        "parameters": {"effects": list(demand.effects), "promotion": demand.served, "seed": seed},
        "software": software("numpy", "scipy", "polars", "revenue-engine"),
    }
    files = {
        pricing.DEMAND: bundles.encoded(content(demand)),
        pricing.METRICS: bundles.encoded(measured),
        pricing.CARD: pricing_card.card(meta, measured).encode(),
    }
    bundle = bundles.write(out, task=pricing.TASK, files=files, meta=meta)
    progress("done", 1.0)
    return bundle


def chosen(effects: Collection[str] | None, sales: Sales) -> tuple[str, ...]:
    """Return the given effects, or by default those that the table has.

    Periods with one row each are left out: their effects would absorb the prices. Raises TableError for an unknown effect, and for one
    whose field the table lacks.
    """
    available = {PRODUCT: True, STORE: sales.store is not None, PERIOD: sales.period is not None}
    if effects is None:
        available[PERIOD] &= len(sales) >= MIN_PERIOD_ROWS * len(sales.periods)
        return tuple(effect for effect in EFFECTS if available[effect])
    for effect in effects:
        if effect not in available:
            raise TableError(f"--effects {effect}: unknown effect; use {', '.join(EFFECTS)}")
        if not available[effect]:
            raise TableError(f"--effects {effect}: no column is the {effect}; name it with --map {effect}=COLUMN")
    return tuple(effect for effect in EFFECTS if effect in effects)


def fit(sales: Sales, effects: tuple[str, ...], progress: Callable[[float], None] = lambda share: None, seed: int = 0) -> Demand:
    """Return the demand estimated from the sales. Raises TableError where it cannot be estimated for any product."""
    _check_varied(sales)
    promotion = sales.promotions[:, 0] if sales.promotions.shape[1] == 1 else None
    split = promotion is not None and not sales.control_names and _is_split(sales, promotion)
    every = of_products(sales, effects, with_promotions=not split)
    progress(0.4)
    if sales.control_names:
        every = SlopeEstimates(double_ml.slopes(sales, every.products, seed), every.season)
    if all(slopes.insufficient for slopes in every.products):
        raise TableError(
            f"insufficient data: no product has {MIN_ROWS} rows with {MIN_PRICES} different prices and an elasticity that is "
            f"identified beside the effects ({', '.join(effects)}); collect more periods, or pass fewer --effects"
        )
    states: dict[int | None, tuple[SlopeEstimates, Posterior]] = {None: (every, _own(sales, every))}
    if split and promotion is not None:
        for state in (0, 1):
            found = of_products(sales, effects, with_promotions=False, only=promotion == state)
            states[state] = found, _own(sales, found)
    progress(0.9)
    served = 0 if split else None
    cross = {name: _cross(sales, states[served][0], column) for column, name in enumerate(sales.competitor_names)}
    whole = {"noEffects": pooled(sales, by_product=False), "productEffects": pooled(sales, by_product=True)}
    return Demand(sales, effects, whole, states, served, cross)


def metrics(demand: Demand) -> dict[str, Any]:
    """Return the content of metrics.json."""
    sales = demand.sales
    listed = [
        {
            "product": name,
            "promotion": state,
            "own": _finite(slopes.own),
            "standardError": _finite(slopes.own_error),
            "shrunk": float(posterior.mean[number]),
            "posteriorSd": float(posterior.sd[number]),
            "interval80": posterior.interval80[number].tolist(),
            "cross": {
                column: float(value) for column, value in zip(sales.competitor_names, slopes.cross, strict=True) if np.isfinite(value)
            },
            "promotionEffect": {
                column: float(value) for column, value in zip(sales.promotion_names, slopes.promotion, strict=False) if np.isfinite(value)
            },
            "observations": slopes.rows,
            "insufficientData": slopes.insufficient,
        }
        for state, (found, posterior) in demand.states.items()
        for number, (name, slopes) in enumerate(zip(sales.products, found.products, strict=True))
    ]
    served = demand.states[demand.served][1].mean
    return {
        "meanElasticity": float(served.mean()),
        "pooled": {name: {"own": _finite(own), "standardError": _finite(error)} for name, (own, error) in demand.pooled.items()},
        "products": len(sales.products),
        "insufficient": sum(slopes.insufficient for slopes in demand.states[demand.served][0].products),
        "rows": len(sales),
        "leftOut": dict(sales.left_out),
        "effects": list(demand.effects),
        "promotionState": demand.served,
        "controls": list(sales.control_names),
        "warnings": list(sales.warnings),
        "elasticities": listed,
    }


def content(demand: Demand) -> dict[str, Any]:
    """Return the content of demand.json: columns by product, each a list."""
    sales = demand.sales
    found, own = demand.states[demand.served]
    recent, last = _recent(sales, RECENT), _recent(sales, 1)
    digits = shown_digits(sales.currency)
    # Prices are the latest, to the minor unit; quantities are the mean of some periods, since one is noisy, each moved to these prices.
    price = np.log(np.maximum(np.round(np.exp(_means(sales, sales.price, last)), digits), 10.0**-digits))
    competitors = [_means(sales, sales.competitors[:, column], last) for column in range(len(sales.competitor_names))]
    return {
        "products": list(sales.products),
        "categories": list(sales.categories),
        "category": sales.category.tolist(),
        "elasticity": own.mean.tolist(),
        "elasticitySd": own.sd.tolist(),
        "unknownSd": sd_of_another(*_estimates(found), OWN),
        "price": np.round(np.exp(price), digits).tolist(),
        "quantity": _quantities(demand, price, competitors, recent).tolist(),
        "cost": [_finite(cost) for cost in sales.cost],
        "insufficient": [slopes.insufficient for slopes in found.products],
        "competitors": {
            name: {
                "elasticity": demand.cross[name].mean.tolist(),
                "elasticitySd": demand.cross[name].sd.tolist(),
                "price": np.exp(competitors[column]).tolist(),
            }
            for column, name in enumerate(sales.competitor_names)
        },
        "season": _season(sales, found.season),
    }


def _check_varied(sales: Sales) -> None:
    if np.ptp(sales.price) < 1e-9:
        raise TableError(
            f"all {len(sales)} rows have the price {np.exp(sales.price[0]):g}: elasticities cannot be estimated; add other prices"
        )
    if sales.period is not None and len(np.unique(sales.period)) == 1 and sales.store is None:
        raise TableError("all rows are of one period: elasticities cannot be estimated; collect more periods")


def _is_split(sales: Sales, promotion: F64) -> bool:
    """Return whether each product has enough rows with promotion and without for a slope of each."""
    if not np.isin(promotion, (0.0, 1.0)).all():
        return False
    counts = np.zeros((len(sales.products), 2), np.int64)
    np.add.at(counts, (sales.product, promotion.astype(np.int64)), 1)
    return bool((counts >= MIN_STATE_ROWS).all())


def _by_category(sales: Sales, estimates: F64, errors: F64, prior: Any) -> Posterior:
    mean, sd, interval = np.empty(len(estimates)), np.empty(len(estimates)), np.empty((len(estimates), 2))
    for category in range(len(sales.categories)):
        of = sales.category == category
        if of.any():
            found = shrunk(estimates[of], errors[of], prior)
            mean[of], sd[of], interval[of] = found.mean, found.sd, found.interval80
    return Posterior(mean, sd, interval)


def _estimates(found: SlopeEstimates) -> tuple[F64, F64]:
    """Return the elasticity of each product's own regression, and its standard error."""
    return _column(found, lambda one: one.own), _column(found, lambda one: one.own_error)


def _own(sales: Sales, found: SlopeEstimates) -> Posterior:
    return _by_category(sales, *_estimates(found), OWN)


def _cross(sales: Sales, found: SlopeEstimates, column: int) -> Posterior:
    return _by_category(
        sales,
        _column(found, lambda one: float(one.cross[column])),
        _column(found, lambda one: float(one.cross_error[column])),
        CROSS,
    )


def _column(found: SlopeEstimates, of: Callable[[Slopes], float]) -> F64:
    return np.array([of(slopes) for slopes in found.products], np.float64)


def _recent(sales: Sales, periods: int) -> Bool:
    """Return which rows are of each product's last periods; all of them where there are no periods."""
    if sales.period is None:
        return np.ones(len(sales), bool)
    last = np.zeros(len(sales.products), np.int64)
    np.maximum.at(last, sales.product, sales.period)
    return np.asarray(sales.period > last[sales.product] - periods)


def _means(sales: Sales, values: F64, selected: Bool) -> F64:
    """Return the mean over the selected rows of each product, float64 [products]; over all rows for a product without any."""
    product = sales.product[selected]
    rows = np.bincount(product, minlength=len(sales.products))
    total = np.bincount(product, values[selected], minlength=len(sales.products))
    return np.where(rows > 0, total / np.maximum(rows, 1), values.mean())


def _quantities(demand: Demand, price: F64, competitors: Sequence[F64], recent: Bool) -> F64:
    """Return each product's expected sales in a period, at its reference price and its competitors', without promotion.

    The mean sales of its recent rows, each moved to these prices by the served elasticities.
    """
    sales = demand.sales
    found, own = demand.states[demand.served]
    product = sales.product
    log = sales.quantity - own.mean[product] * (sales.price - price[product])
    for column, name in enumerate(sales.competitor_names):
        log -= demand.cross[name].mean[product] * (sales.competitors[:, column] - competitors[column][product])
    promoted = np.array([np.nan_to_num(slopes.promotion) for slopes in found.products]).reshape(len(sales.products), -1)
    if demand.served is None and promoted.shape[1]:
        log -= (promoted[product] * sales.promotions).sum(axis=1)
    if sales.period is not None:
        log -= found.season[sales.period]
    return _means(sales, np.exp(log), recent)


def _season(sales: Sales, effect: F64) -> dict[str, float]:
    """Return {ISO week: demand relative to the mean period}, where the table has a year of dates; else empty."""
    if not sales.dated or len(sales.periods) < 52:
        return {}
    from datetime import date

    weeks: dict[int, list[float]] = {}
    for number, value in zip(sales.periods.tolist(), effect.tolist(), strict=True):
        weeks.setdefault(date.fromordinal(number).isocalendar().week, []).append(value)
    return {str(week): float(np.exp(np.mean(values))) for week, values in sorted(weeks.items())}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
