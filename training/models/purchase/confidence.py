"""confidenceScore: how far the stated probability may be off, in a way that held-out sessions can prove wrong.

1 - confidenceScore is a distance d in probability. Of sessions like this one (the same blocks of features known, a similar probability)
two things hold, both learned on sessions that the trees did not see:

1. The share that buys is within d of the probability stated, with 90 % certainty.
2. In 9 of 10 of them the probability is within d of what a second model says, trained apart on what really happened, that knows
   everything recorded about the session.

So the score falls where little is known and much could be learned yet, where the model has seen few such sessions, and where two honest
models disagree; it nears 1 where more data would not change the answer. It does not say that the session buys or not: a certain 30 % is
still 30 %. `metrics.json` says how often both held on sessions kept out of all of this.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.types import F32, F64, Intp
from training.models.shared import missingness

EDGES = np.array([0.01, 0.02, 0.035, 0.06, 0.1, 0.16, 0.25, 0.4, 0.6, 0.8])  # of bands of probability
SHARE = 0.9
NORMAL_90 = 1.6449  # both sides together leave 10 %
FEWEST = 100  # sessions that a cell needs; smaller ones are taken together with their neighbours


@dataclass(frozen=True, slots=True)
class Confidence:
    """`table` float64 [levels, bands]: the confidence of a cell. `weights`: see missingness.weights."""

    table: F64
    weights: F32

    @classmethod
    def learn(cls, X: F32, stated: F64, y: F64, reference: F64) -> "Confidence":
        """Return the table learned from held-out rows.

        X float32 [n, features]: all that is recorded; stated float64 [levels, n]: the probability of each row when only the blocks of the
        level are known; y [n]: bought or not; reference [n]: the second model's probability, from all that is recorded.
        """
        weights = missingness.weights(X)
        full = missingness.level(X, weights)
        table = np.full((missingness.LEVELS, len(EDGES) + 1), np.nan)
        for level in range(missingness.LEVELS):
            rows = (full & level) == level  # those that know at least this much can be made to know exactly this
            if rows.sum() >= min(FEWEST, len(y)):
                table[level] = 1 - _distances(stated[level, rows], y[rows], reference[rows])
        return cls(_filled(table), weights)

    @classmethod
    def read(cls, content: dict[str, Any]) -> "Confidence":
        """Return what confidence.json says. Raises ValueError when its shape is not this code's."""
        table, weights = np.array(content["table"], np.float64), np.array(content["weights"], np.float32)
        if (
            content["edges"] != EDGES.tolist()
            or table.shape != (missingness.LEVELS, len(EDGES) + 1)
            or weights.shape[1] != len(missingness.BLOCKS)
        ):
            raise ValueError("the table of confidences has another shape")
        return cls(table, weights)

    def content(self) -> dict[str, Any]:
        """Return what confidence.json says."""
        blocks = {str(level): missingness.blocks_of(level) for level in range(missingness.LEVELS)}
        return {"edges": EDGES.tolist(), "levels": blocks, "table": self.table.tolist(), "weights": self.weights.tolist()}

    def of(self, X: F32, probability: F64) -> F64:
        """Return the confidence float64 [n] of rows X float32 [n, features] with these probabilities."""
        return self.at(missingness.level(X, self.weights), probability)

    def at(self, level: Intp | int, probability: F64) -> F64:
        """Return the confidence float64 [n] at a level of knowledge."""
        return np.asarray(self.table[level, np.searchsorted(EDGES, probability, side="right")])


def _distances(stated: F64, y: F64, reference: F64) -> F64:
    """Return the distance d of each band: the greater of what outcomes and the reference ask for."""
    band = np.searchsorted(EDGES, stated, side="right")
    out = np.empty(len(EDGES) + 1)
    for bands in _groups(np.bincount(band, minlength=len(out))):
        rows = np.isin(band, bands)
        out[bands] = max(_outcome_bound(stated[rows], y[rows]), float(np.quantile(np.abs(stated[rows] - reference[rows]), SHARE)))
    return np.minimum(out, 1.0)


def _outcome_bound(stated: F64, y: F64) -> float:
    """Return how far the share that buys may be from the mean probability: the farther end of its 90 % interval (Wilson 1927)."""
    n, z = len(y), NORMAL_90
    rate = y.mean()
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return float(abs(stated.mean() - centre) + half)


def _groups(sizes: Intp) -> list[list[int]]:
    """Return neighbouring bands, taken together until each group has FEWEST rows; the last joins the one before if it is smaller."""
    groups, open_, rows = list[list[int]](), list[int](), 0
    for band, size in enumerate(sizes):
        open_.append(band)
        rows += int(size)
        if rows >= FEWEST:
            groups.append(open_)
            open_, rows = [], 0
    if open_:
        groups.append(groups.pop() + open_ if groups else open_)
    return groups


def _filled(table: F64) -> F64:
    """Return the table with levels that no row reaches given the least confidence of each band: what is not known is not claimed."""
    least = np.nanmin(table, axis=0)
    return np.where(np.isnan(table), least, table)
