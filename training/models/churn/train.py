"""What `revenue-engine train churn` does, step by step: read a table, fit and judge, put the bundle's files together.

The trees learn from each row twice: as it is, and with some of it gone at random. A table is mostly whole, and trees that never saw a cell
missing send it anywhere; a caller who knows half of the columns would get a score that is little better than none (`metrics.json`,
`halfKnown`). No customer is repeated by class and none weighs more for it: the probability is the product.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb

from kernels.trees.forest import Forest
from kernels.trees.shap import Factors
from kernels.types import F32, F64, I64, Intp
from training.errors import CellError, TableError
from training.evaluation import metrics as evaluate
from training.models.churn import card as churn_card
from training.models.churn import model as churn
from training.models.churn import train_uplift, uplift
from training.models.purchase import validation
from training.models.purchase.validation import Fold
from training.models.shared import trees
from training.models.shared.calibration import Platt, probability
from training.registry import bundle as bundles
from training.registry.bundle import Bundle
from training.registry.provenance import fingerprint, software
from training.tables import customers, frames
from training.tables.customers import LABEL, Customers, Feature

MIN_ROWS = 200
MIN_OF_CLASS = 20
FOLDS, CALIBRATION_FOLDS = 10, 3
MANY_ROWS = 50_000  # beyond, one fold after the other with every core in it; up to it, a core for each fold
EXPLAINED_ROWS = 5_000  # of which the mean contribution of each feature is taken
FORGETFUL_WEIGHT = 0.5  # of the copy with some of it gone, beside 1 for the row as it is
TOO_GOOD = 0.99  # an AUC that no honest column gives

# Chosen on the published Telco rows by 10-fold figures over two fold seeds: shallow trees and few columns a node, for the truth there is
# nearly a sum of columns. Depth 2 and 4, and one column for each category's value, stay up to .001 behind.
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
class Fitted:
    """Trees, the order of each category's values (float32 [values] by column, NaN for a rare one) and the calibration line."""

    booster: xgb.Booster
    places: Mapping[int, F32]
    platt: Platt

    def matrix(self, X: F32) -> F32:
        """Return X [n, features], of categories the place among all values, as the trees know it."""
        return _placed(X, self.places)

    def stated(self, X: F32) -> F64:
        """Return the probability float64 [n] of X [n, features]."""
        return probability(self.platt.apply(trees.margin(self.booster, self.matrix(X))))


def train(
    data: Path,
    out: Path,
    *,
    mapping: Mapping[str, str | Sequence[str]],
    seed: int,
    progress: Progress,
    positive: str | None = None,
    control: str | None = None,
) -> Bundle:
    """Fit on the table in `data`, judge by cross-validation, write the bundle into `out` (new or empty) and return it.

    data: .csv, .csv.gz, .parquet or a folder of them. mapping: FIELD to COLUMN, or to several. positive: the label of who left, control:
    the arm of an experiment that nothing was done to, None where they say so themselves. Raises TableError for a wrong or insufficient
    table, BundleError when `out` is taken.
    """
    bundles.require_free(out)  # before the work, not after it
    progress("reading", 0.0)
    rows = read(data, mapping, positive, control)
    model, metrics = fit(rows, seed, lambda share: progress("fitting and judging", 0.02 + 0.9 * share))
    effects = dict[str, bytes]()
    if rows.arm is not None:
        progress("learning what was changed", 0.92)
        effects, metrics["uplift"] = train_uplift.fit(rows, model.matrix(rows.X), seed)
        effects[uplift.UPLIFT] = bundles.encoded(uplift.content(metrics["uplift"]["control"], metrics["uplift"]["arms"]))
        metrics["warnings"] += _not_by_chance(metrics["uplift"]["balance"])
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


def read(data: Path, mapping: Mapping[str, str | Sequence[str]], positive: str | None, control: str | None = None) -> Customers:
    """Return the training rows of a table. Raises TableError for one that is wrong, or too small to learn from."""
    frame = frames.read(data, numbers=customers.number_columns(mapping))
    try:
        rows = customers.read(frame, mapping, positive, control)
    except CellError as error:
        raise error.at(frames.place(data, error.row)) from None
    except TableError as error:
        raise TableError(f"{data}: {error}") from None
    left = int(rows.y.sum())
    if len(rows.y) < MIN_ROWS or min(left, len(rows.y) - left) < MIN_OF_CLASS:
        raise TableError(
            f"{data}: insufficient data: {len(rows.y)} rows, {left} of customers who left; at least {MIN_ROWS} rows are needed, "
            f"{MIN_OF_CLASS} of each kind: collect more"
        )
    return rows


def fit(rows: Customers, seed: int, progress: Callable[[float], None] = lambda share: None) -> tuple[Fitted, dict[str, Any]]:
    """Return the fitted model and the content of metrics.json: folds and the whole are fitted side by side."""
    cores = len(os.sched_getaffinity(0))
    workers, threads = (cores, 1) if len(rows.y) <= MANY_ROWS else (1, cores)
    cut = folds(rows.y, rows.customer, FOLDS, seed)
    whole: list[Callable[[], Any]] = [partial(fit_once, rows, np.arange(len(rows.y)), seed, threads)]
    judging: list[Callable[[], Any]] = [partial(_judge, rows, fold, seed, threads) for fold in cut]
    model, *judged = validation.run(whole + judging, workers, progress)
    return model, report(rows, model, cut, judged, seed)


def fit_once(rows: Customers, learn: Intp, seed: int, threads: int = 1) -> Fitted:
    """Return the model fitted on the rows `learn`: the order of categories, the trees, and the line from folds of these rows alone."""
    X, y = rows.X[learn], rows.y[learn]
    customer = None if rows.customer is None else rows.customer[learn]
    held_out = np.empty(len(y))
    for part in folds(y, customer, CALIBRATION_FOLDS, seed):
        booster, places = _boosted(X[part.learn], y[part.learn], rows.features, seed, threads)
        held_out[part.judge] = trees.margin(booster, _placed(X[part.judge], places))
    return Fitted(*_boosted(X, y, rows.features, seed, threads), Platt.fit(held_out, y))


def folds(y: F64, customer: I64 | None, number: int, seed: int) -> list[Fold]:
    """Return folds with about the same share of those who left; the rows of one customer are in one of them."""
    if customer is None:
        return [Fold(*fold) for fold in trees.folds(y, number, seed)]
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    return [Fold(*fold) for fold in splitter.split(np.zeros((len(y), 1)), y, customer)]


def forgetful(X: F32, seed: int, share: float | None = None) -> F32:
    """Return X with `share` of its cells missing, at random; None: of each row another share, from none of it to all."""
    random = np.random.default_rng(seed)
    gone = random.random(X.shape) < (random.random((len(X), 1)) if share is None else share)
    return np.where(gone, np.float32(np.nan), X)


def report(rows: Customers, model: Fitted, cut: Sequence[Fold], judged: Sequence[F64], seed: int) -> dict[str, Any]:
    """Return the content of metrics.json from all folds, their rows pooled; judged: what `_judge` says of each.

    halfKnown: the same rows with half of their cells gone. importance: mean absolute SHAP value, in log-odds.
    """
    y, stated = rows.y, np.empty((2, len(rows.y)))
    for fold, said in zip(cut, judged, strict=True):
        stated[:, fold.judge] = said
    figures, half = (_named(evaluate.figures(y, said)) for said in stated)
    by_fold = [evaluate.auc(y[fold.judge], stated[0, fold.judge]) for fold in cut if 0 < y[fold.judge].mean() < 1]
    importance = _importance(rows, model)
    most = rows.features[int(importance.argmax())].name
    return {
        **figures,
        "aucFoldMean": float(np.mean(by_fold)),
        "aucFoldSd": float(np.std(by_fold)),
        "baseRate": float(y.mean()),
        "rows": len(y),
        "folds": len(cut),
        "seed": seed,
        "positive": rows.positive,
        "halfKnown": half,
        "features": [
            {"name": feature.name, "kind": feature.kind, "importance": float(size)}
            for feature, size in zip(rows.features, importance, strict=True)
        ],
        "unused": dict(rows.unused),
        "reliability": evaluate.reliability(y, stated[0]),
        "warnings": _warnings(figures["auc"], most),
    }


def _warnings(auc: float, most: str) -> list[str]:
    if auc <= TOO_GOOD:
        return []
    return [
        f"AUC {auc:.4f} is better than churn can be foretold: a column probably knows the label, {most} first of all; see whether it is "
        f"known before a customer leaves, and train again without it (--map leftOut={most})"
    ]


def _not_by_chance(balance: Mapping[str, Any]) -> list[str]:
    if balance["atRandom"]:
        return []
    return [
        f"the features tell who was treated (AUC {balance['auc']:.3f}, where chance gives .5 within {balance['error']:.3f}): the arms were "
        "not chosen at random, and what they are said to change may be who was chosen"
    ]


def _named(figures: Mapping[str, float]) -> dict[str, float]:
    names = {"auc": "auc", "average_precision": "averagePrecision", "log_loss": "logLoss", "brier": "brier", "ece": "ece"}
    return {name: figures[key] for key, name in names.items()}


def _judge(rows: Customers, fold: Fold, seed: int, threads: int) -> F64:
    """Return what a model of the other rows says of those to judge, float64 [2, n]: of them as they are, and half known."""
    model, unseen = fit_once(rows, fold.learn, seed, threads), rows.X[fold.judge]
    return np.stack([model.stated(unseen), model.stated(forgetful(unseen, seed, 0.5))])


def _boosted(X: F32, y: F64, features: Sequence[Feature], seed: int, threads: int) -> tuple[xgb.Booster, dict[int, F32]]:
    places = {column: trees.places(X[:, column], y) for column, feature in enumerate(features) if feature.kind == "category"}
    known = _placed(X, places)
    weight = np.repeat([1.0, FORGETFUL_WEIGHT], len(y))
    data = xgb.QuantileDMatrix(np.concatenate([known, forgetful(known, seed)]), np.tile(y, 2), weight=weight, nthread=threads)
    return xgb.train({**PARAMETERS, "seed": seed, "nthread": threads}, data, ROUNDS), places


def _placed(X: F32, places: Mapping[int, F32]) -> F32:
    out = X.copy()
    for column, of in places.items():
        out[:, column] = trees.placed(X[:, column], of)
    return out


def _importance(rows: Customers, model: Fitted) -> F64:
    step = -(-len(rows.y) // EXPLAINED_ROWS)
    shares = Factors(Forest.from_booster(model.booster).trees).of(model.matrix(rows.X[::step]))
    return np.asarray(np.abs(model.platt.slope * shares).mean(axis=0))


def _meta(rows: Customers, model: Fitted, path: Path, seed: int) -> dict[str, Any]:
    X = model.matrix(rows.X)
    return {
        "features": [_described(feature, model.places.get(column), X[:, column]) for column, feature in enumerate(rows.features)],
        "label": {"column": rows.columns.of[LABEL][0], "positive": rows.positive, "negative": rows.negative},
        "trainingData": {
            "name": path.name,
            "rows": len(rows.y),
            "sha256": fingerprint(path),
            "labelRate": float(rows.y.mean()),
            "columns": {field: list(names) for field, names in rows.columns.of.items()},
            "unused": dict(rows.unused),
        },
        "parameters": {**PARAMETERS, "rounds": ROUNDS, "seed": seed},
        "software": software("numpy", "xgboost", "revenue-engine"),
    }


def _described(feature: Feature, places: F32 | None, cells: F32) -> dict[str, Any]:
    """Return what the manifest says of a feature; a category's values are in the order of their places, rare ones left out."""
    said = {"name": feature.name, "kind": feature.kind, "missingShare": round(float(np.isnan(cells).mean()), 6)}
    if places is None:
        return said
    common = [(place, feature.values[value]) for value, place in enumerate(places.tolist()) if place == place]
    return {**said, "values": [value for _, value in sorted(common)]}
