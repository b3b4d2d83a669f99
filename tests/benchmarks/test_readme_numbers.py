"""The README's numbers and the plot come from the results and from nothing else."""

import copy
import xml.etree.ElementTree as ET

import pytest

from benchmarks import plot
from benchmarks.readme_numbers import README, endpoint, rewrite, right, stages
from benchmarks.workload import INTERACTIONS, twenty

NAME = "purchase_endpoint"
BEGIN, END = f"<!-- {NAME}:begin -->", f"<!-- {NAME}:end -->"


def markdown(results):
    return "\n".join(endpoint(results))


def contestant(label, rate):
    spread = {"median": rate, "lowest": rate - 10, "highest": rate + 10}
    alone = {"requests": 1000, "mean_ms": 1.0, "p50_ms": 0.9, "p99_ms": 2.0, "stages": {}}
    return {"label": label, "rate": spread, "p50_ms": spread, "p99_ms": spread, "server_cpu_ms": spread, "one_connection": alone}


@pytest.fixture
def results():
    ours = contestant("ours & theirs", 1234.4)
    ours["one_connection"]["stages"] = {"parse": {"mean_ms": 0.05, "p50_ms": 0.04}, "model": {"mean_ms": 0.45, "p50_ms": 0.44}}
    return {
        "date": "2026-11-22T10:00:00Z",
        "command": "python benchmarks/run.py",
        "machine": {"cpu": "A Processor", "cores": 2, "memoryGiB": 23.5},
        "versions": {"python": "3.11.9"},
        "workload": {"interactions": 20, "connections": 32, "seconds": 8.0, "repeats": 3},
        "times_the_rate_of": {"other": 8.23},
        "contestants": {"ours": ours, "other": contestant("another", 150.0)},
    }


def test_the_numbers_in_the_readme_are_those_of_the_results(results):
    text = markdown(results)
    for shown in ("**1,234** (1,224 to 1,244)", "8.2 times the rate of another", "| parse | 50 | 40 |", "2026-11-22", "the same 2 cores"):
        assert shown in text
    other = copy.deepcopy(results)
    other["contestants"]["ours"]["rate"]["median"] = 1300
    assert markdown(other) != text


def test_the_readme_shows_the_numbers_of_the_results_in_the_repository():
    text = README.read_text()
    assert text == right(text)


def test_the_stages_and_the_rest_add_up_to_the_round_trip(results):
    assert [stage.name for stage in stages(results)][:2] == ["parse", "model"]
    assert sum(stage.mean_us for stage in stages(results)) == pytest.approx(1000)


def test_only_what_is_between_the_markers_is_rewritten(results):
    text = f"# Title\n{BEGIN}\nold\n{END}\nThe rest.\n"
    once = rewrite(text, NAME, results)
    assert once.startswith(f"# Title\n{BEGIN}\n| server")
    assert once.endswith(f"{END}\nThe rest.\n")
    assert "old" not in once
    assert rewrite(once, NAME, results) == once


@pytest.mark.parametrize("text", ["", BEGIN, END + BEGIN, f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_readme_without_its_markers_is_refused(results, text):
    with pytest.raises(ValueError, match=f"one {BEGIN}"):
        rewrite(text, NAME, results)


def test_the_plot_is_xml_that_names_every_contestant_stage_and_axis(results):
    texts = [element.text for element in ET.fromstring(plot.svg(results)).iter("{http://www.w3.org/2000/svg}text")]
    for shown in ("ours & theirs", "another", "1,234", "150", "parse", "model", "450"):
        assert shown in texts
    assert any("requests per second" in text for text in texts)
    assert any("microseconds" in text for text in texts)


def test_the_bars_of_the_plot_are_as_long_as_the_rates(results):
    bars = ET.fromstring(plot.svg(results)).findall("{http://www.w3.org/2000/svg}rect")[1:3]
    ours, other = (float(bar.get("width")) for bar in bars)
    assert ours / other == pytest.approx(1234.4 / 150, rel=0.01)


def test_requests_have_exactly_twenty_interactions_and_short_sessions_are_left_out():
    requests = [{"sessionId": n, "behaviorData": {"interactions": list(range(n))}} for n in (0, 19, 20, 21, 300)]
    kept = twenty(requests)
    assert [request["sessionId"] for request in kept] == [20, 21, 300]
    assert all(request["behaviorData"]["interactions"] == list(range(INTERACTIONS)) for request in kept)
