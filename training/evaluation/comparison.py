"""Compare two models on the same rows: the difference of each figure, with an interval by the bootstrap over groups of rows."""

from typing import NamedTuple

import numpy as np

from kernels.types import F64, I64, Intp
from training.evaluation.judged import BETTER, Judged

RESAMPLES = 200
MAX_DRAWN = 50_000  # groups in a resample: of more, an interval is scaled to all of them
LEVEL = 0.95


class Difference(NamedTuple):
    """One figure of two models: `other` - `one` with an interval of LEVEL, None where a figure is undefined."""

    name: str
    one: float | None
    other: float | None
    difference: float | None
    low: float | None
    high: float | None

    @property
    def verdict(self) -> str:
        """Return better or worse, of the other model, where the interval is on one side of 0 and one side is better; else ""."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high or self.name not in BETTER:
            return ""
        return "better" if (self.low > 0) == (BETTER[self.name] > 0) else "worse"


class Comparison(NamedTuple):
    """Two models on the same rows. decisive: the figures by which the other one is called better or worse."""

    differences: tuple[Difference, ...]
    rows: int
    groups: int
    decisive: tuple[str, ...]

    def by(self, verdict: str) -> list[str]:
        """Return the decisive figures by which the other model is `verdict`, better or worse."""
        return [one.name for one in self.differences if one.name in self.decisive and one.verdict == verdict]


def compare(one: Judged, other: Judged, seed: int) -> Comparison:
    """Return the comparison of two models' predictions of the same rows, which must have the same outcomes.

    The same groups of rows are drawn for both, with replacement, so that an interval is that of the difference and not of two figures.
    """
    if one.outcome.shape != other.outcome.shape or not np.array_equal(one.outcome, other.outcome):
        raise ValueError("the two models are judged on different rows: this is a bug")
    first, second = one.measured(), other.measured()
    drawn = _resampled(one, other, seed)
    differences = []
    for name in first:
        a, b = first[name], second[name]
        if a is None or b is None:
            differences.append(Difference(name, a, b, None, None, None))
            continue
        known = drawn[name][np.isfinite(drawn[name])]
        spread = np.quantile(known - known.mean(), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(known) > 1 else np.full(2, np.nan)
        low, high = (float(b - a + end) if np.isfinite(end) else None for end in spread)
        differences.append(Difference(name, a, b, b - a, low, high))
    return Comparison(tuple(differences), one.rows, len(np.unique(one.group)), one.decisive)


def _resampled(one: Judged, other: Judged, seed: int) -> dict[str, F64]:
    """Return of each figure the differences in RESAMPLES bootstrap samples, as far from their mean as in samples of all groups."""
    order = np.argsort(one.group, kind="stable").astype(np.intp)
    _, starts, sizes = np.unique(one.group[order], return_index=True, return_counts=True)
    number = len(starts)
    draws = min(number, MAX_DRAWN)
    random = np.random.default_rng(seed)
    found: dict[str, list[float]] = {name: [] for name in one.measured()}
    for _ in range(RESAMPLES):
        rows = _rows(order, starts.astype(np.int64), sizes.astype(np.int64), random.integers(0, number, draws))
        a = one.figures(one.outcome[rows], one.prediction[rows])
        b = other.figures(other.outcome[rows], other.prediction[rows])
        for name, differences in found.items():
            left, right = a[name], b[name]
            differences.append(np.nan if left is None or right is None else right - left)
    scale = np.sqrt(draws / number)
    return {name: _scaled(np.array(differences), scale) for name, differences in found.items()}


def _scaled(differences: F64, scale: float) -> F64:
    known = differences[np.isfinite(differences)]
    return differences if not len(known) else known.mean() + (differences - known.mean()) * scale


def _rows(order: Intp, starts: I64, sizes: I64, drawn: I64) -> Intp:
    """Return the rows of the drawn groups, intp; order: the rows by group, a group's are `sizes` from `starts` on."""
    lengths = sizes[drawn]
    begins = np.cumsum(lengths) - lengths
    return np.asarray(order[np.arange(int(lengths.sum())) + np.repeat(starts[drawn] - begins, lengths)])
