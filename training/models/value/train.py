"""Training of the value model: read purchases, fit counting and spend models, evaluate them on the hold-out, score the base.

Each counting model is fitted to the calibration period, with a weakly informative prior where its likelihood has no optimum. Of the models
that the data support, the one with the least mean absolute error on the hold-out is served, without a hold-out the one with the least AIC;
`model` serves another. A model that cannot be fitted is reported and left out.
"""

import io
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import polars as pl
import xgboost as xgb

from training.errors import CellError, FitError, TableError
from training.models.value import card as value_card
from training.models.value import model as value
from training.models.value import ziln
from training.models.value.judge import best, held_out, supported, window
from training.models.value.lifetime import (
    MAX_CORRELATION,
    MODELS,
    FittedModel,
    dependence,
    fit,
    fit_penalised,
    fit_spend,
    has_no_mean,
)
from training.models.value.model import ValueModel
from training.registry import bundle as bundles
from training.registry import disk
from training.registry.bundle import Bundle
from training.registry.provenance import origin, software
from training.tables import frames, histories
from training.tables import purchases as transactions_table
from training.tables.cells import DEFAULT, CellOptions
from training.tables.histories import Histories
from training.tables.purchases import Purchases
from training.tables.summaries import Summaries

Progress = Callable[[str, float], None]
Write = Callable[[pl.DataFrame, io.BytesIO], None]

_DEPENDENT = "purchase frequency and spend are correlated, {:.2f}: Gamma-Gamma assumes that they are independent"
_NO_MEAN = (
    "Gamma-Gamma's q is {:.2f} (standard error {:.2f}), not clearly above 1: the tail of spend is so heavy that it has no mean. "
    "expectedSpend is therefore close to each customer's own mean, and the median of all for those with one purchase. A few large amounts "
    "decide every total: check the largest customers, and do not plan with sums of lifetimeValue"
)
_NO_CHURN = (
    "nbd, a model without churn, is served, because no other fits the purchases better: probabilityAlive and churnRisk are null; use "
    "noPurchaseRisk, or choose a model with churn, such as --model {}"
)
_NOT_SUPPORTED = (
    "{} is served as you chose, but its churn is not visible in the purchases (AIC {:,.1f}; without churn {:,.1f}): probabilityAlive and "
    "churnRisk are mostly assumptions"
)
_PENALISED = "{} has no maximum of its likelihood; it is fitted with a weakly informative prior"
_NAIVE_WINS = (
    "on the hold-out each customer's own past rate has a lower mean absolute error than {}, which is served: {:.3f} against {:.3f} (root "
    "mean squared error {:.3f} against {:.3f}). The rate is not served: it is 0 for every customer with one purchase, and gives no "
    "interval and no risk. To rank customers, their past purchases may do as well"
)

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
    cells: CellOptions = DEFAULT,
    seed: int,
    progress: Progress,
    split: str | None = None,
    end: str | None = None,
    score: Path | None = None,
    model: str | None = None,
) -> Bundle:
    """Fit a value model to the purchases in `data`, write the bundle into `out` (new or empty) and return it.

    data: .csv, .csv.gz, .parquet, or a folder of them. mapping: FIELD to COLUMN. split: the last day of calibration, end: the last day of
    the hold-out, ISO; both default to the last day in the data. score: a .csv or .parquet file for the scored customers, as of `end`.
    model: the counting model of MODELS to serve; None for the best. Raises TableError for an invalid or insufficient table or option,
    FitError where no model, or not the chosen one, can be fitted, BundleError when `out` is not empty.
    """
    bundles.require_free(out)  # fail before the work, not after it
    require_known(model)
    if score is not None and score.suffix not in WRITERS:
        raise TableError(f"--score {score}: unsupported suffix; use {' or '.join(WRITERS)}")
    progress("reading", 0.0)
    purchases, seen = read(data, mapping, split, end, cells)
    progress("fitting", 0.3)
    counting, failed = fitted(seen.known)
    if model in failed:
        raise FitError(f"--model {model}: {failed[model]}")
    spend = spending(seen.known, failed)
    progress("evaluating", 0.6)
    after = None if seen.holdout_count is None else held_out(purchases, seen, counting, spend, seed, model)
    served = model or best(counting, after)
    measured = metrics(seen, counting, spend, failed, served, after)
    measured["leftOut"] = {**purchases.left_out, **measured["leftOut"]}
    measured["warnings"] = [*purchases.warnings, *_left_out(purchases), *measured["warnings"]]
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


def read(
    data: Path, mapping: Mapping[str, str], split: str | None, end: str | None, cells: CellOptions = DEFAULT
) -> tuple[Purchases, Histories]:
    """Return the purchases in a table, and the customers' histories. Raises TableError for an invalid one."""
    frame = frames.read(data, numbers=transactions_table.TABLE.number_columns(mapping), options=cells)
    try:
        purchases = transactions_table.read(frame, mapping, today=datetime.now(UTC).date(), options=cells)
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
            **origin(data),
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


def require_known(model: str | None) -> None:
    """Raise TableError where `model` is not one of MODELS."""
    if model is not None and model not in MODELS:
        near = get_close_matches(model.lower().replace("-", "_").replace("/", "_"), MODELS, 1)
        raise TableError(f"--model {model}: is one of {', '.join(MODELS)}{f' (did you mean {near[0]}?)' if near else ''}")


def fitted(known: Summaries) -> tuple[dict[str, FittedModel], dict[str, str]]:
    """Return the fitted counting models, and the errors of those that could not be fitted. Raises FitError where none can.

    A model whose likelihood has no optimum is fitted with a prior.
    """
    found, failed = dict[str, FittedModel](), dict[str, str]()
    columns = known.frequency, known.recency, known.age
    for name in MODELS:
        try:
            try:
                found[name] = fit(name, *columns)
            except FitError:
                found[name] = fit_penalised(name, *columns)
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
            *counting_warnings(counting, served, after),
            *([_NO_MEAN.format(spend.parameters["q"], spend.errors[1])] if spend is not None and has_no_mean(spend) else []),
            *([_DEPENDENT.format(related)] if abs(related) > MAX_CORRELATION else []),
            *(f"insufficient data: {one}; no value is predicted" for one in lacking),
        ],
        "leftOut": dict(seen.left_out),
    }


def counting_warnings(counting: Mapping[str, FittedModel], served: str, after: Mapping[str, Any] | None) -> list[str]:
    """Return what a user of the served model must know: it has no churn, or none that the data show, or a simple rate predicts better."""
    found, one = list[str](), counting[served]
    if MODELS[served].churns == "never":
        others = [name for name in counting if name != served]
        found += [_NO_CHURN.format(min(others, key=lambda name: counting[name].aic))] if others else []
    elif served not in supported(counting) and "nbd" in counting:
        found.append(_NOT_SUPPORTED.format(served, one.aic, counting["nbd"].aic))
    if one.penalised:
        found.append(_PENALISED.format(served))
    if after is not None and after["naive"]["mae"] < after["models"][served]["mae"]:
        errors = (pair[name] for name in ("mae", "rmse") for pair in (after["naive"], after["models"][served]))
        found.append(_NAIVE_WINS.format(served, *errors))
    return found


def _parameters(one: FittedModel | None) -> dict[str, Any] | None:
    if one is None:
        return None
    errors = dict(zip(one.names, one.errors.tolist(), strict=True))
    return {
        **one.parameters,
        "logLikelihood": one.log_likelihood,
        "standardErrors": errors,
        "customers": one.customers,
        "penalised": one.penalised,
    }


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


def _left_out(purchases: Purchases) -> list[str]:
    """Return warnings about what has no part in the model; of rows without a customer there is one with their places."""
    counts = {reason: purchases.left_out[reason] for reason in ("without a time", "without an amount")}
    found = [f"{number:,} of {purchases.rows:,} rows are {reason} and were left out" for reason, number in counts.items() if number]
    returns = purchases.left_out["days of returns alone"]
    return [*found, *([f"{returns:,} days on which a customer only returned goods were left out"] if returns else [])]
