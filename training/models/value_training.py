"""What `revenue-engine train value` does: read purchases, fit what customers do next, hold it against what they did, score the base.

Each counting model is fitted to the calibration period, and that which predicts the hold-out best, by mean absolute error, is served;
without a hold-out the likeliest is. A model that cannot be fitted is said and left out; where none can, there is no bundle.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training import bundle as bundles
from training import frames, histories, transactions_table
from training.bundle import Bundle
from training.errors import CellError, FitError, TableError
from training.histories import DAYS_A_WEEK, Histories
from training.models import holdout, value, value_card
from training.models.lifetime import DEPENDENT, MODELS, Fit, dependence, fit, fit_spend
from training.models.rfm import Edges, segments
from training.models.value import DISCOUNT, HORIZON_DAYS, ValueModel
from training.provenance import fingerprint, software

Progress = Callable[[str, float], None]
Write = Callable[[pl.DataFrame, Path], None]
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


# Of a scored base, by the suffix of its file.
WRITERS: Mapping[str, Write] = {
    ".csv": lambda table, path: table.write_csv(path),
    ".parquet": lambda table, path: table.write_parquet(path),
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
    """Learn what customers are worth from the purchases in `data`, write the bundle into `out` (new or empty) and return it.

    data: .csv, .csv.gz, .parquet, or a folder of them. mapping: FIELD to COLUMN. split: the last day of calibration, end: that of the
    hold-out, ISO; by default both are the last day there is. score: a .csv or .parquet to write every customer into, as of `end`. Raises
    TableError for a wrong or insufficient table, FitError where no model can be fitted, BundleError when `out` is taken.
    """
    bundles.require_free(out)  # before the work, not after it
    if score is not None and score.suffix not in WRITERS:
        raise TableError(f"--score {score}: the suffix says nothing; use {' or '.join(WRITERS)}")
    progress("reading", 0.0)
    frame = frames.read(data, numbers=transactions_table.number_columns(mapping))
    try:
        purchases = transactions_table.read(frame, mapping, today=datetime.now(UTC).date())
        seen = histories.of(purchases, split=day(split, "--split"), end=day(end, "--end"))
    except CellError as error:
        raise error.at(frames.place(data, error.row)) from None
    except TableError as error:
        raise TableError(f"{data}: {error}") from None
    progress("fitting", 0.3)
    counting, failed = fitted(seen)
    spend = spending(seen, failed)
    measured = metrics(seen, counting, spend, failed)
    served = counting[measured["served"]]
    progress("writing", 0.8)
    meta = {
        "currency": purchases.currency,
        "trainingData": {
            "name": data.name,
            "rows": len(frame),
            "leftOut": {**purchases.left_out, **seen.left_out},
            "sha256": fingerprint(data),
            "split": seen.split.isoformat(),
            "end": seen.end.isoformat(),
        },
        "parameters": {"seed": seed},
        "software": software("numpy", "scipy", "polars", "revenue-engine"),
    }
    now = histories.of(purchases, split=seen.end, end=seen.end)
    learned = content(served, spend, now)
    files = {
        value.VALUE: bundles.encoded(learned),
        value.METRICS: bundles.encoded(measured),
        value.CARD: value_card.card(meta, measured).encode(),
    }
    bundle = bundles.write(out, task=value.TASK, files=files, meta=meta)
    if score is not None:
        progress("scoring", 0.9)
        _write(scored(ValueModel.load(bundle), now), score)
    progress("done", 1.0)
    return bundle


def day(text: str | None, option: str) -> date | None:
    """Return a day of the command line. Raises TableError for what is none."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise TableError(f"{option} {text}: not a day; write it as 2026-11-27") from None


def known(seen: Histories) -> Matrix:
    """Return x, t_x and T of every customer as the kernels take them: float64 [customers, 3]."""
    return np.stack([seen.frequency, seen.recency, seen.age], axis=1).astype(np.float64)


def fitted(seen: Histories) -> tuple[dict[str, Fit], dict[str, str]]:
    """Return the counting models that can be fitted, and why the others cannot. Raises FitError where none can."""
    found, failed = dict[str, Fit](), dict[str, str]()
    for name in MODELS:
        try:
            found[name] = fit(name, seen.frequency, seen.recency, seen.age)
        except FitError as error:
            failed[name] = str(error)
    if not found:
        raise FitError(next(iter(failed.values())))
    return found, failed


def spending(seen: Histories, failed: dict[str, str]) -> Fit | None:
    """Return Gamma-Gamma fitted to those who have spent at a repeat purchase; None, noted in `failed`, where it cannot be."""
    spent = seen.spend_repeats > 0
    try:
        return fit_spend(seen.spend_repeats[spent], seen.mean_spend[spent])
    except FitError as error:
        failed["gamma_gamma"] = str(error)
        return None


def metrics(seen: Histories, counting: Mapping[str, Fit], spend: Fit | None, failed: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of metrics.json."""
    parameters: dict[str, Any] = {name: _told(counting.get(name)) for name in MODELS}
    parameters["gamma_gamma"] = _told(spend)
    spent = seen.spend_repeats > 0
    related = dependence(seen.spend_repeats[spent], seen.mean_spend[spent]) if spent.any() else 0.0
    after = None if seen.holdout_count is None else _holdout(seen, counting, spend)
    by_mae = {} if after is None else {name: one["mae"] for name, one in after["models"].items()}
    served = min(by_mae, key=lambda name: by_mae[name]) if by_mae else max(counting, key=lambda name: counting[name].log_likelihood)
    return {
        "customers": len(seen.frequency),
        "repeatCustomers": int((seen.frequency > 0).sum()),
        "repeatTransactions": int(seen.frequency.sum()),
        "repeatShare": float((seen.frequency > 0).mean()),
        **(
            {}
            if after is None
            else {f"holdout{name.capitalize()}": after["models"][served][name] for name in ("mae", "rmse", "correlation")}
        ),
        "served": served,
        "parameters": parameters,
        "failed": dict(failed),
        "spendDependence": {"correlation": related, "independent": abs(related) <= DEPENDENT},
        "holdout": None if after is None else {**after["models"][served], **after},
        "gates": gates(seen),
        "leftOut": dict(seen.left_out),
    }


def _told(one: Fit | None) -> dict[str, Any] | None:
    if one is None:
        return None
    errors = dict(zip(one.names, one.errors.tolist(), strict=True))
    return {**one.parameters, "logLikelihood": one.log_likelihood, "standardErrors": errors, "customers": one.customers}


def _holdout(seen: Histories, counting: Mapping[str, Fit], spend: Fit | None) -> dict[str, Any]:
    """Return how every model and the naive rate predict the hold-out, and how they rank the customers by what they spent in it."""
    assert seen.holdout_count is not None
    weeks = (seen.end - seen.split).days / DAYS_A_WEEK
    actual = seen.holdout_count.astype(np.float64)
    predicted = {name: value.futures(MODELS[name].number, one.values, known(seen), weeks)[1] for name, one in counting.items()}
    naive = np.where(seen.age > 0, seen.frequency / np.maximum(seen.age, 1e-9) * weeks, 0.0)
    errors = {name: holdout.errors(column, actual) for name, column in predicted.items()}
    best = min(errors, key=lambda name: errors[name]["mae"] or 0.0)
    later = None
    if seen.holdout_spend is not None and seen.holdout_spend.sum() > 0:
        each = np.ones(len(actual)) if spend is None else value.spends(spend.values, seen.spend_repeats, seen.mean_spend, mean_spend(seen))
        past = np.nan_to_num(seen.mean_spend) * seen.spend_repeats
        later = holdout.ranking(np.maximum(seen.holdout_spend, 0.0), {"predictedValue": predicted[best] * each, "pastRepeatSpend": past})
    return {
        "weeks": weeks,
        "actual": float(actual.sum()),
        "models": errors,
        "naive": holdout.errors(naive, actual),
        "byRepeatPurchases": holdout.by_frequency(seen.frequency, predicted[best], actual),
        "ranking": later,
    }


# What a base must have before its figures are worth much, as Klaviyo asks for too: the name, how it is counted, the least of it.
GATES: tuple[tuple[str, Callable[[Histories], float], float], ...] = (
    ("customers", lambda seen: float(len(seen.frequency)), 500.0),
    ("daysOfHistory", lambda seen: float((seen.split - seen.first).days), 180.0),
    ("customersWithThreePurchases", lambda seen: float((seen.frequency >= 2).sum()), 1.0),
)


def gates(seen: Histories) -> list[dict[str, Any]]:
    """Return what the base has of what it needs."""
    return [{"gate": name, "needed": least, "found": count(seen), "met": count(seen) >= least} for name, count, least in GATES]


def mean_spend(seen: Histories) -> float:
    """Return what a purchase of a repeat buyer brings on average; 0 where nobody has made one."""
    spent = seen.spend_repeats > 0
    return float(seen.mean_spend[spent].mean()) if spent.any() else 0.0


def content(served: Fit, spend: Fit | None, now: Histories) -> dict[str, Any]:
    """Return the content of value.json; `now`: the customers as of the end of the data."""
    return {
        "counting": served.content(),
        "spend": None if spend is None else spend.content(),
        "meanSpend": mean_spend(now),
        "asOf": now.end.isoformat(),
        "edges": Edges.of(*_rfm(now)).content(),
    }


def _rfm(now: Histories) -> tuple[Vector, Vector, Vector]:
    """Return days since the last purchase, purchases and money in all."""
    return np.rint((now.age - now.recency) * DAYS_A_WEEK), now.frequency + 1.0, now.total.astype(np.float64)


def scored(model: ValueModel, now: Histories) -> pl.DataFrame:
    """Return one row for each customer, as of the end of the data: what is known, and what is to be expected within a year."""
    found = model.outlook(known(now), now.spend_repeats.astype(np.float64), now.mean_spend, HORIZON_DAYS, DISCOUNT)
    recency_days, purchases, money = _rfm(now)
    return pl.DataFrame(
        {
            "customerId": list(now.customers),
            "asOf": [now.end.isoformat()] * len(now.customers),
            "purchases": purchases.astype(np.int64),
            "daysSincePurchase": recency_days,
            "currentValue": money,
            "probabilityAlive": found.alive,
            "churnRisk": 1 - found.alive,
            "expectedPurchases": found.purchases,
            "expectedSpend": found.spend,
            "lifetimeValue": found.value,
            "segment": segments(*model.edges.scores(recency_days, purchases, money)),
            "modelVersion": [model.version] * len(now.customers),
        }
    )


def _write(table: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.partial")
    WRITERS[path.suffix](table, part)
    part.replace(path)
