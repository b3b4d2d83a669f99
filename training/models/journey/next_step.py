"""Effects of next steps on the probability of a purchase, and the value of policies, from logged outcomes.

steps.json  lift, standard error and number of decisions of every logged step
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kernels.decisions.bandit import best_arm_probabilities
from kernels.types import F64
from training.evaluation import off_policy
from training.evaluation.off_policy import Estimate, LoggedDecisions
from training.registry.bundle import Bundle
from training.tables.outcomes import NOTHING, Outcomes

FILE = "steps.json"
MIN_DECISIONS = 20  # of a step, and of doing nothing, to estimate its effect
FOLDS = 5


class StepEffect(NamedTuple):
    """The lift of a step in the probability of a purchase over doing nothing, and its standard error."""

    lift: float
    error: float


def fit(outcomes: Outcomes) -> dict[str, dict[str, float]]:
    """Return the content of steps.json. Each step is evaluated by its outcomes, weighted by propensities (SNIPS)."""
    logged = _logged(outcomes)
    counts = np.bincount(outcomes.step, minlength=len(outcomes.steps))
    if counts[0] < MIN_DECISIONS:
        return {}
    alone = [off_policy.snips(logged, _always(logged, place, len(outcomes.steps))) for place in range(len(outcomes.steps))]
    return {
        name: {"lift": alone[place].value - alone[0].value, "error": _error(alone[place], alone[0]), "decisions": int(counts[place])}
        for place, name in enumerate(outcomes.steps)
        if place and counts[place] >= MIN_DECISIONS
    }


def report(outcomes: Outcomes) -> dict[str, Any]:
    """Return the value of policies, in purchases per decision, by three estimators: the logged policy, nothing, each step alone, and
    Thompson sampling, which learns from the first half of the decisions; all are evaluated on the second.
    """
    half = len(outcomes.step) // 2
    before, after = _part(outcomes, slice(half)), _part(outcomes, slice(half, None))
    logged, arms = _logged(after), len(outcomes.steps)
    policies = {name: _always(logged, place, arms) for place, name in enumerate(outcomes.steps)}
    found = fit(before)
    if found:
        policies["thompson"] = np.broadcast_to(thompson(outcomes.steps, found), (len(logged.action), arms))
    fold = np.arange(len(logged.action)) % FOLDS
    expected = off_policy.cross_fitted_rewards(logged, arms, fold)
    return {
        "decisions": len(outcomes.step),
        "evaluatedDecisions": len(logged.action),
        "logged": float(logged.reward.mean()),
        "policies": {
            name: {
                "ips": _finite(off_policy.ips(logged, chances)),
                "snips": _finite(off_policy.snips(logged, chances)),
                "dr": _finite(off_policy.doubly_robust(logged, chances, expected)),
            }
            for name, chances in policies.items()
        },
    }


def thompson(steps: tuple[str, ...], found: Mapping[str, Mapping[str, float]]) -> F64:
    """Return the probability that each step is the best, float64 [steps]; the lift of doing nothing is exactly 0."""
    mean = np.array([[found[name]["lift"] if name in found else 0.0 for name in steps]])
    spread = np.array([[found[name]["error"] if name in found else 0.0 for name in steps]])
    allowed = np.array([[name in found or name == NOTHING for name in steps]])
    out = np.empty_like(mean)
    best_arm_probabilities(mean, spread, allowed, 0.0, out)
    chances: F64 = out[0]
    return chances


def load(bundle: Bundle) -> dict[str, StepEffect]:
    """Return the effects of steps in a bundle, empty where it has none. Raises KeyError or TypeError for one that is incomplete."""
    content = bundle.json(FILE) if FILE in bundle.manifest["files"] else {}
    return {name: StepEffect(float(one["lift"]), float(one["error"])) for name, one in content.items()}


def _part(outcomes: Outcomes, rows: slice) -> Outcomes:
    return Outcomes(outcomes.steps, outcomes.step[rows], outcomes.propensity[rows], outcomes.converted[rows])


def _logged(outcomes: Outcomes) -> LoggedDecisions:
    return LoggedDecisions(outcomes.step, outcomes.converted, outcomes.propensity)


def _always(logged: LoggedDecisions, step: int, steps: int) -> F64:
    """Return the action probabilities of the policy that always takes one step, float64 [decisions, steps]."""
    out = np.zeros((len(logged.action), steps))
    out[:, step] = 1.0
    return out


def _error(one: Estimate, other: Estimate) -> float:
    return float(np.hypot(one.error, other.error))


def _finite(estimate: Estimate) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else value for name, value in estimate._asdict().items()}
