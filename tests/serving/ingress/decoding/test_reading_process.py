"""The process that reads large refused bodies: a real one, with its answers, its bounds and its end."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator

import msgspec
import psutil
import pytest

from serving.engines import ENGINES
from serving.errors import DeadlineExceededError, InvalidRequestError, NotJSONError, NotReadyError, OverloadedError
from serving.ingress.decoding.decoder import Decoder
from serving.ingress.decoding.fields import MAX_PROBLEMS
from serving.ingress.decoding.reading_process import MAX_WAITING, CleanBody, ReadingProcess
from tests.serving.greeting import Greeting, encoded


def read(process: ReadingProcess, body: bytes, wait_s: float = 60.0, request: type[msgspec.Struct] = Greeting) -> "asyncio.Task[CleanBody]":
    return asyncio.ensure_future(process.read(request, body, max_problems=MAX_PROBLEMS, deadline=time.monotonic() + wait_s))


@pytest.fixture
async def process() -> AsyncIterator[ReadingProcess]:
    async with contextlib.aclosing(ReadingProcess()) as started:
        yield started


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
async def test_a_body_comes_back_without_its_unknown_fields_and_is_the_same_request(engine, process) -> None:
    example = msgspec.json.decode(msgspec.json.encode(engine.example))
    decoder = Decoder(engine.request, engine.check, 1)
    clean = await read(process, msgspec.json.encode({**example, "colour": 1, "size": {"a": 1}}), request=engine.request)
    assert dict(clean.unknown) == {"colour": 1, "size": 1}
    assert decoder.lenient(clean.body).request == decoder.lenient(msgspec.json.encode(engine.example)).request
    assert isinstance(decoder.read(clean.body), engine.request)


async def test_errors_are_those_of_the_decoder(process) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await read(process, encoded(hour=99, behaviorData={"pageViews": 1, "interactions": [{"timestamp": 1}] * 150}))
    assert (len(refused.value.problems), refused.value.more) == (MAX_PROBLEMS, 51)
    with pytest.raises(NotJSONError, match="not JSON"):
        await read(process, b'{"sessionId": tru}')


async def test_three_hundred_thousand_unknown_fields_are_left_out(process) -> None:
    names = {f"k{number}": 1 for number in range(300_000)}
    clean = await read(process, encoded(**names))
    assert (len(clean.body) < 1000, clean.unknown.total()) == (True, 300_000)


async def test_a_caller_that_leaves_does_not_shift_the_answers_of_others(process) -> None:
    await read(process, encoded())
    left = read(process, encoded(sessionId="left", **{f"k{number}": 1 for number in range(100_000)}))
    await asyncio.sleep(0)
    left.cancel()
    assert b'"stays"' in (await read(process, encoded(sessionId="stays"))).body


async def test_a_deadline_that_passes_is_its_own_error(process) -> None:
    with pytest.raises(DeadlineExceededError):
        await read(process, encoded(), wait_s=0.0)


async def test_the_number_of_waiting_bodies_is_bounded(process) -> None:
    waiting = [read(process, encoded()) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await read(process, encoded())
    assert len(await asyncio.gather(*waiting)) == MAX_WAITING


async def test_a_process_that_is_killed_is_replaced(process) -> None:
    await read(process, encoded())
    killed = process.pid
    os.kill(killed, signal.SIGKILL)
    with contextlib.suppress(NotReadyError):
        await read(process, encoded())
    assert (await read(process, encoded())).unknown == {}
    assert process.pid != killed


async def test_an_idle_process_ends_and_the_next_body_starts_another() -> None:
    async with contextlib.aclosing(ReadingProcess(idle_s=1.0)) as process:
        await read(process, encoded())
        first = psutil.Process(process.pid)
        await asyncio.to_thread(first.wait, 30)
        assert (await read(process, encoded())).unknown == {}


async def test_closing_ends_the_process() -> None:
    async with contextlib.aclosing(ReadingProcess()) as process:
        await read(process, encoded())
        started = psutil.Process(process.pid)
    assert not started.is_running()
