"""The cost of a batch: seconds as a + b * rows, learned from the batches themselves."""

import math

SMOOTHING = 0.2  # weight of the newest batch in the mean of its size
MAX_RATIO = 4.0  # a batch counts as at most so many times the mean of its size: one stall must not cause refusals
REFIT = 8  # batches between two fits
SIZE_CLASSES = 16  # means are kept by powers of two of the size


class Cost:
    """A line through the mean times of each size of batch, by least squares of relative errors.

    Each size keeps its own mean, so that hours of single rows do not change the cost of a batch of 64.
    """

    def __init__(self) -> None:
        self.fixed_s = 0.0
        self.row_s = 0.0
        self._means: list[tuple[float, float] | None] = [None] * SIZE_CLASSES  # (rows, seconds) of a size
        self._batches = 0

    @property
    def known(self) -> bool:
        """Whether a batch has been learned."""
        return self._batches > 0

    def of(self, rows: int) -> float:
        """Return the seconds that a batch of `rows` takes, 0 before the first is learned."""
        return self.fixed_s + self.row_s * rows

    def drain(self, rows: int, max_rows: int) -> float:
        """Return the seconds that `rows` take in batches of at most `max_rows`."""
        return self.fixed_s * -(-rows // max_rows) + self.row_s * rows

    def fitting(self, seconds: float) -> int:
        """Return how many rows a batch may have to take at most `seconds`; 0 when one row takes longer."""
        if self.of(1) <= 0:
            return 2**31
        return max(0, int((seconds - self.fixed_s) / self.row_s)) if self.row_s > 0 else (2**31 if self.fixed_s <= seconds else 0)

    def learn(self, rows: int, seconds: float) -> None:
        """Learn that a batch of `rows` took `seconds`."""
        size = min(rows.bit_length(), SIZE_CLASSES) - 1
        mean = self._means[size]
        if mean is None:
            self._means[size] = (float(rows), seconds)
        else:
            seconds = min(seconds, MAX_RATIO * mean[1] * rows / mean[0])
            self._means[size] = (mean[0] + SMOOTHING * (rows - mean[0]), mean[1] + SMOOTHING * (seconds - mean[1]))
        if mean is None or self._batches % REFIT == 0:
            self._fit()
        self._batches += 1

    def _fit(self) -> None:
        """Fit the line by least squares of relative errors: each size weighs 1 / seconds squared; neither part is negative."""
        points = [mean for mean in self._means if mean is not None]
        weights = [1 / max(s, 1e-9) ** 2 for _, s in points]
        total = math.fsum(weights)
        rows = math.fsum(w * n for w, (n, _) in zip(weights, points, strict=True)) / total
        seconds = math.fsum(w * s for w, (_, s) in zip(weights, points, strict=True)) / total
        spread = math.fsum(w * (n - rows) ** 2 for w, (n, _) in zip(weights, points, strict=True))
        if spread > 0:
            slope = math.fsum(w * (n - rows) * (s - seconds) for w, (n, s) in zip(weights, points, strict=True)) / spread
        else:
            slope = seconds / rows
        self.row_s = min(max(slope, 0.0), seconds / rows)
        self.fixed_s = seconds - self.row_s * rows
