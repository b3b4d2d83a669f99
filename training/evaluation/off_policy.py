"""What another policy would have earned, from what was logged of this one: who decided with known chances can be judged by them.

IPS: Horvitz and Thompson 1952; SNIPS: Swaminathan and Joachims 2015; DR: Dudik, Langford and Li 2011.
"""

from typing import NamedTuple

import numpy as np

from kernels.types import F64, I64

Z95 = 1.959963984540054


class Logged(NamedTuple):
    """Decisions that were taken. action: int64 [n], below `actions`; reward float64 [n]; propensity float64 [n] in (0, 1]: the chance with
    which that action was taken.
    """

    action: I64
    reward: F64
    propensity: F64


class Estimate(NamedTuple):
    """A policy's mean reward, its standard error, its 95 % interval, and of how many equal decisions the weights are worth (Kish 1965)."""

    value: float
    error: float
    low: float
    high: float
    effective: float


def ips(logged: Logged, chances: F64) -> Estimate:
    """Return the value of a policy by inverse propensity scores; chances: float64 [n, actions], the policy's own. Unbiased."""
    weight = weights(logged, chances)
    return _estimate(weight * logged.reward, weight)


def snips(logged: Logged, chances: F64) -> Estimate:
    """Return the same with weights that add up to n: a little biased, and never outside of the rewards. NaN where no action is shared."""
    weight = weights(logged, chances)
    total = weight.sum()
    value = float((weight * logged.reward).sum() / total) if total else np.nan
    influence = value + weight * (logged.reward - value) / (weight.mean() if total else np.nan)
    return _estimate(influence, weight)._replace(value=value) if total else Estimate(np.nan, np.nan, np.nan, np.nan, 0.0)


def doubly_robust(logged: Logged, chances: F64, expected: F64) -> Estimate:
    """Return the same from expected rewards float64 [n, actions] that some model says, mended by what it was wrong about.

    Right where the propensities are or where the model is. The model must not have seen the decision that it is asked about.
    """
    rows = np.arange(len(logged.action))
    weight = weights(logged, chances)
    influence = (chances * expected).sum(axis=1) + weight * (logged.reward - expected[rows, logged.action])
    return _estimate(influence, weight)


def weights(logged: Logged, chances: F64) -> F64:
    """Return how much likelier the policy is to do what was done. Raises ValueError for propensities outside of (0, 1]."""
    if len(logged.propensity) and not (logged.propensity.min() > 0 and logged.propensity.max() <= 1):
        raise ValueError("a propensity is not in (0, 1]: what was done with no chance says nothing")
    return chances[np.arange(len(logged.action)), logged.action] / logged.propensity


def crossed(logged: Logged, actions: int, fold: I64, context: I64 | None = None, prior: float = 50.0) -> F64:
    """Return expected rewards float64 [n, actions] for `doubly_robust`: shrunk means of each context and action, of the other folds.

    context: int64 [n], None for none; fold: int64 [n]; prior: how many decisions the mean of all counts for.
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
