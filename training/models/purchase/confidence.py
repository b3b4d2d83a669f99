"""confidenceScore: a bound on the error of the predicted probability, testable on held-out sessions.

1 - confidenceScore is a distance d in probability. Among similar sessions (the same blocks of features known, a similar probability) two
bounds hold, both estimated on held-out sessions:

1. The share that buys is within d of the predicted probability, with 90 % confidence.
2. In 9 of 10 of them the probability is within d of that of a second model, trained separately on the outcomes, with every recorded
   feature of the session.

So the score is low where few features are known, where similar sessions are rare, and where two models disagree; it approaches 1 where more
data would not change the prediction. It is independent of the probability itself: a probability of 30 % may be certain. `metrics.json` has
the coverage of both bounds on held-out sessions.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.types import F32, F64, Intp
from training.models.shared import missingness

EDGES = np.array([0.01, 0.02, 0.035, 0.06, 0.1, 0.16, 0.25, 0.4, 0.6, 0.8])  # of bands of probability
SHARE = 0.9
NORMAL_90 = 1.6449  # the two-sided 90 % quantile
MIN_SESSIONS = 100  # of a cell; smaller cells are merged with their neighbours


@dataclass(frozen=True, slots=True)
class Confidence:
    """`table` float64 [levels, bands]: the confidence of a cell. `weights`: see missingness.weights."""

    table: F64
    weights: F32

    @classmethod
    def fit(cls, X: F32, stated: F64, y: F64, reference: F64) -> "Confidence":
        """Return the table estimated on held-out rows.

        X float32 [n, features]: every recorded feature; stated float64 [levels, n]: the probability of each row when only the blocks of
        the level are known; y [n]: bought or not; reference [n]: the second model's probability, from every recorded feature.
        """
        weights = missingness.weights(X)
        full = missingness.level(X, weights)
        table = np.full((missingness.LEVELS, len(EDGES) + 1), np.nan)
        for level in range(missingness.LEVELS):
            rows = (full & level) == level  # rows with at least these blocks, scored with exactly these
            if rows.sum() >= min(MIN_SESSIONS, len(y)):
                table[level] = 1 - _distances(stated[level, rows], y[rows], reference[rows])
        return cls(_filled(table), weights)

    @classmethod
    def read(cls, content: dict[str, Any]) -> "Confidence":
        """Return the table in confidence.json. Raises ValueError for a table of another shape."""
        table, weights = np.array(content["table"], np.float64), np.array(content["weights"], np.float32)
        if (
            content["edges"] != EDGES.tolist()
            or table.shape != (missingness.LEVELS, len(EDGES) + 1)
            or weights.shape[1] != len(missingness.BLOCKS)
        ):
            raise ValueError("the table of confidences has another shape: this version has other bands or blocks; train the model again")
        return cls(table, weights)

    def content(self) -> dict[str, Any]:
        """Return the content of confidence.json."""
        blocks = {str(level): missingness.blocks_of(level) for level in range(missingness.LEVELS)}
        return {"edges": EDGES.tolist(), "levels": blocks, "table": self.table.tolist(), "weights": self.weights.tolist()}

    def of(self, X: F32, probability: F64) -> F64:
        """Return the confidence float64 [n] of rows X float32 [n, features] with these probabilities."""
        return self.at(missingness.level(X, self.weights), probability)

    def at(self, level: Intp | int, probability: F64) -> F64:
        """Return the confidence float64 [n] at a level of known features."""
        return np.asarray(self.table[level, np.searchsorted(EDGES, probability, side="right")])


def _distances(stated: F64, y: F64, reference: F64) -> F64:
    """Return the distance d of each band: the greater of the bounds by outcomes and by the reference."""
    band = np.searchsorted(EDGES, stated, side="right")
    out = np.empty(len(EDGES) + 1)
    for bands in _groups(np.bincount(band, minlength=len(out))):
        rows = np.isin(band, bands)
        out[bands] = max(_outcome_bound(stated[rows], y[rows]), float(np.quantile(np.abs(stated[rows] - reference[rows]), SHARE)))
    return np.minimum(out, 1.0)


def _outcome_bound(stated: F64, y: F64) -> float:
    """Return the distance from the mean probability to the farther end of the 90 % interval of the share that buys (Wilson 1927)."""
    n, z = len(y), NORMAL_90
    rate = y.mean()
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return float(abs(stated.mean() - centre) + half)


def _groups(sizes: Intp) -> list[list[int]]:
    """Return neighbouring bands, merged until each group has MIN_SESSIONS rows; a smaller last group is merged into the one before."""
    groups, open_, rows = list[list[int]](), list[int](), 0
    for band, size in enumerate(sizes):
        open_.append(band)
        rows += int(size)
        if rows >= MIN_SESSIONS:
            groups.append(open_)
            open_, rows = [], 0
    if open_:
        groups.append(groups.pop() + open_ if groups else open_)
    return groups


def _filled(table: F64) -> F64:
    """Return the table, with the lowest confidence of each band for levels without rows."""
    lowest = np.nanmin(table, axis=0)
    return np.where(np.isnan(table), lowest, table)
