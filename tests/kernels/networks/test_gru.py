"""The recurrent network: as in plain Python, event by event as at once, in any batch, on a GPU too."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from benchmarks.clicks import random_journeys, random_network
from kernels.networks import gru
from tests.journeys import DRAWN, PAGES, columns
from tests.naive import networks as naive
from tests.simulator import simulate

ATTRIBUTES, WIDTH, OUTPUTS = 2, 8, 5


@pytest.fixture(scope="module")
def net():
    return random_network(PAGES, ATTRIBUTES, WIDTH, OUTPUTS)


def given_of(sessions):
    return np.random.default_rng(sessions).normal(0, 1, (sessions, ATTRIBUTES)).astype(np.float32)


def margins(net, begins, ends, page, seconds, attributes):
    """Return the network's outputs."""
    out = np.empty((len(begins), len(net.out_bias)), np.float32)
    gru.journey_margins(begins, ends, page, seconds, attributes, net, np.argsort(ends - begins), out)
    return out


def of_drawn(net, drawn):
    """Return drawn sessions as `margins` takes them, and what it gives."""
    sessions = (*columns(drawn), given_of(len(drawn)))
    return sessions, margins(net, *sessions)


@settings(max_examples=60, deadline=None)
@given(drawn=DRAWN)
def test_margins_are_those_of_the_published_unit(net, drawn):
    (begins, ends, page, seconds, attributes), out = of_drawn(net, drawn)
    for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        expected = naive.journey_margins(page[begin:end].tolist(), seconds[begin:end].tolist(), attributes[row], net)
        np.testing.assert_allclose(out[row], expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(drawn=DRAWN)
def test_event_by_event_is_the_whole_session_to_the_bit(net, drawn):
    (begins, ends, page, seconds, attributes), out = of_drawn(net, drawn)
    for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        state, said = np.zeros(WIDTH, np.float32), np.empty(OUTPUTS, np.float32)
        for place in range(begin, end):
            gap = seconds[place] - seconds[place - 1] if place > begin else 0.0
            elapsed = seconds[place] - seconds[begin]
            gru.journey_advance(page[place], gap, elapsed, place - begin, attributes[row], net, state, said)
        if end > begin:
            assert said.tobytes() == out[row].tobytes()


@settings(max_examples=30, deadline=None)
@given(drawn=DRAWN)
def test_a_session_alone_has_the_bits_it_has_among_others(net, drawn):
    (begins, ends, page, seconds, attributes), out = of_drawn(net, drawn)
    for row in range(len(drawn)):
        one = slice(row, row + 1)
        alone = margins(net, begins[one], ends[one], page, seconds, attributes[one])
        assert alone[0].tobytes() == out[row].tobytes()


def test_a_state_has_the_outputs_it_had_after_its_last_event(net):
    attributes, state = given_of(1)[0], np.random.default_rng(0).normal(size=WIDTH).astype(np.float32)
    after, said, again = state.copy(), np.empty(OUTPUTS, np.float32), np.empty(OUTPUTS, np.float32)
    gru.journey_advance(1, 2.0, 5.0, 3, attributes, net, after, said)
    gru.journey_outputs(attributes, net, after, again)
    assert said.tobytes() == again.tobytes()
    np.testing.assert_allclose(again, naive.journey_outputs(after, attributes, net), rtol=1e-4, atol=1e-4)


SIMULATED = """
import sys
import numpy as np
from kernels import compile
from kernels.networks import gru
assert compile.SIMULATED
gru.GPU_BATCH = 16
with np.load(sys.argv[1]) as stored:
    begins, ends, page, seconds, ended, attributes = (stored[f"arr_{place}"] for place in range(6))
    net = gru.Network(*(stored[name] for name in gru.Network._fields))
out = np.empty((len(begins), len(net.out_bias)), np.float32)
gru.journey_margins_cuda(begins, ends, page, seconds, attributes, net, np.argsort(ends - begins), out)
np.save(sys.argv[2], out)
"""


def test_the_simulated_cuda_launch_gives_the_outputs_of_the_cpu(net, tmp_path: Path) -> None:
    """To one place of a float32: plain Python rounds a fused product twice."""
    begins, ends, page, seconds, _, attributes = arrays = random_journeys(40, PAGES, ATTRIBUTES)
    np.savez(tmp_path / "in.npz", *arrays, **net._asdict())
    simulate(SIMULATED, tmp_path / "in.npz", tmp_path / "out.npy")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), margins(net, begins, ends, page, seconds, attributes), rtol=0, atol=1e-6)


@pytest.mark.gpu
def test_a_gpu_has_the_bits_of_the_cpu() -> None:
    """More sessions than are walked abreast, from the host's arrays and from those of the device."""
    from numba import cuda

    from kernels import cuda as device

    if not cuda.is_available():
        pytest.skip("no CUDA device here")
    net = random_network(PAGES, ATTRIBUTES, 64, OUTPUTS)
    begins, ends, page, seconds, _, attributes = random_journeys(gru.GPU_BATCH + 1000, PAGES, ATTRIBUTES)
    expected, order = margins(net, begins, ends, page, seconds, attributes), np.argsort(ends - begins)
    out = np.empty_like(expected)
    gru.journey_margins_cuda(begins, ends, page, seconds, attributes, net, order, out)
    np.testing.assert_array_equal(out, expected)
    there = device.on_device((begins, ends, page, seconds, attributes, net, order, np.zeros_like(out)))
    gru.journey_margins_cuda(*there)
    np.testing.assert_array_equal(there[-1].copy_to_host(), expected)
