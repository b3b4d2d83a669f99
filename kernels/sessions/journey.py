"""A session as a journey: features for trees after each of its events.

The columns are the inputs of the network (`kernels.networks.gru`): the page of each event and the seconds since the session began.
"""

import math

from kernels.compile import formula, on_cpu, on_cuda
from kernels.types import F32, I64

LAST_PAGES, LAST_GAPS, SUMMARY = 4, 3, 8
QUICK_S, SLOW_S = 2.0, 60.0  # shorter gaps are quick, longer ones slow


def columns(pages: int, attributes: int) -> int:
    """Return the number of features of a session; pages: with the unknown one."""
    return 4 * pages + LAST_PAGES + LAST_GAPS + SUMMARY + attributes + 1 + pages * pages


@formula
def counted(begin: int, end: int, page: I64, seconds: F32, pages: int, out: F32) -> None:
    """Write the numbers of each page: events, share of events, seconds, events since the last; and the transitions between pages."""
    between = len(out) - pages * pages
    for place in range(begin, end):
        here = page[place]
        out[here] += 1
        out[3 * pages + here] = end - place
        if place > begin:
            before = page[place - 1]
            out[2 * pages + before] += seconds[place] - seconds[place - 1]
            out[between + before * pages + here] += 1
    for one in range(pages):
        out[pages + one] = out[one] / (end - begin)


@formula
def summary(begin: int, end: int, page: I64, seconds: F32, pages: int, out: F32) -> None:
    """Write the latest pages and gaps, and summaries of the session."""
    at = 4 * pages
    for back in range(LAST_PAGES):
        out[at + back] = page[end - 1 - back] if end - 1 - back >= begin else -1
    at += LAST_PAGES
    for back in range(LAST_GAPS):
        out[at + back] = seconds[end - 1 - back] - seconds[end - 2 - back] if end - 2 - back >= begin else math.nan
    at += LAST_GAPS
    longest, quick, slow, different = math.nan, 0, 0, 0
    for place in range(begin + 1, end):
        gap = seconds[place] - seconds[place - 1]
        longest = gap if not gap <= longest else longest
        quick += int(gap < QUICK_S)
        slow += int(gap > SLOW_S)
    for one in range(pages):
        different += int(out[one] > 0)
    elapsed = seconds[end - 1] - seconds[begin]
    mean = elapsed / (end - begin - 1) if end - begin > 1 else math.nan
    out[at], out[at + 1], out[at + 2], out[at + 3] = end - begin, elapsed, mean, longest
    out[at + 4], out[at + 5], out[at + 6], out[at + 7] = quick, slow, different, page[begin]


@formula
def features_of(row: int, begins: I64, ends: I64, page: I64, seconds: F32, ended: F32, attributes: F32, pages: int, out: F32) -> None:
    """Write the features of row `row`; the arrays are those of `journey_features`."""
    begin, end, mine = begins[row], ends[row], out[row]
    for one in range(len(mine)):
        mine[one] = 0.0
    for one in range(3 * pages, 4 * pages):
        mine[one] = math.nan
    if end > begin:
        counted(begin, end, page, seconds, pages, mine)
        summary(begin, end, page, seconds, pages, mine)
    at = 4 * pages + LAST_PAGES + LAST_GAPS + SUMMARY
    for one in range(attributes.shape[1]):
        mine[at + one] = attributes[row, one]
    mine[at + attributes.shape[1]] = ended[row]


@on_cpu
def journey_features(begins: I64, ends: I64, page: I64, seconds: F32, ended: F32, attributes: F32, pages: int, out: F32) -> None:
    """Write the features of sessions after some of their events: float32 [rows, columns(pages, attributes)].

    begins, ends: int64 [rows]; the events of row i are begins[i]:ends[i], and rows may share events. page: int64 [events], below `pages`, 0
    unknown; seconds: float32 [events], since the session began, ascending. ended: float32 [rows], 1 where the session is known to have
    ended. attributes: float32 [rows, attributes], NaN missing.
    """
    for row in range(len(begins)):
        features_of(row, begins, ends, page, seconds, ended, attributes, pages, out)


_features = on_cuda(features_of)


def journey_features_cuda(begins: I64, ends: I64, page: I64, seconds: F32, ended: F32, attributes: F32, pages: int, out: F32) -> None:
    """Write what `journey_features` does, on CUDA: the same bits. Host or device arrays (see `on_cuda`)."""
    _features(len(begins), begins, ends, page, seconds, ended, attributes, pages, out)
