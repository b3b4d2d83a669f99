"""Spend within a window, by boosted trees with a zero-inflated log-normal head (Wang, Liu & Miao 2019).

A customer spends nothing with some probability, else an amount whose logarithm is normally distributed. The likelihood is a product of
the two, so each part has its own trees; the spread of the logarithm is estimated out of fold. It is the alternative to the closed forms
and can learn what they cannot express, such as a season in which all customers spend more.
"""

from dataclasses import dataclass

import numpy as np
import xgboost as xgb

from kernels.trees.forest import Forest
from kernels.types import F32, F64
from training.errors import FitError
from training.models.shared import trees
from training.models.shared.calibration import probability
from training.models.shared.folds import stratified
from training.tables.summaries import Summaries

CHANCE, AMOUNT = "ziln-chance.ubj", "ziln-amount.ubj"
COLUMNS = ("frequency", "recency", "age", "silence", "repeatsWithSpend", "meanSpend", "total", "rate")
MIN_CUSTOMERS = 200  # in the window; MIN_SPENDING of them must have spent something
MIN_SPENDING = 50
ROUNDS, FOLDS = 80, 3
PARAMETERS = {"tree_method": "hist", "max_depth": 3, "eta": 0.06, "min_child_weight": 20, "subsample": 0.8}


def loss(logits: F64, spent: F64) -> F64:
    """Return the negative log-likelihood of spend, float64 [n]; logits: float64 [n, 3] of probability, location and spread.

    spent: float64 [n], 0 or more. The probability is the logistic of its column, the spread the softplus; the loss is that of
    `zero_inflated_lognormal_loss` in lifetime_value.
    """
    chance, location, spread = logits[:, 0], logits[:, 1], np.logaddexp(0, logits[:, 2])
    some = spent > 0
    logs = np.log(np.where(some, spent, 1.0))
    density = 0.5 * ((logs - location) / spread) ** 2 + np.log(spread) + 0.5 * np.log(2 * np.pi) + logs
    return np.asarray(np.logaddexp(0, chance) - chance * some + np.where(some, density, 0.0))


def mean(chance: F64, location: F64, spread: F64 | float) -> F64:
    """Return the expected spend: the probability with logit `chance` times the mean of the log-normal distribution."""
    return np.asarray(probability(chance) * np.exp(location + 0.5 * np.square(spread)))


def columns(known: Summaries) -> F32:
    """Return the features of the trees, float32 [n, columns]."""
    silence, rate = known.age - known.recency, known.frequency / np.maximum(known.age, 1.0)
    parts = (known.frequency, known.recency, known.age, silence, known.spend_repeats, known.mean_spend, known.total, rate)
    return np.stack(parts, axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class FittedZiln:
    """Fitted trees, and the out-of-fold standard deviation of the logarithm of spend."""

    chance: xgb.Booster
    amount: xgb.Booster
    spread: float


@dataclass(frozen=True, slots=True)
class Ziln:
    """The served trees; days: the length of the window that they predict."""

    chance: Forest
    amount: Forest
    spread: float
    days: float

    def expected_spend(self, known: Summaries) -> F64:
        """Return the expected spend within `days`, float64 [n]."""
        X = columns(known)
        return mean(self.chance.margin(X).astype(np.float64), self.amount.margin(X).astype(np.float64), self.spread)


def require(spent: F64) -> None:
    """Raise FitError where too few customers, [n], spent something to fit the trees."""
    some = int((spent > 0).sum())
    if len(spent) < MIN_CUSTOMERS or some < MIN_SPENDING:
        raise FitError(f"{some} of {len(spent)} customers spent something; at least {MIN_SPENDING} of {MIN_CUSTOMERS} are needed")


def fit(known: Summaries, spent: F64, seed: int) -> FittedZiln:
    """Return trees of the spend of customers, float64 [n], from their summaries. Raises FitError where too few spent."""
    require(spent)
    some = spent > 0
    X, logs = columns(known), np.log(spent[some])
    held_out = np.empty(len(logs))
    for learn, judge in stratified(np.zeros(len(logs)), FOLDS, seed):
        held_out[judge] = trees.margin(_boosted(X[some][learn], logs[learn], "reg:squarederror", seed), X[some][judge])
    return FittedZiln(
        _boosted(X, some.astype(np.float64), "binary:logistic", seed),
        _boosted(X[some], logs, "reg:squarederror", seed),
        float(np.std(logs - held_out)),
    )


def _boosted(X: F32, y: F64, objective: str, seed: int) -> xgb.Booster:
    return xgb.train({**PARAMETERS, "objective": objective, "seed": seed}, xgb.QuantileDMatrix(X, y), ROUNDS)
