"""What is left when more is asked than can be answered: `python -m benchmarks.overload [--seconds 60]`, from the project's root.

The server has one core and the load generator the other. The peak is what 32 connections get; then the open loop offers 1 to 5 times as
much, twice and four times as much for a minute each. Every request states its deadline; good is a right answer within it, counted from when
the request was due. The peak is measured anew before and after each of them, and goodput is a share of the mean of both: a machine that
others use too is not always as fast. Writes benchmarks/results/overload.json.
"""

import argparse
import contextlib
import signal
import statistics
import sys
from typing import Any

from benchmarks import results
from benchmarks.comparison import CONNECTIONS, PEERS, running
from benchmarks.harness import Questions, Report, Servers, load, log, pinned, two_cores
from benchmarks.workload import make

DEADLINE_MS = 100
MAX_CONNECTIONS = 1024  # the callers' pool: who has none of them within the deadline gives up
LONG, SHORT = (2.0, 4.0), (1.0, 3.0, 5.0)  # times the peak
SHORT_S = 12.0
WARM_UP_S = 2.0  # in which the callers' connections are opened
PEAK_S, PEAKS = 3.0, 3
KEPT = (
    *("offered", "seconds", "sent", "requests", "goodput", "late", "p50_ms", "p99_ms", "p999_ms"),
    *("errors", "refused", "counts", "lag", "cpu_s", "max_connections"),
)
DEGRADATION, BASE_RATE = '"degradation":"', "base-rate"


def peak(questions: Questions, core: int) -> float:
    """Return what 32 connections get, answers a second: the median of several runs."""
    options = ("--connections", CONNECTIONS, "--seconds", PEAK_S)
    rates: list[float] = [load(questions, *options, core=core)["rate"] for _ in range(PEAKS)]
    log(f"the peak: {statistics.median(rates):,.0f} answers/s")
    return statistics.median(rates)


def offer(questions: Questions, times: float, peak_rate: float, seconds: float, core: int, field: str = DEGRADATION) -> dict[str, Any]:
    """Return the figures of an open loop at so many times the peak. `field`: the text before the kind of degradation in an answer."""
    servers = Servers()
    before = servers.rss_mib()
    options = ("--rate", round(times * peak_rate, 1), "--warm-up", WARM_UP_S, "--seconds", seconds, "--connections", MAX_CONNECTIONS)
    deadline = ("--deadline-ms", DEADLINE_MS, "--state-deadline", "--count", field, "--degraded", f'{field}{BASE_RATE}"')
    report = load(questions, *options, *deadline, core=core)
    after = servers.rss_mib()
    around = (peak_rate + peak(questions, core)) / 2
    found = {"times": times, "peak": round(around, 1), "rss_mib": [before, after], **figures(report, around)}
    log(
        f"{times:g} times the peak: goodput {found['goodput_share']:.0%}, {found['in_deadline']:.3%} of the accepted in time, "
        f"{found['refused']['count']:,} refused, {found['errors']}"
    )
    return found


def figures(report: Report, peak_rate: float) -> dict[str, Any]:
    """Return the figures of a report on an overload."""
    degraded = report["errors"].get("degraded", 0)
    accepted = report["requests"] + degraded
    return {
        **{key: report[key] for key in KEPT},
        "goodput_share": round(report["goodput"] / peak_rate, 4),
        "in_deadline": round((accepted - report["late"]) / accepted, 6) if accepted else 0.0,
        "refusals_without_retry_after": report["refused"]["without_retry_after"],
    }


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of two and of four times the peak (%(default)s)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    server, generator = two_cores()
    work = make(log)
    log("starting the server on one core")
    with contextlib.ExitStack() as stack:
        with pinned(server):
            questions = stack.enter_context(running(PEERS[0], work))
        load(questions, "--connections", CONNECTIONS, "--seconds", PEAK_S, core=generator)  # to warm up
        plan = sorted([(times, options.seconds) for times in LONG] + [(times, min(SHORT_S, options.seconds)) for times in SHORT])
        offered = [offer(questions, times, peak(questions, generator), seconds, generator) for times, seconds in plan]
    peak_rate = statistics.median(each["peak"] for each in offered)
    found = {"workload": {**work.facts, "deadline_ms": DEADLINE_MS, "connections": CONNECTIONS}, "peak": peak_rate, "offered": offered}
    results.conclude("overload", found, write=True)


if __name__ == "__main__":
    main()
