"""Counts what 100 drains under load cost a caller: `python -m benchmarks.drains [--drains 100]`, from the project's root.

Two replicas on one port; four callers without retries, half of them over keep-alive connections, half with a new one for each request.
SIGHUP replaces both replicas, so each update drains two. Writes benchmarks/results/drains.json.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine
from tests.serving.live import Callers, Live
from training.registry import defaults
from training.registry.registry import Registry

RESULT = Path(__file__).parent / "results" / "drains.json"
REPLICAS = 2


def main() -> None:
    """Run the updates and write the count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drains", type=int, default=100)
    drains = parser.parse_args().drains
    with tempfile.TemporaryDirectory() as home:
        registry = f"{home}/models"
        defaults.ensure(Registry(registry, Path(home) / "fetched"), "champion", _say)
        live = Live(home, registry, "--replicas", str(REPLICAS)).wait_ready()
        try:
            counted = _count(live, -(-drains // REPLICAS))
        finally:
            live.stop()
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps({**machine.describe(), "command": f"python -m benchmarks.drains --drains {drains}", **counted}, indent=2) + "\n"
    )
    _say(json.dumps(counted))


def _count(live: Live, updates: int) -> dict[str, object]:
    began = time.monotonic()
    with Callers(live.port) as callers:
        callers.wait_for(100)
        for update in range(updates):
            before = {process.pid for process in live.replicas()}
            os.kill(live.process.pid, signal.SIGHUP)
            while before & (now := {process.pid for process in live.replicas()}) or len(now) != REPLICAS:
                callers.wait_for(20)
            _say(f"update {update + 1} of {updates}: {callers.counts['answered']:,} answered, {callers.counts['failed']} failed")
        callers.wait_for(100)
    return {
        "drains": updates * REPLICAS,
        "answered": callers.counts["answered"],
        "failed": callers.counts["failed"],
        "failures": callers.failures[:10],
        "seconds": round(time.monotonic() - began, 1),
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
