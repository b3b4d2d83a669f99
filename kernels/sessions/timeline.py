"""Events of live sessions as rows of one table, in any order, sorted into the columns that `kernels.sessions.features` counts."""

import math

import numpy as np

from kernels.compile import formula, on_cpu
from kernels.types import F32, F64, I8, I64

# The columns of the table, float64: milliseconds since 1970, codes of type and page, pixels, milliseconds waited; NaN: unknown; and the
# target as `kernels.sessions.features` has it: a whole number that a float64 represents exactly.
MOMENT, KIND, PAGE, X, Y, WAIT, TARGET = range(7)
WIDTH = 7
IGNORED = -1  # a kind that is not counted


@formula
def sort(table: F64, order: I64, begin: int, end: int) -> None:
    """Sort `order[begin:end]`, rows of the table, by time, stably: a bottom-up merge sort.

    Numba's own sort takes seconds to compile. `order` has twice the length of the table; its second half is workspace.
    """
    size, work = 1, len(table) - begin
    while size < end - begin:
        for first in range(begin, end, 2 * size):
            left, middle = first, min(first + size, end)
            right, last = middle, min(first + 2 * size, end)
            for at in range(first, last):
                if right == last or (left < middle and table[order[left], MOMENT] <= table[order[right], MOMENT]):
                    order[work + at] = order[left]
                    left += 1
                else:
                    order[work + at] = order[right]
                    right += 1
        for at in range(begin, end):
            order[at] = order[work + at]
        size *= 2


@on_cpu
def columns(
    table: F64,
    offsets: I64,
    until_ms: F64,
    kept: I64,
    kind: I8,
    page: I8,
    time_ms: I64,
    x: F32,
    y: F32,
    target: I64,
    wait_ms: F32,
    latest_ms: F64,
) -> None:
    """Write the events that count, session by session, in order of time, equal times in the order given, and each session's last time.

    table: float64 [events, WIDTH]; session i owns its rows `offsets[i]:offsets[i + 1]` and is scored as of `until_ms[i]` (NaN: all of it):
    later events are left out, as are the IGNORED. Of the outputs, as long as the table, session i owns `kept[i]:kept[i + 1]`. latest_ms:
    float64 [sessions], NaN without events.
    """
    order = np.empty(2 * len(table), np.int64)
    end = 0
    for session in range(len(until_ms)):
        kept[session] = begin = end
        ordered, late = True, -math.inf
        for row in range(offsets[session], offsets[session + 1]):
            now = table[row, MOMENT]
            if table[row, KIND] != IGNORED and not now > until_ms[session]:
                order[end] = row
                ordered &= now >= late
                late = now
                end += 1
        if not ordered:
            sort(table, order, begin, end)
        latest_ms[session] = table[order[end - 1], MOMENT] if end > begin else math.nan
    kept[len(until_ms)] = end
    for one in range(end):
        row = order[one]
        kind[one] = np.int8(table[row, KIND])
        page[one] = np.int8(table[row, PAGE])
        time_ms[one] = np.int64(np.rint(table[row, MOMENT]))
        x[one] = np.float32(table[row, X])
        y[one] = np.float32(table[row, Y])
        target[one] = np.int64(table[row, TARGET])
        wait_ms[one] = np.float32(table[row, WAIT])
