"""A session as the state of a recurrent network, event by event: a gated recurrent unit (Cho et al. 2014), and heads over its state.

`journey_margins` runs whole sessions; `journey_advance` takes one more event into a state of fixed size. One row's numbers do not depend on
the rows beside it: sums are taken in one order, and no product is left to a library. Where a product goes into a sum it is fused (`fma`),
and said so: a compiler for GPUs would fuse what it finds, one for CPUs nothing, and so both have the same bits.
"""

import math
from typing import NamedTuple

import numpy as np

from kernels.compile import formula, on_cpu, on_cuda
from kernels.simd import WIDE, Lanes, fma, load, splat, store
from kernels.types import F32, I64

Single = np.float32

BATCH, MIN_BATCH = 64, 5  # sessions that are walked together, and below how many one after the other is faster
TIMES = 6  # what the network knows of an event's time
GPU_BATCH = 65_536  # sessions at once on a GPU


class Network(NamedTuple):
    """Weights, float32, of a network with `width` units. Matrices are [in, out].

    pages: [pages, width], what each page adds to the input; times: [TIMES, width]; given: [attributes, width]; bias: [width]. input,
    recurrent: [width, 3 width], for reset, update and candidate; input_bias, recurrent_bias: [3 width]. hidden: [width + attributes,
    width], hidden_bias: [width]; out: [width, outputs], out_bias: [outputs].
    """

    pages: F32
    times: F32
    given: F32
    bias: F32
    input: F32
    recurrent: F32
    input_bias: F32
    recurrent_bias: F32
    hidden: F32
    hidden_bias: F32
    out: F32
    out_bias: F32


class Workspace(NamedTuple):
    """Where one session is computed: state, x [width], times [TIMES], gates [2, 3 width]. Of several: [.., sessions] each."""

    state: F32
    x: F32
    times: F32
    gates: F32


@formula
def tanh(x: Single) -> Single:
    """Return the hyperbolic tangent within 3e-7: the ratio of polynomials that Eigen has, which a compiler takes lanes at a time."""
    x = min(max(x, Single(-7.9053111)), Single(7.9053111))
    y = x * x
    above = fma(Single(-2.76076847742355e-16), y, Single(2.00018790482477e-13))
    above = fma(above, y, Single(-8.60467152213735e-11))
    above = fma(above, y, Single(5.12229709037114e-08))
    above = fma(above, y, Single(1.48572235717979e-05))
    above = fma(above, y, Single(6.37261928875436e-04))
    above = fma(above, y, Single(4.89352455891786e-03)) * x
    below = fma(Single(1.19825839466702e-06), y, Single(1.18534705686654e-04))
    below = fma(below, y, Single(2.26843463243900e-03))
    return above / fma(below, y, Single(4.89352518554385e-03))


@formula
def sigmoid(x: Single) -> Single:
    """Return 1 / (1 + exp(-x))."""
    return fma(Single(0.5), tanh(Single(0.5) * x), Single(0.5))


@formula
def gelu(x: Single) -> Single:
    """Return x times about the share of a normal distribution below it (Hendrycks & Gimpel 2016, with tanh)."""
    half = Single(0.5) * x
    return fma(half, tanh(Single(0.7978845608) * fma(Single(0.044715) * x * x, x, x)), half)


@formula
def add_product(x: F32, size: int, matrix: F32, out: F32) -> None:
    """Add x[:size] @ matrix[:size] to out: eight inputs at once, in their order, for which a sum is loaded and stored once."""
    eights = size // 8 * 8
    for one in range(0, eights, 8):
        a, b, c, d, e, f, g, h = x[one], x[one + 1], x[one + 2], x[one + 3], x[one + 4], x[one + 5], x[one + 6], x[one + 7]
        for place in range(len(out)):
            total = fma(b, matrix[one + 1, place], fma(a, matrix[one, place], out[place]))
            total = fma(d, matrix[one + 3, place], fma(c, matrix[one + 2, place], total))
            total = fma(f, matrix[one + 5, place], fma(e, matrix[one + 4, place], total))
            out[place] = fma(h, matrix[one + 7, place], fma(g, matrix[one + 6, place], total))
    for one in range(eights, size):
        for place in range(len(out)):
            out[place] = fma(x[one], matrix[one, place], out[place])


@formula
def clock(gap: Single, elapsed: Single, index: int) -> tuple[Single, Single, Single, Single, Single, Single]:
    """Return what the network knows of an event's time. Logarithms have more places than are kept: libraries differ in the last."""
    return (
        Single(math.log1p(np.float64(gap)) / 4),
        Single(1.0 if gap > 0 else 0.0),
        Single(1.0 if gap > 30 else 0.0),
        Single(1.0 if gap > 120 else 0.0),
        Single(math.log1p(np.float64(elapsed)) / 6),
        Single(math.log1p(np.float64(index)) / 3),
    )


@formula
def renewed(reset: Single, update: Single, candidate: Single, kept: Single, before: Single) -> Single:
    """Return a unit's new state; reset and update before their sigmoids, candidate and kept of the input and of the state before."""
    new = tanh(fma(sigmoid(reset), kept, candidate))
    return fma(sigmoid(update), before - new, new)


@formula
def enter(
    page: int,
    gap: Single,
    elapsed: Single,
    index: int,
    attributes: F32,
    net: Network,
    times: F32,
    x: F32,
    gates: F32,
    state: F32,
) -> None:
    """Take one event into the state [width]; times [TIMES], x [width] and gates [2, 3 width] are workspace to compute in."""
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
def heads(state: F32, attributes: F32, net: Network, x: F32, out: F32) -> None:
    """Write the outputs of a state; x [width] is workspace to compute in."""
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


@formula
def add_wide(x: F32, size: int, matrix: F32, place: int, at: int, stride: int, total: Lanes) -> Lanes:
    """Return `total` with what `add_product` adds to out[place], for WIDE sessions side by side, from `at` on in x: [size * stride]."""
    for one in range(size):
        total = fma(load(x, one * stride + at), matrix[one, place], total)
    return total


@formula
def input_wide(page: I64, attributes: F32, net: Network, times: F32, x: F32) -> None:
    """Write what goes into the gates for many sessions at once: x [width * sessions]; page: [sessions]; the others as for `enter_wide`."""
    stride, width = len(page), len(net.bias)
    for place in range(width):
        for one in range(stride):
            x[place * stride + one] = net.bias[place] + net.pages[page[one], place]
    for place in range(width):
        for at in range(0, stride, WIDE):
            total = add_wide(times, TIMES, net.times, place, at, stride, load(x, place * stride + at))
            store(x, place * stride + at, add_wide(attributes, len(net.given), net.given, place, at, stride, total))
    for one in range(width * stride):
        x[one] = gelu(x[one])


@formula
def enter_wide(x: F32, net: Network, inputs: F32, recurrents: F32, gates: F32, stride: int, state: F32) -> None:
    """Do what `enter` does for many sessions at once, their numbers side by side. The same bits.

    x, state: [width * stride]; gates: [4, width * stride], workspace; inputs, recurrents: the network's, transposed. Six sums stay in
    registers, and a weight is read once for WIDE sessions: the matrices are larger than the nearest cache.
    """
    width = len(net.bias)
    first, second, third, last = gates[0], gates[1], gates[2], gates[3]
    for at in range(0, stride, WIDE):
        for place in range(width):
            row, row_after, row_last = inputs[place], inputs[width + place], inputs[2 * width + place]
            kept_row, kept_after, kept_last = recurrents[place], recurrents[width + place], recurrents[2 * width + place]
            reset, reset_kept = splat(net.input_bias[place]), splat(net.recurrent_bias[place])
            update, update_kept = splat(net.input_bias[width + place]), splat(net.recurrent_bias[width + place])
            candidate, kept = splat(net.input_bias[2 * width + place]), splat(net.recurrent_bias[2 * width + place])
            for one in range(width):
                given, before = load(x, one * stride + at), load(state, one * stride + at)
                reset = fma(given, row[one], reset)
                update = fma(given, row_after[one], update)
                candidate = fma(given, row_last[one], candidate)
                reset_kept = fma(before, kept_row[one], reset_kept)
                update_kept = fma(before, kept_after[one], update_kept)
                kept = fma(before, kept_last[one], kept)
            here = place * stride + at
            store(first, here, reset + reset_kept)
            store(second, here, update + update_kept)
            store(third, here, candidate)
            store(last, here, kept)
    for one in range(width * stride):
        state[one] = renewed(first[one], second[one], third[one], last[one], state[one])


@formula
def walk(row: int, begins: I64, ends: I64, page: I64, seconds: F32, attributes: F32, net: Network, workspace: Workspace, out: F32) -> None:
    """Write the outputs of one session; the arrays are those of `journey_margins`."""
    begin = begins[row]
    for place in range(len(workspace.state)):
        workspace.state[place] = 0.0
    for place in range(begin, ends[row]):
        gap = seconds[place] - seconds[place - 1] if place > begin else Single(0.0)
        elapsed = seconds[place] - seconds[begin]
        enter(
            page[place], gap, elapsed, place - begin, attributes[row], net, workspace.times, workspace.x, workspace.gates, workspace.state
        )
    heads(workspace.state, attributes[row], net, workspace.x, out[row])


@formula
def walk_lane(
    lane: int,
    order: I64,
    begins: I64,
    ends: I64,
    page: I64,
    seconds: F32,
    attributes: F32,
    net: Network,
    workspaces: Workspace,
    out: F32,
) -> None:
    """Write the outputs of every session that falls to a lane; workspaces: of all lanes, whose numbers are side by side."""
    workspace = Workspace(workspaces.state[:, lane], workspaces.x[:, lane], workspaces.times[:, lane], workspaces.gates[:, :, lane])
    for place in range(lane, len(order), workspaces.state.shape[1]):
        walk(order[place], begins, ends, page, seconds, attributes, net, workspace, out)


@on_cpu
def _walk_together(
    rows: I64, begins: I64, ends: I64, page: I64, seconds: F32, attributes: F32, net: Network, workspace: Workspace, out: F32
) -> None:
    """Write the outputs of several sessions: each event of all of them at once, until the longest has ended."""
    width, given = len(net.bias), attributes.shape[1]
    stride = (len(rows) + WIDE - 1) // WIDE * WIDE
    state, x = np.zeros(width * stride, np.float32), np.empty(width * stride, np.float32)
    gates, inputs, recurrents = np.empty((4, width * stride), np.float32), net.input.T.copy(), net.recurrent.T.copy()
    times, known, here = np.zeros(TIMES * stride, np.float32), np.zeros(given * stride, np.float32), np.zeros(stride, np.int64)
    longest = 0
    for lane in range(len(rows)):
        longest = max(longest, ends[rows[lane]] - begins[rows[lane]])
        for one in range(given):
            known[one * stride + lane] = attributes[rows[lane], one]
    for index in range(longest + 1):
        for lane in range(len(rows)):
            begin, end = begins[rows[lane]], ends[rows[lane]]
            place = begin + index
            if place == end:  # it has no further event
                for one in range(width):
                    workspace.state[one] = state[one * stride + lane]
                heads(workspace.state, attributes[rows[lane]], net, workspace.x, out[rows[lane]])
            elif place < end:
                here[lane] = page[place]
                gap = seconds[place] - seconds[place - 1] if index > 0 else Single(0.0)
                told = clock(gap, seconds[place] - seconds[begin], index)
                for one in range(TIMES):
                    times[one * stride + lane] = told[one]
        if index < longest:
            input_wide(here, known, net, times, x)
            enter_wide(x, net, inputs, recurrents, gates, stride, state)


@on_cpu
def journey_margins(begins: I64, ends: I64, page: I64, seconds: F32, attributes: F32, net: Network, order: I64, out: F32) -> None:
    """Write the network's outputs of sessions after some of their events: float32 [rows, outputs].

    The arrays are those of `journey_features`; attributes: standardised, 0 where missing. order: int64 [rows], the rows by how many events
    they have: those that are walked together should end together.
    """
    width = len(net.bias)
    workspace = Workspace(
        np.empty(width, np.float32), np.empty(width, np.float32), np.empty(TIMES, np.float32), np.empty((2, 3 * width), np.float32)
    )
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        if len(rows) >= MIN_BATCH:
            _walk_together(rows, begins, ends, page, seconds, attributes, net, workspace, out)
        else:
            for row in rows:
                walk(row, begins, ends, page, seconds, attributes, net, workspace, out)


_walk_lanes = on_cuda(walk_lane)


def journey_margins_cuda(begins: I64, ends: I64, page: I64, seconds: F32, attributes: F32, net: Network, order: I64, out: F32) -> None:
    """Write what `journey_margins` does, on CUDA: the same bits. Host or device arrays, the weights' too (see `on_cuda`)."""
    from kernels import cuda

    width, lanes = len(net.bias), min(len(order), GPU_BATCH)
    workspaces = Workspace(*(cuda.empty((*shape, lanes)) for shape in ((width,), (width,), (TIMES,), (2, 3 * width))))
    _walk_lanes(lanes, order, begins, ends, page, seconds, attributes, net, workspaces, out)


@on_cpu
def journey_advance(page: int, gap: float, elapsed: float, index: int, attributes: F32, net: Network, state: F32, out: F32) -> None:
    """Take one event into the state of its session, float32 [width], zero at its beginning, and write the outputs [outputs] after it.

    gap: seconds since the event before, 0 for the first; elapsed: since the first; index: how many events came before. The same numbers, to
    the bit, as `journey_margins` has of the whole session.
    """
    width = len(net.bias)
    x, times, gates = np.empty(width, np.float32), np.empty(TIMES, np.float32), np.empty((2, 3 * width), np.float32)
    enter(page, Single(gap), Single(elapsed), index, attributes, net, times, x, gates, state)
    heads(state, attributes, net, x, out)


@on_cpu
def journey_said(attributes: F32, net: Network, state: F32, out: F32) -> None:
    """Write the outputs [outputs] of a state as `journey_advance` has left it."""
    heads(state, attributes, net, np.empty(len(state), np.float32), out)
