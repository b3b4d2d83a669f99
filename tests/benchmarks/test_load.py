"""The load generator against a tiny server, in a thread, that records what it received."""

import asyncio
import contextlib
import itertools
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.arrivals import poisson
from benchmarks.generator import LoadRun
from benchmarks.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
BODIES = [json.dumps({"number": number}).encode() for number in range(4)]
ANSWERS = [0.25, 0.5, 1e-07, 1.0]
EXPECTED = [(number,) for number in ANSWERS]
LONG_S = 60.0  # a bound in time that no test reaches
RATE = 400.0


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
        self.open = self.max_open = 0

    @property
    def requests(self):
        return self.bodies.total()

    @contextlib.contextmanager
    def running(self):
        ready = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._listen(ready)))
        thread.start()
        ready.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._ended.set)
            thread.join()

    async def _listen(self, ready):
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1000)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/score"
        ready.set()
        await self._ended.wait()
        server.close()
        await server.wait_closed()
        if connections := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(connections)  # the caller has closed them

    async def _serve(self, reader, writer):
        self.connections += 1
        self.open += 1
        self.max_open = max(self.max_open, self.open)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._one(reader, writer):
                pass
        self.open -= 1
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

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
        return bool(reply[-1] if isinstance(reply, list) else reply)


def run(server, **plan):
    plan = {"connections": 3, "seconds": LONG_S, "requests": 40, "expected": EXPECTED, "bodies": BODIES, **plan}
    with server.running():
        return LoadRun(Plan(url=server.url, **plan)).run()


def run_open(server, **plan):
    return run(server, **{"rate": RATE, "connections": 64, "requests": math.inf, "seconds": 0.5, **plan})


def test_sends_the_given_number_of_requests_and_counts_each_answer_once():
    server = Server()
    report = run(server, requests=40)
    assert (report.requests, report.errors) == (40, {})
    assert server.bodies == dict.fromkeys(BODIES, 10)
    assert report.rate == pytest.approx(40 / report.seconds, rel=0.001)


def test_keeps_each_connection_open_and_opens_the_given_number():
    server = Server()
    run(server, connections=3, requests=40)
    assert (server.connections, server.max_open) == (3, 3)


def test_asks_as_an_http_client_does():
    server = Server()
    run(server, requests=4)
    (head,) = server.heads
    assert head.startswith(b"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"Content-Type: application/json\r\n" in head


def test_stops_when_the_time_is_up():
    server = Server()
    report = run(server, seconds=0.2, requests=math.inf)
    assert report.errors == {}
    assert 0 < report.requests == server.requests
    assert report.seconds == 0.2


@pytest.mark.parametrize("rate", [None, RATE])
def test_ends_at_sigterm_and_reports_the_counts_until_then(rate):
    seen = itertools.count(1)

    def reply(body):
        if next(seen) == 20:
            load.stop()
        return answer(body)

    with Server(reply).running() as server:
        load = LoadRun(Plan(url=server.url, bodies=BODIES, connections=3, seconds=LONG_S, rate=rate))
        report = load.run()
    assert 20 <= report.requests == server.requests < 40
    assert report.seconds < LONG_S
    assert report.errors == {}


def test_does_not_wait_for_ever_for_answers_that_do_not_come():
    report = run(Server(lambda body: None), connections=3, seconds=0.1, last_answers_s=0.1)
    assert (report.requests, report.rate, report.p99_ms, report.errors) == (0, 0.0, None, {"no answer": 3})


def test_counts_a_wrong_answer_as_an_error_and_not_as_a_request():
    report = run(Server(), expected=[*EXPECTED[:3], (1 - 2e-6,)])
    assert (report.requests, report.errors) == (30, {"wrong answer": 10})


def test_takes_an_answer_within_the_tolerance():
    report = run(Server(), expected=[*EXPECTED[:3], (1 - 5e-7,)])
    assert (report.requests, report.errors) == (40, {})


def test_counts_an_answer_without_the_number_as_wrong():
    report = run(Server(), answer="churnProbability")
    assert (report.requests, report.errors) == (0, {"wrong answer": 40})


def test_counts_errors_by_status():
    statuses = [200, 429, 503, 200]
    report = run(Server(lambda body: answer(body, statuses[json.loads(body)["number"]])))
    assert (report.requests, report.errors) == (20, {"429": 10, "503": 10})


def test_opens_another_connection_when_the_server_announces_that_it_closes_one():
    server = Server(lambda body: answer(body, headers="connection: close\r\n"))
    report = run(server, requests=12)
    assert (report.requests, report.errors) == (12, {})
    assert server.connections >= 12


def test_counts_a_cut_connection_and_goes_on():
    server = Server(lambda body: b"" if json.loads(body)["number"] == 1 else answer(body))
    report = run(server, requests=12)
    assert (report.requests, report.errors) == (9, {"connection": 3})


def test_counts_what_is_not_http():
    report = run(Server(lambda body: b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), requests=6)
    assert (report.requests, report.errors) == (0, {"not HTTP": 6})


def test_stops_in_time_when_no_server_listens():
    server = Server()
    with server.running():
        pass
    report = LoadRun(Plan(url=server.url, bodies=BODIES, connections=2, seconds=0.2)).run()
    assert report.requests == 0
    assert list(report.errors) == ["connection"]


def test_reads_answers_that_come_in_chunks_and_in_pieces():
    def pieces(body):
        text = answer(body).partition(b"\r\n\r\n")[2]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (text[:20], text[20:]))
        whole = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        return [whole[:10], whole[10:90], whole[90:]]

    report = run(Server(pieces))
    assert (report.requests, report.errors) == (40, {})


def test_collects_the_stages_that_the_server_reports():
    timing = "Server-Timing: parse;dur=0.010, model;dur=1.5\r\n"
    report = run(Server(lambda body: answer(body, headers=timing)), timing=True)
    assert report.stages == {"parse": {"mean_ms": 0.01, "p50_ms": 0.01}, "model": {"mean_ms": 1.5, "p50_ms": 1.5}}


@pytest.mark.parametrize("url", ["http://192.0.2.1/", "http://example.com/", "http://0.0.0.0:8000/", "/v1/score"])
def test_refuses_whatever_is_not_on_this_machine(url):
    with pytest.raises(ValueError, match="only loopback"):
        Plan(url=url, bodies=BODIES)


def test_refuses_expected_answers_that_are_not_one_for_each_body():
    with pytest.raises(ValueError, match="4 bodies but 3 expected"):
        Plan(url="http://127.0.0.1/", bodies=BODIES, expected=EXPECTED[:3])


async def test_is_a_command_that_prints_its_report(tmp_path):
    (tmp_path / "bodies").write_bytes(b"\n".join(BODIES))
    (tmp_path / "expected").write_text("\n".join(map(repr, ANSWERS)))
    with Server().running() as server:
        options = {"url": server.url, "body": tmp_path / "bodies", "expected": tmp_path / "expected", "connections": 2, "requests": 20}
        command = ["-m", "benchmarks.load", *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
        process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdout=subprocess.PIPE)
        printed, _ = await process.communicate()
    report = json.loads(printed)
    assert (process.returncode, report["requests"], report["errors"], report["connections"]) == (0, 20, {}, 2)
    assert report["cpu_s"] > 0


def test_the_command_prints_an_error_in_one_line():
    command = [sys.executable, "-m", "benchmarks.load", "--url", "http://example.com/", "--body", os.devnull]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("load: http://example.com/ is not on this machine")
    assert done.stderr.count("\n") == 1


def test_arrivals_are_a_poisson_process():
    """Gaps are exponential: mean and standard deviation are 1 / rate, and one does not tell of the next."""
    times = list(itertools.islice(poisson(50.0, seed=1, began=7.0), 20_001))
    gaps = [after - before for before, after in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    together = sum((a - mean) * (b - mean) for a, b in itertools.pairwise(gaps)) / len(gaps) / spread**2
    assert times[0] == 7.0
    assert mean == pytest.approx(0.02, rel=4 / math.sqrt(len(gaps)))
    assert spread == pytest.approx(0.02, rel=0.05)
    assert abs(together) < 4 / math.sqrt(len(gaps))


def test_the_open_loop_sends_what_is_due_whatever_the_server_does():
    report = run_open(Server(lambda body: None if json.loads(body)["number"] == 1 else answer(body)), connections=200, last_answers_s=0.5)
    due = sum(time < 0.5 for time in itertools.islice(poisson(RATE, 0), 1, 1000))
    assert report.sent == due
    assert report.errors == {"no answer": (due + 2) // 4}
    assert report.offered == RATE


def test_the_open_loop_opens_connections_as_it_needs_them_and_no_more_than_it_may():
    calm, busy = Server(), Server(stalling(0.2))
    assert run_open(calm, rate=20.0, seconds=0.3).max_connections < 6
    assert run_open(busy, connections=7).max_connections == 7 == busy.max_open


def stalling(seconds):
    """Return a reply that holds up the whole server once, at its tenth request."""
    seen = itertools.count(1)

    def reply(body):
        if next(seen) == 10:
            time.sleep(seconds)
        return answer(body)

    return reply


@pytest.mark.parametrize("connections", [1, 64])
def test_the_open_loop_omits_nothing_of_a_stall(connections):
    """A server that stands still for 0.2 s of 0.5 s makes two fifths of the requests wait, on average half of that time."""
    report = run_open(Server(stalling(0.2)), connections=connections)
    slow = sum(times for upper_ms, times in report.histogram if upper_ms > 100)
    assert slow >= 0.1 * report.sent
    assert report.p99_ms > 150


def test_what_comes_after_the_deadline_is_late_and_not_good():
    report = run_open(Server(stalling(0.2)), deadline_ms=100, connections=300)
    assert report.late >= 0.1 * report.sent
    assert report.goodput == pytest.approx((report.requests - report.late) / report.seconds, abs=0.01)


def test_a_request_without_a_connection_until_its_deadline_is_given_up():
    server = Server(stalling(0.2))
    report = run_open(server, deadline_ms=50, connections=1)
    assert report.errors["gave up"] >= 0.1 * RATE * report.seconds
    assert report.errors["gave up"] + report.sent == sum(time < 0.5 for time in itertools.islice(poisson(RATE, 0), 1, 1000))
    assert report.sent == server.requests


def test_a_request_that_waited_for_a_connection_states_the_remaining_time():
    server = Server(stalling(0.1))
    run_open(server, deadline_ms=200, state_deadline=True, connections=1)
    stated = sorted(int(re.search(rb"X-Request-Timeout-Ms: (\d+)", head)[1]) for head in server.heads)
    assert 0 < stated[0] <= 150
    assert stated[-1] <= 200


def test_the_deadline_is_stated_if_requested():
    told, untold = Server(), Server()
    run(told, deadline_ms=50, state_deadline=True)
    run(untold, deadline_ms=50)
    assert [b"X-Request-Timeout-Ms: 50\r\n" in head for server in (told, untold) for head in server.heads] == [True, False]


def test_refusals_are_counted_with_their_latency_and_whether_they_say_when_to_come_again():
    heads = ["", "retry-after: 2\r\n", "Retry-After: soon\r\n"]
    report = run(Server(lambda body: answer(body, 429, heads[json.loads(body)["number"]]) if b"3" not in body else answer(body)))
    assert (report.requests, report.errors) == (10, {"429": 30})
    assert (report.refused["count"], report.refused["without_retry_after"]) == (30, 20)
    assert 0 < report.refused["p50_ms"] <= report.refused["p99_ms"]


def test_every_number_of_a_list_is_checked():
    def reply(body):
        text = json.dumps([{"purchaseProbability": number} for number in ANSWERS])
        return f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode()

    assert run(Server(reply), expected=[ANSWERS] * 4).errors == {}
    assert run(Server(reply), expected=[ANSWERS] * 3 + [ANSWERS[::-1]]).errors == {"wrong answer": 10}
    assert run(Server(reply), expected=[ANSWERS[:3]] * 4).errors == {"wrong answer": 40}


def test_the_text_before_the_number_may_be_given():
    report = run(Server(), marker='"margin": ', expected=[(0.75,)] * 3 + [(0.5,)])
    assert (report.requests, report.errors) == (30, {"wrong answer": 10})


def test_a_degraded_answer_is_counted_separately():
    rate = answer(BODIES[0], headers="", value=0.1).replace(b'"s"', b'"?"')
    report = run(Server(lambda body: rate if b"2" in body else answer(body)), degraded='"sessionId": "?"', expected=[*EXPECTED[:3], (0.9,)])
    assert (report.requests, report.errors) == (20, {"degraded": 10, "wrong answer": 10})


def test_headers_are_sent_and_texts_of_the_replies_are_counted():
    server = Server(lambda body: answer(body, headers=f"x-cache: {'hit' if b'3' in body else 'miss'}\r\n"))
    report = run(server, headers=[("X-Colour", "red")], count="x-cache: ")
    assert report.counts == {"hit": 10, "miss": 30}
    assert all(b"X-Colour: red\r\n" in head for head in server.heads)


def test_the_histogram_holds_every_right_answer():
    report = run(Server(), requests=40)
    assert sum(times for _, times in report.histogram) == 40
    assert report.histogram[0][0] <= report.p50_ms * 1.1 <= report.histogram[-1][0] * 1.21


def test_an_idle_connection_that_the_server_closes_is_no_error():
    def reply(body):
        return [answer(body), b""] if b"1" in body else answer(body)  # an empty last piece ends the connection, unannounced

    report = run_open(Server(reply), rate=50.0)
    assert report.errors == {}
    assert report.requests == report.sent


@pytest.mark.parametrize("plan", [{"rate": 0}, {"rate": math.nan}, {"state_deadline": True}])
def test_refuses_a_plan_that_cannot_be_carried_out(plan):
    with pytest.raises(ValueError, match=r"rate|deadline"):
        Plan(url="http://127.0.0.1/", bodies=BODIES, **plan)
