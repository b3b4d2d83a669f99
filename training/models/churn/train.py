"""Train the churn model, step by step: read a table, fit, evaluate, assemble the bundle's files.

The trees learn from each row twice: as it is, and with cells removed at random. A table is mostly complete, and trees that were never
trained on a missing cell send it in an arbitrary direction; a request with half of the columns would get a score that is little better than
none (`metrics.json`, `halfMissing`). Rows are neither resampled nor weighted by class: the result is a probability.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb

from kernels.trees.forest import Forest
from kernels.trees.shap import TreeShap
from kernels.types import F32, F64, Intp
from training.evaluation import metrics as evaluate
from training.models.churn import card as churn_card
from training.models.churn import model as churn
from training.models.churn import train_uplift, uplift
from training.models.shared import folds, trees
from training.models.shared.calibration import Platt, probability
from training.models.shared.folds import Fold, grouped
from training.registry import bundle as bundles
from training.registry.bundle import Bundle
from training.registry.provenance import origin, software
from training.tables import customers
from training.tables.cells import DEFAULT, CellOptions
from training.tables.customers import LABEL, CustomerFeature, LabelledCustomers

FOLDS, CALIBRATION_FOLDS = 10, 3
MAX_PARALLEL_ROWS = 50_000  # up to so many rows each fold has one core; of more rows one fold at a time has all cores
EXPLAINED_ROWS = 5_000  # for the mean SHAP value of each feature
MASKED_WEIGHT = 0.5  # of the copy with cells removed; the row as it is has 1

# Chosen on the published Telco rows by 10-fold cross-validation with two seeds: shallow trees and few columns per node, as the log-odds are
# nearly additive. Depths 2 and 4, and one-hot encoded categories, have up to .001 less AUC.
ROUNDS = 300
PARAMETERS: Mapping[str, Any] = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "eta": 0.03,
    "max_depth": 3,
    "min_child_weight": 10,
    "subsample": 0.8,
    "colsample_bynode": 0.4,
}

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class FittedChurn:
    """Trees, the order of each category's values (float32 [values] by column, NaN for a rare one) and the calibration line."""

    booster: xgb.Booster
    places: Mapping[int, F32]
    platt: Platt

    def matrix(self, X: F32) -> F32:
        """Return X [n, features] as input of the trees, with ranks instead of category ids."""
        return _placed(X, self.places)

    def stated(self, X: F32) -> F64:
        """Return the probability float64 [n] of X [n, features]."""
        return probability(self.platt.apply(trees.margin(self.booster, self.matrix(X))))


def train(
    data: Path,
    out: Path,
    *,
    mapping: Mapping[str, str | Sequence[str]],
    cells: CellOptions = DEFAULT,
    seed: int,
    progress: Progress,
    positive: str | None = None,
    control: str | None = None,
) -> Bundle:
    """Fit on the table in `data`, evaluate by cross-validation, write the bundle into `out` (new or empty) and return it.

    data: .csv, .csv.gz, .parquet or a folder of them. mapping: FIELD to COLUMN, or to several. positive: the label of customers who left;
    control: the untreated arm of an experiment; None to infer them from the table. Raises TableError for a wrong or insufficient
    table, BundleError when `out` is taken.
    """
    bundles.require_free(out)  # fail before the work, not after it
    progress("reading", 0.0)
    rows = ordered(customers.read_file(data, mapping, positive, control, options=cells))
    model, metrics = fit(rows, seed, lambda share: progress("fitting and evaluating", 0.02 + 0.9 * share))
    metrics["warnings"] += rows.warnings
    effects = dict[str, bytes]()
    if rows.arm is not None:
        progress("fitting treatment effects", 0.92)
        effects, metrics["uplift"] = train_uplift.fit(rows, model.matrix(rows.X), seed)
        effects[uplift.UPLIFT] = bundles.encoded(uplift.content(metrics["uplift"]["control"], metrics["uplift"]["arms"]))
        metrics["warnings"] += _imbalance_warnings(metrics["uplift"]["balance"])
    progress("writing", 0.98)
    meta = _meta(rows, model, data, seed)
    files = {
        **effects,
        churn.MODEL: bytes(model.booster.save_raw("ubj")),
        churn.CALIBRATION: bundles.encoded({**model.platt.content(), "rows": len(rows.y), "folds": CALIBRATION_FOLDS}),
        churn.METRICS: bundles.encoded(metrics),
        churn.CARD: churn_card.card(meta, metrics).encode(),
    }
    bundle = bundles.write(out, task=churn.TASK, files=files, meta=meta)
    progress("done", 1.0)
    return bundle


def ordered(rows: LabelledCustomers) -> LabelledCustomers:
    """Return the same rows in an order that depends on their content alone; customers are numbered in this order."""
    last = [column for column in (rows.customer, rows.arm) if column is not None]
    order = np.lexsort((*last, rows.y, *rows.X.T[::-1]))
    customer = None
    if rows.customer is not None:
        _, first, which = np.unique(rows.customer[order], return_index=True, return_inverse=True)
        customer = np.argsort(np.argsort(first))[which].astype(np.int64)
    arm = None if rows.arm is None else rows.arm[order]
    return replace(rows, X=np.ascontiguousarray(rows.X[order]), y=rows.y[order], customer=customer, arm=arm)


def fit(rows: LabelledCustomers, seed: int, progress: Callable[[float], None] = lambda share: None) -> tuple[FittedChurn, dict[str, Any]]:
    """Return the fitted model and the content of metrics.json: the folds and the whole are fitted in parallel."""
    cores = len(os.sched_getaffinity(0))
    workers, threads = (cores, 1) if len(rows.y) <= MAX_PARALLEL_ROWS else (1, cores)
    cut = grouped(rows.y, rows.customer, FOLDS, seed)
    whole: list[Callable[[], Any]] = [partial(fit_once, rows, np.arange(len(rows.y)), seed, threads)]
    judging: list[Callable[[], Any]] = [partial(_judge, rows, fold, seed, threads) for fold in cut]
    model, *judged = folds.run(whole + judging, workers, progress)
    return model, report(rows, model, cut, judged, seed)


def fit_once(rows: LabelledCustomers, learn: Intp, seed: int, threads: int = 1) -> FittedChurn:
    """Return the model fitted on the rows `learn`, calibration included, which is from folds of these rows alone."""
    X, y = rows.X[learn], rows.y[learn]
    customer = None if rows.customer is None else rows.customer[learn]
    held_out = np.empty(len(y))
    for part in grouped(y, customer, CALIBRATION_FOLDS, seed):
        booster, places = _boosted(X[part.learn], y[part.learn], rows.features, seed, threads)
        held_out[part.judge] = trees.margin(booster, _placed(X[part.judge], places))
    return FittedChurn(*_boosted(X, y, rows.features, seed, threads), Platt.fit(held_out, y))


def masked(X: F32, seed: int, share: float | None = None) -> F32:
    """Return X with `share` of its cells missing, at random; None: a random share in each row, from none to all."""
    random = np.random.default_rng(seed)
    missing = random.random(X.shape) < (random.random((len(X), 1)) if share is None else share)
    return np.where(missing, np.float32(np.nan), X)


def report(rows: LabelledCustomers, model: FittedChurn, cut: Sequence[Fold], judged: Sequence[F64], seed: int) -> dict[str, Any]:
    """Return the content of metrics.json from all folds, their rows pooled; judged: the result of `_judge` for each.

    halfMissing: the same rows with half of their cells missing. importance: mean absolute SHAP value, in log-odds.
    """
    y, stated = rows.y, np.empty((2, len(rows.y)))
    for fold, scores in zip(cut, judged, strict=True):
        stated[:, fold.judge] = scores
    figures, half = (_named(evaluate.figures(y, scores)) for scores in stated)
    by_fold = [evaluate.auc(y[fold.judge], stated[0, fold.judge]) for fold in cut if 0 < y[fold.judge].mean() < 1]
    importance = _importance(rows, model)
    top_feature = rows.features[int(importance.argmax())].name
    return {
        **figures,
        "aucFoldMean": float(np.mean(by_fold)),
        "aucFoldSd": float(np.std(by_fold)),
        "baseRate": float(y.mean()),
        "rows": len(y),
        "folds": len(cut),
        "seed": seed,
        "positive": rows.positive,
        "halfMissing": half,
        "features": [
            {"name": feature.name, "kind": feature.kind, "importance": float(size)}
            for feature, size in zip(rows.features, importance, strict=True)
        ],
        "unused": dict(rows.unused),
        "reliability": evaluate.reliability(y, stated[0]),
        "warnings": _warnings(figures["auc"], top_feature),
    }


def _warnings(auc: float, top_feature: str) -> list[str]:
    if auc <= evaluate.MAX_PLAUSIBLE_AUC:
        return []
    return [
        f"AUC {auc:.4f} is implausible for churn: a column leaks the label, most likely {top_feature}; check whether it is known before "
        f"a customer leaves, and train again without it (--map leftOut={top_feature})"
    ]


def _imbalance_warnings(balance: Mapping[str, Any]) -> list[str]:
    if balance["randomized"]:
        return []
    return [
        f"the features predict who was treated (AUC {balance['auc']:.3f}; random assignment gives .5 within {balance['error']:.3f}): the "
        "arms were not assigned at random, and the effects may be differences between the customers who were chosen"
    ]


def _named(figures: Mapping[str, float]) -> dict[str, float]:
    names = {"auc": "auc", "average_precision": "averagePrecision", "log_loss": "logLoss", "brier": "brier", "ece": "ece"}
    return {name: figures[key] for key, name in names.items()}


def _judge(rows: LabelledCustomers, fold: Fold, seed: int, threads: int) -> F64:
    """Return the out-of-fold probabilities of a fold's rows, float64 [2, n]: as they are, and with half of their cells missing."""
    model, unseen = fit_once(rows, fold.learn, seed, threads), rows.X[fold.judge]
    return np.stack([model.stated(unseen), model.stated(masked(unseen, seed, 0.5))])


def _boosted(X: F32, y: F64, features: Sequence[CustomerFeature], seed: int, threads: int) -> tuple[xgb.Booster, dict[int, F32]]:
    places = {column: trees.places(X[:, column], y) for column, feature in enumerate(features) if feature.kind == "category"}
    known = _placed(X, places)
    weight = np.repeat([1.0, MASKED_WEIGHT], len(y))
    data = xgb.QuantileDMatrix(np.concatenate([known, masked(known, seed)]), np.tile(y, 2), weight=weight, nthread=threads)
    return xgb.train({**PARAMETERS, "seed": seed, "nthread": threads}, data, ROUNDS), places


def _placed(X: F32, places: Mapping[int, F32]) -> F32:
    out = X.copy()
    for column, of in places.items():
        out[:, column] = trees.placed(X[:, column], of)
    return out


def _importance(rows: LabelledCustomers, model: FittedChurn) -> F64:
    step = -(-len(rows.y) // EXPLAINED_ROWS)
    shares = TreeShap(Forest.from_booster(model.booster).trees).values(model.matrix(rows.X[::step]))
    return np.asarray(np.abs(model.platt.slope * shares).mean(axis=0))


def _meta(rows: LabelledCustomers, model: FittedChurn, path: Path, seed: int) -> dict[str, Any]:
    X = model.matrix(rows.X)
    return {
        "features": [_described(feature, model.places.get(column), X[:, column]) for column, feature in enumerate(rows.features)],
        "label": {"column": rows.columns.of[LABEL][0], "positive": rows.positive, "negative": rows.negative},
        "trainingData": {
            "name": path.name,
            "rows": len(rows.y),
            **origin(path),
            "labelRate": float(rows.y.mean()),
            "columns": {field: list(names) for field, names in rows.columns.of.items()},
            "unused": dict(rows.unused),
        },
        "parameters": {**PARAMETERS, "rounds": ROUNDS, "seed": seed},
        "software": software("numpy", "xgboost", "revenue-engine"),
    }


def _described(feature: CustomerFeature, places: F32 | None, cells: F32) -> dict[str, Any]:
    """Return a feature for the manifest; a category's values are in the order of their places, rare ones left out."""
    content = {"name": feature.name, "kind": feature.kind, "missingShare": round(float(np.isnan(cells).mean()), 6)}
    if places is None:
        return content
    common = [(place, feature.values[value]) for value, place in enumerate(places.tolist()) if place == place]
    return {**content, "values": [value for _, value in sorted(common)]}
