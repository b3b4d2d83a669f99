"""Calibration: the trees' margin becomes log-odds that hold among sessions that the trees did not see (Platt 1999).

A line in log-odds keeps the order of sessions and, unlike isotonic regression, lets SHAP values pass through it exactly.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEPS = 50
RIDGE = 1e-6  # keeps the line finite where the margins separate the classes


@dataclass(frozen=True, slots=True)
class Platt:
    """The line `slope` * margin + `intercept`."""

    slope: float
    intercept: float

    @classmethod
    def fit(cls, margin: NDArray[np.float64], y: NDArray[np.float64]) -> "Platt":
        """Return the line of greatest likelihood of y in {0, 1} given margins [n], by Newton's method. Never falls: slope > 0."""
        design = np.column_stack([margin, np.ones_like(margin)])
        line = np.array([1.0, 0.0])
        for _ in range(STEPS):
            p = probability(design @ line)
            gradient = design.T @ (p - y) + RIDGE * (line - [1.0, 0.0])
            hessian = (design * (p * (1 - p))[:, None]).T @ design + RIDGE * np.eye(2)
            step = np.linalg.solve(hessian, gradient)
            line = line - step / max(1.0, float(np.abs(step).max()))
            if np.abs(step).max() < 1e-9:
                break
        if line[0] <= 0:  # margins that say nothing: the base rate alone
            rate = (y.sum() + 0.5) / (len(y) + 1)
            return cls(1e-3, float(np.log(rate / (1 - rate)) - 1e-3 * margin.mean()))
        return cls(float(line[0]), float(line[1]))

    @classmethod
    def read(cls, content: dict[str, Any]) -> "Platt":
        """Return the line that calibration.json says."""
        return cls(float(content["slope"]), float(content["intercept"]))

    def content(self) -> dict[str, Any]:
        """Return what calibration.json says."""
        return {"method": "platt", **asdict(self)}

    def apply(self, margin: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated log-odds of margins [n]."""
        return self.slope * margin + self.intercept


def probability(margin: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-margin)), without overflow and the same for a value alone and among many."""
    small = np.exp(-np.abs(margin))
    return np.where(margin >= 0, 1.0, small) / (1.0 + small)
