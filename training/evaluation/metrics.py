"""Metrics of predicted probabilities: discrimination (AUC), calibration (ECE), and both (log loss, Brier).

Each has the same value, to the bit, for any order of the rows: rows of equal probability count together.
"""

import math
from typing import Any

import numpy as np

from kernels.types import F64
from training.evaluation.ranking import slices

BINS = 10

MAX_PLAUSIBLE_AUC = 0.99  # of what people do; above it a column probably leaks the label


def figures(y: F64, p: F64) -> dict[str, float]:
    """Return auc, average_precision, log_loss, brier and ece of probabilities p [n] for outcomes y [n], 0 or 1."""
    from sklearn.metrics import average_precision_score

    clipped = np.clip(p, 1e-15, 1 - 1e-15)
    return {
        "auc": auc(y, p),
        "average_precision": float(average_precision_score(y, p)),
        "log_loss": -_mean(y * np.log(clipped) + (1 - y) * np.log1p(-clipped)),
        "brier": _mean((p - y) ** 2),
        "ece": ece(y, p),
    }


def auc(y: F64, p: F64) -> float:
    """Return the area under the ROC curve; a tie counts half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(y, p))


def reliability(y: F64, p: F64, bins: int = BINS) -> list[dict[str, Any]]:
    """Return rows, mean predicted probability and observed share of at most `bins` bins of (nearly) equal size, by p.

    Rows of equal p are in one bin, so that many of them make bins of unequal size, and fewer bins.
    """
    order = np.lexsort((y, p))
    stated, observed = p[order], y[order]
    return [
        {"rows": part.stop - part.start, "stated": float(stated[part].mean()), "observed": float(observed[part].mean())}
        for part in slices(-stated, bins)
    ]


def ece(y: F64, p: F64, bins: int = BINS) -> float:
    """Return the expected calibration error: the mean of |observed share - mean prediction| over equal-mass bins."""
    table = reliability(y, p, bins)
    return float(sum(row["rows"] * abs(row["observed"] - row["stated"]) for row in table) / len(y))


def _mean(column: F64) -> float:
    """Return the mean of a column, whose sum is rounded once."""
    return math.fsum(column) / len(column)
