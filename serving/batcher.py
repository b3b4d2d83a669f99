"""Micro-batches without waiting: whatever is queued when the model frees is scored in one call, nearest deadline first, bounded."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from serving.errors import DeadlineExceededError, OverloadedError

INLINE_S = 0.002  # a batch expected to take less than this runs on the event loop: a thread costs more than it saves
SMOOTHING = 0.1  # of the newest batch in the running cost of a row


class Scored(NamedTuple):
    """One answer, encoded, with the seconds its stages took: of the whole batch, since its rows waited for all of it."""

    body: bytes
    queue_s: float
    features_s: float
    model_s: float
    encode_s: float


class Stages(NamedTuple):
    """What scoring one batch gave: a body for each request, in order, and the seconds of each stage."""

    bodies: Sequence[bytes]
    features_s: float
    model_s: float
    encode_s: float


@dataclass(order=True, slots=True)
class _Waiting:
    deadline: float
    number: int  # first come, first served among equal deadlines
    since: float = field(compare=False)
    request: Any = field(compare=False)
    answer: "asyncio.Future[Scored]" = field(compare=False)


class Batcher:
    """The queue before one model. `score` takes a list of requests and is run by one batch at a time.

    Everything but `score` itself happens on the event loop, so there is no lock.
    """

    def __init__(self, score: Callable[[list[Any]], Stages], executor: Executor, *, max_queued: int, max_batch: int) -> None:
        self._score = score
        self._executor = executor
        self._max_queued = max_queued
        self._max_batch = max_batch
        self._waiting: list[_Waiting] = []
        self._numbers = itertools.count()
        self._busy = False
        self._row_s = 0.0  # running cost of a row; 0 until the first batch
        self.batches = 0
        self.rows = 0
        self.skipped = 0  # callers that went away before their turn

    @property
    def depth(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    async def submit(self, request: Any, deadline: float) -> Scored:
        """Return the scored answer; `deadline` is a time of `time.monotonic()`.

        Raises OverloadedError at once when the queue is full, DeadlineExceededError when the answer is not ready in time.
        """
        if len(self._waiting) >= self._max_queued:
            wait_s = len(self._waiting) * self._row_s
            raise OverloadedError(f"{len(self._waiting)} requests wait already (batcher.max_queued={self._max_queued})", wait_s)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Scored] = loop.create_future()
        heapq.heappush(self._waiting, _Waiting(deadline, next(self._numbers), time.monotonic(), request, answer))
        if not self._busy:
            self._busy = True
            # After the loop has read every socket that is ready: what arrives together is scored together.
            loop.call_soon(self._next)
        return await answer

    def _take(self) -> list[_Waiting]:
        """Pop the next batch; a caller that went away is skipped, one whose deadline has passed is told so."""
        batch: list[_Waiting] = []
        now = time.monotonic()
        while self._waiting and len(batch) < self._max_batch:
            entry = heapq.heappop(self._waiting)
            if entry.answer.done():
                self.skipped += 1
            elif entry.deadline <= now:
                entry.answer.set_exception(_late(entry, now))
            else:
                batch.append(entry)
        return batch

    def _next(self) -> None:
        batch = self._take()
        if not batch:
            self._busy = False
            return
        requests = [entry.request for entry in batch]
        began = time.monotonic()
        if len(batch) * self._row_s < INLINE_S:
            try:
                stages = self._score(requests)
            except Exception as error:  # the batch fails, the server goes on
                self._fail(batch, error)
            else:
                self._finish(batch, stages, began)
        else:
            work = asyncio.get_running_loop().run_in_executor(self._executor, self._score, requests)
            work.add_done_callback(lambda done: self._done(batch, done, began))

    def _done(self, batch: list[_Waiting], work: "asyncio.Future[Stages]", began: float) -> None:
        if work.cancelled():
            self._fail(batch, DeadlineExceededError("the server is stopping"))
        elif (error := work.exception()) is not None:
            self._fail(batch, error)
        else:
            self._finish(batch, work.result(), began)

    def _finish(self, batch: list[_Waiting], stages: Stages, began: float) -> None:
        now = time.monotonic()
        row_s = (now - began) / len(batch)
        self._row_s = row_s if self._row_s == 0 else (1 - SMOOTHING) * self._row_s + SMOOTHING * row_s
        self.batches += 1
        self.rows += len(batch)
        for entry, body in zip(batch, stages.bodies, strict=True):
            if entry.answer.done():
                self.skipped += 1
            elif entry.deadline < now:
                entry.answer.set_exception(_late(entry, now))
            else:
                timing = (began - entry.since, stages.features_s, stages.model_s, stages.encode_s)
                entry.answer.set_result(Scored(body, *timing))
        self._go_on()

    def _fail(self, batch: list[_Waiting], error: BaseException) -> None:
        for entry in batch:
            if not entry.answer.done():
                entry.answer.set_exception(error)
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
        else:
            self._busy = False


def _late(entry: _Waiting, now: float) -> DeadlineExceededError:
    return DeadlineExceededError(f"the answer would have come {(now - entry.deadline) * 1000:.1f} ms or more after the deadline")
