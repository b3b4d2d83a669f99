"""Off-policy evaluation: the value of a policy from decisions that another policy logged with their propensities.

IPS: Horvitz and Thompson 1952; SNIPS: Swaminathan and Joachims 2015; DR: Dudik, Langford and Li 2011.
"""

from typing import NamedTuple

import numpy as np

from kernels.types import F64, I64

Z95 = 1.959963984540054


class LoggedDecisions(NamedTuple):
    """Decisions with the probabilities with which they were taken.

    action: int64 [n], the index of the action, below the number of actions; reward: float64 [n]; propensity: float64 [n], in (0, 1], the
    probability of the action taken.
    """

    action: I64
    reward: F64
    propensity: F64


class Estimate(NamedTuple):
    """A policy's mean reward, its standard error, its 95 % confidence interval, and the effective sample size (Kish 1965)."""

    value: float
    error: float
    low: float
    high: float
    effective: float


def ips(logged: LoggedDecisions, probabilities: F64) -> Estimate:
    """Return the unbiased value of a policy by inverse propensity scores; probabilities: the policy's, float64 [n, actions]."""
    weight = weights(logged, probabilities)
    return _estimate(weight * logged.reward, weight)


def snips(logged: LoggedDecisions, probabilities: F64) -> Estimate:
    """Return the value with self-normalised weights: slightly biased, within the range of rewards; NaN without a shared action."""
    weight = weights(logged, probabilities)
    total = weight.sum()
    value = float((weight * logged.reward).sum() / total) if total else np.nan
    influence = value + weight * (logged.reward - value) / (weight.mean() if total else np.nan)
    return _estimate(influence, weight)._replace(value=value) if total else Estimate(np.nan, np.nan, np.nan, np.nan, 0.0)


def doubly_robust(logged: LoggedDecisions, probabilities: F64, expected: F64) -> Estimate:
    """Return the value from a model's expected rewards float64 [n, actions], corrected by its weighted residuals.

    Consistent if the propensities or the model are. The expected rewards must be out of fold.
    """
    rows = np.arange(len(logged.action))
    weight = weights(logged, probabilities)
    influence = (probabilities * expected).sum(axis=1) + weight * (logged.reward - expected[rows, logged.action])
    return _estimate(influence, weight)


def weights(logged: LoggedDecisions, probabilities: F64) -> F64:
    """Return the importance weights of the logged actions, float64 [n]. Raises ValueError for propensities outside of (0, 1]."""
    if len(logged.propensity) and not (logged.propensity.min() > 0 and logged.propensity.max() <= 1):
        raise ValueError("a propensity is not in (0, 1]: log the probability with which each action was taken")
    return probabilities[np.arange(len(logged.action)), logged.action] / logged.propensity


def cross_fitted_rewards(logged: LoggedDecisions, actions: int, fold: I64, context: I64 | None = None, prior: float = 50.0) -> F64:
    """Return out-of-fold expected rewards float64 [n, actions] for `doubly_robust`: shrunk means by context and action.

    context: int64 [n], None for one context; fold: int64 [n]; prior: the weight of the overall mean, in decisions.
    """
    context = np.zeros(len(logged.action), np.int64) if context is None else context
    contexts = int(context.max(initial=0)) + 1
    out = np.empty((len(logged.action), actions))
    for number in np.unique(fold):
        other, own = fold != number, fold == number
        cell = context[other] * actions + logged.action[other]
        taken = np.bincount(cell, minlength=contexts * actions)
        earned = np.bincount(cell, logged.reward[other], minlength=contexts * actions)
        mean = logged.reward[other].mean() if other.any() else 0.0
        table = ((earned + prior * mean) / (taken + prior)).reshape(contexts, actions)
        out[own] = table[context[own]]
    return out


def _estimate(influence: F64, weight: F64) -> Estimate:
    size = len(influence)
    value = float(influence.mean()) if size else np.nan
    error = float(influence.std(ddof=1) / np.sqrt(size)) if size > 1 else np.nan
    squares = float((weight**2).sum())
    effective = float(weight.sum() ** 2 / squares) if squares else 0.0
    return Estimate(value, error, value - Z95 * error, value + Z95 * error, effective)
