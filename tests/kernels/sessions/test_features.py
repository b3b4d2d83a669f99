"""The session features of the kernel are those of the naive twin, one session or many, on the CPU and on CUDA."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.sessions import features as sessions
from kernels.types import F32
from tests.naive.sessions import Event, session_features
from tests.simulator import simulate
from training.features import EVENT_CODES, EVENT_TYPES, INDEX, NAMES, PAGE_CODES, PAGE_KINDS
from training.features import given as nothing_given

Arrays = tuple[Any, ...]  # the arguments of the kernel without the last, its result

# Quarters of a pixel and of a millisecond are exact in float32 and float64 alike, so that the twin may compute in either.
pixels = st.one_of(st.integers(0, 160).map(lambda quarters: quarters / 4), st.just(math.nan))
waits = st.one_of(st.integers(0, 40_000).map(lambda quarters: quarters / 4), st.just(math.nan))
gaps = st.one_of(st.integers(0, 5), st.integers(990, 1010), st.integers(0, 600_000))
kinds = st.one_of(st.just("click"), st.sampled_from(EVENT_TYPES))


def _in_order_of_time(start_ms: int, rows: Sequence[tuple[int, Event]]) -> list[Event]:
    times = np.cumsum([start_ms, *(gap for gap, _ in rows)])[1:]
    return [event._replace(time_ms=int(time_ms)) for time_ms, (_, event) in zip(times, rows, strict=True)]


targets = st.sampled_from([0, 1, 1, 2, sessions.OUTBOUND])
some_event = st.builds(
    Event, kind=kinds, page=st.sampled_from(PAGE_KINDS), time_ms=st.just(0), x=pixels, y=pixels, wait_ms=waits, target=targets
)
some_events = st.builds(_in_order_of_time, st.integers(0, 2_000_000_000_000), st.lists(st.tuples(gaps, some_event), max_size=15))
some_given = st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1e6, width=32), max_size=6)
some_sessions = st.lists(st.tuples(some_events, some_given), max_size=3)


def arrays(rows: Sequence[tuple[Sequence[Event], Mapping[str, float]]]) -> Arrays:
    """Return the arguments of the kernel for these sessions."""
    every = [event for events, _ in rows for event in events]
    offsets = np.cumsum([0, *(len(events) for events, _ in rows)]).astype(np.int64)
    known = nothing_given(len(rows))
    for row, (_, stated) in enumerate(rows):
        for name, value in stated.items():
            known[row, INDEX[name]] = value
    return (
        offsets,
        np.array([EVENT_CODES[event.kind] for event in every], np.int8),
        np.array([PAGE_CODES[event.page] for event in every], np.int8),
        np.array([event.time_ms for event in every], np.int64),
        np.array([event.x for event in every], np.float32),
        np.array([event.y for event in every], np.float32),
        np.array([event.target for event in every], np.int64),
        np.array([event.wait_ms for event in every], np.float32),
        sessions.PAGE_GROUPS,
        known,
    )


def counted(inputs: Arrays) -> F32:
    """Return what the kernel makes of these inputs."""
    out = np.full((inputs[0].size - 1, len(NAMES)), -1, np.float32)
    arguments: Arrays = (*inputs, out)
    sessions.session_features(*arguments)
    return out


def features(events: Sequence[Event], **stated: float) -> dict[str, float]:
    """Return the features of one session by name, those that are not missing."""
    row = counted(arrays([(events, stated)]))[0]
    return {name: float(value) for name, value in zip(NAMES, row, strict=True) if not math.isnan(value)}


def presses(target: int, gap: int = 300, number: int = 4) -> list[Event]:
    """Return clicks on one element, at no known place."""
    return [Event("click", "product", place * gap, math.nan, math.nan, math.nan, target) for place in range(number)]


def clicks(*places: tuple[float, float, int]) -> list[Event]:
    """Return clicks at (x, y, milliseconds)."""
    return [Event("click", "product", time_ms, x, y, math.nan) for x, y, time_ms in places]


def many(rows: int) -> Arrays:
    """Return the inputs of many random sessions of up to 12 events, also of codes that no table has."""
    rng = np.random.default_rng(7)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 13, rows))]).astype(np.int64)
    events = int(offsets[-1])
    known = nothing_given(rows)
    known[rng.random(known.shape) < 0.1] = 2.5
    place = [np.where(rng.random(events) < 0.1, np.nan, rng.integers(0, 20, events)).astype(np.float32) for _ in range(2)]
    return (
        offsets,
        rng.integers(-1, 13, events).astype(np.int8),
        rng.integers(-1, 13, events).astype(np.int8),
        np.cumsum(rng.integers(0, 900, events)),
        *place,
        rng.integers(-1, 4, events),
        np.where(rng.random(events) < 0.5, np.nan, rng.uniform(0, 1e4, events)).astype(np.float32),
        sessions.PAGE_GROUPS,
        known,
    )


@settings(deadline=None, max_examples=60)
@given(some_sessions)
def test_the_kernel_gives_the_bits_of_the_naive_twin(rows: list[tuple[list[Event], dict[str, float]]]) -> None:
    expected = [[session_features(events, stated).get(name, math.nan) for name in NAMES] for events, stated in rows]
    np.testing.assert_array_equal(counted(arrays(rows)), np.array(expected, np.float32).reshape(-1, len(NAMES)))


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        pytest.param([(0, 0, 0), (5, 5, 400), (9, 9, 800)], 1, id="three near clicks"),
        pytest.param([(0, 0, 0), (5, 5, 400)], 0, id="two are too few"),
        pytest.param([(0, 0, 0), (15, 15, 100), (15, 15, 200)], 0, id="30 pixels are too far"),
        pytest.param([(0, 0, 0), (15, 14.75, 100), (15, 15, 200)], 1, id="just under 30 pixels are near"),
        pytest.param([(0, 0, 0), (0, 0, 1000), (0, 0, 1400)], 0, id="1000 ms are too late"),
        pytest.param([(0, 0, 0), (0, 0, 999), (0, 0, 1998)], 1, id="999 ms each are soon enough, pair by pair"),
        pytest.param([(0, 0, 100 * i) for i in range(5)], 1, id="five fast clicks are one run"),
        pytest.param([(0, 0, 100 * i) for i in range(3)] + [(0, 0, 5000 + 100 * i) for i in range(3)], 2, id="two runs are two"),
        pytest.param([(0, 0, 0), (math.nan, 0, 100), (0, 0, 200), (0, 0, 300)], 0, id="an unknown place is near none"),
        pytest.param([(0, 0, 0), (0, 0, 0), (0, 0, 0)], 1, id="at the same time"),
    ],
)
def test_rage_clicks_follow_the_published_rule(places: list[tuple[float, float, int]], expected: int) -> None:
    assert features(clicks(*places))["rageClickCount"] == expected


@pytest.mark.parametrize("kind", [*EVENT_TYPES[1:7], "input", "change"])
@pytest.mark.parametrize("after", [50, 650, 1500])
def test_clicks_that_are_each_answered_are_no_rage(kind: str, after: int) -> None:
    responses = [Event(kind, "unknown", click.time_ms + after, math.nan, math.nan, math.nan) for click in presses(target=3)]
    ordered = sorted([*presses(target=3), *responses], key=lambda event: event.time_ms)
    assert features(ordered)["rageClickCount"] == 0
    assert features(ordered[:-1])["rageClickCount"] == (0 if after == 50 else 1)


@pytest.mark.parametrize("kind", ["unknown", "wait"])
def test_an_event_that_is_no_response_does_not_end_a_run(kind: str) -> None:
    between = [Event(kind, "product", click.time_ms + 50, math.nan, math.nan, math.nan) for click in presses(target=3)]
    ordered = sorted([*presses(target=3), *between], key=lambda event: event.time_ms)
    assert features(ordered)["rageClickCount"] == 1


@pytest.mark.parametrize(("after", "expected"), [(99, 0), (100, 1)])
def test_a_scroll_right_after_each_click_is_its_response(after: int, expected: int) -> None:
    scrolls = [Event("scroll", "product", click.time_ms + after, math.nan, math.nan, math.nan) for click in presses(target=3)]
    ordered = sorted([*presses(target=3), *scrolls], key=lambda event: event.time_ms)
    assert features(ordered)["rageClickCount"] == expected


@pytest.mark.parametrize(
    ("target", "gap", "expected"),
    [
        pytest.param(3, 300, 1, id="one element"),
        pytest.param(3, 1000, 0, id="too slowly"),
        pytest.param(0, 300, 0, id="an unknown element"),
        pytest.param(sessions.OUTBOUND, 300, 0, id="a link to a new tab or a download"),
    ],
)
def test_clicks_at_no_known_place_are_near_by_their_element(target: int, gap: int, expected: int) -> None:
    assert features(presses(target, gap, 6))["rageClickCount"] == expected
    assert features(presses(target, gap, 6))["clickCount"] == 6


def test_without_events_nothing_is_counted() -> None:
    assert features([]) == {}
    assert features([], productCount=3, bounceRate=0.25) == {"productCount": 3, "bounceRate": 0.25}


def test_one_event_has_no_gap_before_it() -> None:
    only = features([Event("page_view", "home", 1_700_000_000_000, math.nan, math.nan, math.nan)])
    assert "lastGapSeconds" not in only
    assert (only["eventCount"], only["activeSeconds"], only["productCount"]) == (1, 0, 0)


def test_a_given_value_is_kept_even_zero() -> None:
    visit = [Event("page_view", "product", 0, 1, 1, 500), Event("click", "product", 2000, 1, 1, 500)]
    assert features(visit)["productSeconds"] == 2
    overridden = features(visit, productSeconds=0, clickCount=7)
    assert (overridden["productSeconds"], overridden["clickCount"], overridden["productCount"]) == (0, 7, 1)


def test_a_product_view_of_an_unknown_page_is_a_visit_to_a_product() -> None:
    view = Event("product_view", "unknown", 0, math.nan, math.nan, math.nan)
    assert features([view])["productCount"] == 1
    assert features([view._replace(kind="page_view")])["productCount"] == 0
    assert features([view._replace(page="home")])["productCount"] == 0


@pytest.mark.parametrize("code", [-128, -1, len(PAGE_KINDS), 127])
def test_codes_out_of_range_are_unknown(code: int) -> None:
    offsets, kind, page, *rest = arrays([([Event("product_view", "unknown", 0, 1, 1, 1), Event("unknown", "home", 500, 1, 1, 1)], {})])
    expected = counted((offsets, kind, page, *rest))
    strange_page, strange_kind = page.copy(), kind.copy()
    strange_page[0] = strange_kind[1] = code
    np.testing.assert_array_equal(counted((offsets, strange_kind, strange_page, *rest)), expected)


SIMULATED = """
import sys
import numpy as np
from kernels import compile
from kernels.sessions import features as sessions
assert compile.SIMULATED
with np.load(sys.argv[1]) as stored:
    inputs = [stored[name] for name in stored.files]
out = np.full((inputs[0].size - 1, inputs[-1].shape[1]), -1, np.float32)
sessions.session_features_cuda(*inputs, out)
np.save(sys.argv[2], out)
"""


def test_the_simulated_cuda_launch_gives_the_bits_of_the_compiled_kernel(tmp_path: Path) -> None:
    inputs = many(200)
    np.savez(tmp_path / "inputs.npz", *inputs)
    simulate(SIMULATED, tmp_path / "inputs.npz", tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), counted(inputs))


@pytest.mark.gpu
def test_cuda_gives_the_features_of_the_cpu() -> None:
    """Counts are equal, seconds to 1e-6; from the host's arrays and from arrays that are on the device already."""
    from numba import cuda

    if not cuda.is_available():
        pytest.skip("no CUDA device here")
    inputs = many(50_000)
    expected = counted(inputs)
    is_count = [not name.endswith("Seconds") for name in NAMES]
    out = np.full_like(expected, -1)
    host: Arrays = (*inputs, out)
    sessions.session_features_cuda(*host)
    device: Arrays = tuple(cuda.to_device(array) for array in (*inputs, np.full_like(expected, -1)))
    sessions.session_features_cuda(*device)
    for result in (out, device[-1].copy_to_host()):
        np.testing.assert_array_equal(result[:, is_count], expected[:, is_count])
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=0)
