"""Turns benchmarks/results/*.json into the numbers that the README shows, so that none is typed by hand.

    python benchmarks/readme_numbers.py [--check]

They stand between their marker comments in README.md; --check writes nothing and ends with exit code 1 when README.md shows others.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
REST = "HTTP, sockets and the client"

Results = dict[str, Any]


class Stage(NamedTuple):
    """One part of the cost of a request, microseconds; `p50_us` is None where only the mean is known."""

    name: str
    mean_us: float
    p50_us: float | None


def stages(results: Results) -> list[Stage]:
    """Return the cost of one request of ours by stage, as Server-Timing tells it, and last what is left of the round trip."""
    alone = results["contestants"]["ours"]["one_connection"]
    told = [Stage(name, stage["mean_ms"] * 1000, stage["p50_ms"] * 1000) for name, stage in alone["stages"].items()]
    return [*told, Stage(REST, alone["mean_ms"] * 1000 - sum(stage.mean_us for stage in told), None)]


def endpoint(results: Results) -> Iterator[str]:
    """Yield the numbers of results/purchase_endpoint.json as lines of Markdown."""
    yield from (*_rates(results), "", *_conditions(results), "", *_cost(results))


def model(results: Results) -> Iterator[str]:
    """Yield the numbers of results/purchase_model.json."""
    metrics = results["metrics"]
    special = metrics["specialists"]
    rows = {
        "**the served model**, all that the table records": metrics,
        "**the served model**, `PageValues` missing": metrics["without_page_values"],
        "the served model, no page statistics at all": metrics["without_page_statistics"],
        "a model trained for all columns alone": special["whole"],
        "a model trained without `PageValues` alone": special["without_page_values"],
    }
    yield "| purchase, UCI online shoppers | AUC | average precision | log loss | Brier | ECE |"
    yield "|---|---|---|---|---|---|"
    for name, figures in rows.items():
        yield f"| {name} | " + " | ".join(f"{figures[key]:.4f}" for key in MEASURES) + " |"
    yield ""
    confidence = metrics["confidence"]["whole"]
    yield (
        f"{metrics['rows']:,} of the data set's 12,330 sessions (the rest is kept apart), {metrics['folds']}-fold, out of fold with the "
        f"calibration inside the fold, seed {metrics['seed']}; ECE: 10 equal-mass bins. `PageValues` is filled in from later transactions: "
        "the figures without it are the honest ones while a session runs. The distance that `confidenceScore` states held for "
        f"{confidence['rows_within']:.1%} of held-out sessions and {confidence['groups_within']} of {confidence['groups']} groups of them. "
        f"`{results['command']}`, "
        f"{results['seconds']:.0f} s on {results['machine']['cores']} cores, {results['date'][:10]}."
    )


def drains(results: Results) -> Iterator[str]:
    """Yield the numbers of results/drains.json."""
    yield (
        f"{results['drains']} drains by rolling update under load, {results['answered']:,} requests, half of them over new connections, no "
        f"retries: **{results['failed']} failed** ({results['machine']['cores']} cores, {results['date'][:10]}, `{results['command']}`)."
    )


SECTIONS: dict[str, Callable[[Results], Iterator[str]]] = {"purchase_endpoint": endpoint, "purchase_model": model, "drains": drains}
MEASURES = ("auc", "average_precision", "log_loss", "brier", "ece")


def rewrite(text: str, name: str, results: Results) -> str:
    """Return the README's text with one section's numbers between its markers. Raises ValueError when it has not one of each, in order."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed or begin in after or end in before + after:
        raise ValueError(f"the README needs one {begin} and, after it, one {end}")
    return "\n".join([f"{before}{begin}", *SECTIONS[name](results), f"{end}{after}"])


def right(text: str) -> str:
    """Return the README's text with the numbers of all results."""
    for name in SECTIONS:
        text = rewrite(text, name, json.loads((RESULTS / f"{name}.json").read_text()))
    return text


def _rates(results: Results) -> Iterator[str]:
    yield "| server | requests/s (lowest to highest) | p50 / p99, ms | server's CPU for a request, ms | one connection: p50, ms |"
    yield "|---|---|---|---|---|"
    for one in results["contestants"].values():
        rate = one["rate"]
        yield (
            f"| {one['label']} | **{rate['median']:,.0f}** ({rate['lowest']:,.0f} to {rate['highest']:,.0f}) "
            f"| {one['p50_ms']['median']:.1f} / {one['p99_ms']['median']:.1f} | {one['server_cpu_ms']['median']:.2f} "
            f"| {one['one_connection']['p50_ms']:.2f} |"
        )


def _conditions(results: Results) -> Iterator[str]:
    work, machine = results["workload"], results["machine"]
    times = " and ".join(f"{ratio:.1f} times the rate of {_label(results, name)}" for name, ratio in results["times_the_rate_of"].items())
    yield (
        f"That is {times}. One purchase request with {work['interactions']} interactions, cache off, {work['connections']} connections, "
        f"one replica; median of {work['repeats']} × {work['seconds']:g} s in rotation, server and load generator on the same "
        f"{machine['cores']} cores ({machine['cpu']}, {machine['memoryGiB']:g} GiB), Python {results['versions']['python']}, "
        f"{results['date'][:10]}, by `{results['command']}`."
    )


def _cost(results: Results) -> Iterator[str]:
    alone = results["contestants"]["ours"]["one_connection"]
    yield f"What one request costs, stage by stage, over {alone['requests']:,} requests one after the other:"
    yield ""
    yield "| stage | mean, µs | p50, µs |"
    yield "|---|---|---|"
    for stage in stages(results):
        yield f"| {stage.name} | {stage.mean_us:,.0f} | {'' if stage.p50_us is None else f'{stage.p50_us:,.0f}'} |"
    yield f"| the whole round trip | {alone['mean_ms'] * 1000:,.0f} | {alone['p50_ms'] * 1000:,.0f} |"


def _label(results: Results, name: str) -> str:
    label: str = results["contestants"][name]["label"]
    return label


def main() -> None:
    """Write the numbers into the README, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when README.md shows other numbers")
    options = parser.parse_args()
    shown = README.read_text()
    wanted = right(shown)
    if not options.check:
        README.write_text(wanted)
    elif shown != wanted:
        sys.exit("README.md does not show the numbers of the results; run: python benchmarks/readme_numbers.py")


if __name__ == "__main__":
    main()
