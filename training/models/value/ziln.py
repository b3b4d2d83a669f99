"""What customers spend within a window, by boosted trees with a zero-inflated log-normal head (Wang, Liu & Miao 2019).

A customer spends nothing with some chance, else an amount whose logarithm is normally distributed. The likelihood is a product of the two,
so each is learned by trees of its own, and the spread of the logarithm is that of amounts that the trees have not seen. It is the
alternative to the closed forms, and may see what they cannot, such as a season in which all spend more.
"""

from dataclasses import dataclass

import numpy as np
import xgboost as xgb

from kernels.trees.forest import Forest
from kernels.types import F32, F64
from training.errors import FitError
from training.models.shared import trees
from training.models.shared.calibration import probability
from training.tables.summaries import Summaries

CHANCE, AMOUNT = "ziln-chance.ubj", "ziln-amount.ubj"
COLUMNS = ("frequency", "recency", "age", "silence", "repeatsWithSpend", "meanSpend", "total", "rate")
LEAST = 200  # customers, and MIN_SPENDING who spent, below which nothing is learned
MIN_SPENDING = 50
ROUNDS, FOLDS = 80, 3
PARAMETERS = {"tree_method": "hist", "max_depth": 3, "eta": 0.06, "min_child_weight": 20, "subsample": 0.8}


def loss(logits: F64, spent: F64) -> F64:
    """Return the negative log-likelihood of what was spent, float64 [n], 0 or more; logits: [n, 3], of the chance, location, log spread.

    The chance is their logistic, the spread their softplus; the loss is that of lifetime_value's zero_inflated_lognormal_loss.
    """
    chance, location, spread = logits[:, 0], logits[:, 1], np.logaddexp(0, logits[:, 2])
    some = spent > 0
    logs = np.log(np.where(some, spent, 1.0))
    density = 0.5 * ((logs - location) / spread) ** 2 + np.log(spread) + 0.5 * np.log(2 * np.pi) + logs
    return np.asarray(np.logaddexp(0, chance) - chance * some + np.where(some, density, 0.0))


def mean(chance: F64, location: F64, spread: F64 | float) -> F64:
    """Return the expected spend: the chance (of the logit `chance`) times the mean of the log-normal distribution."""
    return np.asarray(probability(chance) * np.exp(location + 0.5 * np.square(spread)))


def columns(known: Summaries) -> F32:
    """Return what the trees see of customers, float32 [n, columns]."""
    silence, rate = known.age - known.recency, known.frequency / np.maximum(known.age, 1.0)
    parts = (known.frequency, known.recency, known.age, silence, known.spend_repeats, known.mean_spend, known.total, rate)
    return np.stack(parts, axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Learned:
    """Fitted trees, and the spread of the logarithm of an amount."""

    chance: xgb.Booster
    amount: xgb.Booster
    spread: float


@dataclass(frozen=True, slots=True)
class Ziln:
    """The trees as they are served; days: the window that they are about."""

    chance: Forest
    amount: Forest
    spread: float
    days: float

    def spends(self, known: Summaries) -> F64:
        """Return what customers are expected to spend within `days`, float64 [n]."""
        X = columns(known)
        return mean(self.chance.margin(X).astype(np.float64), self.amount.margin(X).astype(np.float64), self.spread)


def require(spent: F64) -> None:
    """Raise FitError where too few customers, [n], spent something to learn from."""
    some = int((spent > 0).sum())
    if len(spent) < LEAST or some < MIN_SPENDING:
        raise FitError(f"{some} of {len(spent)} customers spent something; {MIN_SPENDING} of {LEAST} are needed to learn from")


def fit(known: Summaries, spent: F64, seed: int) -> Learned:
    """Return the trees that say what customers spend after what is known of them, [n]. Raises FitError where too few did."""
    require(spent)
    some = spent > 0
    X, logs = columns(known), np.log(spent[some])
    held_out = np.empty(len(logs))
    for learn, judge in trees.folds(np.zeros(len(logs)), FOLDS, seed):
        held_out[judge] = trees.margin(_boosted(X[some][learn], logs[learn], "reg:squarederror", seed), X[some][judge])
    return Learned(
        _boosted(X, some.astype(np.float64), "binary:logistic", seed),
        _boosted(X[some], logs, "reg:squarederror", seed),
        float(np.std(logs - held_out)),
    )


def _boosted(X: F32, y: F64, objective: str, seed: int) -> xgb.Booster:
    return xgb.train({**PARAMETERS, "objective": objective, "seed": seed}, xgb.QuantileDMatrix(X, y), ROUNDS)
