"""Calibration: a line from a model's margin to log-odds, fitted on held-out rows (Platt 1999).

A line in log-odds keeps the order of rows and, unlike isotonic regression, lets SHAP values pass through it exactly.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kernels.types import F64

STEPS = 50
RIDGE = 1e-6  # regularisation, for classes that the margins separate


@dataclass(frozen=True, slots=True)
class Platt:
    """The line `slope` * margin + `intercept`."""

    slope: float
    intercept: float

    @classmethod
    def fit(cls, margin: F64, y: F64) -> "Platt":
        """Return the maximum likelihood line of y [n], 0 or 1, given margins [n], by Newton's method; its slope is above 0."""
        line = _max_likelihood(np.column_stack([margin, np.ones_like(margin)]), y, np.array([1.0, 0.0]))
        if line[0] <= 0:  # margins without information: the base rate alone
            rate = (y.sum() + 0.5) / (len(y) + 1)
            return cls(1e-3, float(np.log(rate / (1 - rate)) - 1e-3 * margin.mean()))
        return cls(float(line[0]), float(line[1]))

    @classmethod
    def read(cls, content: dict[str, Any]) -> "Platt":
        """Return the line in the content of calibration.json."""
        return cls(float(content["slope"]), float(content["intercept"]))

    def content(self) -> dict[str, Any]:
        """Return the content of calibration.json."""
        return {"method": "platt", **asdict(self)}

    def apply(self, margin: F64) -> F64:
        """Return calibrated log-odds of margins [n]."""
        return self.slope * margin + self.intercept


@dataclass(frozen=True, slots=True)
class Blend:
    """Log-odds as a sum of several models' margins, each with its weight, and an intercept (stacking, Wolpert 1992)."""

    weights: tuple[float, ...]
    intercept: float

    @classmethod
    def fit(cls, margins: F64, y: F64) -> "Blend":
        """Return the maximum likelihood blend of y [n], 0 or 1, given out-of-fold margins [n, models].

        Weights are not negative: a model with a negative weight is left out.
        """
        kept, weights, found = list(range(margins.shape[1])), np.zeros(margins.shape[1]), np.zeros(1)
        while True:
            start = np.append(np.full(len(kept), 1 / max(1, len(kept))), 0.0)
            found = _max_likelihood(np.column_stack([margins[:, kept], np.ones(len(margins))]), y, start)
            if (found[:-1] > 0).all():
                break
            kept = [model for model, weight in zip(kept, found, strict=False) if weight > 0]
        weights[kept] = found[:-1]
        return cls(tuple(weights.tolist()), float(found[-1]))

    @classmethod
    def read(cls, content: dict[str, Any]) -> "Blend":
        """Return the blend in the content of calibration.json."""
        return cls(tuple(map(float, content["weights"])), float(content["intercept"]))

    def content(self) -> dict[str, Any]:
        """Return the content of calibration.json."""
        return {"method": "blend", **asdict(self)}

    def apply(self, *margins: F64) -> F64:
        """Return calibrated log-odds of each model's margins [n]."""
        total = np.full(len(margins[0]), self.intercept)
        for weight, margin in zip(self.weights, margins, strict=True):
            total = total + weight * margin
        return total


def _max_likelihood(design: F64, y: F64, start: F64) -> F64:
    """Return the maximum likelihood coefficients by Newton's method, regularised to `start`."""
    found = start
    for _ in range(STEPS):
        p = probability(design @ found)
        gradient = design.T @ (p - y) + RIDGE * (found - start)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + RIDGE * np.eye(len(start))
        step = np.linalg.solve(hessian, gradient)
        found = found - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-9:
            break
    return found


def probability(margin: F64) -> F64:
    """Return 1 / (1 + exp(-margin)), without overflow, and with the same bits for a value alone and in an array."""
    decay = np.exp(-np.abs(margin))
    return np.where(margin >= 0, 1.0, decay) / (1.0 + decay)
