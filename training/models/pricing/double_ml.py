"""Own elasticities where confounders moved both price and demand: double machine learning (Chernozhukov et al. 2018), partially linear.

Boosted trees predict log price and log quantity from the controls, fitted on other rows than they predict (cross-fitting); the slope
between the residuals is a product's elasticity. The trees are scikit-learn's, which need no functional form of the controls.
"""

import numpy as np

from kernels.types import F64
from training.models.pricing.regression import within
from training.models.pricing.slopes import MIN_ROWS, Slopes
from training.tables.sales import Sales

FOLDS = 5
_MIN_RESIDUAL = 1e-4  # share of the variation of price that must remain after the controls


def slopes(sales: Sales, ordinary: list[Slopes], seed: int) -> list[Slopes]:
    """Return the products' slopes with own elasticities and errors (HC3) adjusted for the controls, where the data suffice."""
    log = np.column_stack([sales.price, sales.quantity])
    inner = within(log, sales.product)
    residuals = inner - _predicted(sales, inner, seed)
    return [_slope(sales, residuals, inner, product, one) for product, one in enumerate(ordinary)]


def _predicted(sales: Sales, inner: F64, seed: int) -> F64:
    """Return out-of-fold predictions of price and quantity from the controls [rows, 2], both less their product's mean."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    none = np.zeros(len(sales), np.int64)
    known = (sales.product, sales.category[sales.product], *(none if one is None else one for one in (sales.store, sales.period)))
    controls = np.column_stack([*known, sales.competitors, sales.promotions, sales.controls])
    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    trees = HistGradientBoostingRegressor(max_iter=200, learning_rate=0.05, early_stopping=False, random_state=seed)
    return np.column_stack([cross_val_predict(trees, controls, inner[:, column], cv=folds) for column in range(2)])


def _slope(sales: Sales, residuals: F64, inner: F64, product: int, ordinary: Slopes) -> Slopes:
    from dataclasses import replace

    rows = np.flatnonzero(sales.product == product)
    price, quantity = residuals[rows, 0], residuals[rows, 1]
    size = float(price @ price)
    if ordinary.insufficient or len(rows) < MIN_ROWS or size <= _MIN_RESIDUAL * float(inner[rows, 0] @ inner[rows, 0]):
        return ordinary
    own = float(price @ quantity) / size
    leverage = np.minimum(price**2 / size + 1 / len(rows), 0.99)
    scores = price * (quantity - own * price) / (1 - leverage)
    return replace(ordinary, own=own, own_error=float(np.sqrt(scores @ scores)) / size)
