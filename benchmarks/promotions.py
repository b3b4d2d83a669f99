"""What promotions cost those who ask meanwhile: `python -m benchmarks.promotions [--promotions 100]`, from the project's root.

Two bundles in turn become the champion under an open loop of half the peak; the next one once the server has switched. Server and load
share the cores. Both bundles hold the same model under two versions, so that every answer can be held against the right one. The same load
without promotions, before and after, is what it is compared with. Writes benchmarks/results/promotions.json.
"""

import argparse
import signal
import sys
import time
from typing import Any

from benchmarks import results
from benchmarks.contest import CONNECTIONS, CONTESTANTS, MOST_CONNECTIONS, running
from benchmarks.contestants.ours import ALIAS
from benchmarks.gauge import Questions, Report, clean, load, loading, metrics, report_of, say
from benchmarks.workload import Workload, make
from training.registry import Registry

PEAK_S = 5.0
STEADY_S = 20.0
SHARE = 0.5
MOST_S = 500.0
SWITCH_S = 30.0  # a switch that takes longer has failed
SWITCHES, REPLICAS = "revenue_engine_model_switches_total", "revenue_engine_replicas"
FIGURES = ("requests", "errors", "rate", "p50_ms", "p99_ms", "p999_ms", "lag")


def promote(questions: Questions, work: Workload, times: int) -> list[float]:
    """Promote the two bundles in turn and return the seconds that each took to be live."""
    home = work.folder / "home"  # where benchmarks/contestants/ours.py puts it
    registry = Registry(str(home / "models"), home / "fetched")
    names = [registry.add(folder).name for folder in (work.other, work.bundle)]
    began_with = metrics(questions.url)
    took = []
    for number in range(times):
        wanted, began = began_with.get(SWITCHES, 0.0) + (number + 1) * began_with[REPLICAS], time.monotonic()
        registry.promote(f"purchase/{names[number % 2]}", ALIAS)
        while metrics(questions.url).get(SWITCHES, 0.0) < wanted:  # every replica: else the next one could come before one has looked
            if time.monotonic() - began > SWITCH_S:
                raise RuntimeError(f"promotion {number + 1} was not live after {SWITCH_S:g} s; nothing is recorded")
            time.sleep(0.2)
        took.append(round(time.monotonic() - began, 2))
    return took


def under_load(questions: Questions, work: Workload, rate: float, times: int) -> tuple[Report, list[float]]:
    """Return the report of the load during so many promotions, and what each took."""
    options = ("--rate", rate, "--seconds", MOST_S, "--connections", MOST_CONNECTIONS)
    with loading(questions, *options) as process:
        time.sleep(1.0)
        took = promote(questions, work, times)
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        return report_of(process, questions.url), took


def compared(steady: list[Report], report: Report) -> dict[str, Any]:
    """Return the figures of the steady runs and of the promotions, and how they compare."""
    mean = sum(each["p99_ms"] for each in steady) / len(steady)
    return {
        "failed": sum(report["errors"].values()),
        "steady": [{key: each[key] for key in FIGURES} for each in steady],
        "promoting": {key: report[key] for key in FIGURES},
        "p99_times_steady": round(report["p99_ms"] / mean, 3),
    }


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--promotions", type=int, default=100)
    times = parser.parse_args().promotions
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = make(say)
    with running(CONTESTANTS[0], work) as questions:
        load(questions, "--connections", CONNECTIONS, "--seconds", PEAK_S)
        peak = clean(load(questions, "--connections", CONNECTIONS, "--seconds", PEAK_S), questions.url)["rate"]
        rate = round(SHARE * peak, 1)
        say(f"the peak: {peak:,.0f} answers/s; {rate:,.0f} a second are offered")
        calm = ("--rate", rate, "--seconds", STEADY_S, "--connections", MOST_CONNECTIONS)
        before = clean(load(questions, *calm), questions.url)
        report, took = under_load(questions, work, rate, times)
        say(f"{times} promotions: {report['errors'] or 'no error'}, p99 {report['p99_ms']:.2f} ms, before {before['p99_ms']:.2f} ms")
        after = clean(load(questions, *calm), questions.url)
    found = {"promotions": times, "peak": peak, "offered": rate, "seconds_to_live": took, **compared([before, after], report)}
    results.conclude("promotions", found, write=True)


if __name__ == "__main__":
    main()
