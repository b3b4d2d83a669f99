"""The batcher: a batch never changes an answer, nothing waits for nothing, nothing is unbounded."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.batcher import Batcher, Stages
from serving.errors import DeadlineExceededError, OverloadedError

FAR = 60.0


def in_time() -> float:
    return time.monotonic() + FAR


def double(requests, lean=False):
    return Stages([str(2 * r).encode() for r in requests], 0.0, 0.0, 0.0)


class Gate:
    """A model that scores when it is let, and remembers its batches."""

    def __init__(self):
        self.open = threading.Event()
        self.started = threading.Event()
        self.batches = []

    def __call__(self, requests, lean=False):
        self.started.set()
        assert self.open.wait(FAR)
        self.batches.append(list(requests))
        return double(requests)


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def slow(batcher):
    """Make the batcher believe that a row is dear, so that it scores in the thread."""
    batcher.full.learn(1, 1.0)
    return batcher


@given(values=st.lists(st.integers(), min_size=1, max_size=40), gone=st.sets(st.integers(0, 39)), largest=st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_every_caller_gets_its_own_answer_whoever_else_goes_away(values, gone, largest):
    async def run(executor):
        gate = Gate()
        batcher = slow(Batcher(gate, executor, max_queued=100, max_batch=largest))
        tasks = [batcher.submit(v, in_time()) for v in values]
        await asyncio.to_thread(gate.started.wait, FAR)
        for i in gone:
            if i < len(tasks):
                tasks[i].cancel()
        gate.open.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for i, (value, answer) in enumerate(zip(values, answers, strict=True)):
            if i in gone:
                assert isinstance(answer, asyncio.CancelledError)
            else:
                assert answer.body == str(2 * value).encode()
        assert all(len(batch) <= largest for batch in gate.batches)
        while batcher._busy:  # those who went away are answered to nobody, a turn or a batch later
            await asyncio.sleep(0)
        assert batcher.batches == len(gate.batches)

    with ThreadPoolExecutor(1) as executor:
        asyncio.run(run(executor))


async def test_what_arrives_together_is_scored_together(executor):
    sizes = []

    def score(requests, lean=False):
        sizes.append(len(requests))
        return double(requests)

    batcher = Batcher(score, executor, max_queued=100, max_batch=64)
    await asyncio.gather(*(batcher.submit(i, in_time()) for i in range(10)))
    assert sizes == [10]


async def test_the_nearest_deadline_is_scored_first(executor):
    gate = Gate()
    batcher = slow(Batcher(gate, executor, max_queued=100, max_batch=1))
    first = batcher.submit(0, in_time())
    await asyncio.to_thread(gate.started.wait, FAR)
    rest = [batcher.submit(i, in_time() + 10 - i) for i in range(1, 5)]
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(first, *rest)
    assert gate.batches == [[0], [4], [3], [2], [1]]


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(executor):
    gate = Gate()
    batcher = slow(Batcher(gate, executor, max_queued=3, max_batch=1))
    first = batcher.submit(0, in_time())
    await asyncio.to_thread(gate.started.wait, FAR)
    waiting = [batcher.submit(i, in_time()) for i in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="max_queued=3") as refused:
        await batcher.submit(9, in_time())
    assert refused.value.retry_after_s == pytest.approx(3.0)  # three rows at one second each
    gate.open.set()
    await asyncio.gather(first, *waiting)


async def test_a_request_past_its_deadline_is_not_scored(executor):
    batcher = Batcher(double, executor, max_queued=10, max_batch=10)
    with pytest.raises(DeadlineExceededError):
        await batcher.submit(1, time.monotonic() - 1)
    assert batcher.rows == 0


async def test_a_failing_batch_fails_its_callers_and_not_the_next_ones(executor):
    def score(requests, lean=False):
        if 13 in requests:
            raise ValueError("thirteen")
        return double(requests)

    for prepare in (lambda b: b, slow):  # on the loop, in the thread
        batcher = prepare(Batcher(score, executor, max_queued=10, max_batch=10))
        with pytest.raises(ValueError, match="thirteen"):
            await batcher.submit(13, in_time())
        assert (await batcher.submit(2, in_time())).body == b"4"
