"""What the hold-out says of a value model: how often customers will buy, for how much, and who will not; and which model is the better."""

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
from training.models.value.lifetime import MODELS, Fit
from training.models.value.model import ValueModel
from training.tables import histories
from training.tables.histories import Histories
from training.tables.purchases import Purchases
from training.tables.summaries import DAYS_A_WEEK, Summaries


def best(counting: Mapping[str, Fit], after: Mapping[str, Any] | None) -> str:
    """Return the name of the model that is served: that which predicts the hold-out best, by mean absolute error, else the likeliest."""
    if after is None:
        return max(counting, key=lambda name: counting[name].log_likelihood)
    return min(counting, key=lambda name: float(after["models"][name]["mae"]))


def held_out(purchases: Purchases, seen: Histories, counting: Mapping[str, Fit], spend: Fit | None, seed: int) -> dict[str, Any]:
    """Return how every model and the naive rate predict the hold-out, how they rank the customers, and what is better at their money."""
    assert seen.holdout_count is not None, "a hold-out without one; this is a bug"
    assert seen.holdout_spend is not None, "a hold-out without its money; this is a bug"
    known, days = seen.known, float((seen.end - seen.split).days)
    actual, spent = seen.holdout_count.astype(np.float64), np.maximum(seen.holdout_spend, 0.0)
    predicted = {
        name: value.futures(MODELS[name].number, MODELS[name].given(one.values), known.seen, days / DAYS_A_WEEK)[1]
        for name, one in counting.items()
    }
    naive = np.where(known.age > 0, known.frequency / np.maximum(known.age, 1e-9) * days / DAYS_A_WEEK, 0.0)
    models = {name: holdout.errors(column, actual) for name, column in predicted.items()}
    served = best(counting, {"models": models})
    learned = value.content(counting[served], spend, known, as_of="", insufficient=())
    closed = ValueModel(learned, {"currency": None}, "")
    trees, why = _alternative(purchases, seen, spent, days, seed)
    model, money = _better(closed, learned, trees, known, spent, days)
    return {
        "weeks": days / DAYS_A_WEEK,
        "days": days,
        "actual": float(actual.sum()),
        "models": models,
        "naive": holdout.errors(naive, actual),
        "byRepeatPurchases": holdout.by_frequency(known.frequency, predicted[served], actual),
        "ranking": _ranking(known, spent, predicted[served], spend),
        "spend": {**money, "treesLacking": why},
        "interval": _interval(model, known, spent, days),
        "noPurchase": _silence(model, known, actual, days),
    }


def window(purchases: Purchases, end: date, days: float, seed: int) -> ziln.Learned:
    """Return trees of what customers spent in the `days` until `end`, from what was known of them before. Raises FitError."""
    start = end - timedelta(days=days)
    if start.toordinal() < int(purchases.day.min()):
        raise FitError(f"the history begins after {start}: there is no window of {days:g} days to learn from")
    before = histories.of(purchases, split=start, end=end)
    assert before.holdout_spend is not None, "a window without money; this is a bug"
    return ziln.fit(before.known, np.maximum(before.holdout_spend, 0.0), seed)


def _alternative(purchases: Purchases, seen: Histories, spent: F64, days: float, seed: int) -> tuple[ziln.Ziln | None, str | None]:
    """Return trees that have learned from the window before the hold-out, or why there are none; served ones learn from it, [customers]."""
    try:
        ziln.require(spent)
        learned = window(purchases, seen.split, days, seed)
    except FitError as error:
        return None, str(error)
    return ziln.Ziln(Forest.from_booster(learned.chance), Forest.from_booster(learned.amount), learned.spread, days), None


def _better(
    closed: ValueModel, learned: Mapping[str, Any], trees: ziln.Ziln | None, known: Summaries, spent: F64, days: float
) -> tuple[ValueModel, dict[str, Any]]:
    """Return the model that predicts the money of the hold-out better, by deviance, and how both do."""
    models = {"closed": closed, **({} if trees is None else {"trees": ValueModel(learned, {"currency": None}, "", trees)})}
    found = {}
    for name, model in models.items():
        expected = model.outlook(known, days, 0.0).value
        errors = holdout.errors(expected, spent)
        found[name] = {"deviance": holdout.deviance(expected, spent), "predicted": errors.pop("transactions"), **errors}
    served = min(found, key=lambda name: found[name]["deviance"] or 0.0)
    return models[served], {"actual": float(spent.sum()), "served": served, "models": found}


def _ranking(known: Summaries, spent: F64, predicted: F64, spend: Fit | None) -> dict[str, Any] | None:
    """Return how well value and past spend rank customers by what they spent, None where nobody spent anything."""
    if spent.sum() <= 0:
        return None
    each = np.ones(len(spent)) if spend is None else value.spends(spend.values, known.spent, known.average_spend)
    past = np.nan_to_num(known.mean_spend) * known.spend_repeats
    return holdout.ranking(spent, {"predictedValue": predicted * each, "pastRepeatSpend": past})


def _interval(model: ValueModel, known: Summaries, spent: F64, days: float) -> dict[str, float]:
    """Return what share of the customers spent what the interval says, and its mean width, in money."""
    found = model.outlook(known, days, 0.0)
    within = (found.low <= spent) & (spent <= found.high)
    return {"level": LEVEL, "within": float(within.mean()), "meanWidth": float((found.high - found.low).mean())}


def _silence(model: ValueModel, known: Summaries, actual: F64, days: float) -> dict[str, float] | None:
    """Return how well it was foretold who would buy nothing in the hold-out, None where all or none did."""
    silent = (actual == 0).astype(np.float64)
    if silent.min() == silent.max():
        return None
    foretold = model.silence(known, days)
    return {"share": float(silent.mean()), "foretold": float(foretold.mean()), **metrics.figures(silent, foretold)}
