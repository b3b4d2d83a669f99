"""Measures the whole purchase endpoint: ours and the same engine behind Ray Serve's default proxy, in one run on one machine.

    make bench                                  (or: python benchmarks/run.py [--quick] [--seconds 8] [--repeats 3] [--model DIR])

Contestants run one at a time, in rotation, each started afresh for every repeat, with a warm-up before it is measured; server and load
generator share the cores. Every answer is held against the right one; a single wrong or failed one ends the run without a result.
Writes benchmarks/results/purchase_endpoint.json and .svg and prints what `benchmarks/readme_numbers.py` puts into the README.
"""

import argparse
import contextlib
import importlib
import json
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks import plot, readme_numbers
from benchmarks.machine import describe
from benchmarks.servers import ROOT
from benchmarks.workload import Workload, make

OURS = "ours"
CONTESTANTS = (OURS, "ray_default")
CONNECTIONS = 32
SEQUENTIAL = 1000  # requests, one after the other, for the cost of each stage
WARM_UP_S = 2.0
QUIET_CORES = 0.1  # what other programs may use without a remark
QUICK = {"seconds": 2.0, "repeats": 1}
FIGURES = ("rate", "p50_ms", "p99_ms", "server_cpu_ms")

_began = time.monotonic()


def say(what: str) -> None:
    """Report progress."""
    print(f"[{time.monotonic() - _began:4.0f} s] {what}", file=sys.stderr, flush=True)


def load(url: str, work: Workload, *, connections: int, seconds: float, arguments: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the load generator's report. Raises RuntimeError when an answer was wrong or missing."""
    command = [sys.executable, ROOT / "benchmarks" / "load.py", "--url", url, "--body", work.bodies, "--expected", work.expected]
    command += ["--connections", str(connections), "--seconds", str(seconds), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=seconds + 60)
    report: dict[str, Any] = json.loads(done.stdout)
    if report["errors"] or not report["requests"]:
        raise RuntimeError(f"{url} gave {report['requests']} right answers and these errors: {report['errors']}; nothing is recorded")
    return report


def saturate(url: str, work: Workload, seconds: float) -> dict[str, Any]:
    """Return the report of one run with all connections, the server's CPU milliseconds for each request, and the cores others used."""
    servers = psutil.Process().children(recursive=True)  # every process that we have started and that is there now
    began, busy_s, server_s, load_s = time.monotonic(), _busy_s(), _cpu_s(servers), _children_s()
    report = load(url, work, connections=CONNECTIONS, seconds=seconds)
    server_s = _cpu_s(servers) - server_s
    others_s = _busy_s() - busy_s - server_s - (_children_s() - load_s)
    others = round(max(0.0, others_s) / (time.monotonic() - began), 2)
    if others > QUIET_CORES:
        say(f"other programs used {others:.2f} cores meanwhile; a figure to show needs a quiet machine")
    return {**report, "server_cpu_ms": round(server_s * 1000 / report["requests"], 4), "others_cores": others}


def repeat(name: str, work: Workload, seconds: float, last: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return one run of a contestant, started for it, and of the `last` also one connection's report with Server-Timing."""
    with importlib.import_module(f"benchmarks.contestants.{name}").start(work.bundle, _free_port()) as url:
        load(url, work, connections=CONNECTIONS, seconds=WARM_UP_S)
        report = saturate(url, work, seconds)
        say(f"{name}: {report['rate']:,.0f} requests/s, p50 {report['p50_ms']:.2f} ms, p99 {report['p99_ms']:.2f} ms")
        if not last:
            return report, None
        arguments = ("--requests", str(SEQUENTIAL), "--timing")
        return report, load(url, work, connections=1, seconds=max(seconds, WARM_UP_S), arguments=arguments)


def measure(work: Workload, seconds: float, repeats: int) -> dict[str, dict[str, Any]]:
    """Return the figures of each contestant: medians and spread over the repeats, the repeats themselves, and one connection's report."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    alone: dict[str, dict[str, Any]] = {}
    for number in range(1, repeats + 1):
        for name in CONTESTANTS:
            say(f"repeat {number} of {repeats}: starting {name}")
            report, single = repeat(name, work, seconds, last=number == repeats)
            runs[name].append(report)
            if single is not None:
                alone[name] = single
    return {name: _figures(name, runs[name], alone[name]) for name in CONTESTANTS}


def _figures(name: str, runs: list[dict[str, Any]], alone: dict[str, Any]) -> dict[str, Any]:
    label = importlib.import_module(f"benchmarks.contestants.{name}").LABEL
    return {"label": label, **{figure: _spread(runs, figure) for figure in FIGURES}, "one_connection": alone, "repeats": runs}


def _spread(runs: list[dict[str, Any]], figure: str) -> dict[str, float]:
    values = [run[figure] for run in runs]
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def _cpu_s(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _busy_s() -> float:
    """Return the seconds that the machine's cores have worked since it started."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice  # user and nice hold the guests' already


def _children_s() -> float:
    """Return the CPU seconds of the processes that we have started and that have ended: the load generators."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a purchase bundle; without it one is trained on simulated sessions")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of each contestant (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one short run of each, to see that it works; use --out, it is no result")
    parser.add_argument(
        "--out", type=Path, default=readme_numbers.RESULTS / "purchase_endpoint.json", help="the JSON to write; the plot goes beside it"
    )
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    return options


def results(options: argparse.Namespace, work: Workload, contestants: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return everything that is written down of a run."""
    model = " --model DIR" if options.model else ""
    ours = contestants[OURS]["rate"]["median"]
    return {
        **describe(),
        "command": f"python benchmarks/run.py --seconds {options.seconds:g} --repeats {options.repeats}{model}",
        "workload": {**work.facts, "cache": "off", "connections": CONNECTIONS, "seconds": options.seconds, "repeats": options.repeats},
        "times_the_rate_of": {name: round(ours / contestants[name]["rate"]["median"], 2) for name in CONTESTANTS if name != OURS},
        "contestants": contestants,
    }


def main() -> None:
    """Measure, write the results and their plot, and print the README's numbers."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwind, so that the contestant is ended
    with tempfile.TemporaryDirectory(prefix="revenue-engine-bench-") as folder:
        work = make(Path(folder), options.model, say)
        found = results(options, work, measure(work, options.seconds, options.repeats))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    options.out.with_suffix(".svg").write_text(plot.svg(found))
    say(f"wrote {options.out.name} and {options.out.with_suffix('.svg').name}")
    print("\n".join(readme_numbers.endpoint(found)))


if __name__ == "__main__":
    main()
