"""A session as features and as the state of a network: both as plain Python has them, whatever else is in the batch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import journey
from kernels.journey import TIMES, Network
from tests import naive

PAGES, ATTRIBUTES, WIDTH, OUTPUTS = 4, 2, 8, 5

sessions = st.lists(
    st.lists(st.tuples(st.integers(0, PAGES - 1), st.sampled_from([0.0, 0.5, 1.5, 2.0, 31.0, 60.0, 61.5, 400.0])), max_size=30),
    min_size=1,
    max_size=5,
)


@pytest.fixture(scope="module")
def net():
    random = np.random.default_rng(0)
    shapes = {
        "pages": (PAGES, WIDTH),
        "times": (TIMES, WIDTH),
        "given": (ATTRIBUTES, WIDTH),
        "bias": (WIDTH,),
        "input": (WIDTH, 3 * WIDTH),
        "recurrent": (WIDTH, 3 * WIDTH),
        "input_bias": (3 * WIDTH,),
        "recurrent_bias": (3 * WIDTH,),
        "hidden": (WIDTH + ATTRIBUTES, WIDTH),
        "hidden_bias": (WIDTH,),
        "out": (WIDTH, OUTPUTS),
        "out_bias": (OUTPUTS,),
    }
    return Network(**{name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()})


def columns(drawn):
    """Return begins, ends, page, seconds of drawn sessions of (page, gap)."""
    sizes = [len(session) for session in drawn]
    ends = np.cumsum(sizes).astype(np.int64)
    page = np.array([page for session in drawn for page, _ in session], np.int64)
    seconds = np.concatenate([np.empty(0), *(np.cumsum([gap for _, gap in session]) for session in drawn)]).astype(np.float32)
    return ends - sizes, ends, page, seconds


def given_of(drawn):
    return np.random.default_rng(len(drawn)).normal(0, 1, (len(drawn), ATTRIBUTES)).astype(np.float32)


def margins(net, drawn):
    """Return the attributes of drawn sessions, and the network's outputs."""
    attributes, out = given_of(drawn), np.empty((len(drawn), OUTPUTS), np.float32)
    begins, ends, page, seconds = columns(drawn)
    journey.journey_margins(begins, ends, page, seconds, attributes, net, np.argsort(ends - begins), out)
    return attributes, out


@settings(max_examples=60, deadline=None)
@given(sessions)
def test_features_are_those_of_plain_python(drawn):
    begins, ends, page, seconds = columns(drawn)
    ended, attributes = np.arange(len(drawn), dtype=np.float32) % 2, given_of(drawn)
    out = np.empty((len(drawn), journey.columns(PAGES, ATTRIBUTES)), np.float32)
    journey.journey_features(begins, ends, page, seconds, ended, attributes, PAGES, out)
    for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        expected = naive.journey_features(
            page[begin:end].tolist(), seconds[begin:end].tolist(), ended[row], attributes[row].tolist(), PAGES
        )
        np.testing.assert_allclose(out[row], np.array(expected, np.float32), rtol=1e-5, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(drawn=sessions)
def test_margins_are_those_of_the_published_unit(net, drawn):
    begins, ends, page, seconds = columns(drawn)
    attributes, out = margins(net, drawn)
    for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        expected = naive.journey_margins(page[begin:end].tolist(), seconds[begin:end].tolist(), attributes[row], net)
        np.testing.assert_allclose(out[row], expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(drawn=sessions)
def test_event_by_event_is_the_whole_session_to_the_bit(net, drawn):
    begins, ends, page, seconds = columns(drawn)
    attributes, out = margins(net, drawn)
    for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        state, said = np.zeros(WIDTH, np.float32), np.empty(OUTPUTS, np.float32)
        for place in range(begin, end):
            gap = seconds[place] - seconds[place - 1] if place > begin else 0.0
            elapsed = seconds[place] - seconds[begin]
            journey.journey_advance(page[place], gap, elapsed, place - begin, attributes[row], net, state, said)
        if end > begin:
            assert said.tobytes() == out[row].tobytes()


@settings(max_examples=30, deadline=None)
@given(drawn=sessions)
def test_a_session_alone_has_the_bits_it_has_among_others(net, drawn):
    begins, ends, page, seconds = columns(drawn)
    attributes, out = margins(net, drawn)
    for row in range(len(drawn)):
        alone = np.empty((1, OUTPUTS), np.float32)
        one = slice(row, row + 1)
        journey.journey_margins(begins[one], ends[one], page, seconds, attributes[one], net, np.zeros(1, np.int64), alone)
        assert alone[0].tobytes() == out[row].tobytes()


def test_a_state_says_what_it_said_after_its_last_event(net):
    attributes, state = given_of([1])[0], np.random.default_rng(0).normal(size=WIDTH).astype(np.float32)
    after, said, again = state.copy(), np.empty(OUTPUTS, np.float32), np.empty(OUTPUTS, np.float32)
    journey.journey_advance(1, 2.0, 5.0, 3, attributes, net, after, said)
    journey.journey_said(attributes, net, after, again)
    assert said.tobytes() == again.tobytes()
    np.testing.assert_allclose(again, naive.journey_said(after, attributes, net), rtol=1e-4, atol=1e-4)
