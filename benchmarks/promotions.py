"""Measure what promotions cost requests: `python -m benchmarks.promotions [--promotions 100]`, from the project's root.

Two bundles in turn become the champion under an open loop of half the peak; the next one once every replica has switched, so that there is
always one under way. Server and load share the cores. Both bundles have the same model under two versions, so that every answer can be
compared with the right one. Blocks of a few promotions and blocks of the same load without any alternate, and the medians of their p99 are
compared: whatever else the machine does, it does to both, and so do the requests for metrics. What passes while the callers open
their connections is not counted. Writes benchmarks/results/promotions.json.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import median
from typing import Any, TypeVar

from benchmarks import results
from benchmarks.comparison import CONNECTIONS, MAX_CONNECTIONS, PEERS, running
from benchmarks.harness import Questions, Report, load, loading, log, metrics, report_of, without_errors
from benchmarks.peers.ours import ALIAS
from benchmarks.workload import make
from training.registry.registry import Registry

T = TypeVar("T")

PEAK_S = 5.0
BLOCK = 5  # promotions
STEADY_S = 4.0  # about what a block of them takes
LOOK_S = 0.2  # between two looks at the metrics
WARM_UP_S = 1.5  # in which the callers' connections are opened
SHARE = 0.5
MAX_S = 500.0
SWITCH_S = 30.0  # a switch that takes longer has failed
SWITCHES, REPLICAS = "revenue_engine_model_switches_total", "revenue_engine_replicas"
FIGURES = ("requests", "errors", "rate", "p50_ms", "p99_ms", "p999_ms", "lag")


def promote(questions: Questions, registry: Registry, names: Sequence[str], numbers: Iterable[int]) -> list[float]:
    """Promote the bundles in turn, the promotions being counted on, and return the seconds that each took to be live."""
    took = []
    for number in numbers:
        before, began = metrics(questions.url), time.monotonic()
        wanted = before.get(SWITCHES, 0.0) + before[REPLICAS]
        registry.promote(f"purchase/{names[number % len(names)]}", ALIAS)
        while metrics(questions.url).get(SWITCHES, 0.0) < wanted:  # every replica: else the next one could come before one has looked
            if time.monotonic() - began > SWITCH_S:
                raise RuntimeError(f"promotion {number + 1} was not live after {SWITCH_S:g} s; nothing is recorded")
            time.sleep(LOOK_S)
        took.append(round(time.monotonic() - began, 2))
    return took


def look_on(questions: Questions) -> None:
    """Look at the metrics as often as `promote` does, and promote nothing."""
    end = time.monotonic() + STEADY_S
    while time.monotonic() < end:
        metrics(questions.url)
        time.sleep(LOOK_S)


def under_load(questions: Questions, rate: float, act: Callable[[], T]) -> tuple[Report, T]:
    """Return the report of the load while something is done, and what that returned."""
    options = ("--rate", rate, "--warm-up", WARM_UP_S, "--seconds", MAX_S, "--connections", MAX_CONNECTIONS)
    with loading(questions, *options) as process:
        time.sleep(WARM_UP_S)
        done = act()
        process.send_signal(signal.SIGTERM)
        return report_of(process, questions.url), done


def compared(steady: list[Report], promoting: list[Report]) -> dict[str, Any]:
    """Return the figures of the blocks without promotions and with them, and how the medians of their p99 compare."""
    p99 = {name: median(each["p99_ms"] for each in blocks) for name, blocks in (("steady", steady), ("promoting", promoting))}
    return {
        "failed": sum(sum(each["errors"].values()) for each in promoting),
        "steady": [{key: each[key] for key in FIGURES} for each in steady],
        "promoting": [{key: each[key] for key in FIGURES} for each in promoting],
        "p99_ms": p99,
        "p99_times_steady": round(p99["promoting"] / p99["steady"], 3),
    }


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--promotions", type=int, default=100)
    times = parser.parse_args().promotions
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = make(log)
    home = work.folder / "home"  # where benchmarks/peers/ours.py puts it
    registry = Registry(str(home / "models"), home / "fetched")
    with running(PEERS[0], work) as questions:
        names = [registry.add(folder).name for folder in (work.other, work.bundle)]
        load(questions, "--connections", CONNECTIONS, "--seconds", PEAK_S)
        peak = without_errors(load(questions, "--connections", CONNECTIONS, "--seconds", PEAK_S), questions.url)["rate"]
        rate = round(SHARE * peak, 1)
        log(f"the peak: {peak:,.0f} answers/s; {rate:,.0f} a second are offered")
        steady, promoting, took = list[Report](), list[Report](), list[float]()
        for first in range(0, times, BLOCK):
            steady.append(without_errors(under_load(questions, rate, partial(look_on, questions))[0], questions.url))
            numbers = range(first, min(first + BLOCK, times))
            report, seconds = under_load(questions, rate, partial(promote, questions, registry, names, numbers))
            promoting.append(report)
            took += seconds
            last = f"p99 {report['p99_ms']:.2f} ms, without {steady[-1]['p99_ms']:.2f} ms"
            log(f"{len(took)} promotions: {report['errors'] or 'no error'}, {last}")
    found = {"promotions": times, "peak": peak, "offered": rate, "seconds_to_live": took, **compared(steady, promoting)}
    results.conclude("promotions", found, write=True)


if __name__ == "__main__":
    main()
