"""How predictions of purchases and spend compare with what came after: the promise is calibration; how well they rank is shown as it is."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.types import F64

MAX_FREQUENT = 7  # customers with so many repeat purchases or more are one line of the table
TOP = 0.1  # share of the customers whose share of the spend is told


def correlation(one: F64, other: F64) -> float | None:
    """Return Pearson's correlation of two columns, None where one of them is constant."""
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def errors(predicted: F64, actual: F64) -> dict[str, float | None]:
    """Return total, mean absolute error, root mean squared error and correlation of predicted against actual purchases, [customers]."""
    return {
        "transactions": float(predicted.sum()),
        "aggregateError": float(predicted.sum() / actual.sum() - 1) if actual.sum() > 0 else None,
        "mae": float(np.abs(predicted - actual).mean()),
        "rmse": math.sqrt(float(((predicted - actual) ** 2).mean())),
        "correlation": correlation(predicted, actual),
    }


def by_frequency(frequency: F64, predicted: F64, actual: F64) -> list[dict[str, Any]]:
    """Return, for each number of repeat purchases in calibration, the mean predicted and actual purchases after it."""
    level = np.minimum(frequency, MAX_FREQUENT).astype(np.int64)
    return [
        {
            "repeatPurchases": f"{MAX_FREQUENT}+" if value == MAX_FREQUENT else str(value),
            "customers": int((level == value).sum()),
            "predicted": float(predicted[level == value].mean()),
            "actual": float(actual[level == value].mean()),
        }
        for value in np.unique(level).tolist()
    ]


def gini(ranked_by: F64, spend: F64) -> float | None:
    """Return the normalised Gini coefficient of a ranking: 1 orders the customers as their spend does, 0 as chance would.

    None where nothing was spent. Source: Wang, Liu and Miao 2019, section 5.
    """
    best = _area(spend, spend)
    return _area(ranked_by, spend) / best if spend.sum() > 0 and best > 0 else None


def _area(ranked_by: F64, spend: F64) -> float:
    """Return the area between the Lorenz curve of a ranking, best first, and the diagonal."""
    share = np.cumsum(spend[np.argsort(-ranked_by, kind="stable")]) / max(float(spend.sum()), 1e-300)
    return float(share.mean() - (len(spend) + 1) / (2 * len(spend)))


def top_share(ranked_by: F64, spend: F64) -> float | None:
    """Return what share of the spend the best tenth of a ranking brings."""
    if spend.sum() <= 0:
        return None
    best = np.argsort(-ranked_by, kind="stable")[: max(1, round(TOP * len(spend)))]
    return float(spend[best].sum() / spend.sum())


def deviance(predicted: F64, actual: F64) -> float:
    """Return the mean Poisson deviance of expected money against what was spent, [customers]: the mean has the least of it."""
    mu = np.maximum(predicted, 1e-9)
    logs = actual * (np.log(np.where(actual > 0, actual, 1.0)) - np.log(mu))
    return float(2 * (logs - (actual - mu)).mean())


def ranking(spend: F64, by: Mapping[str, F64]) -> dict[str, dict[str, float | None]]:
    """Return how well each column of `by`, [customers], ranks the customers by what they spent later."""
    return {name: {"gini": gini(column, spend), "topTenthOfSpend": top_share(column, spend)} for name, column in by.items()}
