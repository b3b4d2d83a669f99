"""Evaluation of value models on the hold-out: purchases, spend, intervals and P(no purchase); choice of the served model."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np

from kernels.trees.forest import Forest
from kernels.types import F64
from training.errors import FitError
from training.evaluation import metrics
from training.models.value import holdout, ziln
from training.models.value import model as value
from training.models.value.defaults import LEVEL
from training.models.value.lifetime import MODELS, FittedModel
from training.models.value.model import ValueModel
from training.tables import histories
from training.tables.histories import Histories
from training.tables.purchases import Purchases
from training.tables.summaries import DAYS_A_WEEK, Summaries


def supported(counting: Mapping[str, FittedModel]) -> tuple[str, ...]:
    """Return the names of the models that the data support: fitted without a prior, and churn only where it shows.

    Churn shows where a model with it has the smaller AIC than the model without. If no model could be fitted without a prior, all are
    returned.
    """
    plain = {name: one for name, one in counting.items() if not one.penalised}
    without = [one.aic for name, one in plain.items() if MODELS[name].churns == "never"]
    return tuple(name for name, one in plain.items() if one.aic <= min(without, default=one.aic)) or tuple(counting)


def best(counting: Mapping[str, FittedModel], after: Mapping[str, Any] | None) -> str:
    """Return the name of the served model among the supported: least mean absolute error on the hold-out, or least AIC without one."""
    names = supported(counting)
    if after is None:
        return min(names, key=lambda name: counting[name].aic)
    return min(names, key=lambda name: float(after["models"][name]["mae"]))


def held_out(
    purchases: Purchases,
    seen: Histories,
    counting: Mapping[str, FittedModel],
    spend: FittedModel | None,
    seed: int,
    chosen: str | None = None,
) -> dict[str, Any]:
    """Return the hold-out metrics of every model and of the naive rate: purchases, ranking, spend, intervals and P(no purchase).

    chosen: the model to serve; None for the best.
    """
    assert seen.holdout_count is not None, "held_out needs a hold-out; this is a bug"
    assert seen.holdout_spend is not None, "the hold-out has no spend; this is a bug"
    known, days = seen.known, float((seen.end - seen.split).days)
    actual, spent = seen.holdout_count.astype(np.float64), np.maximum(seen.holdout_spend, 0.0)
    predicted = {
        name: value.expected_purchases(MODELS[name].number, MODELS[name].kernel_parameters(one.values), known.seen, days / DAYS_A_WEEK)[1]
        for name, one in counting.items()
    }
    naive = np.where(known.age > 0, known.frequency / np.maximum(known.age, 1e-9) * days / DAYS_A_WEEK, 0.0)
    models = {name: holdout.errors(column, actual) for name, column in predicted.items()}
    served = chosen or best(counting, {"models": models})
    learned = value.content(counting[served], spend, known, as_of="", insufficient=())
    closed = ValueModel(learned, {"currency": None}, "")
    trees, why = _fit_trees(purchases, seen, spent, days, seed)
    model, money = _best_spend_model(closed, learned, trees, known, spent, days)
    return {
        "weeks": days / DAYS_A_WEEK,
        "days": days,
        "actual": float(actual.sum()),
        "models": models,
        "naive": holdout.errors(naive, actual),
        "byRepeatPurchases": holdout.by_frequency(known.frequency, predicted[served], actual),
        "ranking": _ranking(known, spent, predicted[served], spend),
        "spend": {**money, "noTreesReason": why},
        "interval": _interval(model, known, spent, days),
        "noPurchase": _no_purchase(model, known, actual, days),
    }


def window(purchases: Purchases, end: date, days: float, seed: int) -> ziln.FittedZiln:
    """Return trees fitted to the spend in the `days` until `end`, from the summaries before them. Raises FitError."""
    start = end - timedelta(days=days)
    if start.toordinal() < int(purchases.day.min()):
        raise FitError(f"the history begins after {start}, so there is no window of {days:g} days to fit on: give a longer history")
    before = histories.of(purchases, split=start, end=end)
    assert before.holdout_spend is not None, "the window has no spend; this is a bug"
    return ziln.fit(before.known, np.maximum(before.holdout_spend, 0.0), seed)


def _fit_trees(purchases: Purchases, seen: Histories, spent: F64, days: float, seed: int) -> tuple[ziln.Ziln | None, str | None]:
    """Return trees fitted to the window before the hold-out and None, or None and the reason why there are none.

    spent: float64 [customers], the spend in the hold-out, which the served trees are fitted to.
    """
    try:
        ziln.require(spent)
        learned = window(purchases, seen.split, days, seed)
    except FitError as error:
        return None, str(error)
    return ziln.Ziln(Forest.from_booster(learned.chance), Forest.from_booster(learned.amount), learned.spread, days), None


def _best_spend_model(
    closed: ValueModel, learned: Mapping[str, Any], trees: ziln.Ziln | None, known: Summaries, spent: F64, days: float
) -> tuple[ValueModel, dict[str, Any]]:
    """Return the model with the lower deviance of hold-out spend, and the metrics of each."""
    models = {"closed": closed, **({} if trees is None else {"trees": ValueModel(learned, {"currency": None}, "", trees)})}
    found = {}
    for name, model in models.items():
        expected = model.outlook(known, days, 0.0).value
        errors = holdout.errors(expected, spent)
        found[name] = {"deviance": holdout.deviance(expected, spent), "predicted": errors.pop("transactions"), **errors}
    served = min(found, key=lambda name: found[name]["deviance"] or 0.0)
    return models[served], {"actual": float(spent.sum()), "served": served, "models": found}


def _ranking(known: Summaries, spent: F64, predicted: F64, spend: FittedModel | None) -> dict[str, Any] | None:
    """Return how predicted value and past spend rank customers by actual spend, None where no customer spent anything."""
    if spent.sum() <= 0:
        return None
    each = np.ones(len(spent)) if spend is None else value.expected_spend(*value.mean_parameters(spend, known), known.spent)
    past = np.nan_to_num(known.mean_spend) * known.spend_repeats
    return holdout.ranking(spent, {"predictedValue": predicted * each, "pastRepeatSpend": past})


def _interval(model: ValueModel, known: Summaries, spent: F64, days: float) -> dict[str, float]:
    """Return the share of customers whose spend the interval covers, and its mean width in the currency."""
    found = model.outlook(known, days, 0.0)
    within = (found.low <= spent) & (spent <= found.high)
    return {"level": LEVEL, "within": float(within.mean()), "meanWidth": float((found.high - found.low).mean())}


def _no_purchase(model: ValueModel, known: Summaries, actual: F64, days: float) -> dict[str, float] | None:
    """Return the metrics of P(no purchase) in the hold-out, None where all or no customers bought."""
    no_purchase = (actual == 0).astype(np.float64)
    if no_purchase.min() == no_purchase.max():
        return None
    predicted = model.no_purchase(known, days)
    return {"share": float(no_purchase.mean()), "predicted": float(predicted.mean()), **metrics.figures(no_purchase, predicted)}
