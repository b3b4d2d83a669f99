"""Metrics of predicted probabilities: discrimination (AUC), calibration (ECE), and both (log loss, Brier)."""

from typing import Any

import numpy as np

from kernels.types import F64

BINS = 10


def figures(y: F64, p: F64) -> dict[str, float]:
    """Return auc, average_precision, log_loss, brier and ece of probabilities p [n] for outcomes y [n], 0 or 1."""
    from sklearn.metrics import average_precision_score

    clipped = np.clip(p, 1e-15, 1 - 1e-15)
    return {
        "auc": auc(y, p),
        "average_precision": float(average_precision_score(y, p)),
        "log_loss": float(-np.mean(y * np.log(clipped) + (1 - y) * np.log1p(-clipped))),
        "brier": float(np.mean((p - y) ** 2)),
        "ece": ece(y, p),
    }


def auc(y: F64, p: F64) -> float:
    """Return the area under the ROC curve; a tie counts half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(y, p))


def reliability(y: F64, p: F64, bins: int = BINS) -> list[dict[str, Any]]:
    """Return rows, mean predicted probability and observed share of each of `bins` bins of (nearly) equal size, by p."""
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    return [{"rows": len(part), "stated": float(p[part].mean()), "observed": float(y[part].mean())} for part in parts if len(part)]


def ece(y: F64, p: F64, bins: int = BINS) -> float:
    """Return the expected calibration error: the mean of |observed share - mean prediction| over equal-mass bins."""
    table = reliability(y, p, bins)
    return float(sum(row["rows"] * abs(row["observed"] - row["stated"]) for row in table) / len(y))
