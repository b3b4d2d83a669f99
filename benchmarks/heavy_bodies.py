"""What callers with large bodies do to the others: `python -m benchmarks.heavy_bodies [--quick]`, from the project's root.

The purchase endpoint is asked at a part of its peak, an open loop, alone and while a few callers send it, without a pause, bodies with
300,000 unknown fields, lists of 1,000 requests, or lists of 1,000 wrong items. The server has one core, and so has the load; the callers
with the large bodies run at low priority, so that what is measured is the server. Writes benchmarks/results/heavy_bodies.json.
"""

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec

from benchmarks import results
from benchmarks.comparison import CONNECTIONS
from benchmarks.harness import Questions, Servers, load, loading, log, pinned, report_of, two_cores, without_errors
from benchmarks.peers import ours
from benchmarks.placement import percentile
from benchmarks.servers import free_port
from benchmarks.workload import Workload, make

UNKNOWN_FIELDS, ITEMS = 300_000, 1_000
CALLERS = 4
SHARE = 0.2  # of the peak
ROUNDS, SLICE_S = 5, 5.0
PEAK_S, WARM_UP_S = 4.0, 1.5


def heavy(work: Workload) -> dict[str, bytes]:
    """Return the large bodies by name."""
    request = msgspec.json.decode(work.requests[0])
    return {
        "unknown": msgspec.json.encode({**request, **{f"k{number}": 1 for number in range(UNKNOWN_FIELDS)}}),
        "list": b"[%b]" % b",".join(work.requests[number % len(work.requests)] for number in range(ITEMS)),
        "wrong": b"[%b]"
        % b",".join([msgspec.json.encode({**request, "sessionId": 1, "behaviorData": {"interactions": [{}] * 100}})] * ITEMS),
    }


@contextlib.contextmanager
def served(work: Workload, core: int) -> Iterator[dict[str, Questions]]:
    """Start the server and yield what to ask of it: "single", and each of the large bodies."""
    with contextlib.ExitStack() as stack:
        with pinned(core):
            target = stack.enter_context(ours.start(work.bundle, free_port(), replicas=1))
        expected = [(one,) for one in work.probabilities]
        found = {"single": stack.enter_context(Questions.written(target.url, work.requests, expected))}
        for name, body in heavy(work).items():
            found[name] = stack.enter_context(Questions.written(target.url, [body], None))
        yield found


def beside(questions: dict[str, Questions], name: str, rate: float, core: int, seconds: float) -> dict[str, Any]:
    """Return how single requests did at `rate` a second beside callers of the large body `name`, or "alone"."""
    how = ("--rate", round(rate, 1), "--warm-up", WARM_UP_S, "--seconds", seconds, "--connections", 256)
    if name == "alone":
        report, sent = load(questions["single"], *how, core=core), None
    else:
        more = ("--connections", CALLERS, "--seconds", seconds + WARM_UP_S)
        with loading(questions[name], *more, core=core, low_priority=True) as process:
            report = load(questions["single"], *how, core=core)
            sent = report_of(process, questions[name].url)
    without_errors(report, "single requests")
    more_figures = {} if sent is None else {"heavy_rate": sent["rate"], "heavy_errors": sent["errors"]}
    return {**{key: report[key] for key in ("p50_ms", "p99_ms", "requests", "lag", "histogram")}, **more_figures}


def compare(questions: dict[str, Questions], core: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Return the figures of single requests alone and beside each large body, round by round, and the ratios of the 99th percentile."""
    load(questions["single"], "--connections", CONNECTIONS, "--seconds", PEAK_S, core=core)
    peak = load(questions["single"], "--connections", CONNECTIONS, "--seconds", PEAK_S, core=core)["rate"]
    names = ("alone", *(name for name in questions if name != "single"))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    before = Servers().rss_mib()
    for number in range(rounds):
        for name in names:
            found[name].append(beside(questions, name, peak * SHARE, core, seconds))
        log(f"round {number + 1} of {rounds}: " + ", ".join(f"{name} p99 {loads[-1]['p99_ms']:.2f} ms" for name, loads in found.items()))
    quantiles = {
        label: {name: round(percentile([one["histogram"] for one in loads], share), 3) for name, loads in found.items()}
        for label, share in (("p50_ms", 0.5), ("p99_ms", 0.99))
    }
    for one in (one for loads in found.values() for one in loads):
        del one["histogram"]
    ratios = {f"{name}_p99_times_alone": round(quantiles["p99_ms"][name] / quantiles["p99_ms"]["alone"], 3) for name in names[1:]}
    log(f"all rounds: {quantiles}; {ratios}; memory {before} MiB before, {Servers().rss_mib()} MiB after")
    return {"peak": peak, **quantiles, "rss_mib": [before, Servers().rss_mib()], "rounds": found, **ratios}


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round; prints, and writes nothing")
    quick = parser.parse_args().quick
    server, generator = two_cores()
    work = make(log)
    log("starting the server on one core")
    with served(work, server) as questions:
        found = compare(questions, generator, 1 if quick else ROUNDS, 3.0 if quick else SLICE_S)
    workload = {
        **work.facts,
        "callers": CALLERS,
        "unknown_fields": UNKNOWN_FIELDS,
        "items": ITEMS,
        "share_of_peak": SHARE,
        "seconds": SLICE_S,
    }
    results.conclude("heavy_bodies", {"workload": workload, **found}, write=not quick)


if __name__ == "__main__":
    main()
