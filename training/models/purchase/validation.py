"""Cross-validation of the purchase model: every metric is out of fold, calibration included."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost as xgb

from kernels.types import F32, F64
from training.evaluation import metrics
from training.models.purchase import fitted
from training.models.purchase.confidence import EDGES, MIN_SESSIONS
from training.models.shared import missingness, trees
from training.models.shared.calibration import probability
from training.models.shared.folds import Fold, stratified
from training.models.shared.trees import Ranks

# (maximum rows, folds), LARGE_FOLDS beyond: few folds of a large table give metrics of the same precision.
FOLDS = ((5_000, 5), (15_000, 10))
LARGE_FOLDS = 3

ALL = fitted.ALL
NO_PAGE_VALUE, NO_STATISTICS = fitted.CALIBRATED[1:]
CONTEXT_ONLY = missingness.bits(("context",))
CASES = {"without_page_values": NO_PAGE_VALUE, "without_page_statistics": NO_STATISTICS, "context_only": CONTEXT_ONLY}


@dataclass(frozen=True, slots=True)
class FoldScores:
    """The out-of-fold scores of a fold: stated, confidence float64 [levels, n]; reference [n]; specialists [2, n]."""

    stated: F64
    confidence: F64
    reference: F64
    specialists: F64


def folds(y: F64, seed: int) -> list[Fold]:
    """Return the folds for a table of this size."""
    number = next((number for rows, number in FOLDS if len(y) <= rows), LARGE_FOLDS)
    return stratified(y, number, seed)


def judge(X: F32, y: F64, fold: Fold, seed: int, threads: int = 1) -> FoldScores:
    """Return the scores of one part of the rows by a model fitted on the other."""
    model = fitted.fit(X[fold.learn], y[fold.learn], seed, threads)
    unseen = X[fold.judge]
    stated = model.stated(unseen)
    level = missingness.level(model.trees.ranks.apply(unseen), model.confidence.weights)
    # The confidence of a row at a level is that of the features which the row has and the level includes.
    confidence = np.stack([model.confidence.at(level & known, stated[known]) for known in range(missingness.LEVELS)])
    less = missingness.without(X, ["pageValue"])
    specialists = [_specialist(*trees.specialist(Z[fold.learn], y[fold.learn], seed, threads), Z[fold.judge]) for Z in (X, less)]
    return FoldScores(stated, confidence, model.trees.reference(unseen), np.stack(specialists))


def report(X: F32, y: F64, parts: list[tuple[Fold, FoldScores]], seed: int) -> dict[str, Any]:
    """Return the content of metrics.json from all folds, their rows pooled."""
    order = np.argsort(np.concatenate([fold.judge for fold, _ in parts]))
    stated, confidence, specialists = (
        np.concatenate([getattr(judged, name) for _, judged in parts], axis=1)[:, order] for name in ("stated", "confidence", "specialists")
    )
    reference = np.concatenate([judged.reference for _, judged in parts])[order]
    by_fold = [metrics.auc(y[fold.judge], judged.stated[ALL]) for fold, judged in parts]
    return {
        **metrics.figures(y, stated[ALL]),
        "auc_fold_mean": float(np.mean(by_fold)),
        "auc_fold_sd": float(np.std(by_fold)),
        "rows": len(y),
        "base_rate": float(y.mean()),
        "folds": len(parts),
        "seed": seed,
        **{case: metrics.figures(y, stated[known]) for case, known in CASES.items()},
        "specialists": {
            "whole": metrics.figures(y, specialists[0]),
            "without_page_values": metrics.figures(y, specialists[1]),
        },
        "reliability": metrics.reliability(y, stated[ALL]),
        "reliability_without_page_values": metrics.reliability(y, stated[NO_PAGE_VALUE]),
        "confidence": {
            "whole": check(stated[ALL], confidence[ALL], y, reference),
            **{case: check(stated[known], confidence[known], y, reference) for case, known in CASES.items()},
        },
    }


def check(stated: F64, confidence: F64, y: F64, reference: F64) -> dict[str, float]:
    """Return how often the two bounds of confidenceScore held: for rows by the reference, for groups by outcomes.

    A group is a band of probability with at least MIN_SESSIONS rows; its bound is the mean of its rows' distances.
    """
    distance = 1 - confidence
    band = np.searchsorted(EDGES, stated, side="right")
    groups = [rows for b in range(len(EDGES) + 1) if (rows := band == b).sum() >= MIN_SESSIONS]
    kept = [abs(y[rows].mean() - stated[rows].mean()) <= distance[rows].mean() for rows in groups]
    return {
        "mean": float(confidence.mean()),
        "rows_within": float(np.mean(np.abs(stated - reference) <= distance)),
        "groups": len(groups),
        "groups_within": int(np.sum(kept)),
    }


def _specialist(ranks: Ranks, booster: xgb.Booster, X: F32) -> F64:
    return probability(trees.margin(booster, ranks.apply(X)))
