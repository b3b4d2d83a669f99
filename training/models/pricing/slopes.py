"""Log-log demand, product by product: own and cross elasticities, effects of promotions, and a season shared by all products.

    log q = a[product, store] + w[period] + e[product] log p + g[product] . log p_competitors + h[product] . promotion + error

The effects a and w are optional. Those of the periods are shared by all products: they are fitted first, on what the products' own
regressors leave of them (Frisch, Waugh and Lovell), so that each product is then a small regression of its own.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kernels.types import F64, I64, Bool, Intp
from training.models.pricing.regression import RegressionFit, basis, regress, variation, within
from training.tables.sales import PERIOD, STORE, Sales

MIN_ROWS, MIN_PRICES = 8, 3  # of a product, for its elasticity to be estimated
PRICE_DIGITS = 6  # of a logarithm: prices that are equal to so many digits are the same


@dataclass(frozen=True, slots=True)
class Slopes:
    """The estimates of one product; NaN where they are not identified. cross, promotion: [columns] each, with their errors."""

    rows: int
    own: float
    own_error: float
    cross: F64
    cross_error: F64
    promotion: F64
    promotion_error: F64

    @property
    def insufficient(self) -> bool:
        """Return whether the rows are too few, or too similar, to estimate the elasticity."""
        return not np.isfinite(self.own)


@dataclass(frozen=True, slots=True)
class SlopeEstimates:
    """The slopes of each product, and the effects of the periods [periods], 0 where they are not fitted or not identified."""

    products: list[Slopes]
    season: F64


def pooled(sales: Sales, by_product: bool) -> tuple[float, float]:
    """Return one elasticity for all products and its standard error, from prices alone, with or without product effects."""
    groups = sales.product if by_product else np.zeros(len(sales), np.int64)
    fit = regress(sales.price[:, None], sales.quantity, groups, sales.store if sales.store is not None else sales.product)
    return float(fit.coefficients[0]), float(fit.errors[0])


def of_products(sales: Sales, effects: Collection[str], with_promotions: bool, only: Bool | None = None) -> SlopeEstimates:
    """Return the estimates of each product. only: bool [rows], the rows to use; without promotions those are treated as any other rows."""
    order = np.argsort(sales.product, kind="stable")
    if only is not None:
        order = order[only[order]]
    bounds = np.searchsorted(sales.product[order], np.arange(len(sales.products) + 1))
    rows = [order[begin:end] for begin, end in pairwise(bounds.tolist())]
    season, spent = _season(sales, rows, effects, with_promotions) if PERIOD in effects and sales.period is not None else (None, 0.0)
    effect = np.zeros(len(sales.periods)) if season is None else season
    share = spent / max(1, len(order))
    return SlopeEstimates([_slopes(sales, each, effects, with_promotions, effect, share) for each in rows], effect)


def _groups(sales: Sales, rows: Intp, effects: Collection[str]) -> I64:
    """Return the group of each row of a product, int64 [rows]; rows of a group share an effect."""
    if STORE not in effects or sales.store is None:
        return np.zeros(len(rows), np.int64)
    return np.unique(sales.store[rows], return_inverse=True)[1].astype(np.int64)


def _regressors(sales: Sales, rows: Intp, with_promotions: bool) -> F64:
    parts = [sales.price[rows, None], sales.competitors[rows], sales.promotions[rows] if with_promotions else np.empty((len(rows), 0))]
    return np.concatenate(parts, axis=1)


def _is_enough(sales: Sales, rows: Intp) -> bool:
    return len(rows) >= MIN_ROWS and len(np.unique(np.round(sales.price[rows], PRICE_DIGITS))) >= MIN_PRICES


def _season(sales: Sales, rows: list[Intp], effects: Collection[str], with_promotions: bool) -> tuple[F64 | None, float]:
    """Return the effects of the periods [periods], 0 on average, and their number of parameters; (None, 0) where none is identified."""
    assert sales.period is not None, "a season without periods: this is a bug"
    number = len(sales.periods)
    normal, moment = np.zeros((number, number)), np.zeros(number)
    for each in rows:
        if not _is_enough(sales, each):
            continue
        X, groups = _regressors(sales, each, with_promotions), _groups(sales, each, effects)
        dummies = np.zeros((len(each), number))
        dummies[np.arange(len(each)), sales.period[each]] = 1.0
        scale = variation(X)
        inner = within(np.column_stack([X, sales.quantity[each], dummies]), groups)
        _, Q, _ = basis(inner[:, : X.shape[1]], scale)
        y, D = inner[:, X.shape[1]], inner[:, X.shape[1] + 1 :]
        D -= Q @ (Q.T @ D)
        normal += D.T @ D
        moment += D.T @ y
    values, vectors = np.linalg.eigh(normal)
    identified = values > 1e-9 * max(values.max(initial=0.0), 1e-30)
    if not identified.any():
        return None, 0.0
    effect = vectors[:, identified] @ ((vectors[:, identified].T @ moment) / values[identified])
    return effect - effect.mean(), float(identified.sum())


def _slopes(sales: Sales, rows: Intp, effects: Collection[str], with_promotions: bool, season: F64, share: float) -> Slopes:
    width = sales.competitors.shape[1]
    if not _is_enough(sales, rows):
        return _unknown(sales, rows)
    X = _regressors(sales, rows, with_promotions)
    y = sales.quantity[rows] - (season[sales.period[rows]] if sales.period is not None else 0.0)
    clusters = None if sales.store is None else sales.store[rows]
    fit = regress(X, y, _groups(sales, rows, effects), clusters, spent=share * len(rows))
    if not np.isfinite(fit.coefficients[0]):
        return _unknown(sales, rows)
    return Slopes(
        len(rows),
        float(fit.coefficients[0]),
        float(fit.errors[0]),
        *_part(fit, slice(1, 1 + width)),
        *_part(fit, slice(1 + width, None)),
    )


def _part(fit: RegressionFit, columns: slice) -> tuple[F64, F64]:
    return fit.coefficients[columns], fit.errors[columns]


def _unknown(sales: Sales, rows: Intp) -> Slopes:
    missing = float("nan")
    cross, promotion = np.full(sales.competitors.shape[1], missing), np.full(sales.promotions.shape[1], missing)
    return Slopes(len(rows), missing, missing, cross, cross, promotion, promotion)
