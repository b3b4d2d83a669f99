"""Train the purchase model, step by step: read a table, fit, evaluate, assemble the bundle's files."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kernels.types import F32, F64
from training import features
from training.errors import CellError, TableError
from training.evaluation import metrics as evaluate
from training.features import Vocabulary
from training.models.purchase import card, fitted, validation
from training.models.purchase import model as purchase
from training.models.purchase.base_rate import BaseRate
from training.models.purchase.fitted import FittedPurchase
from training.models.shared import folds, trees
from training.registry import bundle as bundles
from training.registry.bundle import Bundle
from training.registry.provenance import origin, software
from training.tables import frames, sessions
from training.tables.cells import DEFAULT, CellOptions

MIN_ROWS = 200
MIN_OF_CLASS = 20
MAX_PARALLEL_ROWS = 50_000  # up to so many rows each fold has one core; of more rows one fold at a time has all cores
NO_CURRENCY = "XXX"  # ISO 4217: no currency
SESSIONS = "sessions.parquet"  # of a folder that `revenue-engine simulate` wrote

MISSING = "NaN: unknown; never zero, never imputed"


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """A training table: X float32 [n, features] with ids of `keys` in category columns, y [n] in {0, 1}, and its source."""

    X: F32
    y: F64
    keys: Mapping[str, list[str]]
    columns: sessions.SessionColumns
    order_value: tuple[float, str] | None
    path: Path
    warnings: tuple[str, ...] = ()


def train(
    data: Path,
    out: Path,
    *,
    mapping: Mapping[str, str],
    cells: CellOptions = DEFAULT,
    seed: int,
    progress: Callable[[str, float], None],
) -> Bundle:
    """Fit on the table in `data`, evaluate by cross-validation, write the bundle into `out` (new or empty) and return it.

    data: .csv, .csv.gz, .parquet, a folder of them, or a folder that `revenue-engine simulate` wrote. mapping: FIELD to COLUMN.
    Raises TableError for a wrong or insufficient table, BundleError when `out` is taken.
    """
    bundles.require_free(out)  # fail before the work, not after it
    progress("reading", 0.0)
    rows = read(data, mapping, cells)
    model, metrics = fit(rows, seed, lambda share: progress("fitting and evaluating", 0.02 + 0.96 * share))
    metrics["warnings"] = [*_leak(metrics), *rows.warnings]
    progress("writing", 0.98)
    files, meta = contents(rows, model, metrics, seed)
    bundle = bundles.write(out, task=purchase.TASK, files=files, meta=meta)
    progress("done", 1.0)
    return bundle


def read(data: Path, mapping: Mapping[str, str], cells: CellOptions = DEFAULT) -> TrainingRows:
    """Return the training rows of a table. Raises TableError for a wrong cell or column, and for too few rows."""
    path = data / SESSIONS if (data / SESSIONS).is_file() else data
    frame = frames.read(path, numbers=sessions.TABLE.number_columns(mapping), options=cells)
    try:
        columns = sessions.resolve(frame.columns, mapping)
        y = sessions.labels(frame, mapping, options=cells)
        _check_enough(path, y)
        keys = sessions.keys(frame, mapping, options=cells)
        ids = Vocabulary({name: {key: float(i) for i, key in enumerate(values)} for name, values in keys.items()})
        X = sessions.matrix(frame, ids, mapping, options=cells)
        value = sessions.order_value(frame, y, mapping, options=cells)
        return TrainingRows(X, y, keys, columns, value, path, tuple(sessions.warnings(frame, mapping, options=cells)))
    except CellError as error:
        raise error.at(frames.place(path, error.row)) from None
    except TableError as error:
        raise error if str(error).startswith(str(path)) else TableError(f"{path}: {error}") from None


def fit(rows: TrainingRows, seed: int, progress: Callable[[float], None]) -> tuple[FittedPurchase, dict[str, Any]]:
    """Return the fitted model and the content of metrics.json: the folds and the whole are fitted in parallel."""
    X, y = rows.X, rows.y
    cores = len(os.sched_getaffinity(0))
    workers, threads = (cores, 1) if len(y) <= MAX_PARALLEL_ROWS else (1, cores)
    cut = validation.folds(y, seed)
    whole: list[Callable[[], Any]] = [partial(fitted.fit, X, y, seed, threads)]
    judging: list[Callable[[], Any]] = [partial(validation.judge, X, y, fold, seed, threads) for fold in cut]
    model, *judged = folds.run(whole + judging, workers, progress)
    return model, validation.report(X, y, list(zip(cut, judged, strict=True)), seed)


def contents(rows: TrainingRows, model: FittedPurchase, metrics: Mapping[str, Any], seed: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the bundle's files and the task's part of its manifest."""
    meta = _meta(rows, model, seed)
    files = {
        purchase.MODEL: bytes(model.trees.booster.save_raw("ubj")),
        purchase.CALIBRATION: bundles.encoded({**model.platt.content(), "rows": len(rows.y), "folds": fitted.FOLDS}),
        purchase.CONFIDENCE: bundles.encoded(model.confidence.content()),
        purchase.BASE_RATE: bundles.encoded(BaseRate.fit(rows.X, rows.y, rows.keys.get("deviceType", ())).content()),
        purchase.METRICS: bundles.encoded(metrics),
        purchase.CARD: card.card(meta, metrics).encode(),
    }
    return files, meta


def _check_enough(path: Path, y: F64) -> None:
    bought = int(y.sum())
    if len(y) < MIN_ROWS or min(bought, len(y) - bought) < MIN_OF_CLASS:
        raise TableError(
            f"{path}: insufficient data: {len(y)} rows, {bought} of which bought; at least {MIN_ROWS} rows are needed, "
            f"{MIN_OF_CLASS} that bought and {MIN_OF_CLASS} that did not: collect more sessions, or use revenue-engine simulate"
        )


def _meta(rows: TrainingRows, model: FittedPurchase, seed: int) -> dict[str, Any]:
    amount, currency = rows.order_value or (1.0, NO_CURRENCY)
    return {
        "features": _features(rows.X),
        "vocabulary": model.trees.ranks.vocabulary(rows.keys).codes,
        "orderValue": {"amount": amount, "currency": currency},
        "trainingData": {
            "name": rows.path.name,
            "rows": len(rows.y),
            **origin(rows.path),
            "labelRate": float(rows.y.mean()),
            "columns": dict(rows.columns.of),
            "absent": list(rows.columns.absent),
            "ignored": [column for column in rows.columns.ignored if column not in rows.columns.of.values()],
        },
        "parameters": {**trees.PARAMETERS, "rounds": trees.ROUNDS, "seed": seed},
        "software": software("numpy", "xgboost", "revenue-engine"),
    }


def _features(X: F32) -> list[dict[str, Any]]:
    absent = np.isnan(X).mean(axis=0)
    return [
        {
            "name": feature.name,
            "unit": feature.unit,
            "kind": feature.kind,
            "source": feature.source,
            "missing": MISSING,
            "missingShare": round(float(share), 6),
        }
        for feature, share in zip(features.FEATURES, absent, strict=True)
    ]


def _leak(metrics: Mapping[str, Any]) -> list[str]:
    """Return a warning where the AUC is better than that of any feature known before the purchase."""
    if metrics["auc"] <= evaluate.MAX_PLAUSIBLE_AUC:
        return []
    without = metrics["without_page_values"]["auc"]
    return [
        f"AUC {metrics['auc']:.4f} is implausible for purchases, and {without:.4f} without page values: a column leaks the label; "
        "leave out what is known only after the purchase"
    ]
