"""A load generator that costs little: closed loop, or open loop with Poisson arrivals; bounded in count, time and connections.

    python -m benchmarks.load --url http://127.0.0.1:8000/v1/purchase-prediction --connections 32 --seconds 8 --body bodies.ndjson
    python -m benchmarks.load --url ... --body bodies.ndjson --rate 5000 --deadline-ms 50 --connections 512 --seconds 20

Closed loop: each connection has one request under way at any time. Open loop (--rate): requests are due whatever the server does, and time
counts from when a request was due, also while it waits for a connection, so that a slow server cannot hide what it made wait.

It runs as a process of its own, prints one JSON object (LoadReport) and makes few system calls, since it shares the cores with what it
measures. SIGTERM ends it before its time. Only loopback addresses are accepted: other servers must not be loaded by it.
"""

import argparse
import gc
import json
import os
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.generator import LoadRun
from benchmarks.plan import Plan


def _lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines() if line.strip()]


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is no header: write NAME: VALUE")
    return name.strip(), value.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="http://127.0.0.1:PORT/PATH; every request is a POST to it")
    parser.add_argument("--body", required=True, type=Path, help="NDJSON: one body a line, used in rotation")
    parser.add_argument("--expected", type=Path, help="a line for each body: the number or numbers of its right answer")
    parser.add_argument("--answer", default=Plan.answer, help="the name of that number in the answer (%(default)s)")
    parser.add_argument("--marker", help="the text right before the number, where it is no member of that name")
    parser.add_argument("--tolerance", type=float, default=Plan.tolerance, help="how far a number may be from it (%(default)s)")
    parser.add_argument("--header", type=_header, action="append", default=[], dest="headers", help="NAME: VALUE, repeatable")
    parser.add_argument("--connections", type=int, default=Plan.connections, help="in the open loop: at most (%(default)s)")
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--warm-up", type=float, default=Plan.warm_up, help="seconds before those, of which nothing is counted")
    parser.add_argument("--requests", type=float, default=Plan.requests, help="stop after so many, if the time has not come before")
    parser.add_argument("--rate", type=float, help="open loop: so many requests a second, Poisson")
    parser.add_argument("--seed", type=int, default=Plan.seed, help="of the arrivals (%(default)s)")
    parser.add_argument("--deadline-ms", type=float, default=Plan.deadline_ms, help="what comes later is not good")
    parser.add_argument("--state-deadline", action="store_true", help="tell the server of it, in X-Request-Timeout-Ms")
    parser.add_argument("--timing", action="store_true", help="collect the Server-Timing headers")
    parser.add_argument("--core", type=int, help="use this core only")
    parser.add_argument("--degraded", help="the text of an answer that is marked as degraded and is not compared with the right one")
    parser.add_argument("--count", help="count what follows this text in the replies")
    return parser


def plan(arguments: Sequence[str]) -> Plan:
    """Return the plan that a command line describes. Raises ValueError for one that cannot be carried out."""
    given: dict[str, Any] = vars(_parser().parse_args(arguments))
    expected = given.pop("expected")
    return Plan(
        bodies=_lines(given.pop("body")),
        expected=None if expected is None else [tuple(map(float, line.split())) for line in _lines(expected)],
        **given,
    )


def main() -> None:
    """Run the plan of the command line and print its report."""
    try:
        asked = plan(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"load: {error}")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if asked.core is not None:
        os.sched_setaffinity(0, {asked.core})
    load = LoadRun(asked)
    signal.signal(signal.SIGTERM, lambda *_: load.stop())  # and still report
    gc.freeze()
    gc.disable()  # nothing here makes cycles, and a collection would be measured as the server's
    print(json.dumps(asdict(load.run())))


if __name__ == "__main__":
    main()
