"""A closed-loop load generator: N connections, each with one request under way at any time, bounded in count and in time.

    python benchmarks/load.py --url http://127.0.0.1:8000/v1/purchase-prediction --connections 32 --seconds 8 --body bodies.ndjson

It runs as a process of its own, prints one JSON object (class Report) and costs as little as it can, since it shares the cores with what
it measures. Only loopback addresses are taken: this is no tool to point at somebody else's server.
"""

import argparse
import asyncio
import ipaddress
import json
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop

RETRY_S = 0.05  # after a connection was refused or cut
_TIMING = re.compile(rb"([\w-]+);dur=([-+.\deE]+)")

_clock = time.perf_counter


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to send, how often, and what must come back: the number called `answer` equals `expected[i]` for `bodies[i]`."""

    url: str
    bodies: Sequence[bytes]
    connections: int = 32
    seconds: float = 8.0
    requests: float = math.inf
    expected: Sequence[float] | None = None
    answer: str = "purchaseProbability"
    tolerance: float = 1e-6
    timing: bool = False  # read Server-Timing too
    last_answers_s: float = 5.0  # how long what is under way when the time is up may still take

    def __post_init__(self) -> None:
        if not _is_loopback(urlsplit(self.url).hostname or ""):
            raise ValueError(f"{self.url} is not on this machine: only loopback addresses are taken, such as http://127.0.0.1:8000/")
        if not self.bodies:
            raise ValueError("no bodies to send: the file given with --body is empty")
        if self.expected is not None and len(self.expected) != len(self.bodies):
            raise ValueError(f"{len(self.bodies)} bodies but {len(self.expected)} expected answers: one for each is needed")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came back. Only right answers count as requests; `rate` is those within the time, a second. Everything else is in `errors`."""

    connections: int
    seconds: float
    requests: int
    rate: float
    mean_ms: float | None
    p50_ms: float | None
    p99_ms: float | None
    errors: dict[str, int]  # by status; "wrong answer", "connection", "not HTTP", "no answer"
    cpu_s: float  # of the load generator itself
    stages: dict[str, dict[str, float]] = field(default_factory=dict)  # Server-Timing: mean_ms and p50_ms of each name


class Load:
    """One run of a plan; its connections take the next body from it and bring the answers back."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.errors: Counter[str] = Counter()
        self.stages: dict[str, list[float]] = {}
        self._latencies: list[float] = []
        self._in_time = 0
        self._sent = 0
        self._last = 0.0
        self._answer = re.compile(b'"%b"' % plan.answer.encode() + rb"\s*:\s*(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")
        self.messages = [_message(plan.url, body) for body in plan.bodies]

    async def run(self) -> Report:
        """Send until the count or the time is reached, wait for the last answers, and return the report."""
        cpu_s, began = time.process_time(), _clock()
        self._end = began + self.plan.seconds
        callers = [asyncio.create_task(self._keep_calling()) for _ in range(self.plan.connections)]
        _, waiting = await asyncio.wait(callers, timeout=self.plan.seconds + self.plan.last_answers_s)
        for caller in waiting:
            self.errors["no answer"] += 1
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        return self._report(began, time.process_time() - cpu_s)

    def take(self) -> int | None:
        """Return the number of the body to send next, None when it is enough."""
        if self._sent >= self.plan.requests or _clock() >= self._end:
            return None
        self._sent += 1
        return (self._sent - 1) % len(self.messages)

    def answered(self, number: int, status: int, body: bytes, sent_at: float) -> None:
        """Count one answer, after holding it against what was expected."""
        now = _clock()
        if status != 200:
            self.errors[str(status)] += 1
        elif not self._is_right(number, body):
            self.errors["wrong answer"] += 1
        else:
            self._latencies.append(now - sent_at)
            if now <= self._end:
                self._in_time += 1
                self._last = now

    def _is_right(self, number: int, body: bytes) -> bool:
        if self.plan.expected is None:
            return True
        found = self._answer.search(body)
        return found is not None and abs(float(found[1]) - self.plan.expected[number]) <= self.plan.tolerance

    async def _keep_calling(self) -> None:
        """Hold one connection open, and open another when it ends, until it is enough."""
        kind = TimedCaller if self.plan.timing else Caller
        target = urlsplit(self.plan.url)
        connect = asyncio.get_running_loop().create_connection
        while self._sent < self.plan.requests and _clock() < self._end:
            try:
                transport, caller = await connect(lambda: kind(self), target.hostname, target.port or 80)
            except OSError:
                self.errors["connection"] += 1
                await asyncio.sleep(RETRY_S)
                continue
            try:
                if (error := await caller.ended) is not None:
                    self.errors[error] += 1
                    await asyncio.sleep(RETRY_S)
            finally:
                transport.abort()

    def _report(self, began: float, cpu_s: float) -> Report:
        times = sorted(self._latencies)
        enough = self._sent >= self.plan.requests and self._in_time == len(times) > 0
        seconds = self._last - began if enough else self.plan.seconds
        return Report(
            connections=self.plan.connections,
            seconds=round(seconds, 6),
            requests=len(times),
            rate=round(self._in_time / seconds, 2),
            mean_ms=_ms(sum(times) / len(times)) if times else None,
            p50_ms=_ms(quantile(times, 0.5)) if times else None,
            p99_ms=_ms(quantile(times, 0.99)) if times else None,
            errors=dict(sorted(self.errors.items())),
            cpu_s=round(cpu_s, 3),
            stages={name: _stage(sorted(values)) for name, values in self.stages.items()},
        )


class Caller(asyncio.Protocol):
    """One connection with one request under way; `ended` is None when all was well, else the name of the error that ended it."""

    def __init__(self, load: Load) -> None:
        self.ended: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._load = load
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self._number: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's is no asyncio.Transport
        """Send the first request."""
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Hand what came to the parser, which calls the methods below."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end("not HTTP")

    def on_body(self, chunk: bytes) -> None:
        """Keep a part of a body."""
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        """Count the answer and send the next request."""
        if self._number is None:
            return
        body, self._chunks = b"".join(self._chunks), []
        self._load.answered(self._number, self._parser.get_status_code(), body, self._sent_at)
        self._number = None
        if self._parser.should_keep_alive():
            self._ask()
        else:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a request that was under way as an error of the connection."""
        self._end(None if self._number is None else "connection")

    def _ask(self) -> None:
        self._number = self._load.take()
        if self._number is None:
            self._end(None)
            return
        self._sent_at = _clock()
        self._transport.write(self._load.messages[self._number])

    def _end(self, error: str | None) -> None:
        if not self.ended.done():
            self.ended.set_result(error)
        self._number = None
        self._transport.close()


class TimedCaller(Caller):
    """A caller that also collects what the server says of its own time."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the durations (ms) of a Server-Timing header."""
        if name.lower() == b"server-timing":
            for stage, duration in _TIMING.findall(value):
                self._load.stages.setdefault(stage.decode(), []).append(float(duration))


def quantile(ascending: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 4)


def _stage(ascending_ms: list[float]) -> dict[str, float]:
    mean = sum(ascending_ms) / len(ascending_ms)
    return {"mean_ms": round(mean, 5), "p50_ms": round(quantile(ascending_ms, 0.5), 5)}


def _message(url: str, body: bytes) -> bytes:
    target = urlsplit(url)
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    head = f"POST {path} HTTP/1.1\r\nHost: {target.netloc}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines() if line.strip()]


def plan(arguments: Sequence[str]) -> Plan:
    """Return the plan that a command line describes. Raises ValueError for one that cannot be carried out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="http://127.0.0.1:PORT/PATH; every request is a POST to it")
    parser.add_argument("--body", required=True, type=Path, help="NDJSON: one body a line, used in rotation")
    parser.add_argument("--expected", type=Path, help="one number a line: what the answer to that body must be")
    parser.add_argument("--answer", default=Plan.answer, help="the name of that number in the answer (%(default)s)")
    parser.add_argument("--connections", type=int, default=Plan.connections)
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--requests", type=float, default=Plan.requests, help="stop after so many, if the time has not come before")
    parser.add_argument("--timing", action="store_true", help="collect the Server-Timing headers")
    given: dict[str, Any] = vars(parser.parse_args(arguments))
    expected = given.pop("expected")
    return Plan(
        bodies=_lines(given.pop("body")),
        expected=None if expected is None else [float(line) for line in _lines(expected)],
        **given,
    )


def main() -> None:
    """Run the plan of the command line and print its report."""
    try:
        asked = plan(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"load: {error}")
    print(json.dumps(asdict(uvloop.run(Load(asked).run()))))


if __name__ == "__main__":
    main()
