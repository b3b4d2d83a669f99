"""What a slow question does to a fast one: `python -m benchmarks.placement [--quick]`, from the project's root.

The server has one core and the load the other. The purchase endpoint is asked at half its peak, an open loop, alone and while 64 callers
ask the journey or the emotion endpoint without a pause: once as the server places them by itself, in processes of their own, and once
with all questions in the replica. The callers of the slow question stand back behind those of the fast one, so that what is measured is
the server. Writes benchmarks/results/placement.json.
"""

import argparse
import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from urllib.request import urlopen

import msgspec

from benchmarks import results
from benchmarks.comparison import CONNECTIONS
from benchmarks.harness import FailedError, Questions, load, loading, log, pinned, report_of, two_cores, without_errors
from benchmarks.peers import ours
from benchmarks.servers import free_port
from benchmarks.workload import SEED, Workload, make
from serving.engines import named
from serving.progress import silent
from training.datasets.shop import shop
from training.models import MODELS

SLOW = ("journey", "emotion")
EVENTS, SESSIONS = 20, 3_000
CALLERS = 64
ROUNDS, SLICE_S = 9, 5.0
PEAK_S, WARM_UP_S, READY_S = 4.0, 1.5, 60.0
PLACEMENTS = ("pooled", "replica")


def journey_bundle(work: Workload) -> Path:
    """Return a journey model trained on simulated sessions."""
    folder = work.folder / "journey"
    if not folder.exists():
        log("training a journey model on simulated sessions")
        table = work.folder / "journeys"
        shop.write(shop.simulate(SESSIONS, SEED), table)
        MODELS["journey"].train(table, folder, mapping={}, seed=SEED, progress=silent)
    return folder


def bodies(name: str) -> list[bytes]:
    """Return what is asked of a slow question: the documentation's example, of a journey the events again until there are EVENTS."""
    example = dict(named(name).example)
    if "events" in example:
        example["events"] = (example["events"] * EVENTS)[:EVENTS]
    return [msgspec.json.encode(example)]


@contextlib.contextmanager
def served(work: Workload, journey: Path, placement: str, core: int) -> Iterator[dict[str, Questions]]:
    """Start the server with every slow question placed so, and yield what to ask of each, and of the purchase endpoint."""
    settings = {f"REVENUE_ENGINE_PLACEMENT__{name.upper()}": placement for name in SLOW}
    with contextlib.ExitStack() as stack:
        with pinned(core):
            target = stack.enter_context(ours.start(work.bundle, free_port(), replicas=1, others=(journey,), more=settings))
        origin = urlsplit(target.url)
        _wait(urlunsplit(origin._replace(path="/health/ready")))
        expected = [(one,) for one in work.probabilities]
        found = {"purchase": stack.enter_context(Questions.written(target.url, work.requests, expected))}
        for name in SLOW:
            url = urlunsplit(origin._replace(path=named(name).route))
            found[name] = stack.enter_context(Questions.written(url, bodies(name), None))
        yield found


def _wait(url: str) -> None:
    """Wait until every question has its model: the purchase endpoint answers before the others' processes are there."""
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urlopen(url, timeout=5) as reply:
            if set(SLOW) <= set(msgspec.json.decode(reply.read())["models"]):
                return
        time.sleep(0.2)
    raise FailedError(f"{url} does not name a model of each of {', '.join(SLOW)}")


def beside(questions: dict[str, Questions], slow: str | None, rate: float, core: int, seconds: float) -> dict[str, Any]:
    """Return how the purchase endpoint did at `rate` a second beside a slow question that is asked without a pause, or beside none."""
    how = ("--rate", round(rate, 1), "--warm-up", WARM_UP_S, "--seconds", seconds, "--connections", 256)
    if slow is None:
        report, other = without_errors(load(questions["purchase"], *how, core=core), "purchase"), None
    else:
        more = ("--connections", CALLERS, "--seconds", seconds + WARM_UP_S)
        with loading(questions[slow], *more, core=core, low_priority=True) as process:
            report = without_errors(load(questions["purchase"], *how, core=core), "purchase")
            other = without_errors(report_of(process, questions[slow].url), slow)
    return {
        **{key: report[key] for key in ("p50_ms", "p99_ms", "requests", "lag", "histogram")},
        "slow_rate": None if other is None else other["rate"],
    }


def percentile(histograms: list[list[tuple[float, int]]], share: float) -> float:
    """Return the time in ms within which a share of all requests was answered; histograms: (upper bound in ms, how many), ascending."""
    together: Counter[float] = Counter()
    for histogram in histograms:
        for bound, times in histogram:
            together[bound] += times
    left = share * together.total()
    for bound, times in sorted(together.items()):
        left -= times
        if left <= 0:
            return bound
    raise ValueError("no request was answered")


def compare(questions: dict[str, Questions], core: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Return the purchase endpoint's figures alone and beside each slow question, round by round, and the ratios of the 99th percentile."""
    load(questions["purchase"], "--connections", CONNECTIONS, "--seconds", PEAK_S, core=core)
    peak = without_errors(load(questions["purchase"], "--connections", CONNECTIONS, "--seconds", PEAK_S, core=core), "purchase")["rate"]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ("alone", *SLOW)}
    for number in range(rounds):
        for name in found:
            found[name].append(beside(questions, None if name == "alone" else name, peak / 2, core, seconds))
        log(f"round {number + 1} of {rounds}: " + ", ".join(f"{name} p99 {loads[-1]['p99_ms']:.2f} ms" for name, loads in found.items()))
    p99 = {name: round(percentile([one.pop("histogram") for one in loads], 0.99), 3) for name, loads in found.items()}
    ratios = {f"{name}_p99_times_alone": round(p99[name] / p99["alone"], 3) for name in SLOW}
    log(f"p99 of all rounds: {p99}; {ratios}")
    return {"peak": peak, "p99_ms": p99, "rounds": found, **ratios}


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two short rounds; prints, and writes nothing")
    quick = parser.parse_args().quick
    server, generator = two_cores()
    work = make(log)
    journey = journey_bundle(work)
    found = {}
    for placement in PLACEMENTS:
        log(f"starting the server on one core, {placement}")
        with served(work, journey, placement, server) as questions:
            found[placement] = compare(questions, generator, 2 if quick else ROUNDS, 3.0 if quick else SLICE_S)
    workload = {**work.facts, "cache": "off", "callers": CALLERS, "events": EVENTS, "seconds": SLICE_S}
    results.conclude("placement", {"workload": workload, "placements": found}, write=not quick)


if __name__ == "__main__":
    main()
