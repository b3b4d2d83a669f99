"""Live events are sorted by time within their session; later events than asked for, and ignored kinds, are left out."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kernels.sessions import timeline
from kernels.sessions.timeline import IGNORED
from tests.naive import sessions as naive

Session = tuple[list[tuple[float, int]], float]  # (moment, kind) of each event, and until when

SESSIONS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from([0.0, 1.0, 1.4, 1.5, 2.5, 7.0]), st.sampled_from([IGNORED, 0, 1, 7]))),
        st.sampled_from([math.nan, 1.0, 1.4, 5.0]),
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=300)
@given(SESSIONS)
def test_the_columns_are_those_of_the_definition(sessions: list[Session]) -> None:
    sizes = [len(events) for events, _ in sessions]
    table = np.zeros((sum(sizes), timeline.WIDTH))
    flat = [event for events, _ in sessions for event in events]
    table[:, timeline.MOMENT] = [moment for moment, _ in flat]
    table[:, timeline.KIND] = [kind for _, kind in flat]
    table[:, timeline.X] = [number for size in sizes for number in range(size)]
    table[:, timeline.Y] = math.nan
    table[:, timeline.TARGET] = table[:, timeline.X] - 1
    out = [np.empty(len(table), dtype) for dtype in (np.int8, np.int8, np.int64, np.float32, np.float32, np.int64, np.float32)]
    ends, latest = np.empty(len(sizes) + 1, np.int64), np.empty(len(sizes))
    timeline.columns(table, np.cumsum([0, *sizes]), np.array([until for _, until in sessions]), ends, *out, latest)
    expected = [naive.columns(events, until) for events, until in sessions]
    assert_array_equal(ends, np.cumsum([0, *map(len, expected)]))
    assert_array_equal(latest, [events[-1][1] if events else math.nan for events in expected])
    numbers, moments, kinds = zip(*(event for events in expected for event in events), strict=True) if ends[-1] else ((), (), ())
    assert_array_equal(out[0][: ends[-1]], kinds)
    assert_array_equal(out[2][: ends[-1]], np.rint(moments))
    assert_array_equal(out[3][: ends[-1]], numbers)
    assert np.isnan(out[4][: ends[-1]]).all()
    assert_array_equal(out[5][: ends[-1]], np.array(numbers) - 1)
