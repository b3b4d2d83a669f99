"""Measures the peers against each other: `python -m benchmarks.comparison [--quick] [--only NAME ...]`, from the project's root.

They run one at a time, in rotation, each started afresh for every repeat, with a warm-up before it is measured; server and load generator
share the cores. Closed loop with 32 connections and with one; then, of each peer that answers one caller within 10 ms at the 99th
percentile, the open loop at shares of its peak. Every answer is held against the right one: a single wrong one ends the run without a
result. A peer that cannot be installed, started or relied on is reported with its reason, and the others go on.

Writes benchmarks/results/comparison.json.
"""

import argparse
import importlib
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from benchmarks import environments, results
from benchmarks.harness import FailedError, Questions, Report, WrongAnswerError, load, load_with_costs, log, without_errors
from benchmarks.servers import free_port
from benchmarks.workload import Workload, make

CONNECTIONS = 32
WARM_UP_S = 1.5
OPENING_S = 1.0  # of the open loop, in which the callers open their connections: what waits for that is not counted
P99_MS = 10.0
SHARES = (0.25, 0.5, 0.75, 0.9, 1.0)  # of the peak, offered in the open loop
HALVINGS = 1  # between the last share that held P99_MS and the first that did not
MAX_CONNECTIONS = 512  # of the open loop
FIGURES = ("rate", "p50_ms", "p99_ms", "server_cpu_s_per_1000", "rss_mib")
KEPT = ("offered", "rate", "goodput", "sent", "requests", "p50_ms", "p99_ms", "p999_ms", "errors", "counts", "cpu_s", "lag")


@dataclass(frozen=True)
class Peer:
    """One row of the tables: a module of benchmarks/peers, started with `options`; `items` scores are asked for in a request."""

    name: str
    module: str
    suffix: str = ""
    items: int = 1
    connections: int = CONNECTIONS
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> ModuleType:
        """Return the module."""
        return importlib.import_module(f"benchmarks.peers.{self.module}")

    @property
    def label(self) -> str:
        """Return the name for people."""
        try:
            return f"{self.code.LABEL}{self.suffix}"
        except ImportError:
            return self.name


# In the order in which they run: what is compared most closely runs close together, since a machine that others use too has its moods.
PEERS = (
    *(Peer(name, name) for name in ("ours", "mlserver", "triton", "ours_model", "noop", "starlette")),
    Peer("ours_batch", "ours", ", batches of 100", items=100, connections=8),
    Peer("ours_cached", "ours", ", cache on", options={"cache": True}),
    *(Peer(name, name) for name in ("ray_haproxy", "litserve", "bentoml", "ray_default", "ray_default_endpoint")),
)
QUICK = ("ours", "starlette", "triton")
OURS = ("ours", "ours_batch", "ours_cached", "ours_model", "noop")  # whose failure is ours to mend, and ends the run


@dataclass(frozen=True)
class Times:
    """How long and how often."""

    seconds: float = 5.0
    repeats: int = 4
    alone_s: float = 3.0
    sweep_s: float = 3.0


QUICK_TIMES = Times(seconds=3.0, repeats=1, alone_s=2.0, sweep_s=0.0)


@contextmanager
def running(peer: Peer, work: Workload) -> Iterator[Questions]:
    """Start a peer and yield what to ask it."""
    module = peer.code
    model = work.bundle if module.QUESTION == "endpoint" else work.model
    with module.start(model, free_port(), **peer.options) as target:
        if module.QUESTION == "endpoint":
            bodies, expected = batches(work.requests, work.probabilities, peer.items)
        else:
            bodies, expected = [target.body(row) for row in work.rows], [(score,) for score in work.scores]
        checked = expected if getattr(module, "CHECKED", True) else None
        with Questions.written(target.url, bodies, checked, target.marker, target.headers) as questions:
            yield questions


def batches(bodies: list[bytes], expected: list[float], items: int) -> tuple[list[bytes], list[tuple[float, ...]]]:
    """Return bodies with `items` requests each, and the numbers of their answers; the last bodies continue with the first requests."""
    if items == 1:
        return bodies, [(number,) for number in expected]
    starts = range(0, len(bodies) * 10, items)
    chosen = [[(start + i) % len(bodies) for i in range(items)] for start in starts]
    return [b"[%b]" % b",".join(bodies[i] for i in few) for few in chosen], [tuple(expected[i] for i in few) for few in chosen]


def once(peer: Peer, work: Workload, times: Times, last: bool) -> tuple[Report, Report | None, list[Report]]:
    """Return one run at full load, and of the `last` repeat also what one caller gets and what the open loop shows."""
    with running(peer, work) as questions:
        many = ("--connections", peer.connections)
        without_errors(load(questions, *many, "--seconds", WARM_UP_S), peer.name)
        count = ("--count", '"degradation":"') if peer.module == "ours" else ()
        report = without_errors(load_with_costs(questions, *many, "--seconds", times.seconds, *count), peer.name)
        log(f"{peer.name}: {report['rate']:,.0f} requests/s, p50 {report['p50_ms']:.2f} ms, p99 {report['p99_ms']:.2f} ms")
        if not last:
            return report, None, []
        timing = ("--timing",) if peer.module == "ours" else ()
        alone = without_errors(load(questions, "--connections", 1, "--seconds", times.alone_s, *timing), peer.name)
        swept = sweep(questions, report["rate"], times) if alone["p99_ms"] <= P99_MS and times.sweep_s and peer.items == 1 else []
        return report, alone, swept


def sweep(questions: Questions, peak: float, times: Times) -> list[Report]:
    """Return what the open loop shows at shares of the peak, and between those where the 99th percentile passes P99_MS."""

    def offer(rate: float) -> Report:
        options = ("--rate", round(rate, 1), "--warm-up", OPENING_S, "--seconds", times.sweep_s, "--connections", MAX_CONNECTIONS)
        report = load(questions, *options)
        return {key: report[key] for key in KEPT}

    found = [offer(share * peak) for share in SHARES]
    low, high = 0.0, found[-1]["offered"]
    for report in found:
        if not holds(report):
            high = report["offered"]
            break
        low = report["offered"]
    for _ in range(HALVINGS if low < high else 0):
        found.append(offer((low + high) / 2))
        low, high = (found[-1]["offered"], high) if holds(found[-1]) else (low, found[-1]["offered"])
    return sorted(found, key=lambda report: float(report["offered"]))


def holds(report: Report) -> bool:
    """Return whether everything that was offered was answered, 99 % of it within P99_MS."""
    return not report["errors"] and report["requests"] > 0 and report["p99_ms"] <= P99_MS


def highest(swept: list[Report]) -> float:
    """Return the highest rate that was offered and held, with everything below it; 0 if none was."""
    rate = 0.0
    for report in swept:
        if not holds(report):
            break
        rate = report["offered"]
    return rate


def measure(peers: tuple[Peer, ...], work: Workload, times: Times) -> dict[str, Report]:
    """Return the figures of each peer, or why there are none."""
    runs: dict[str, list[Report]] = {each.name: [] for each in peers}
    rest: dict[str, tuple[Report, list[Report]]] = {}
    failed: dict[str, str] = {}
    for number in range(1, times.repeats + 1):
        for each in peers:
            if each.name in failed:
                continue
            log(f"repeat {number} of {times.repeats}: {each.name}")
            try:
                report, alone, swept = once(each, work, times, last=number == times.repeats)
            except WrongAnswerError:
                raise
            except (FailedError, RuntimeError, OSError, ImportError, subprocess.SubprocessError) as error:
                if each.name in OURS:
                    raise
                failed[each.name] = str(error)[:1000]
                log(f"{each.name} is left out: {error}")
                continue
            runs[each.name].append(report)
            if alone is not None:
                rest[each.name] = alone, swept
    return {each.name: _figures(each, runs[each.name], *rest[each.name]) for each in peers if each.name in rest} | {
        each.name: {"label": each.label, "failed": failed[each.name]} for each in peers if each.name in failed
    }


def _figures(peer: Peer, runs: list[Report], alone: Report, swept: list[Report]) -> Report:
    module = peer.code
    asked = {
        "label": peer.label,
        "question": module.QUESTION,
        "items": peer.items,
        "connections": peer.connections,
        "versions": _versions(peer),
    }
    spreads = {figure: _spread(runs, figure) for figure in FIGURES}
    kept = (*KEPT, "server_cpu_s_per_1000", "rss_mib", "others_cores")
    alone = {key: alone[key] for key in ("requests", "rate", "mean_ms", "p50_ms", "p99_ms", "stages")}
    repeats = [{key: run[key] for key in kept} for run in runs]
    return {**asked, **spreads, "one_connection": alone, "sweep": swept, "rate_at_p99": highest(swept), "repeats": repeats}


def _spread(runs: list[Report], figure: str) -> dict[str, float]:
    values = [run[figure] for run in runs]
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def _versions(peer: Peer) -> dict[str, str]:
    """Return the versions of what a peer requires, in its own environment."""
    wanted = [re.split(r"[\[=<>~! ]", requirement)[0] for requirement in peer.code.REQUIREMENTS]
    if not wanted:
        return {}
    python = environments.python(peer.module, peer.code.REQUIREMENTS)
    code = "import sys, importlib.metadata as m; print(*(f'{name} {m.version(name)}' for name in sys.argv[1:]), sep='\\n')"
    printed = subprocess.run([python, "-c", code, *wanted], capture_output=True, text=True, check=False).stdout
    return dict(line.split(" ", 1) for line in printed.splitlines())


def ratios(figures: Mapping[str, Report]) -> dict[str, dict[str, dict[str, float]]]:
    """Return how many times the rate of each other, and what share of its p50 with one connection, ours and ours_model have.

    Rates are compared repeat by repeat, and of these the median: what slows the machine for minutes slows both.
    """
    others = {name: each for name, each in figures.items() if name not in OURS and "failed" not in each}
    return {
        ours: {
            "times_the_rate_of": {name: round(_times(figures[ours], each), 2) for name, each in others.items()},
            "share_of_the_p50_of": {name: round(_alone_ms(figures[ours]) / _alone_ms(each), 3) for name, each in others.items()},
        }
        for ours in ("ours", "ours_model")
        if ours in figures
    }


def _times(ours: Report, other: Report) -> float:
    pairs = zip(ours["repeats"], other["repeats"], strict=True)
    return statistics.median(one["rate"] / another["rate"] for one, another in pairs)


def _alone_ms(figures: Report) -> float:
    return float(figures["one_connection"]["p50_ms"])


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=Times.seconds, help="of each run (%(default)s)")
    parser.add_argument("--repeats", type=int, default=Times.repeats, help="of each peer (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=[each.name for each in PEERS], help="these alone; prints, and writes nothing")
    parser.add_argument("--quick", action="store_true", help=f"one short run of {', '.join(QUICK)}; prints, and writes nothing")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwind, so that the peer is ended
    times = QUICK_TIMES if options.quick else Times(options.seconds, options.repeats)
    names = options.only or (QUICK if options.quick else [each.name for each in PEERS])
    chosen = tuple(each for each in PEERS if each.name in names)
    for each in chosen:  # before anything is measured
        install(each)
    work = make(log)
    figures = measure(chosen, work, times)
    found = {
        "workload": {**work.facts, "cache": "off", "connections": CONNECTIONS, "seconds": times.seconds, "repeats": times.repeats},
        "ratios": ratios(figures),
        "peers": figures,
    }
    results.conclude("comparison", found, write=not (options.quick or options.only))


def install(peer: Peer) -> None:
    """Make the peer's environment, so that no time of the measurement goes into it."""
    try:
        environments.python(peer.module, peer.code.REQUIREMENTS)
    except (environments.NotInstalledError, ImportError) as error:
        log(str(error))  # and once more, with the results, when it is to be started


if __name__ == "__main__":
    main()
