"""What outcomes say of steps: by how much each raised the chance of a purchase beside doing nothing, and what policies are worth.

steps.json  of every step that was logged: lift, error, decisions
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kernels.decisions.bandit import best_chances
from kernels.types import F64
from training.evaluation import off_policy
from training.evaluation.off_policy import Estimate, Logged
from training.registry.bundle import Bundle
from training.tables.outcomes import NOTHING, Outcomes

FILE = "steps.json"
LEAST = 20  # decisions for a step, and for doing nothing, below which nothing is said of it
FOLDS = 5


class Measured(NamedTuple):
    """By how much a step raised the chance of a purchase beside doing nothing, and the standard error of that."""

    lift: float
    error: float


def learned(outcomes: Outcomes) -> dict[str, dict[str, float]]:
    """Return the content of steps.json. Each step is judged by what came of it, weighted by its propensities (SNIPS)."""
    logged = _logged(outcomes)
    counts = np.bincount(outcomes.step, minlength=len(outcomes.steps))
    if counts[0] < LEAST:
        return {}
    alone = [off_policy.snips(logged, _always(logged, place, len(outcomes.steps))) for place in range(len(outcomes.steps))]
    return {
        name: {"lift": alone[place].value - alone[0].value, "error": _error(alone[place], alone[0]), "decisions": int(counts[place])}
        for place, name in enumerate(outcomes.steps)
        if place and counts[place] >= LEAST
    }


def report(outcomes: Outcomes) -> dict[str, Any]:
    """Return what policies are worth, purchases a decision, by three estimators: what was done, nothing, each step alone, and Thompson
    sampling. That has learned from the first half of the decisions; all are judged by the second.
    """
    half = len(outcomes.step) // 2
    before, after = _part(outcomes, slice(half)), _part(outcomes, slice(half, None))
    logged, arms = _logged(after), len(outcomes.steps)
    policies = {name: _always(logged, place, arms) for place, name in enumerate(outcomes.steps)}
    found = learned(before)
    if found:
        policies["thompson"] = np.broadcast_to(thompson(outcomes.steps, found), (len(logged.action), arms))
    fold = np.arange(len(logged.action)) % FOLDS
    expected = off_policy.crossed(logged, arms, fold)
    return {
        "decisions": len(outcomes.step),
        "judgedBy": len(logged.action),
        "logged": float(logged.reward.mean()),
        "policies": {
            name: {
                "ips": _told(off_policy.ips(logged, chances)),
                "snips": _told(off_policy.snips(logged, chances)),
                "dr": _told(off_policy.doubly_robust(logged, chances, expected)),
            }
            for name, chances in policies.items()
        },
    }


def thompson(steps: tuple[str, ...], found: Mapping[str, Mapping[str, float]]) -> F64:
    """Return the chance of each step to be the best, float64 [steps]; doing nothing adds nothing for certain."""
    mean = np.array([[found[name]["lift"] if name in found else 0.0 for name in steps]])
    spread = np.array([[found[name]["error"] if name in found else 0.0 for name in steps]])
    allowed = np.array([[name in found or name == NOTHING for name in steps]])
    out = np.empty_like(mean)
    best_chances(mean, spread, allowed, 0.0, out)
    chances: F64 = out[0]
    return chances


def load(bundle: Bundle) -> dict[str, Measured]:
    """Return what a bundle's outcomes say of steps, nothing where it has none. Raises KeyError or TypeError for one that is not whole."""
    said = bundle.json(FILE) if FILE in bundle.manifest["files"] else {}
    return {name: Measured(float(one["lift"]), float(one["error"])) for name, one in said.items()}


def _part(outcomes: Outcomes, rows: slice) -> Outcomes:
    return Outcomes(outcomes.steps, outcomes.step[rows], outcomes.propensity[rows], outcomes.converted[rows])


def _logged(outcomes: Outcomes) -> Logged:
    return Logged(outcomes.step, outcomes.converted, outcomes.propensity)


def _always(logged: Logged, step: int, steps: int) -> F64:
    """Return the chances of the policy that always takes one step."""
    out = np.zeros((len(logged.action), steps))
    out[:, step] = 1.0
    return out


def _error(one: Estimate, other: Estimate) -> float:
    return float(np.hypot(one.error, other.error))


def _told(estimate: Estimate) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else value for name, value in estimate._asdict().items()}
