"""Log-log demand, product by product: own and cross elasticities, what promotions add, and the season that all products share.

    log q = a[product, store] + w[period] + e[product] log p + g[product] . log p_competitors + h[product] . promotion + error

The effects a and w are there where they are asked for. Those of the period are one set for all products: they are found first, from what
the products' own regressors leave of them (Frisch, Waugh and Lovell), so that each product is a small regression of its own.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kernels.types import F64, I64, Bool, Intp
from training.models.pricing.regression import Fit, basis, regress, variation, within
from training.tables.sales import PERIOD, STORE, Sales

MIN_ROWS, MIN_PRICES = 8, 3  # to say anything of a product
PRICE_DIGITS = 6  # of a logarithm: prices that agree in so many are the same


@dataclass(frozen=True, slots=True)
class Slopes:
    """What the rows of one product say; NaN where they say nothing. cross, promotion: [columns] each, with their errors."""

    rows: int
    own: float
    own_error: float
    cross: F64
    cross_error: F64
    promotion: F64
    promotion_error: F64

    @property
    def insufficient(self) -> bool:
        """Whether the rows are too few, or too much alike, to say how demand follows the price."""
        return not np.isfinite(self.own)


@dataclass(frozen=True, slots=True)
class Found:
    """The slopes of each product, and the effects of the periods [periods], 0 where none was asked for or can be told."""

    products: list[Slopes]
    season: F64


def pooled(sales: Sales, by_product: bool) -> tuple[float, float]:
    """Return one elasticity for all products and its error, from prices alone, with an effect for each product or with none."""
    groups = sales.product if by_product else np.zeros(len(sales), np.int64)
    fit = regress(sales.price[:, None], sales.quantity, groups, sales.store if sales.store is not None else sales.product)
    return float(fit.coefficients[0]), float(fit.errors[0])


def of_products(sales: Sales, effects: Collection[str], with_promotions: bool, only: Bool | None = None) -> Found:
    """Return what each product's rows say. only: [rows] which to look at; without promotions these are as any other rows."""
    order = np.argsort(sales.product, kind="stable")
    if only is not None:
        order = order[only[order]]
    bounds = np.searchsorted(sales.product[order], np.arange(len(sales.products) + 1))
    rows = [order[begin:end] for begin, end in pairwise(bounds.tolist())]
    season, spent = _season(sales, rows, effects, with_promotions) if PERIOD in effects and sales.period is not None else (None, 0.0)
    effect = np.zeros(len(sales.periods)) if season is None else season
    share = spent / max(1, len(order))
    return Found([_slopes(sales, each, effects, with_promotions, effect, share) for each in rows], effect)


def _groups(sales: Sales, rows: Intp, effects: Collection[str]) -> I64:
    """Return which rows of a product share an effect."""
    if STORE not in effects or sales.store is None:
        return np.zeros(len(rows), np.int64)
    return np.unique(sales.store[rows], return_inverse=True)[1].astype(np.int64)


def _regressors(sales: Sales, rows: Intp, with_promotions: bool) -> F64:
    parts = [sales.price[rows, None], sales.competitors[rows], sales.promotions[rows] if with_promotions else np.empty((len(rows), 0))]
    return np.concatenate(parts, axis=1)


def _is_enough(sales: Sales, rows: Intp) -> bool:
    return len(rows) >= MIN_ROWS and len(np.unique(np.round(sales.price[rows], PRICE_DIGITS))) >= MIN_PRICES


def _season(sales: Sales, rows: list[Intp], effects: Collection[str], with_promotions: bool) -> tuple[F64 | None, float]:
    """Return the effects of the periods [periods], 0 on average, and how many parameters they are; (None, 0) where none can be told."""
    assert sales.period is not None, "a season without periods; this is a bug"
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
    told = values > 1e-9 * max(values.max(initial=0.0), 1e-30)
    if not told.any():
        return None, 0.0
    effect = vectors[:, told] @ ((vectors[:, told].T @ moment) / values[told])
    return effect - effect.mean(), float(told.sum())


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


def _part(fit: Fit, columns: slice) -> tuple[F64, F64]:
    return fit.coefficients[columns], fit.errors[columns]


def _unknown(sales: Sales, rows: Intp) -> Slopes:
    nothing = float("nan")
    cross, promotion = np.full(sales.competitors.shape[1], nothing), np.full(sales.promotions.shape[1], nothing)
    return Slopes(len(rows), nothing, nothing, cross, cross, promotion, promotion)
