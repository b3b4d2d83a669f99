"""Training of the value model: read purchases, fit counting and spend models, evaluate them on the hold-out, score the base.

Each counting model is fitted to the calibration period. The one with the least mean absolute error on the hold-out is served, without a
hold-out the one with the greatest log-likelihood. A model that cannot be fitted is reported and left out.
"""

import io
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import xgboost as xgb

from training.errors import CellError, FitError, TableError
from training.models.value import card as value_card
from training.models.value import model as value
from training.models.value import ziln
from training.models.value.judge import best, held_out, window
from training.models.value.lifetime import MAX_CORRELATION, MODELS, FittedModel, dependence, fit, fit_spend
from training.models.value.model import ValueModel
from training.registry import bundle as bundles
from training.registry import disk
from training.registry.bundle import Bundle
from training.registry.provenance import fingerprint, software
from training.tables import frames, histories
from training.tables import purchases as transactions_table
from training.tables.histories import Histories
from training.tables.purchases import Purchases
from training.tables.summaries import Summaries

Progress = Callable[[str, float], None]
Write = Callable[[pl.DataFrame, io.BytesIO], None]

_DEPENDENT = "purchase frequency and spend are correlated, {:.2f}: Gamma-Gamma assumes that they are independent"

# Writers of a scored base, by file suffix.
WRITERS: Mapping[str, Write] = {
    ".csv": lambda base, out: base.write_csv(out),
    ".parquet": lambda base, out: base.write_parquet(out),
}


def train(
    data: Path,
    out: Path,
    *,
    mapping: Mapping[str, str],
    seed: int,
    progress: Progress,
    split: str | None = None,
    end: str | None = None,
    score: Path | None = None,
) -> Bundle:
    """Fit a value model to the purchases in `data`, write the bundle into `out` (new or empty) and return it.

    data: .csv, .csv.gz, .parquet, or a folder of them. mapping: FIELD to COLUMN. split: the last day of calibration, end: the last day of
    the hold-out, ISO; both default to the last day in the data. score: a .csv or .parquet file for the scored customers, as of `end`.
    Raises TableError for an invalid or insufficient table, FitError where no model can be fitted, BundleError when `out` is not empty.
    """
    bundles.require_free(out)  # fail before the work, not after it
    if score is not None and score.suffix not in WRITERS:
        raise TableError(f"--score {score}: unsupported suffix; use {' or '.join(WRITERS)}")
    progress("reading", 0.0)
    purchases, seen = read(data, mapping, split, end)
    progress("fitting", 0.3)
    counting, failed = fitted(seen.known)
    spend = spending(seen.known, failed)
    progress("evaluating", 0.6)
    after = None if seen.holdout_count is None else held_out(purchases, seen, counting, spend, seed)
    served = best(counting, after)
    measured = metrics(seen, counting, spend, failed, served, after)
    progress("writing", 0.8)
    now = histories.of(purchases, split=seen.end, end=seen.end)
    learned = None if after is None or after["spend"]["served"] != "trees" else window(purchases, seen.end, after["days"], seed)
    trees = None if learned is None or after is None else {"spread": learned.spread, "days": after["days"]}
    files = {
        value.VALUE: bundles.encoded(
            value.content(counting[served], spend, now.known, now.end.isoformat(), measured["insufficientData"], trees)
        ),
        value.METRICS: bundles.encoded(measured),
        value.CARD: value_card.card(meta := _meta(purchases, seen, data, seed), measured).encode(),
        **({} if learned is None else {ziln.CHANCE: _ubj(learned.chance), ziln.AMOUNT: _ubj(learned.amount)}),
    }
    bundle = bundles.write(out, task=value.TASK, files=files, meta=meta)
    if score is not None:
        progress("scoring", 0.9)
        _write(scored(ValueModel.load(bundle), now), score)
    progress("done", 1.0)
    return bundle


def read(data: Path, mapping: Mapping[str, str], split: str | None, end: str | None) -> tuple[Purchases, Histories]:
    """Return the purchases in a table, and the customers' histories. Raises TableError for an invalid one."""
    frame = frames.read(data, numbers=transactions_table.TABLE.number_columns(mapping))
    try:
        purchases = transactions_table.read(frame, mapping, today=datetime.now(UTC).date())
        return purchases, histories.of(purchases, split=day(split, "--split"), end=day(end, "--end"))
    except CellError as error:
        raise error.at(frames.place(data, error.row)) from None
    except TableError as error:
        raise TableError(f"{data}: {error}") from None


def _meta(purchases: Purchases, seen: Histories, data: Path, seed: int) -> dict[str, Any]:
    return {
        "currency": purchases.currency,
        "trainingData": {
            "name": data.name,
            "rows": purchases.rows,
            "leftOut": {**purchases.left_out, **seen.left_out},
            "sha256": fingerprint(data),
            "split": seen.split.isoformat(),
            "end": seen.end.isoformat(),
        },
        "parameters": {"seed": seed},
        "software": software("numpy", "scipy", "polars", "revenue-engine"),
    }


def day(text: str | None, option: str) -> date | None:
    """Return the date of a command-line option, None where it is not given. Raises TableError for an invalid one."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise TableError(f"{option} {text}: not a date; write it as 2026-11-27") from None


def fitted(known: Summaries) -> tuple[dict[str, FittedModel], dict[str, str]]:
    """Return the fitted counting models, and the errors of those that could not be fitted. Raises FitError where none can."""
    found, failed = dict[str, FittedModel](), dict[str, str]()
    for name in MODELS:
        try:
            found[name] = fit(name, known.frequency, known.recency, known.age)
        except FitError as error:
            failed[name] = str(error)
    if not found:
        raise FitError(next(iter(failed.values())))
    return found, failed


def spending(known: Summaries, failed: dict[str, str]) -> FittedModel | None:
    """Return Gamma-Gamma fitted to customers with repeat spend; None, with the error in `failed`, where that is not possible."""
    try:
        return fit_spend(*known.spend)
    except FitError as error:
        failed["gamma_gamma"] = str(error)
        return None


def metrics(
    seen: Histories,
    counting: Mapping[str, FittedModel],
    spend: FittedModel | None,
    failed: Mapping[str, str],
    served: str,
    after: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the content of metrics.json."""
    known = seen.known
    parameters: dict[str, Any] = {name: _parameters(counting.get(name)) for name in MODELS}
    parameters["gamma_gamma"] = _parameters(spend)
    related = dependence(*known.spend) if known.has_spend.any() else 0.0
    base = requirements(seen)
    lacking = [_lacking(gate) for gate in base if not gate["met"]]
    return {
        "customers": len(known.frequency),
        "repeatCustomers": int((known.frequency > 0).sum()),
        "repeatTransactions": int(known.frequency.sum()),
        "repeatShare": float((known.frequency > 0).mean()),
        **({f"holdout{name.capitalize()}": after["models"][served][name] for name in ("mae", "rmse", "correlation")} if after else {}),
        "served": served,
        "parameters": parameters,
        "failed": dict(failed),
        "spendDependence": {"correlation": related, "independent": abs(related) <= MAX_CORRELATION},
        "holdout": None if after is None else {**after["models"][served], **after},
        "gates": base,
        "insufficientData": lacking,
        "warnings": [
            *failed.values(),
            *([_DEPENDENT.format(related)] if abs(related) > MAX_CORRELATION else []),
            *(f"insufficient data: {one}; no value is predicted" for one in lacking),
        ],
        "leftOut": dict(seen.left_out),
    }


def _parameters(one: FittedModel | None) -> dict[str, Any] | None:
    if one is None:
        return None
    errors = dict(zip(one.names, one.errors.tolist(), strict=True))
    return {**one.parameters, "logLikelihood": one.log_likelihood, "standardErrors": errors, "customers": one.customers}


def _ubj(booster: xgb.Booster) -> bytes:
    return bytes(booster.save_raw("ubj"))


# Minimum data of a customer base, as Klaviyo requires too: name, how it is counted, minimum.
REQUIREMENTS: tuple[tuple[str, Callable[[Histories], float], float], ...] = (
    ("customers", lambda seen: float(len(seen.known.frequency)), 500.0),
    ("daysOfHistory", lambda seen: float((seen.split - seen.first).days), 180.0),
    ("customersWithThreePurchases", lambda seen: float((seen.known.frequency >= 2).sum()), 1.0),
)


def requirements(seen: Histories) -> list[dict[str, Any]]:
    """Return the count, the minimum and the result of each requirement on the base."""
    return [{"gate": name, "needed": minimum, "found": count(seen), "met": count(seen) >= minimum} for name, count, minimum in REQUIREMENTS]


def _lacking(gate: Mapping[str, Any]) -> str:
    return f"{gate['gate']} {gate['found']:g}, {gate['needed']:g} needed"


def scored(model: ValueModel, now: Histories) -> pl.DataFrame:
    """Return one row per customer as of the end of the data: their summaries, and predictions for a year."""
    as_of = [now.end.isoformat()] * len(now.customers)
    return pl.DataFrame(value.table(model, now.customers, as_of, now.known, model.outlook(now.known)))


def _write(base: pl.DataFrame, path: Path) -> None:
    out = io.BytesIO()
    WRITERS[path.suffix](base, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    disk.replace_file(path, out.getvalue())
