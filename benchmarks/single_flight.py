"""How often a thousand callers with one question make the model work: `python -m benchmarks.single_flight`, from the project's root.

One replica, its cache on and cold. The replica is stopped by a signal while the requests are sent, so that all of them lie before it when
it goes on; the calls of the model are read from its metrics. Writes benchmarks/results/single_flight.json.
"""

import argparse
import resource
import signal
import socket
import sys
import time
from dataclasses import replace
from urllib.parse import urlsplit

import psutil

from benchmarks import results
from benchmarks.comparison import PEERS, running
from benchmarks.harness import log, metrics
from benchmarks.plan import Plan
from benchmarks.replies import Reader
from benchmarks.workload import make
from serving.runtime.deployments import APPLICATION

CALLERS = 1000
REPLICA = f"ServeReplica:{APPLICATION}:"  # the processes that answer slow questions are replicas of other applications
PREFIX = "revenue_engine_"
COUNTED = ("batches_total", "batched_rows_total", "answers_total{", "requests_total{")
FLUSHED_S = 0.5  # the metrics are brought up to date ten times a second


def ask_at_once(url: str, body: bytes, callers: int) -> list[bytes]:
    """Return the bodies of the answers to one request that so many callers send while the server is paused."""
    (message,) = Plan(url=url, bodies=[body]).messages()
    target = urlsplit(url)
    sockets = [socket.create_connection((target.hostname or "", target.port or 80), timeout=30) for _ in range(callers)]
    replicas = [process for process in psutil.Process().children(recursive=True) if REPLICA in " ".join(process.cmdline())]
    if len(replicas) != 1:
        raise RuntimeError(f"{len(replicas)} replicas run; one is needed")
    time.sleep(FLUSHED_S)  # until every connection is accepted
    replicas[0].suspend()
    try:
        for sock in sockets:
            sock.sendall(message)
    finally:
        replicas[0].resume()
    try:
        return [_answer(sock) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def _answer(sock: socket.socket) -> bytes:
    data, reader = b"", Reader()
    while (reply := reader.read(data)) is None:
        if not (more := sock.recv(65536)):
            raise RuntimeError("the server ended a connection")
        data += more
    if reply[0] != 200:
        raise RuntimeError(f"the server answered {reply[0]}: {reply[2][:200]!r}")
    return reply[2]


def counted(url: str) -> dict[str, float]:
    """Return what the server has counted of calls, rows, requests and answers."""
    time.sleep(FLUSHED_S)
    found = {name.removeprefix(PREFIX): value for name, value in metrics(url).items()}
    return {name: value for name, value in found.items() if name.startswith(COUNTED)}


def main() -> None:
    """Measure, and write the results."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    work = make(log)
    cached = next(each for each in PEERS if each.name == "ours_cached")
    cached = replace(cached, options={**cached.options, "replicas": 1})
    with running(cached, work) as questions:
        before = counted(questions.url)
        answers = ask_at_once(questions.url, work.requests[-1], CALLERS)
        after = counted(questions.url)
    moved = {name: value - before.get(name, 0.0) for name, value in after.items() if value != before.get(name, 0.0)}
    found = {"callers": CALLERS, "different_answers": len(set(answers)), "counted": moved}
    log(str(moved))
    results.conclude("single_flight", found, write=True)


if __name__ == "__main__":
    main()
