"""A gated recurrent unit over the events of a session (Cho et al. 2014), and output layers over its state.

`journey_margins` computes whole sessions; `journey_advance` adds one more event to a state of fixed size. A row's result does not depend on
the rows beside it: sums are taken in one order, and no product is left to a library. A product that is added to a sum is fused (`fma`)
explicitly: a compiler for GPUs would fuse some products by itself and one for CPUs none, and this way both have the same bits.
"""

import math
from typing import NamedTuple

import numpy as np

from kernels.compile import formula, on_cpu, on_cuda
from kernels.simd import WIDE, Lanes, fma, load, splat, store
from kernels.types import F32, I64

Single = np.float32

BATCH, MIN_BATCH = 64, 5  # sessions computed together, and the number below which one after the other is faster
TIMES = 6  # features of an event's time
GPU_BATCH = 65_536  # sessions at once on a GPU


class Network(NamedTuple):
    """Weights, float32, of a network with `width` units. Matrices are [in, out].

    pages: [pages, width], each page's part of the input; times: [TIMES, width]; given: [attributes, width]; bias: [width]. input,
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
    """Arrays to compute one session in: state, x [width], times [TIMES], gates [2, 3 width]. For several sessions: [..., sessions] each."""

    state: F32
    x: F32
    times: F32
    gates: F32


@formula
def tanh(x: Single) -> Single:
    """Return the hyperbolic tangent within 3e-7: Eigen's ratio of polynomials, which a compiler vectorizes."""
    x = min(max(x, Single(-7.9053111)), Single(7.9053111))
    y = x * x
    numerator = fma(Single(-2.76076847742355e-16), y, Single(2.00018790482477e-13))
    numerator = fma(numerator, y, Single(-8.60467152213735e-11))
    numerator = fma(numerator, y, Single(5.12229709037114e-08))
    numerator = fma(numerator, y, Single(1.48572235717979e-05))
    numerator = fma(numerator, y, Single(6.37261928875436e-04))
    numerator = fma(numerator, y, Single(4.89352455891786e-03)) * x
    denominator = fma(Single(1.19825839466702e-06), y, Single(1.18534705686654e-04))
    denominator = fma(denominator, y, Single(2.26843463243900e-03))
    return numerator / fma(denominator, y, Single(4.89352518554385e-03))


@formula
def sigmoid(x: Single) -> Single:
    """Return 1 / (1 + exp(-x))."""
    return fma(Single(0.5), tanh(Single(0.5) * x), Single(0.5))


@formula
def gelu(x: Single) -> Single:
    """Return the Gaussian error linear unit, in its approximation by tanh (Hendrycks & Gimpel 2016)."""
    half = Single(0.5) * x
    return fma(half, tanh(Single(0.7978845608) * fma(Single(0.044715) * x * x, x, x)), half)


@formula
def add_product(x: F32, size: int, matrix: F32, out: F32) -> None:
    """Add x[:size] @ matrix[:size] to out: eight inputs at a time, in order, so that a sum is loaded and stored once for eight."""
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
def time_features(gap: Single, elapsed: Single, index: int) -> tuple[Single, Single, Single, Single, Single, Single]:
    """Return the time features of an event. Logarithms are computed in float64 and rounded: libraries differ in their last digit."""
    return (
        Single(math.log1p(np.float64(gap)) / 4),
        Single(1.0 if gap > 0 else 0.0),
        Single(1.0 if gap > 30 else 0.0),
        Single(1.0 if gap > 120 else 0.0),
        Single(math.log1p(np.float64(elapsed)) / 6),
        Single(math.log1p(np.float64(index)) / 3),
    )


@formula
def new_state(reset: Single, update: Single, candidate: Single, kept: Single, before: Single) -> Single:
    """Return a unit's new state; reset and update before their sigmoids, candidate and kept of the input and of the previous state."""
    new = tanh(fma(sigmoid(reset), kept, candidate))
    return fma(sigmoid(update), before - new, new)


@formula
def gru_step(
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
    """Add one event to the state [width]; times [TIMES], x [width] and gates [2, 3 width] are workspace."""
    width = len(state)
    times[0], times[1], times[2], times[3], times[4], times[5] = time_features(gap, elapsed, index)
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
        state[place] = new_state(reset, update, gates[0, 2 * width + place], gates[1, 2 * width + place], state[place])


@formula
def heads(state: F32, attributes: F32, net: Network, x: F32, out: F32) -> None:
    """Write the outputs of a state; x [width] is workspace."""
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
    """Return `total` plus the terms that `add_product` adds to out[place], for WIDE sessions from `at` on in x: [size * stride]."""
    for one in range(size):
        total = fma(load(x, one * stride + at), matrix[one, place], total)
    return total


@formula
def input_wide(page: I64, attributes: F32, net: Network, times: F32, x: F32) -> None:
    """Write the input of the gates for many sessions: x [width * sessions]; page: [sessions]; the others as for `gru_step_wide`."""
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
def gru_step_wide(x: F32, net: Network, inputs: F32, recurrents: F32, gates: F32, stride: int, state: F32) -> None:
    """Do what `gru_step` does for many sessions at once, their numbers side by side, with the same bits.

    x, state: [width * stride]; gates: [4, width * stride], workspace; inputs, recurrents: the network's, transposed. Six sums stay in
    registers, and a weight is read once for WIDE sessions: the matrices are larger than the first-level cache.
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
        state[one] = new_state(first[one], second[one], third[one], last[one], state[one])


@formula
def run_session(
    row: int, begins: I64, ends: I64, page: I64, seconds: F32, attributes: F32, net: Network, workspace: Workspace, out: F32
) -> None:
    """Write the outputs of one session; the arrays are those of `journey_margins`."""
    begin = begins[row]
    for place in range(len(workspace.state)):
        workspace.state[place] = 0.0
    for place in range(begin, ends[row]):
        gap = seconds[place] - seconds[place - 1] if place > begin else Single(0.0)
        elapsed = seconds[place] - seconds[begin]
        gru_step(
            page[place], gap, elapsed, place - begin, attributes[row], net, workspace.times, workspace.x, workspace.gates, workspace.state
        )
    heads(workspace.state, attributes[row], net, workspace.x, out[row])


@formula
def run_lane(
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
    """Write the outputs of every session of a lane; workspaces: of all lanes, whose numbers are side by side."""
    workspace = Workspace(workspaces.state[:, lane], workspaces.x[:, lane], workspaces.times[:, lane], workspaces.gates[:, :, lane])
    for place in range(lane, len(order), workspaces.state.shape[1]):
        run_session(order[place], begins, ends, page, seconds, attributes, net, workspace, out)


@on_cpu
def _run_batch(
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
                encoded = time_features(gap, seconds[place] - seconds[begin], index)
                for one in range(TIMES):
                    times[one * stride + lane] = encoded[one]
        if index < longest:
            input_wide(here, known, net, times, x)
            gru_step_wide(x, net, inputs, recurrents, gates, stride, state)


@on_cpu
def journey_margins(begins: I64, ends: I64, page: I64, seconds: F32, attributes: F32, net: Network, order: I64, out: F32) -> None:
    """Write the network's outputs of sessions after some of their events: float32 [rows, outputs].

    begins, ends, page, seconds: as for `kernels.sessions.journey.journey_features`; attributes: float32 [rows, attributes], standardised, 0
    where missing. order: int64 [rows], the rows by number of events: sessions of a batch should have about as many.
    """
    width = len(net.bias)
    workspace = Workspace(
        np.empty(width, np.float32), np.empty(width, np.float32), np.empty(TIMES, np.float32), np.empty((2, 3 * width), np.float32)
    )
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        if len(rows) >= MIN_BATCH:
            _run_batch(rows, begins, ends, page, seconds, attributes, net, workspace, out)
        else:
            for row in rows:
                run_session(row, begins, ends, page, seconds, attributes, net, workspace, out)


_run_lanes = on_cuda(run_lane)


def journey_margins_cuda(begins: I64, ends: I64, page: I64, seconds: F32, attributes: F32, net: Network, order: I64, out: F32) -> None:
    """Write what `journey_margins` does, on CUDA: the same bits. Host or device arrays, the weights' too (see `on_cuda`)."""
    from kernels import cuda

    width, lanes = len(net.bias), min(len(order), GPU_BATCH)
    workspaces = Workspace(*(cuda.empty((*shape, lanes)) for shape in ((width,), (width,), (TIMES,), (2, 3 * width))))
    _run_lanes(lanes, order, begins, ends, page, seconds, attributes, net, workspaces, out)


@on_cpu
def journey_advance(page: int, gap: float, elapsed: float, index: int, attributes: F32, net: Network, state: F32, out: F32) -> None:
    """Add one event to the state of its session, float32 [width], zero at its beginning, and write the outputs [outputs] after it.

    gap: seconds since the event before, 0 for the first; elapsed: since the first; index: the number of events before. The bits are those
    that `journey_margins` has for the whole session.
    """
    width = len(net.bias)
    x, times, gates = np.empty(width, np.float32), np.empty(TIMES, np.float32), np.empty((2, 3 * width), np.float32)
    gru_step(page, Single(gap), Single(elapsed), index, attributes, net, times, x, gates, state)
    heads(state, attributes, net, x, out)


@on_cpu
def journey_outputs(attributes: F32, net: Network, state: F32, out: F32) -> None:
    """Write the outputs float32 [outputs] of a state that `journey_advance` has updated."""
    heads(state, attributes, net, np.empty(len(state), np.float32), out)
