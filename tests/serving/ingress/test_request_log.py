"""The log has the id of every request that got a problem, no content of one, and a line for each request where that is switched on."""

import dataclasses
import logging
import re
import time

import msgspec
import pytest

from serving.errors import NotReadyError, OverloadedError
from serving.ingress import request_log
from serving.ingress.http.lifecycle import State
from serving.ingress.overload.reader import OverloadReader
from serving.ingress.overload.shedder import Shedder
from serving.ingress.request_log import AccessLog, ProblemLog
from serving.scoring.answer import Answer
from tests.serving.greeting import ROUTE, Scripted, app, configured, encoded
from tests.serving.wire import PATH, Caller, DeferredRoute, Echo, cold, request, serving, table

JSON = b"Content-Type: application/json"
POST = ROUTE.encode()
PROBLEMS = {
    "not-json": request(b"{", JSON, path=POST),
    "invalid-request": request(b'{"sessionId": "secret", "behaviorData": {"pageViews": "secret"}}', JSON, path=POST),
    "unsupported-media-type": request(encoded(), path=POST),
    "too-large": request(b" " * 60_000, JSON, path=POST),
    "not-found": request(b"", method=b"GET", path=b"/nowhere"),
    "method-not-allowed": request(b"", method=b"GET", path=POST),
    "malformed-request": b"hello\r\n\r\n",
    "head-too-large": b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"a" * 70_000,
}


def served(access_log=None, answer=None, **fields):
    state = State(ready=True)
    application = app(Scripted(answer or Answer(b"{}", "miss", 0.0)), configured(max_body_bytes=50_000, **fields), state, access_log)
    return serving(application, application.route_table, state)


@pytest.mark.parametrize("code", PROBLEMS)
def test_the_log_has_the_id_of_every_problem_and_its_code(code, caplog):
    caplog.set_level(logging.INFO, "serving")
    with served() as server, Caller(server.port) as caller:
        _, headers, body = caller.send(PROBLEMS[code]).answer()
    problem = msgspec.json.decode(body)
    assert problem["type"] == f"/problems/{code}"
    (line,) = [record.getMessage() for record in caplog.records if problem["requestId"] in record.getMessage()]
    assert line.startswith(f"request {headers['x-request-id']}: {problem['status']} {code}: ")
    assert "secret" not in line


def test_the_log_has_the_id_that_a_caller_gave_and_no_line_of_an_answer(caplog):
    caplog.set_level(logging.INFO, "serving")
    with served() as server, Caller(server.port) as caller:
        assert caller.send(request(encoded(), JSON, b"X-Request-Id: answered-1", path=POST)).answer()[0] == 200
        assert caller.send(request(b"[]x", JSON, b"X-Request-Id: refused-1", path=POST)).answer()[0] == 400
    assert "refused-1" in caplog.text
    assert "answered-1" not in caplog.text


@pytest.mark.parametrize("error", [NotReadyError("the server is starting"), OverloadedError("the queue is full", 2.0)])
def test_problems_of_the_server_are_logged_too(error, caplog):
    caplog.set_level(logging.INFO, "serving")
    with served(answer=error) as server, Caller(server.port) as caller:
        assert caller.send(request(encoded(), JSON, b"X-Request-Id: r-77", path=POST)).answer()[0] in (429, 503)
    (record,) = [record for record in caplog.records if "r-77" in record.getMessage()]
    assert str(error) in record.getMessage()
    assert record.levelno == (logging.WARNING if isinstance(error, NotReadyError) else logging.INFO)


class FullQuestion:
    """A question that refuses every request."""

    pressed = True

    def shed(self, deadline: float) -> OverloadedError | None:
        return OverloadedError("7 requests wait already", deadline - time.monotonic())

    def shed_likewise(self, times: int) -> None:
        """Count nothing."""


def test_refusals_before_parsing_are_logged_and_noted_like_all_others(caplog, monkeypatch, tmp_path):
    caplog.set_level(logging.INFO, "serving")
    monkeypatch.setattr(request_log, "MAX_PER_S", 10**6)
    state, access_log = State(ready=True), AccessLog(tmp_path / "access.log")
    reader = OverloadReader(Shedder({PATH: FullQuestion()}, 1000, 100_000, access_log=access_log))
    hot = dataclasses.replace(table(Echo(), state), overload_reader=reader)
    ids = []
    with serving(cold, hot, state) as server:
        callers = [Caller(server.port) for _ in range(30)]
        for _ in range(4):
            for caller in callers:
                caller.send(request(b"body"))
            ids += [caller.answer()[1]["x-request-id"] for caller in callers]
            server.until(lambda: reader.size == 30)
        for caller in callers:
            caller.sock.close()
        server.until(lambda: reader.size == 0)
        server.call(access_log.close)
    logged = re.findall(r"[0-9a-f]{32}", caplog.text)
    assert (sorted(logged), len(set(ids))) == (sorted(ids), 120)
    lines = (tmp_path / "access.log").read_text().splitlines()
    assert sorted(line.split()[-1] for line in lines) == sorted(ids)
    assert {tuple(line.split()[1:4]) for line in lines} == {("POST", "/hot", "429")}


def test_the_log_of_an_overload_is_bounded_and_says_how_much_it_left_out(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "serving")
    monkeypatch.setattr(request_log, "MAX_PER_S", 10)
    now = 100.0
    monkeypatch.setattr(request_log.time, "monotonic", lambda: now)
    log = ProblemLog()
    for number in range(25):
        log.note(429, "overloaded", "full", [f"r-{number}"])
    log.note(429, "overloaded", "full", [], 7)
    assert [record.getMessage() for record in caplog.records] == [f"request r-{number}: 429 overloaded: full" for number in range(10)]
    now += 1
    log.note(429, "overloaded", "full", ["r-99"])
    assert "22 more requests got a problem" in caplog.text
    assert "r-99" in caplog.text


def test_a_line_break_in_a_detail_makes_no_line(caplog):
    caplog.set_level(logging.INFO, "serving")
    ProblemLog().note(404, "not-found", "there is nothing at /\r\n2026 forged", ["r-1"])
    assert "\n" not in caplog.records[0].getMessage()


LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (\S+) (\S+) (\S+) (\d+\.\d{3}) (\d+) (.+)")


def lines_of(path):
    """Return (method, path, status, bytes, request id) of every line, in order."""
    found = [LINE.fullmatch(line) for line in path.read_text().splitlines()]
    assert all(found)
    return [(each[1], each[2], each[3], int(each[5]), each[6]) for each in found]


def test_every_request_has_one_line_in_the_access_log(tmp_path):
    access_log = AccessLog(tmp_path / "logs" / "access.log")
    sent = [
        request(encoded(), JSON, b"X-Request-Id: one of mine", path=POST),
        request(encoded(), JSON, path=POST),
        request(b"{", JSON, path=POST),
        request(encoded(), JSON, path=POST + b"?token=secret"),
        request(b"", method=b"GET", path=b"/health/live"),
        request(b"", method=b"GET", path=b"/nowhere"),
    ]
    with served(access_log) as server:
        with Caller(server.port) as caller:
            got = [caller.send(each).answer() for each in sent]
        server.call(access_log.close)
    lines = lines_of(tmp_path / "logs" / "access.log")
    paths = [ROUTE, ROUTE, ROUTE, ROUTE, "/health/live", "/nowhere"]
    assert [line[:4] for line in lines] == [
        ("GET" if path.startswith(("/health", "/nowhere")) else "POST", path, str(status), len(body))
        for path, (status, _, body) in zip(paths, got, strict=True)
    ]
    assert [line[4] for line in lines] == [headers.get("x-request-id", "-") for _, headers, _ in got]
    assert lines[0][4] == "one of mine"
    assert "secret" not in (tmp_path / "logs" / "access.log").read_text()


def test_a_request_without_a_response_and_one_that_is_not_http_have_lines(tmp_path):
    state, access_log, route = State(ready=True), AccessLog(tmp_path / "access.log"), DeferredRoute()
    with serving(cold, table(route, state, access_log=access_log), state) as server:
        with Caller(server.port) as caller:
            caller.send(request(b"gone"))
            server.until(lambda: len(route.replies) == 1)
            caller.sock.setsockopt(__import__("socket").SOL_SOCKET, __import__("socket").SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.until(lambda: route.cancelled == [b"gone"])
        with Caller(server.port) as caller:
            caller.send(b"hello\r\n\r\n").rest()
        server.call(access_log.close)
    assert [line[0:3] for line in lines_of(tmp_path / "access.log")] == [("POST", "-", "-"), ("-", "-", "400")]


def test_without_the_setting_there_is_no_log_and_no_request_pays_for_it(tmp_path):
    from serving.ingress.http.exchange import Exchange
    from tests.serving.wire import MemoryConnection

    async def made():
        return MemoryConnection(table(Echo())).protocol._exchange

    import asyncio

    assert asyncio.run(made()) is Exchange
    assert configured().server.access_log is False


def test_a_file_that_was_moved_is_opened_anew(tmp_path):
    log = AccessLog(tmp_path / "access.log")
    for name in ("one", "two"):
        log._lines.append(name)
        log.flush()
        (tmp_path / "access.log").rename(tmp_path / name)
    log.close()
    assert [(tmp_path / name).read_text() for name in ("one", "two")] == ["one\n", "two\n"]
