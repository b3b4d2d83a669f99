"""The plots are made of the results and of nothing else."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.plot import PLOTS
from benchmarks.svg import Scale, rounds
from tests.benchmarks import stored

SVG = "{http://www.w3.org/2000/svg}"
MAX_BYTES = 40_000
SHOWN = {
    "comparison": (
        "ours & theirs (whole endpoint)",
        "in batches (whole endpoint)",
        "another (bare model)",
        "1,234",
        "4,000",
        "parse",
        "450",
    ),
    "latency": ("ours & theirs", "another", "10 ms", "ours & theirs, p50", "milliseconds"),
    "overload": ("good: right, in time", "refused with Retry-After", "share of the peak"),
    "kernel_rates": ("revenue-engine", "XGBoost 9", "rows at a time", "1,000"),
    "profit": ("today's prices", "oracle with the true elasticities", "1,100"),
    "costs": ("One row against trees (gray: XGBoost)", "interactions in the request"),
}


def drawn(name):
    result, draw = PLOTS[name]
    return draw(getattr(stored, result)())


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_light_xml_that_names_what_it_shows(name):
    text = drawn(name)
    texts = [element.text for element in ET.fromstring(text).iter(f"{SVG}text")]
    assert [shown for shown in SHOWN[name] if shown not in texts] == []
    assert len(text) < MAX_BYTES


def test_the_bars_are_as_long_as_the_rates_and_the_highest_comes_first():
    bars = ET.fromstring(drawn("comparison")).findall(f"{SVG}rect")[1:4]
    batch, ours, other = (float(bar.get("width")) for bar in bars)
    assert batch / ours == pytest.approx(4000 / 1234.4, rel=0.01)
    assert ours / other == pytest.approx(1234.4 / 150, rel=0.02)


def test_a_line_has_a_point_for_each_run_from_left_to_right():
    lines = ET.fromstring(drawn("latency")).findall(f"{SVG}polyline")
    points = [tuple(map(float, point.split(","))) for point in lines[0].get("points").split()]
    assert len(points) == 3
    assert points == sorted(points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)  # up is more


@given(st.floats(0.01, 1e6), st.floats(1.5, 1e4), st.booleans())
def test_an_axis_runs_from_end_to_end_and_its_ticks_lie_on_it(low, factor, logarithmic):
    scale = Scale("x", low, low * factor, logarithmic)
    assert (scale.at(scale.low), scale.at(scale.high)) == pytest.approx((0, 1))
    assert all(low * 0.999 <= tick <= low * factor * 1.001 for tick in scale.ticks())
    places = [scale.at(tick) for tick in scale.ticks()]
    assert places == sorted(places)


@given(st.floats(1e-3, 1e9))
def test_round_ticks_cover_the_most(most):
    ticks = rounds(most)
    assert ticks[0] == 0
    assert ticks[-1] >= most * 0.999
    assert 3 <= len(ticks) <= 8
