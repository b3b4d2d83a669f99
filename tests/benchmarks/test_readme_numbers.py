"""The README's numbers come from the results and from nothing else."""

import copy

import pytest

from benchmarks import readme_numbers, results
from benchmarks.readme_numbers import README, SECTIONS, rewrite, right
from benchmarks.stages import stages
from tests.benchmarks import stored

NAME = "overload"
BEGIN, END = f"<!-- {NAME}:begin -->", f"<!-- {NAME}:end -->"
SHOWN = {
    "comparison": (
        "| ours & theirs | the whole purchase endpoint | **1,234** (1,224 to 1,244)",
        "| in batches | the whole purchase endpoint | **4,000** (3,000 to 5,000)",
        "8.2 times another",
        "Not measured: a third (it would not start).",
        "| parse | 50 | 40 |",
        "the same 2 cores",
        "2026-11-22",
        "benchmarks/results/latency.svg",
    ),
    "overload": ("| 1 (12 s) | 990 | **99%** | 100.00% | 0 | none |", "**87%** | 99.95% | 10 | 1.5 ms | 101 to 102 |", "1,000 answers/s"),
    "promotions": ("**0 failed**", "**1.20 times**", "2.40 ms, in turn without promotions 2.00 ms", "live after 1.0 s"),
    "single_flight": ("1,000 callers", "**1 call of the model** for 1 row"),
    "price_rates": ("takes 3 µs", "**10.0 times**", "**70 times**", "1,000,000 products takes 1.2 s", "**12.0 times**"),
    "profit": ("10 simulated shops, 2,000 products", "**98.2%**", "10.0% more", "79.1% of the truths"),
    "kernel_rates": ("| 1 row | 5 | 400 (**80.0**) |", "| 1,024 rows | 900 | 5,000 (**5.6**) |", "another is missing: no wheel."),
    "costs": ("20 µs with 0 and 60 µs with 200 interactions",),
}


@pytest.mark.parametrize("name", SHOWN)
def test_the_numbers_in_the_readme_are_those_of_the_results(name):
    text = "\n".join(SECTIONS[name](getattr(stored, name)()))
    for shown in SHOWN[name]:
        assert shown in text
    assert f"`python -m benchmarks.{name}`" in text


def test_other_results_are_other_numbers():
    found = stored.overload()
    other = copy.deepcopy(found)
    other["offered"][0]["goodput"] = 980.0
    assert list(SECTIONS[NAME](found)) != list(SECTIONS[NAME](other))


def test_the_readme_shows_the_numbers_of_the_results_in_the_repository():
    text = README.read_text()
    assert text == right(text)


def test_every_result_in_the_repository_says_where_and_of_what_it_was_made():
    found = {file.stem: results.read(file.stem) for file in results.FOLDER.glob("*.json")}
    assert found
    for name, result in found.items():
        assert {"date", "commit", "machine", "versions", "command"} <= set(result), name


def test_the_stages_and_the_rest_add_up_to_the_round_trip():
    told = stages(stored.comparison())
    assert [stage.name for stage in told][:2] == ["parse", "model"]
    assert sum(stage.mean_us for stage in told) == pytest.approx(1000)


def test_only_what_is_between_the_markers_is_rewritten():
    text = f"# Title\n{BEGIN}\nold\n{END}\nThe rest.\n"
    once = rewrite(text, NAME, stored.overload())
    assert once.startswith(f"# Title\n{BEGIN}\n| offered")
    assert once.endswith(f"{END}\nThe rest.\n")
    assert "old" not in once
    assert rewrite(once, NAME, stored.overload()) == once


def test_without_a_result_a_section_is_empty():
    text = f"# Title\n{BEGIN}\nold\n{END}\nThe rest.\n"
    assert rewrite(text, NAME, None) == f"# Title\n{BEGIN}\n{END}\nThe rest.\n"


@pytest.mark.parametrize("text", ["", BEGIN, END + BEGIN, f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_readme_without_its_markers_is_refused(text):
    with pytest.raises(ValueError, match=f"one {BEGIN}"):
        rewrite(text, NAME, stored.overload())


def test_every_plot_that_the_numbers_show_is_drawn():
    from benchmarks.plot import PLOTS

    text = "\n".join(line for name in SHOWN for line in readme_numbers.SECTIONS[name](getattr(stored, name)()))
    assert {name for name in PLOTS if f"(benchmarks/results/{name}.svg)" in text} == set(PLOTS)
