"""The pool client: requests are relayed to the pool process and its answers returned; without one, callers get a 503."""

import asyncio
import contextlib
import os
import time

import msgspec
import pytest

from serving.app import Application
from serving.engines import named
from serving.errors import SettingsError
from serving.ingress.pool_client import PoolClient, parse_response
from serving.metrics.collect import Metrics
from serving.runtime.placement import pooled
from serving.runtime.pool_socket import PoolSocket
from serving.runtime.socket_broker import READY
from serving.settings import Settings, load
from training.registry.registry import Registry

EMOTION = named("emotion")
HEADERS = {b"content-type": b"application/json", b"x-request-id": b"request-1"}
BODY = msgspec.json.encode(EMOTION.example)


class FakePool:
    """A pool process on a unix socket: it records requests and sends `answers` in order; None closes the connection, b"" is no answer."""

    def __init__(self, path, *answers):
        self.path, self.answers, self.requests, self.connections, self._open = path, list(answers), [], 0, set()

    async def __aenter__(self):
        self.server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for writer in self._open:
            writer.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
                body = await reader.readexactly(int(fields.get(b"content-length", 0)))
                if head.startswith(b"GET /health/ready"):
                    ready = b'{"status":"ready","models":{"emotion":"v-1"},"choices":{"emotion":["fast"]}}'
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(ready), ready))
                    continue
                self.requests.append((head, body))
                answer = self.answers.pop(0)
                if answer is None:
                    writer.close()
                    return
                if answer != b"":
                    writer.write(answer)


def reply(body=b"{}", more=b""):
    return b"HTTP/1.1 200 OK\r\nx-cache: off\r\ncontent-length: %d\r\n%b\r\n%b" % (len(body), more, body)


@contextlib.asynccontextmanager
async def relayed(path, opened=True, **fields):
    relay = PoolClient(EMOTION, path, **{"default_timeout_ms": 2000, "max_queued": 8, "meter": Metrics().meter("emotion"), **fields})
    if opened:
        await relay.open()
    try:
        yield relay
    finally:
        await relay.aclose()


def detail(answer):
    return msgspec.json.decode(answer.body)["detail"]


async def test_a_request_and_its_answer_are_relayed_unchanged(tmp_path):
    async with FakePool(tmp_path / "pool_process", reply(b'{"a":1}')) as pool_process, relayed(tmp_path / "pool_process") as relay:
        answer = await relay.answer({**HEADERS, b"connection": b"close"}, BODY)
        (head, body), *_ = pool_process.requests
    assert (answer.status, answer.headers, answer.body, answer.close) == (200, b"x-cache: off\r\n", b'{"a":1}', False)
    assert head.startswith(b"POST /v1/emotion HTTP/1.1\r\n")
    assert b"x-request-id: request-1\r\n" in head
    assert b"connection:" not in head
    assert body == BODY


async def test_the_client_has_the_readiness_and_version_of_the_pool_process(tmp_path):
    async with FakePool(tmp_path / "pool_process"), relayed(tmp_path / "pool_process") as relay:
        assert (relay.ready, relay.lacking, relay.version, relay.choices) == (True, False, "v-1", ["fast"])
    async with relayed(tmp_path / "nobody") as relay:
        assert (relay.ready, relay.lacking, relay.version) == (False, True, None)


async def test_connections_are_reused(tmp_path):
    async with FakePool(tmp_path / "pool_process", *[reply()] * 5) as pool_process, relayed(tmp_path / "pool_process") as relay:
        for _ in range(5):
            assert (await relay.answer(HEADERS, BODY)).status == 200
        assert pool_process.connections == 1


async def test_the_remaining_time_of_a_stated_timeout_is_relayed(tmp_path):
    async with FakePool(tmp_path / "pool_process", reply()) as pool_process, relayed(tmp_path / "pool_process") as relay:
        got = asyncio.get_running_loop().create_future()
        relay.begin({**HEADERS, b"x-request-timeout-ms": b"500"}, BODY, got.set_result, 0.2)
        await got
        sent = dict(line.split(b": ", 1) for line in pool_process.requests[0][0].split(b"\r\n")[1:-2])
    assert 1 <= int(sent[b"x-request-timeout-ms"]) <= 300


@pytest.mark.parametrize("stated", [b"0", b"-1", b"999999", b"soon"])
async def test_an_invalid_timeout_is_relayed_unchanged(tmp_path, stated):
    """The pool process validates it."""
    async with FakePool(tmp_path / "pool_process", reply()) as pool_process, relayed(tmp_path / "pool_process") as relay:
        await relay.answer({**HEADERS, b"x-request-timeout-ms": stated}, BODY)
        assert b"x-request-timeout-ms: " + stated + b"\r\n" in pool_process.requests[0][0] + b"\r\n"


async def test_without_a_pool_process_the_answer_is_503_at_once(tmp_path):
    async with relayed(tmp_path / "nobody", opened=False) as relay:
        answer = await relay.answer(HEADERS, BODY)
    assert answer.status == 503
    assert "emotion" in detail(answer)


async def test_a_request_whose_connection_is_lost_before_its_answer_is_sent_once_more(tmp_path):
    async with FakePool(tmp_path / "pool_process", None, reply(b'"again"')) as pool_process, relayed(tmp_path / "pool_process") as relay:
        assert (await relay.answer(HEADERS, BODY)).body == b'"again"'
        assert len(pool_process.requests) == 2
    async with FakePool(tmp_path / "gone", None, None) as pool_process, relayed(tmp_path / "gone") as relay:
        assert (await relay.answer(HEADERS, BODY)).status == 503


async def test_a_pool_process_that_does_not_answer_in_time_is_a_504(tmp_path):
    async with FakePool(tmp_path / "pool_process", b"", reply()) as pool_process, relayed(tmp_path / "pool_process") as relay:
        began = time.monotonic()
        answer = await relay.answer({**HEADERS, b"x-request-timeout-ms": b"50"}, BODY)
        assert (answer.status, time.monotonic() - began < 5) == (504, True)
        assert (await relay.answer(HEADERS, BODY)).status == 200
        assert len(pool_process.requests) == 2


async def test_beyond_the_bound_of_the_queue_requests_are_refused_with_retry_after(tmp_path):
    async with relayed(tmp_path / "nobody", opened=False, max_queued=2) as relay:
        requests = [relay.answer(HEADERS, BODY) for _ in range(3)]
        answers = await asyncio.gather(*requests)
    assert sorted(answer.status for answer in answers) == [429, 503, 503]
    assert dict(next(answer for answer in answers if answer.status == 429).pairs)[b"retry-after"] == b"1"


async def test_cancelling_a_request_closes_its_connection(tmp_path):
    async with FakePool(tmp_path / "pool_process", b"", reply()) as pool_process, relayed(tmp_path / "pool_process") as relay:
        request = relay.answer(HEADERS, BODY)
        while not pool_process.requests:
            await asyncio.sleep(0)
        request.cancel()
        assert (await relay.answer(HEADERS, BODY)).status == 200
        assert pool_process.connections == 2


async def test_an_answer_that_closes_the_connection_is_the_last_on_it(tmp_path):
    async with (
        FakePool(tmp_path / "pool_process", reply(more=b"connection: close\r\n"), reply()) as pool_process,
        relayed(tmp_path / "pool_process") as relay,
    ):
        first = await relay.answer(HEADERS, BODY)
        assert (first.status, first.close) == (200, False)
        assert (await relay.answer(HEADERS, BODY)).status == 200
        assert pool_process.connections == 2


@pytest.mark.parametrize("cut", range(1, len(reply(b"abc"))))
def test_a_partial_response_is_incomplete_until_its_end(cut):
    whole = reply(b"abc")
    assert parse_response(whole[:cut]) is None
    found = parse_response(whole)
    assert found is not None
    assert found[0].body == b"abc"


@pytest.mark.parametrize("content", [b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n", b"SSH-2.0\r\ncontent-length: 0\r\n\r\n"])
def test_data_that_is_not_a_response_is_quoted_in_the_error(content):
    with pytest.raises(ValueError, match=r"HTTP|SSH"):
        parse_response(content)


async def test_an_application_relays_pooled_questions_and_returns_the_answers_of_the_engine(tmp_path, bundle_of):
    """Two applications as in two processes: one with the TCP socket, and the pool behind its unix socket."""
    from serving.ingress.http.listener import Listener

    Registry(str(tmp_path / "models"), tmp_path / "fetched").add(bundle_of("emotion").path, alias="champion")
    settings = Settings(home=tmp_path, models={"registry": str(tmp_path / "models")}, cache={"enabled": False})
    pool_socket = PoolSocket(tmp_path / "pool")
    async with Application(settings, engines=[EMOTION]) as pool:
        listener = Listener(pool.api, pool.state, pool.api.route_table)
        await listener.open(pool_socket.sock)
        pool_socket.notify(READY)
        async with Application(settings, pools={"emotion": tmp_path / "pool"}) as front:
            assert "emotion" not in [question.engine.name for question in front.questions]
            endpoint = front.api.endpoints["emotion"]
            got = await endpoint.answer(HEADERS, BODY)
            assert got.status == 200
            wrong = await endpoint.answer(HEADERS, b'{"text": 3}')
            assert (wrong.status, b"text" in wrong.body) == (422, True)
        alone = await pool.api.endpoints["emotion"].answer(HEADERS, BODY)
        mine, right = msgspec.json.decode(got.body), msgspec.json.decode(alone.body)
        assert mine["probabilities"] == right["probabilities"]
        await listener.drain(1)
    pool_socket.close()
    assert not list(tmp_path.glob("pool*"))


def test_a_pool_socket_replaces_its_predecessor_and_does_not_remove_its_successor(tmp_path):
    path = tmp_path / "pool"
    first = PoolSocket(path)
    assert not path.exists()
    first.notify(READY)
    own = os.stat(path).st_ino
    second = PoolSocket(path)
    second.notify(READY)
    assert os.stat(path).st_ino != own
    first.close()
    assert path.exists()
    second.close()
    assert not path.exists()


def test_questions_are_placed_by_default_or_by_the_settings():
    assert pooled(load()) == ["journey", "emotion"]
    assert pooled(load(placement={"emotion": "replica", "churn": "pooled"})) == ["churn", "journey"]
    assert pooled(load(server={"own_socket": False})) == []
    with pytest.raises(SettingsError, match=r"placement\.mood: there is no such question.*emotion"):
        pooled(load(placement={"mood": "pooled"}))
