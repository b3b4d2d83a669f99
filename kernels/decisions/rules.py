"""Rules of a small table, and the rows in which they fire."""

from kernels.compile import on_cpu
from kernels.types import F32, F64, I64, Bool


@on_cpu
def fired(
    X: F32,
    probability: F64,
    facts: I64,
    low: F64,
    high: F64,
    starts: I64,
    out: Bool,
) -> None:
    """Write whether each rule fires in each row: all of its conditions hold, low <= fact < high; NaN fails every condition.

    X: float32 [rows, features]; probability: float64 [rows], the fact after the last feature; facts int64, low and high float64, all
    [conditions]; starts: int64 [rules + 1], rule r has the conditions `starts[r]:starts[r + 1]`; out: bool [rows, rules].
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
