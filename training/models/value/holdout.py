"""Measures of predicted purchases and spend on the hold-out: calibration first, then ranking."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.types import F64
from training.evaluation.ranking import means_of_ties

MAX_REPEATS = 7  # customers with at least this many repeat purchases share one row of the table
TOP = 0.1  # share of the customers in `top_share`


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
    """Return the mean predicted and actual purchases in the hold-out, by number of repeat purchases in calibration."""
    level = np.minimum(frequency, MAX_REPEATS).astype(np.int64)
    return [
        {
            "repeatPurchases": f"{MAX_REPEATS}+" if value == MAX_REPEATS else str(value),
            "customers": int((level == value).sum()),
            "predicted": float(predicted[level == value].mean()),
            "actual": float(actual[level == value].mean()),
        }
        for value in np.unique(level).tolist()
    ]


def gini(ranked_by: F64, spend: F64) -> float | None:
    """Return the normalised Gini coefficient of a ranking: 1 ranks the customers as their spend does, 0 at random.

    None where nothing was spent. Source: Wang, Liu and Miao 2019, section 5.
    """
    best = _area(spend, spend)
    return _area(ranked_by, spend) / best if spend.sum() > 0 and best > 0 else None


def _area(ranked_by: F64, spend: F64) -> float:
    """Return the area between the Lorenz curve of a ranking, best first, and the diagonal."""
    share = np.cumsum(means_of_ties(ranked_by, spend)) / max(math.fsum(spend), 1e-300)
    return float(share.mean() - (len(spend) + 1) / (2 * len(spend)))


def top_share(ranked_by: F64, spend: F64) -> float | None:
    """Return the share of the spend that the top tenth of a ranking accounts for, None where nothing was spent.

    Of customers who are tied at the end of the tenth, a share belongs to it.
    """
    if spend.sum() <= 0:
        return None
    return float(means_of_ties(ranked_by, spend)[: max(1, round(TOP * len(spend)))].sum() / math.fsum(spend))


def deviance(predicted: F64, actual: F64) -> float:
    """Return the mean Poisson deviance of predicted against actual spend, [customers]; the expectation minimises it."""
    mu = np.maximum(predicted, 1e-9)
    logs = actual * (np.log(np.where(actual > 0, actual, 1.0)) - np.log(mu))
    return float(2 * (logs - (actual - mu)).mean())


def ranking(spend: F64, by: Mapping[str, F64]) -> dict[str, dict[str, float | None]]:
    """Return the Gini coefficient and the top tenth's share of later spend for each column of `by`, [customers]."""
    return {name: {"gini": gini(column, spend), "topTenthOfSpend": top_share(column, spend)} for name, column in by.items()}
