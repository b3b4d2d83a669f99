"""The numbers of the README and of docs/benchmarks.md come from the results and from nothing else."""

import copy

import pytest

from benchmarks import readme_numbers, results
from benchmarks.readme_numbers import FILES, PAGE, README, SECTIONS, rewrite, right_page, summary
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
def test_the_numbers_on_the_page_are_those_of_the_results(name):
    text = "\n".join(SECTIONS[name](getattr(stored, name)()))
    for shown in SHOWN[name]:
        assert shown in text
    assert f"`python -m benchmarks.{name}`" in text


def test_other_results_are_other_numbers():
    found = stored.overload()
    other = copy.deepcopy(found)
    other["offered"][0]["goodput"] = 980.0
    assert list(SECTIONS[NAME](found)) != list(SECTIONS[NAME](other))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_file_shows_the_numbers_of_the_results_in_the_repository(file):
    text = file.read_text()
    assert text == FILES[file](text)


def test_the_files_are_the_readme_and_the_page_of_the_documentation():
    assert set(FILES) == {README, PAGE}


def test_the_readme_has_five_numbers_and_one_plot_made_from_the_results():
    text = "\n".join(summary({name: getattr(stored, name)() if name in SHOWN else None for name in SECTIONS}))
    for shown in (
        "**1,234 purchase scores/s**",
        "**87% of the peak** is still answered when 2 times the peak is offered; 99.95%",
        "**0 of 10,000 requests failed** while 100 model promotions",
        "**5 µs** for one row through 200 trees, 80 times as fast as XGBoost 9",
        "**98.2%** of the profit",
        "2 cores (A Processor, 23.5 GiB), 2026-11-22",
    ):
        assert shown in text
    assert len([line for line in text.splitlines() if line.startswith("- ")]) == 5
    assert text.count("![") == 1


def test_a_line_of_the_readme_without_its_result_is_left_out():
    lines = list(summary({name: stored.overload() if name == "overload" else None for name in SECTIONS}))
    assert next(line for line in lines if line.startswith("- ")).startswith("- **87%")
    assert not any("![" in line for line in lines)
    assert list(summary(dict.fromkeys(SECTIONS))) == []


def test_every_result_in_the_repository_names_its_machine_and_commit():
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
    once = rewrite(text, NAME, SECTIONS[NAME](stored.overload()))
    assert once.startswith(f"# Title\n{BEGIN}\n| offered")
    assert once.endswith(f"{END}\nThe rest.\n")
    assert "old" not in once
    assert rewrite(once, NAME, SECTIONS[NAME](stored.overload())) == once


def test_without_a_result_a_section_is_empty(monkeypatch):
    monkeypatch.setattr(results, "read", lambda name: None)
    text = "\n".join(f"<!-- {name}:begin -->\nold\n<!-- {name}:end -->" for name in SECTIONS)
    assert right_page(text) == "\n".join(f"<!-- {name}:begin -->\n<!-- {name}:end -->" for name in SECTIONS)


@pytest.mark.parametrize("text", ["", BEGIN, END + BEGIN, f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_text_without_its_markers_is_refused(text):
    with pytest.raises(ValueError, match=f"one {BEGIN}"):
        rewrite(text, NAME, SECTIONS[NAME](stored.overload()))


def test_every_plot_that_the_numbers_show_is_drawn():
    from benchmarks.plot import PLOTS

    text = "\n".join(line for name in SHOWN for line in readme_numbers.SECTIONS[name](getattr(stored, name)()))
    assert {name for name in PLOTS if f"(../benchmarks/results/{name}.svg)" in text} == set(PLOTS)
