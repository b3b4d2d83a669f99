"""A session as a journey: what is known of it after each of its events, as features for trees and as the state of a recurrent network.

Both read the same columns: the page of each event and the seconds since the session began. `journey_features` counts; `journey_margins`
runs a gated recurrent unit (Cho et al. 2014) event by event and its heads at the end, and `journey_advance` takes one more event into a
state of fixed size. One row's numbers do not depend on the rows beside it: sums are taken in one order, and no product is left to a
library.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compile import formula, on_cpu

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Single = np.float32

LAST_PAGES, LAST_GAPS, SUMMARY = 4, 3, 8
QUICK_S, SLOW_S = 2.0, 60.0  # a gap below is a click through, one above a rest
TIMES = 6  # what the network knows of an event's time


class Network(NamedTuple):
    """Weights, float32, of a network with `width` units. Matrices are [in, out].

    pages: [pages, width], what each page adds to the input; times: [TIMES, width]; given: [attributes, width]; bias: [width]. input,
    recurrent: [width, 3 width], for reset, update and candidate; input_bias, recurrent_bias: [3 width]. hidden: [width + attributes,
    width], hidden_bias: [width]; out: [width, outputs], out_bias: [outputs].
    """

    pages: Floats
    times: Floats
    given: Floats
    bias: Floats
    input: Floats
    recurrent: Floats
    input_bias: Floats
    recurrent_bias: Floats
    hidden: Floats
    hidden_bias: Floats
    out: Floats
    out_bias: Floats


def columns(pages: int, attributes: int) -> int:
    """Return how many features there are of a session, with so many pages (the unknown among them) and attributes."""
    return 4 * pages + LAST_PAGES + LAST_GAPS + SUMMARY + attributes + 1 + pages * pages


@formula
def counted(begin: int, end: int, page: Ints, seconds: Floats, pages: int, out: Floats) -> None:
    """Write what is counted for each page, the share of events, the seconds spent there and how many events ago, and between pages."""
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
def summary(begin: int, end: int, page: Ints, seconds: Floats, pages: int, out: Floats) -> None:
    """Write the latest pages and gaps, and what they come to over the session."""
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
def features_of(
    row: int, begins: Ints, ends: Ints, page: Ints, seconds: Floats, ended: Floats, attributes: Floats, pages: int, out: NDArray[np.float32]
) -> None:
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
def journey_features(
    begins: Ints, ends: Ints, page: Ints, seconds: Floats, ended: Floats, attributes: Floats, pages: int, out: NDArray[np.float32]
) -> None:
    """Write the features of sessions as they are after some of their events: float32 [rows, columns(pages, attributes)].

    begins, ends: int64 [rows]; the events of row i are begins[i]:ends[i], and rows may share events. page: int64 [events], below `pages`, 0
    unknown; seconds: float32 [events], since the session began, never falling. ended: float32 [rows], 1 where the session is known to have
    ended. attributes: float32 [rows, attributes], NaN missing.
    """
    for row in range(len(begins)):
        features_of(row, begins, ends, page, seconds, ended, attributes, pages, out)


@formula
def tanh(x: Single) -> Single:
    """Return the hyperbolic tangent within 3e-7: the ratio of polynomials that Eigen has, which a compiler takes lanes at a time."""
    x = min(max(x, Single(-7.9053111)), Single(7.9053111))
    y = x * x
    above = Single(-2.76076847742355e-16) * y + Single(2.00018790482477e-13)
    above = above * y + Single(-8.60467152213735e-11)
    above = above * y + Single(5.12229709037114e-08)
    above = above * y + Single(1.48572235717979e-05)
    above = above * y + Single(6.37261928875436e-04)
    above = (above * y + Single(4.89352455891786e-03)) * x
    below = Single(1.19825839466702e-06) * y + Single(1.18534705686654e-04)
    below = below * y + Single(2.26843463243900e-03)
    return above / (below * y + Single(4.89352518554385e-03))


@formula
def sigmoid(x: Single) -> Single:
    """Return 1 / (1 + exp(-x))."""
    return Single(0.5) + Single(0.5) * tanh(Single(0.5) * x)


@formula
def gelu(x: Single) -> Single:
    """Return x times about the share of a normal distribution below it (Hendrycks & Gimpel 2016, with tanh)."""
    return Single(0.5) * x * (Single(1.0) + tanh(Single(0.7978845608) * (x + Single(0.044715) * x * x * x)))


@formula
def add_product(x: Floats, size: int, matrix: Floats, out: Floats) -> None:
    """Add x[:size] @ matrix[:size] to out: eight inputs at once, in their order, for which a sum is loaded and stored once."""
    eights = size // 8 * 8
    for one in range(0, eights, 8):
        a, b, c, d, e, f, g, h = x[one], x[one + 1], x[one + 2], x[one + 3], x[one + 4], x[one + 5], x[one + 6], x[one + 7]
        for place in range(len(out)):
            total = out[place] + a * matrix[one, place] + b * matrix[one + 1, place] + c * matrix[one + 2, place]
            total = total + d * matrix[one + 3, place] + e * matrix[one + 4, place] + f * matrix[one + 5, place]
            out[place] = total + g * matrix[one + 6, place] + h * matrix[one + 7, place]
    for one in range(eights, size):
        for place in range(len(out)):
            out[place] += x[one] * matrix[one, place]


@formula
def clock(gap: Single, elapsed: Single, index: int) -> tuple[Single, Single, Single, Single, Single, Single]:
    """Return what the network knows of an event's time."""
    return (
        Single(math.log1p(gap) / 4),
        Single(1.0 if gap > 0 else 0.0),
        Single(1.0 if gap > 30 else 0.0),
        Single(1.0 if gap > 120 else 0.0),
        Single(math.log1p(elapsed) / 6),
        Single(math.log1p(index) / 3),
    )


@formula
def renewed(reset: Single, update: Single, candidate: Single, kept: Single, before: Single) -> Single:
    """Return a unit's new state; reset and update before their sigmoids, candidate and kept of the input and of the state before."""
    new = tanh(candidate + sigmoid(reset) * kept)
    share = sigmoid(update)
    return (Single(1.0) - share) * new + share * before


@formula
def enter(
    page: int,
    gap: Single,
    elapsed: Single,
    index: int,
    attributes: Floats,
    net: Network,
    times: Floats,
    x: Floats,
    gates: Floats,
    state: Floats,
) -> None:
    """Take one event into the state [width]; times [TIMES], x [width] and gates [2, 3 width] are room to compute in."""
    width = len(state)
    times[0], times[1], times[2], times[3], times[4], times[5] = clock(gap, elapsed, index)
    for place in range(width):
        x[place] = net.bias[place] + net.pages[page, place]
    add_product(times, TIMES, net.times, x)
    add_product(attributes, len(attributes), net.given, x)
    for place in range(width):
        x[place] = gelu(x[place])
    for place in range(3 * width):
        gates[0, place], gates[1, place] = net.input_bias[place], net.recurrent_bias[place]
    add_product(x, width, net.input, gates[0])
    add_product(state, width, net.recurrent, gates[1])
    for place in range(width):
        reset, update = gates[0, place] + gates[1, place], gates[0, width + place] + gates[1, width + place]
        state[place] = renewed(reset, update, gates[0, 2 * width + place], gates[1, 2 * width + place], state[place])


@formula
def heads(state: Floats, attributes: Floats, net: Network, x: Floats, out: Floats) -> None:
    """Write the outputs of a state; x [width] is room to compute in."""
    width = len(state)
    for place in range(width):
        x[place] = net.hidden_bias[place]
    add_product(state, width, net.hidden, x)
    add_product(attributes, len(attributes), net.hidden[width:], x)
    for place in range(width):
        x[place] = gelu(x[place])
    for place in range(len(out)):
        out[place] = net.out_bias[place]
    add_product(x, width, net.out, out)


@on_cpu
def journey_margins(begins: Ints, ends: Ints, page: Ints, seconds: Floats, attributes: Floats, net: Network, out: Floats) -> None:
    """Write the network's outputs of sessions after some of their events: float32 [rows, outputs].

    The arrays are those of `journey_features`; attributes: standardised, 0 where missing.
    """
    width = len(net.bias)
    state, x, times = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(TIMES, np.float32)
    gates = np.empty((2, 3 * width), np.float32)
    for row in range(len(begins)):
        state[:] = 0.0
        begin = begins[row]
        for place in range(begin, ends[row]):
            gap = seconds[place] - seconds[place - 1] if place > begin else Single(0.0)
            enter(page[place], gap, seconds[place] - seconds[begin], place - begin, attributes[row], net, times, x, gates, state)
        heads(state, attributes[row], net, x, out[row])


@on_cpu
def journey_advance(
    page: int, gap: float, elapsed: float, index: int, attributes: Floats, net: Network, state: Floats, out: Floats
) -> None:
    """Take one event into the state of its session, float32 [width], zero at its beginning, and write the outputs [outputs] after it.

    gap: seconds since the event before, 0 for the first; elapsed: since the first; index: how many events came before. The same numbers, to
    the bit, as `journey_margins` has of the whole session.
    """
    width = len(net.bias)
    x, times, gates = np.empty(width, np.float32), np.empty(TIMES, np.float32), np.empty((2, 3 * width), np.float32)
    enter(page, Single(gap), Single(elapsed), index, attributes, net, times, x, gates, state)
    heads(state, attributes, net, x, out)
