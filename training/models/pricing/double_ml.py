"""Own elasticities where much else moved both price and demand: double machine learning (Chernozhukov et al. 2018), partially linear.

What the controls say of log price and of log quantity is learned by boosted trees on other rows than it is taken from (cross-fitting), and
taken out; the slope of what is left on what is left is a product's elasticity. The trees are scikit-learn's, whatever the controls' form.
"""

import numpy as np

from kernels.types import F64
from training.models.pricing.regression import within
from training.models.pricing.slopes import MIN_ROWS, Slopes
from training.tables.sales import Sales

FOLDS = 5
_MIN_LEFT = 1e-4  # share of the variation of price that the controls must leave


def slopes(sales: Sales, ordinary: list[Slopes], seed: int) -> list[Slopes]:
    """Return the products' slopes with own elasticities and errors (HC3) that allow for the controls, where there is enough for them."""
    log = np.column_stack([sales.price, sales.quantity])
    inner = within(log, sales.product)
    left = inner - _explained(sales, inner, seed)
    return [_slope(sales, left, inner, product, one) for product, one in enumerate(ordinary)]


def _explained(sales: Sales, inner: F64, seed: int) -> F64:
    """Return what the controls say of price and quantity [rows, 2], both less their product's mean, of rows that were not learned from."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    nothing = np.zeros(len(sales), np.int64)
    known = (sales.product, sales.category[sales.product], *(nothing if one is None else one for one in (sales.store, sales.period)))
    controls = np.column_stack([*known, sales.competitors, sales.promotions, sales.controls])
    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    trees = HistGradientBoostingRegressor(max_iter=200, learning_rate=0.05, early_stopping=False, random_state=seed)
    return np.column_stack([cross_val_predict(trees, controls, inner[:, column], cv=folds) for column in range(2)])


def _slope(sales: Sales, left: F64, inner: F64, product: int, ordinary: Slopes) -> Slopes:
    from dataclasses import replace

    rows = np.flatnonzero(sales.product == product)
    price, quantity = left[rows, 0], left[rows, 1]
    size = float(price @ price)
    if ordinary.insufficient or len(rows) < MIN_ROWS or size <= _MIN_LEFT * float(inner[rows, 0] @ inner[rows, 0]):
        return ordinary
    own = float(price @ quantity) / size
    leverage = np.minimum(price**2 / size + 1 / len(rows), 0.99)
    scores = price * (quantity - own * price) / (1 - leverage)
    return replace(ordinary, own=own, own_error=float(np.sqrt(scores @ scores)) / size)
