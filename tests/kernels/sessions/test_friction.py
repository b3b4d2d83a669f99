"""Friction: the published vectors, every rule at its bounds, and one event after the other against all at once and against plain rules."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.clicks import random_sessions
from kernels.sessions import friction as kernel
from tests.naive import sessions as naive
from tests.naive.sessions import FrictionEvent
from tests.simulator import simulate

COUNTED = len(kernel.COUNTED)
KINDS = (*kernel.KINDS, "outbound")
LIMITS = {threshold.name: threshold.value for threshold in kernel.THRESHOLDS}


def started():
    ints, reals = np.empty(kernel.INTS, np.int64), np.empty(kernel.REALS)
    kernel.start(ints, reals)
    return ints, reals


def take(state, events):
    ints, reals = state
    for event in events:
        kernel.update(KINDS.index(event.kind), *event[1:], kernel.DEFAULTS, ints, reals)


def told(ints):
    """Return how often each detector has fired, and at which event last, of the last numbers of a state or a row of `friction`."""
    counts, latest = ints[-2 * COUNTED : -COUNTED].tolist(), ints[-COUNTED:].tolist()
    return {name: (count, at) for name, count, at in zip(kernel.COUNTED, counts, latest, strict=True)}


def fired(*events):
    """Return how often each thing was seen that was."""
    state = started()
    take(state, events)
    return {name: count for name, (count, _) in told(state[0]).items() if count}


def columns(sessions):
    """Return sessions as the arrays of `friction`, without the results."""
    events = [event for session in sessions for event in session]
    offsets = np.cumsum([0, *(len(session) for session in sessions)]).astype(np.int64)
    kinds = np.array([KINDS.index(event.kind) for event in events], np.int8)
    rest = [np.array([event[place] for event in events]) for place in range(1, 7)]
    types = (np.int64, np.float32, np.float32, np.int64, np.int64, np.float32)
    return offsets, kinds, *(column.astype(kind) for column, kind in zip(rest, types, strict=True))


def bulk(arrays):
    out = np.empty((len(arrays[0]) - 1, 2 * COUNTED), np.int32)
    kernel.friction(*arrays, kernel.DEFAULTS, out)
    return out


def click(at, x=0.0, y=0.0, target=0):
    return FrictionEvent("click", at, x, y, target)


def page(at, number):
    return FrictionEvent("page", at, page=number)


def thrash(turns, width=50.0, gap=100):
    """Return moves to and fro."""
    return [FrictionEvent("move", place * gap, width * (place % 2), 0.0) for place in range(turns + 2)]


def drift(forth, back):
    """Return moves that turn back eight times, farther or less far than they came."""
    ways = [forth if place % 2 == 0 else -back for place in range(9)]
    return [FrictionEvent("move", place * 10, float(x), 0.0) for place, x in enumerate(np.cumsum([0, *ways]))]


def veer(degrees):
    """Return moves each of which veers by so much from the one before, eight times."""
    way = np.exp(1j * np.radians(degrees * np.arange(9)))
    return [FrictionEvent("move", place * 10, at.real, at.imag) for place, at in enumerate(np.cumsum([0, *way]) * 100)]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([click(0, 0, 0), click(400, 5, 5), click(800, 9, 9)], {"rageClick": 1}),
        ([click(0, 0, 0), click(400, 15, 15), click(800, 15, 15)], {}),  # 30 pixels are not less than 30
        ([click(0), click(1000), click(1500)], {}),  # 1,000 ms are not less than 1,000
        ([click(place * 100) for place in range(5)], {"rageClick": 1}),  # one run, one event
        ([click(0), click(900), click(1800)], {"rageClick": 1}),  # by pairs, so up to 2 s
        ([click(0, np.nan, np.nan)] * 4, {}),
        ([click(place * 300, np.nan, np.nan, target=7) for place in range(6)], {"rageClick": 1}),  # one element, wherever
        ([click(place * 300, np.nan, np.nan, target=place % 2 + 1) for place in range(6)], {}),  # two elements in turn
        ([click(place * 1000, np.nan, np.nan, target=7) for place in range(6)], {"deadClick": 3}),
        ([click(place * 300, 100.0 * place, 0, target=7) for place in range(6)], {}),  # one large element, places that are known
        ([click(0, 5, 5, target=7), click(1, np.nan, 5, target=7), click(2, 5, np.nan, target=7)], {"rageClick": 1}),
    ],
)
def test_rage_clicks_follow_the_rule_of_posthog(events, expected):
    assert fired(*events) == expected


def answered(kind, after, gap=300, presses=4):
    """Return presses of one button, each with a response `after` milliseconds later, in order of time."""
    events = [click(place * gap, 5, 5, target=7) for place in range(presses)]
    events += [FrictionEvent(kind, place * gap + after, page=place + 1) for place in range(presses)]
    return sorted(events, key=lambda event: event.time_ms)


@pytest.mark.parametrize("kind", ["change", "page", "input", "back"])
@pytest.mark.parametrize("after", [1, 50, 299, 301, 650, 1250, 1599])
def test_clicks_that_are_each_answered_are_no_rage(kind, after):
    """At once, or so late that the next clicks come before."""
    assert fired(*answered(kind, after)) == {}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (answered("scroll", 99), {}),
        (answered("scroll", 100), {"rageClick": 1}),
        (answered("wait", 50), {"rageClick": 1}),  # a wait is no response
        (answered("unknown", 50), {"rageClick": 1, "unknownKind": 4}),
        (answered("change", 950)[:-1], {"rageClick": 1}),  # four presses, three responses
        (answered("change", 2500), {"rageClick": 1, "deadClick": 1}),  # too late for any of them; the presses are one attempt
        ([*answered("change", 50)[:-1], *[click(1000 + 100 * place, 5, 5, target=7) for place in range(2)]], {"rageClick": 1}),
        ([click(0), click(100), page(150, 1), click(200), click(300)], {}),  # two and two
        ([click(0), click(100), click(200), page(250, 1), click(300), click(400), click(500)], {"rageClick": 1}),  # one run
        ([*answered("change", 650), *[click(5000 + place, target=7) for place in range(3)]], {"rageClick": 1}),
        (
            [*[click(place, target=7) for place in range(3)], *[e._replace(time_ms=e.time_ms + 5000) for e in answered("change", 650)]],
            {"rageClick": 1, "deadClick": 1},
        ),
        ([FrictionEvent("outbound", place * 100, 5, 5, target=7) for place in range(6)], {}),
        ([FrictionEvent("outbound", 0, 5, 5, target=7), page(9000, 1)], {}),
        ([click(0), click(100), FrictionEvent("outbound", 200), click(300), click(400)], {}),
        ([FrictionEvent("outbound", 0), FrictionEvent("error", 100)], {"errorClick": 1, "scriptError": 1}),
        ([page(0, 1), page(1000, 2), FrictionEvent("outbound", 1500), page(3000, 1)], {}),  # no u-turn
        ([FrictionEvent("hover", 0, target=1), FrictionEvent("outbound", 2000), click(4000)], {}),
        ([click(0), FrictionEvent("outbound", 100, 900, 900), page(9000, 1)], {"deadClick": 1}),  # it answers no other click
    ],
)
def test_a_click_is_answered_or_not_by_what_follows_it(events, expected):
    assert fired(*events) == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([click(0), page(2500, 1)], {"deadClick": 1}),
        ([click(0), page(2499, 1), page(9000, 2)], {}),
        ([click(0)], {}),  # nothing tells yet
        ([click(0), FrictionEvent("scroll", 99), page(9000, 1)], {}),
        ([click(0), FrictionEvent("scroll", 100), page(9000, 1)], {"deadClick": 1}),
        ([click(0, target=7), click(999, 90, target=7), page(5000, 1)], {"deadClick": 1}),  # one attempt
        ([click(0, target=7), click(1000, 90, target=7), page(5000, 1)], {"deadClick": 2}),
        ([click(0), FrictionEvent("change", 10), page(5000, 1)], {}),
        ([click(place, place * 90) for place in range(15)] + [page(9000, 1)], {"deadClick": 15}),
        ([click(place, place * 90) for place in range(40)] + [page(9000, 1)], {"deadClick": 15}),  # no more are remembered
        ([click(0), FrictionEvent("focus", 999), page(5000, 1)], {"hesitation": 1}),
        ([click(0), FrictionEvent("focus", 1000), page(2500, 1)], {"deadClick": 1}),
        ([FrictionEvent("focus", 0), click(999), page(9000, 1)], {}),  # browsers tell of the focus before the click
        ([FrictionEvent("focus", 0), click(1000), page(9000, 1)], {"deadClick": 1}),
        ([click(0), FrictionEvent("error", 100), FrictionEvent("error", 100)], {"errorClick": 1, "scriptError": 2}),
        ([click(0), FrictionEvent("error", 101)], {"scriptError": 1}),
        ([FrictionEvent("error", 0)], {"scriptError": 1}),
        ([page(0, 1), page(1000, 2), page(6000, 1)], {"uTurn": 1}),
        ([page(0, 1), page(1000, 2), page(6001, 1)], {}),
        ([page(0, 1), page(1000, 2), click(1500), page(3000, 1)], {}),
        ([page(0, 1), page(0, 1), page(14_999, 1)], {"pageLoop": 1}),
        ([page(0, 1), page(0, 1), page(15_000, 1)], {}),
        ([page(place * 4000, 1) for place in range(12)], {"pageLoop": 1}),  # one run, one event, at whatever pace
        ([page(place * 5000, 1) for place in range(12)], {"pageLoop": 1}),
        ([page(at, 1) for at in (0, 1, 2, 20_000, 20_001, 20_002)], {"pageLoop": 2}),
        ([FrictionEvent("focus", 0, target=1), FrictionEvent("input", 3001)], {"hesitation": 1}),
        ([FrictionEvent("hover", 0, target=1), FrictionEvent("move", 2000, 1, 1), click(3001)], {"hesitation": 1}),
        ([FrictionEvent("hover", 0, target=1), click(3000)], {}),
        (
            [FrictionEvent("hover", 0, target=1), FrictionEvent("change", 1000), FrictionEvent("wait", 2000), click(3001)],
            {"hesitation": 1},
        ),
        ([FrictionEvent("hover", 0, target=1), FrictionEvent("unknown", 1000), click(3001)], {"hesitation": 1, "unknownKind": 1}),
        ([FrictionEvent("hover", 0, target=1), FrictionEvent("change", 3001), click(3002)], {"hesitation": 1}),
        ([FrictionEvent("hover", 0, target=1), FrictionEvent("hover", 3000, target=2), click(6000)], {}),
        ([FrictionEvent("focus", place * 10, target=place % 2 + 1) for place in range(6)], {"refocus": 2}),
        ([FrictionEvent("focus", place, target=place if place % 6 else 100) for place in range(60)], {"refocus": 1}),
        ([FrictionEvent("focus", place * 10) for place in range(6)], {}),  # nobody knows which field
        ([FrictionEvent("focus", 0, target=1), FrictionEvent("move", 3000), FrictionEvent("input", 3000)], {}),
        ([FrictionEvent("wait", 0, wait_ms=3000.0), FrictionEvent("wait", 9, wait_ms=2999.0), FrictionEvent("wait", 9)], {"longWait": 1}),
        (thrash(8), {"thrashedCursor": 1}),
        (thrash(7), {}),
        ([*thrash(8)[:-1], thrash(8)[-1]._replace(time_ms=2199)], {"thrashedCursor": 1}),  # the first was at 200
        ([*thrash(8)[:-1], thrash(8)[-1]._replace(time_ms=2200)], {}),
        (drift(40, 50), {}),  # 320 pixels are 4 times 80
        (drift(40, 49), {"thrashedCursor": 1}),
        (veer(119), {}),
        (veer(121), {"thrashedCursor": 1}),
        ([FrictionEvent("move", place * 10, place * 50.0, 0.0) for place in range(30)], {}),
    ],
)
def test_every_rule_holds_at_its_bounds(events, expected):
    assert fired(*events) == expected


KIND = st.sampled_from(KINDS)
PLACE = st.sampled_from([0.0, 10.0, 29.0, 30.0, 200.0, float("nan")])
GAP = st.sampled_from([0, 1, 50, 99, 100, 101, 400, 999, 1000, 2499, 2500, 3001, 5000, 15_000, -700])
WAIT = st.sampled_from([float("nan"), 0.0, 2999.0, 3000.0])
EVENT = st.tuples(KIND, GAP, PLACE, PLACE, st.integers(0, 2), st.integers(0, 3), WAIT)


@st.composite
def session(draw, most=60):
    at, events = 1_700_000_000_000, []
    for kind, gap, *rest in draw(st.lists(EVENT, max_size=most)):
        at += gap
        events.append(FrictionEvent(kind, at, *rest))
    return events


@given(st.lists(session(), min_size=1, max_size=4))
@settings(deadline=None, max_examples=300)
def test_one_after_the_other_equals_all_at_once_equals_the_plain_rules(sessions):
    ints = bulk(columns(sessions))
    for row, events in enumerate(sessions):
        state = started()
        take(state, events)
        np.testing.assert_array_equal(state[0][kernel.COUNTS :], ints[row])
        plain = naive.friction(events, LIMITS)
        assert told(ints[row]) == {name: (len(found), found[-1] if found else -1) for name, found in plain.items()}


CLICKING = st.tuples(
    st.sampled_from(["click", "click", "click", "change", "page", "scroll", "outbound", "wait"]),
    st.sampled_from([0, 50, 99, 100, 300, 999, 1000, 2500]),
    st.sampled_from([0.0, 29.0, float("nan")]),
    st.just(0.0),
    st.sampled_from([0, 1, 1, 2]),
    st.integers(0, 3),
    st.just(float("nan")),
)


@given(st.lists(CLICKING, max_size=40))
@settings(deadline=None, max_examples=500)
def test_runs_of_clicks_count_as_by_the_plain_rules(rows):
    times = np.cumsum([row[1] for row in rows]).tolist()
    events = [FrictionEvent(row[0], at, *row[2:]) for row, at in zip(rows, times, strict=True)]
    state = started()
    take(state, events)
    plain = naive.friction(events, LIMITS)
    assert told(state[0]) == {name: (len(found), found[-1] if found else -1) for name, found in plain.items()}


@given(st.lists(st.tuples(st.sampled_from([0, 1, 500, 4000, 5000, 7000, 14_999]), st.integers(1, 3)), max_size=16))
@settings(deadline=None)
def test_loops_among_sixteen_visits_are_exact(visits):
    """The ring forgets none of so few visits, so the rule equals one with unbounded memory."""
    times = np.cumsum([gap for gap, _ in visits]).tolist()
    pages = [number for _, number in visits]
    loops = [
        sum(pages[other] == pages[place] and times[place] - times[other] < 15_000 for other in range(place + 1)) >= 3
        for place in range(len(pages))
    ]
    before = [max((other for other in range(place) if pages[other] == pages[place]), default=None) for place in range(len(pages))]
    expected = sum(loop and (since is None or not loops[since]) for loop, since in zip(loops, before, strict=True))
    assert fired(*map(page, times, pages)).get("pageLoop", 0) == expected


@given(st.integers(0, 400).map(lambda seed: np.random.default_rng(seed)), st.integers(17, 200))
@settings(deadline=None, max_examples=60)
def test_a_ring_that_has_wrapped_around_counts_as_the_plain_rules_do(random, number):
    events = [
        FrictionEvent(kind, int(at), page=int(mark), target=int(mark))
        for kind, at, mark in zip(
            random.choice(["page", "focus"], number),
            np.cumsum(random.integers(0, 1500, number)),
            random.integers(1, 8, number),
            strict=True,
        )
    ]
    plain = naive.friction(events, LIMITS)
    assert fired(*events) == {name: len(found) for name, found in plain.items() if found}


NARROW = st.sampled_from([0.0, 29.999999999, 0.1, 30.000000001, 2999.99999, 3000.0]) | st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(st.sampled_from(["click", "move", "wait"]), st.integers(0, 99), NARROW, NARROW, NARROW), max_size=20))
@example([("click", 0, 0.0, 0.0, 0.0), ("click", 1, 29.999999999, 0.0, 0.0), ("click", 2, 0.0, 0.0, 0.0)])
@example([("wait", 0, 0.0, 0.0, 2999.99999)])
@settings(deadline=None)
def test_numbers_beyond_the_precision_of_float32_count_alike_in_both(rows):
    events = [FrictionEvent(kind, at, x, y, wait_ms=wait) for kind, at, x, y, wait in rows]
    state = started()
    take(state, events)
    np.testing.assert_array_equal(state[0][kernel.COUNTS :], bulk(columns([events]))[0])


@given(session(), st.integers(0, 60))
@settings(deadline=None, max_examples=60)
def test_a_state_that_was_packed_into_bytes_goes_on_as_if_it_had_not_been(events, cut):
    whole, first = started(), started()
    take(whole, events)
    take(first, events[:cut])
    packed = first[0].tobytes(), first[1].tobytes()
    again = np.frombuffer(packed[0], np.int64).copy(), np.frombuffer(packed[1], np.float64).copy()
    take(again, events[cut:])
    np.testing.assert_array_equal(again[0], whole[0])
    np.testing.assert_array_equal(again[1], whole[1])


@given(session(), session())
@settings(deadline=None, max_examples=60)
def test_an_unknown_kind_is_no_error_and_sessions_are_independent(one, other):
    strange = fired(*(event._replace(kind="unknown") for event in other))
    strange.pop("unordered", None)
    assert strange == ({"unknownKind": len(other)} if other else {})
    together, alone = bulk(columns([one, other])), bulk(columns([other]))
    np.testing.assert_array_equal(together[1], alone[0])


def test_times_that_run_back_are_counted_and_count_as_the_latest():
    state = started()
    take(state, [click(5000), click(1000), click(1000)])
    assert told(state[0])["rageClick"] == (1, 2)
    assert told(state[0])["unordered"] == (2, 2)


@pytest.mark.parametrize("kind", [-128, -1, kernel.OUTBOUND + 1, 127])
def test_a_kind_out_of_range_is_unknown(kind):
    state = started()
    kernel.update(kind, 0, 0.0, 0.0, 1, 1, 0.0, kernel.DEFAULTS, *state)
    assert told(state[0])["unknownKind"] == (1, 0)


def test_an_event_from_the_future_holds_the_time_until_the_others_reach_it():
    assert fired(click(60_000, 0, 0), click(0, 0, 0), click(30_000, 0, 0)) == {"rageClick": 1, "unordered": 2}
    assert fired(click(0, 0, 0), click(30_000, 0, 0), page(60_000, 1)) == {"deadClick": 2}


def test_a_duplicate_event_counts_twice():
    assert fired(*[click(0, 1, 1, 7)] * 3) == {"rageClick": 1}


def test_ten_thousand_events_and_none_are_sessions_too():
    many = [click(place * 10, target=place % 5) for place in range(10_000)]
    ints = bulk(columns([[], many, []]))
    assert told(ints[0]) == told(ints[2]) == dict.fromkeys(kernel.COUNTED, (0, -1))
    assert told(ints[1])["rageClick"][0] == 1


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_a_score_is_its_naive_twin(kind):
    counts = np.random.default_rng(0).integers(0, 4, (200, COUNTED)).astype(kind)
    out = np.empty(200)
    kernel.friction_scores(counts, out)
    assert out.tolist() == [naive.friction_scores(dict(zip(kernel.COUNTED, row, strict=True))) for row in counts.tolist()]


@pytest.mark.parametrize(("score", "level"), [(0, "low"), (5, "low"), (6, "medium"), (14, "medium"), (15, "high"), (99, "high")])
def test_a_score_has_the_published_level(score, level):
    assert kernel.friction_level(score) == level


def test_every_threshold_is_named_with_its_unit_and_source():
    assert len({threshold.name for threshold in kernel.THRESHOLDS}) == len(kernel.THRESHOLDS) == kernel.WAIT_MS + 1
    assert all(threshold.unit and threshold.source for threshold in kernel.THRESHOLDS)


def test_a_changed_threshold_changes_its_rule_and_no_other():
    events = [click(0), click(1200), click(2400), page(9000, 1), page(9001, 1)]
    state = started()
    for event in events:
        limits = kernel.limits_with({"rageMs": 1300, "loopVisits": 2})
        kernel.update(KINDS.index(event.kind), *event[1:], limits, *state)
    seen = {name: count for name, (count, _) in told(state[0]).items() if count}
    assert seen == {**fired(*events), "rageClick": 1, "pageLoop": 1}
    np.testing.assert_array_equal(kernel.limits_with({}), kernel.DEFAULTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rage": 3}, "unknown friction threshold rage: choose one of rageClicks, ragePixels"),
        ({"loopVisits": 17}, "loopVisits is 17: give a whole number from 2 to 16"),
        ({"thrashTurns": 9}, "thrashTurns is 9: give a whole number from 2 to 8"),
        ({"refocuses": 2.5}, "refocuses is 2.5: give a whole number from 2 to 16"),
        ({"deadMs": float("nan")}, "deadMs is nan: give a number from 0 to 1e\\+09"),
        ({"thrashCosine": -1.5}, "thrashCosine is -1.5: give a number from -1 to 1"),
    ],
)
def test_a_threshold_out_of_range_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        kernel.limits_with(changes)


SIMULATED = """
import sys
import numpy as np
from kernels import compile
from kernels.sessions import friction
assert compile.SIMULATED
with np.load(sys.argv[1]) as stored:
    arrays = [stored[f"arr_{place}"] for place in range(8)]
sessions = len(arrays[0]) - 1
ints, reals = np.empty((sessions, friction.INTS), np.int64), np.empty((sessions, friction.REALS))
out = np.empty((sessions, 2 * len(friction.COUNTED)), np.int32)
friction.friction_on_cuda(sessions, *arrays, friction.DEFAULTS, reals, ints, out)
np.save(sys.argv[2], out)
"""


def test_the_simulated_cuda_launch_counts_as_the_cpu_does(tmp_path: Path) -> None:
    arrays = random_sessions(40)
    np.savez(tmp_path / "inputs.npz", *arrays)
    simulate(SIMULATED, tmp_path / "inputs.npz", tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), bulk(arrays))


@pytest.mark.gpu
def test_a_gpu_counts_as_the_cpu_does() -> None:
    from numba import cuda

    if not cuda.is_available():
        pytest.skip("no CUDA device here")
    arrays = random_sessions(20_000)
    ints, reals = np.empty((20_000, kernel.INTS), np.int64), np.empty((20_000, kernel.REALS))
    out = np.empty((20_000, 2 * COUNTED), np.int32)
    kernel.friction_on_cuda(20_000, *arrays, kernel.DEFAULTS, reals, ints, out)
    np.testing.assert_array_equal(out, bulk(arrays))
