"""The load generator against a tiny server that says what it saw."""

import asyncio
import contextlib
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load import Load, Plan, quantile

ROOT = Path(__file__).resolve().parent.parent.parent
BODIES = [json.dumps({"number": number}).encode() for number in range(4)]
ANSWERS = [0.25, 0.5, 1e-07, 1.0]
LONG_S = 60.0  # a bound in time that no test reaches


def answer(body, status=200, headers="", value=None):
    """Return a whole HTTP answer to one of BODIES."""
    probability = ANSWERS[json.loads(body)["number"]] if value is None else value
    text = json.dumps({"sessionId": "s", "purchaseProbability": probability, "margin": 0.75})
    return f"HTTP/1.1 {status} Text\r\ncontent-length: {len(text)}\r\n{headers}\r\n{text}".encode()


class Server:
    """Answers POSTs with `reply(body)`, whole or in a list of pieces, and counts what comes. None: no answer; b"": cuts the connection."""

    def __init__(self, reply=answer):
        self.reply = reply
        self.bodies = Counter()
        self.heads = set()
        self.connections = 0
        self.open = self.most_open = 0

    @property
    def requests(self):
        return self.bodies.total()

    @contextlib.asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/score"
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader, writer):
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._one(reader, writer):
                pass
        self.open -= 1
        writer.close()

    async def _one(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(re.search(rb"content-length: (\d+)", head.lower())[1]))
        self.heads.add(head)
        self.bodies[body] += 1
        reply = self.reply(body)
        if reply is None:
            return bool(await reader.read())
        for part in reply if isinstance(reply, list) else [reply]:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        return bool(reply)


async def run(server, **plan):
    plan = {"connections": 3, "seconds": LONG_S, "requests": 40, "expected": ANSWERS, **plan}
    async with server.running():
        return await Load(Plan(url=server.url, bodies=BODIES, **plan)).run()


async def test_sends_as_many_requests_as_asked_and_counts_each_answer_once():
    server = Server()
    report = await run(server, requests=40)
    assert (report.requests, report.errors) == (40, {})
    assert server.bodies == dict.fromkeys(BODIES, 10)
    assert report.rate == pytest.approx(40 / report.seconds, rel=0.001)


async def test_keeps_each_connection_open_and_has_no_more_than_asked():
    server = Server()
    await run(server, connections=3, requests=40)
    assert (server.connections, server.most_open) == (3, 3)


async def test_asks_as_an_http_client_does():
    server = Server()
    await run(server, requests=4)
    (head,) = server.heads
    assert head.startswith(b"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"Content-Type: application/json\r\n" in head


async def test_stops_when_the_time_is_up():
    server = Server()
    report = await run(server, seconds=0.2, requests=math.inf)
    assert report.errors == {}
    assert 0 < report.requests == server.requests
    assert report.seconds == 0.2


async def test_does_not_wait_for_ever_for_answers_that_do_not_come():
    report = await run(Server(lambda body: None), connections=3, seconds=0.1, last_answers_s=0.1)
    assert (report.requests, report.rate, report.p99_ms, report.errors) == (0, 0.0, None, {"no answer": 3})


async def test_counts_a_wrong_answer_as_an_error_and_not_as_a_request():
    report = await run(Server(), expected=[*ANSWERS[:3], 1 - 2e-6])
    assert (report.requests, report.errors) == (30, {"wrong answer": 10})


async def test_takes_an_answer_within_the_tolerance():
    report = await run(Server(), expected=[*ANSWERS[:3], 1 - 5e-7])
    assert (report.requests, report.errors) == (40, {})


async def test_counts_an_answer_without_the_number_as_wrong():
    report = await run(Server(), answer="churnProbability")
    assert (report.requests, report.errors) == (0, {"wrong answer": 40})


async def test_counts_errors_by_status():
    statuses = [200, 429, 503, 200]
    report = await run(Server(lambda body: answer(body, statuses[json.loads(body)["number"]])))
    assert (report.requests, report.errors) == (20, {"429": 10, "503": 10})


async def test_opens_another_connection_when_the_server_announces_that_it_closes_one():
    server = Server(lambda body: answer(body, headers="connection: close\r\n"))
    report = await run(server, requests=12)
    assert (report.requests, report.errors) == (12, {})
    assert server.connections >= 12


async def test_counts_a_cut_connection_and_goes_on():
    server = Server(lambda body: b"" if json.loads(body)["number"] == 1 else answer(body))
    report = await run(server, requests=12)
    assert (report.requests, report.errors) == (9, {"connection": 3})


async def test_counts_what_is_not_http():
    report = await run(Server(lambda body: b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), requests=6)
    assert (report.requests, report.errors) == (0, {"not HTTP": 6})


async def test_stops_in_time_when_nobody_listens():
    server = Server()
    async with server.running():
        pass
    report = await Load(Plan(url=server.url, bodies=BODIES, connections=2, seconds=0.2)).run()
    assert report.requests == 0
    assert list(report.errors) == ["connection"]


async def test_reads_answers_that_come_in_chunks_and_in_pieces():
    def pieces(body):
        text = answer(body).partition(b"\r\n\r\n")[2]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (text[:20], text[20:]))
        whole = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        return [whole[:10], whole[10:90], whole[90:]]

    report = await run(Server(pieces))
    assert (report.requests, report.errors) == (40, {})


async def test_collects_what_the_server_says_of_its_stages():
    timing = "Server-Timing: parse;dur=0.010, model;dur=1.5\r\n"
    report = await run(Server(lambda body: answer(body, headers=timing)), timing=True)
    assert report.stages == {"parse": {"mean_ms": 0.01, "p50_ms": 0.01}, "model": {"mean_ms": 1.5, "p50_ms": 1.5}}


@pytest.mark.parametrize("url", ["http://192.0.2.1/", "http://example.com/", "http://0.0.0.0:8000/", "/v1/score"])
def test_refuses_whatever_is_not_on_this_machine(url):
    with pytest.raises(ValueError, match="only loopback"):
        Plan(url=url, bodies=BODIES)


def test_refuses_expected_answers_that_are_not_one_for_each_body():
    with pytest.raises(ValueError, match="4 bodies but 3 expected"):
        Plan(url="http://127.0.0.1/", bodies=BODIES, expected=ANSWERS[:3])


async def test_is_a_command_that_prints_its_report(tmp_path):
    (tmp_path / "bodies").write_bytes(b"\n".join(BODIES))
    (tmp_path / "expected").write_text("\n".join(map(repr, ANSWERS)))
    async with Server().running() as server:
        options = {"url": server.url, "body": tmp_path / "bodies", "expected": tmp_path / "expected", "connections": 2, "requests": 20}
        command = ["benchmarks/load.py", *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
        process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdout=subprocess.PIPE)
        printed, _ = await process.communicate()
    report = json.loads(printed)
    assert (process.returncode, report["requests"], report["errors"], report["connections"]) == (0, 20, {}, 2)
    assert report["cpu_s"] > 0


def test_as_a_command_says_in_one_line_what_is_wrong():
    command = [sys.executable, "benchmarks/load.py", "--url", "http://example.com/", "--body", os.devnull]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("load: http://example.com/ is not on this machine")
    assert done.stderr.count("\n") == 1


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_the_smallest_value_that_covers_the_share(values, share):
    # numpy's inverted_cdf is the same definition
    assert quantile(sorted(values), share) == pytest.approx(np.quantile(values, share, method="inverted_cdf"))
