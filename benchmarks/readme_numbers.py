"""Turns results/purchase_endpoint.json into the numbers that the README shows, so that none is typed by hand.

    python benchmarks/readme_numbers.py [--write | --check]

Without an option it prints them; --write puts them into README.md, between its two marker comments; --check ends with exit code 1 when
README.md shows others.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "purchase_endpoint.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- numbers:begin -->", "<!-- numbers:end -->"
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


def markdown(results: Results) -> str:
    """Return the numbers as Markdown, without the markers."""
    return "\n".join([*_rates(results), "", *_conditions(results), "", *_cost(results)])


def rewrite(text: str, results: Results) -> str:
    """Return the README's text with the numbers between its markers. Raises ValueError when it has not one of each, in order."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in before + after:
        raise ValueError(f"the README needs one {BEGIN} and, after it, one {END}")
    return f"{before}{BEGIN}\n{markdown(results)}\n{END}{after}"


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
    """Print the numbers, write them into the README, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="put the numbers into README.md")
    what.add_argument("--check", action="store_true", help="exit code 1 when README.md shows others")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text())
    if not options.write and not options.check:
        print(markdown(results))
        return
    shown = README.read_text()
    right = rewrite(shown, results)
    if options.write:
        README.write_text(right)
    elif shown != right:
        sys.exit("README.md does not show the numbers of the results; run: python benchmarks/readme_numbers.py --write")


if __name__ == "__main__":
    main()
