"""Which rules of a small table fire in each row."""

import numpy as np
from numpy.typing import NDArray

from kernels.compile import on_cpu


@on_cpu
def fired(
    X: NDArray[np.float32],
    probability: NDArray[np.float64],
    facts: NDArray[np.int64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    starts: NDArray[np.int64],
    out: NDArray[np.bool_],
) -> None:
    """Write whether each rule fires in each row: all of its conditions hold, low <= fact < high; what is NaN holds nothing.

    X: float32 [rows, features]; probability: float64 [rows], the fact after the last feature; facts, low, high: [conditions]; rule r's are
    `starts[r]:starts[r + 1]`; out: bool [rows, rules].
    """
    features = X.shape[1]
    for row in range(X.shape[0]):
        for rule in range(starts.size - 1):
            holds = True
            for condition in range(starts[rule], starts[rule + 1]):
                fact = facts[condition]
                value = probability[row] if fact == features else float(X[row, fact])
                holds &= low[condition] <= value < high[condition]
            out[row, rule] = holds
