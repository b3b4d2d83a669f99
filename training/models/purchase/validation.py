"""The purchase model judged by cross-validation: every figure is on rows that no part of the model, calibration included, has seen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xgboost as xgb

from kernels.types import F32, F64, Intp
from training.evaluation import metrics
from training.models.purchase import fitted
from training.models.purchase.confidence import EDGES, FEWEST
from training.models.shared import missingness, trees
from training.models.shared.calibration import probability
from training.models.shared.trees import Ranks

# Up to so many rows, so many folds; BIG_FOLDS beyond. A large table needs few for figures as sure, and a small one is soon done.
FOLDS = ((5_000, 5), (15_000, 10))
BIG_FOLDS = 3

ALL = fitted.ALL
NO_PAGE_VALUE, NO_STATISTICS = fitted.CALIBRATED[1:]
CONTEXT_ONLY = missingness.bits(("context",))
CASES = {"without_page_values": NO_PAGE_VALUE, "without_page_statistics": NO_STATISTICS, "context_only": CONTEXT_ONLY}


class Fold(NamedTuple):
    """The rows to learn from and those to judge on."""

    learn: Intp
    judge: Intp


@dataclass(frozen=True, slots=True)
class Judged:
    """What the model of a fold said of the rows it never saw: float64 [levels, n], [n] and, of the specialists, [2, n]."""

    stated: F64
    confidence: F64
    reference: F64
    specialists: F64


def folds(y: F64, seed: int) -> list[Fold]:
    """Return the folds that a table of this size is judged by."""
    number = next((number for rows, number in FOLDS if len(y) <= rows), BIG_FOLDS)
    return [Fold(*fold) for fold in trees.folds(y, number, seed)]


def judge(X: F32, y: F64, fold: Fold, seed: int, threads: int = 1) -> Judged:
    """Return what a model fitted on one part of the rows says of the other."""
    model = fitted.fit(X[fold.learn], y[fold.learn], seed, threads)
    unseen = X[fold.judge]
    stated = model.stated(unseen)
    level = missingness.level(model.trees.ranks.apply(unseen), model.confidence.weights)
    # A row that knows less than a level cannot state what that level would: it stands at what both know.
    confidence = np.stack([model.confidence.at(level & known, stated[known]) for known in range(missingness.LEVELS)])
    less = missingness.without(X, ["pageValue"])
    specialists = [_specialist(*trees.plain(Z[fold.learn], y[fold.learn], seed, threads), Z[fold.judge]) for Z in (X, less)]
    return Judged(stated, confidence, model.trees.reference(unseen), np.stack(specialists))


def report(X: F32, y: F64, parts: list[tuple[Fold, Judged]], seed: int) -> dict[str, Any]:
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
    """Return how often the two promises of confidenceScore held: of rows by the reference, of groups by outcomes.

    A group is a band of probability with at least FEWEST rows; its promise is the mean of its rows' distances.
    """
    distance = 1 - confidence
    band = np.searchsorted(EDGES, stated, side="right")
    groups = [rows for b in range(len(EDGES) + 1) if (rows := band == b).sum() >= FEWEST]
    kept = [abs(y[rows].mean() - stated[rows].mean()) <= distance[rows].mean() for rows in groups]
    return {
        "mean": float(confidence.mean()),
        "rows_within": float(np.mean(np.abs(stated - reference) <= distance)),
        "groups": len(groups),
        "groups_within": int(np.sum(kept)),
    }


def run(tasks: list[Callable[[], Any]], workers: int, progress: Callable[[float], None]) -> list[Any]:
    """Return what the tasks return, in order, run by `workers` threads; XGBoost works outside the interpreter's lock."""
    from concurrent.futures import ThreadPoolExecutor, as_completed

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(task) for task in tasks]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                progress(done / len(tasks))
        finally:
            for future in futures:
                future.cancel()
    return [future.result() for future in futures]


def _specialist(ranks: Ranks, booster: xgb.Booster, X: F32) -> F64:
    return probability(trees.margin(booster, ranks.apply(X)))
