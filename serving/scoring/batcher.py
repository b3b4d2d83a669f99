"""Micro-batches without waiting: whatever is queued when the model frees is scored in one call, nearest deadline first, bounded.

A request is taken only when it can be answered in time: the batcher learns what a batch costs (`serving.scoring.cost`) and refuses at once
what would come too late, with the seconds after which there will be room. Where leaving something out (the without_explanations
degradation) makes it fit, that is what is done until the queue is short again. So under any load those who are accepted keep their
deadlines (Gujarati et al. 2020, Clockwork: a refusal now is worth more than an answer too late).
"""

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from itertools import repeat
from typing import Any, NamedTuple

from serving.errors import DeadlineExceededError, OverloadedError
from serving.scoring.cost import Cost
from serving.scoring.futures import outcome, tell

INLINE_S = 0.005  # a batch expected to take less than this runs on the event loop: a thread costs more than it saves
PRESSED_S = 0.002  # the same while requests are refused: so long a refusal may have to wait for its turn
PAUSE_SMOOTHING, PAUSE_LEAP = 0.2, 4.0  # of the newest pause in what is remembered, and how many times that it may count as
SAFETY = 1.25  # a queue is taken to last so much longer than it should,
STALL_S, STALL = 0.1, 2.0  # and at most so much besides, by its length: a machine that others use too may be slow or away for a moment
WAY_BACK = 2.0  # batches that pass until an answer is with its caller: its own, and the turn in which it is written
RECOVERED = 0.5  # of the time that is left: what the queue must fit into, nothing left out, before nothing is left out again
NEARLY_S = 0.0005  # who waits hardly longer than one that was refused is refused too: to read it takes its time, and it would come to this
CALM_S = 0.1  # after the last refusal, until the queue is taken to be no longer pressed
PRIORITIES = 8  # urgency of RFC 9218: 0 first, 7 last
NORMAL = 3

Done = Callable[["Scored | Exception"], None]


class Scored(NamedTuple):
    """One answer, encoded, with the seconds its stages took: of the whole batch, since its rows waited for all of it. `kept`: what is to be
    remembered.
    """

    body: bytes
    queue_s: float
    features_s: float
    model_s: float
    encode_s: float
    without_explanations: bool = False
    kept: bytes | None = None


class Stages(NamedTuple):
    """What scoring one batch gave: a body for each request, in order, and the seconds of each stage; `kept`: what is to be remembered of
    each, where the engine remembers.
    """

    bodies: Sequence[bytes]
    features_s: float
    model_s: float
    encode_s: float
    kept: Sequence[bytes | None] = ()


class Job:
    """One request in the queue. `gone`: nobody waits for its answer any more."""

    __slots__ = ("deadline", "done", "gone", "request", "since")

    def __init__(self, request: Any, deadline: float, done: Done, since: float) -> None:
        self.request, self.deadline, self.done, self.since = request, deadline, done, since
        self.gone = False

    def cancel(self) -> None:
        """Say that the caller has gone: the request is skipped, or its answer dropped."""
        self.gone = True


class Batcher:
    """The queue before one model. `score` takes a list of requests, and whether to leave out what can be; one batch at a time runs it.

    Everything but `score` itself happens on the event loop, so there is no lock. Times are of `time.monotonic()`.
    """

    def __init__(
        self,
        score: Callable[[list[Any], bool], Stages],
        executor: Executor,
        *,
        max_queued: int,
        max_batch: int,
        without_explanations: bool = False,
    ) -> None:
        self._score = score
        self._executor = executor
        self._max_queued = max_queued
        self._max_batch = max_batch
        self._may_skip_explanations = without_explanations
        self._waiting: list[tuple[int, float, int, Job]] = []  # a heap: priority, deadline, number; first come, first served among equals
        self._queued = [0] * PRIORITIES
        self._latest = 0.0  # no deadline that waits is later
        self._usual = 1  # rows that the last batch might have had
        self._numbers = itertools.count()
        self._busy = False
        self._skipping_explanations = False
        self._may_recover = False  # a batch has been taken since it was last looked whether leaning may end
        self._ready = 0.0  # since when there has been something to score and nothing being scored
        self._pause_s = 0.0  # what passes from then to the beginning of a batch: reading, refusing and replying take their time too
        self.pressed = False  # somebody was refused of late
        self._refused_at = 0.0  # when that was
        self._refused_s = -1.0  # who waits no longer than so, or hardly, was refused since the queue last became shorter,
        self._refusal: OverloadedError | None = None  # with these words
        self._fitting = math.inf  # there was time for a request with this deadline, or a later one, since the queue last changed
        self.full, self.without_explanations = Cost(), Cost()
        self.batches = 0
        self.rows = 0
        self.without_explanations_rows = 0
        self.skipped = 0  # callers that went away before their turn
        self.refused = 0

    @property
    def depth(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def put(self, request: Any, deadline: float, done: Done, priority: int = NORMAL) -> Job | OverloadedError:
        """Queue a request; `done` gets its answer, once, or why there is none. Return at once why it is not taken, if it is not.

        Returned and not raised: the same error is told to many, and a traceback would tie every one of their requests to it.
        """
        now = time.monotonic()
        error = self.refusal(deadline, priority, now)
        if error is not None:
            self.note_refusal()
            return error
        job = Job(request, deadline, done, now)
        heapq.heappush(self._waiting, (priority, deadline, next(self._numbers), job))
        self._fitting = math.inf
        self._queued[priority] += 1
        if deadline > self._latest:
            self._latest = deadline
        if not self._busy:
            self._busy = True
            self._ready = now
            # After the loop has read every socket that is ready: what arrives together is scored together.
            asyncio.get_running_loop().call_soon(self._next)
        return job

    def submit(self, request: Any, deadline: float, priority: int = NORMAL) -> "asyncio.Future[Scored]":
        """Return the scored answer to come. It raises OverloadedError, DeadlineExceededError or what `score` raises."""
        answer: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
        job = self.put(request, deadline, lambda scored: tell(answer, scored), priority)
        if isinstance(job, OverloadedError):
            answer.set_exception(job)
        else:
            answer.add_done_callback(lambda done: job.cancel() if done.cancelled() else None)
        return answer

    def refusal(self, deadline: float, priority: int = NORMAL, now: float | None = None) -> OverloadedError | None:
        """Return why a request would not be taken now, None when it would."""
        waiting = len(self._waiting)
        if not waiting:
            return None
        now = time.monotonic() if now is None else now
        if self._skipping_explanations and self._may_recover:
            self._skipping_explanations, self._may_recover = not self._recovered(now), False
        if priority == NORMAL and deadline - now <= self._refused_s + NEARLY_S:
            return self._refusal
        if priority == NORMAL and deadline >= self._fitting:
            return None
        error = None if self._easily_fits(waiting, deadline - now) else self._judge(waiting, deadline, priority, now)
        if priority == NORMAL:
            if error is None:
                self._fitting = deadline
            else:
                self._refused_s, self._refusal = deadline - now, error
        return error

    def note_refusal(self) -> None:
        """Take into account that somebody was refused."""
        self.refused += 1
        self.pressed = True
        self._refused_at = time.monotonic()

    def _easily_fits(self, waiting: int, left_s: float) -> bool:
        """Return whether there is time for all who wait and one more at the most that it may take: true of nearly all, and soon found."""
        cost = self._cost()
        batches = 1 + waiting // self._usual
        max_s = (SAFETY + STALL) * (batches * (self._pause_s + cost.fixed_s) + cost.row_s * (waiting + 1))
        return max_s <= left_s and waiting < self._max_queued

    def _judge(self, waiting: int, deadline: float, priority: int, now: float) -> OverloadedError | None:
        """Return why a request would not be answered in time, None when it would; begins or ends leaning where that decides it."""
        if waiting >= self._max_queued:
            wait_s = self._wait_s(self._cost(), waiting)
            return OverloadedError(f"{waiting} requests wait already (batcher.max_queued={self._max_queued})", wait_s)
        if not self._skipping_explanations:
            if self._fits(self.full, deadline, priority, now):
                return None
            if not self._may_skip_explanations or not self._fits(self._cost_without_explanations(), deadline, priority, now):
                return self._too_late(self.full, deadline, now)
            self._skipping_explanations = True
            return None
        cost = self._cost_without_explanations()
        return None if self._fits(cost, deadline, priority, now) else self._too_late(cost, deadline, now)

    def _fits(self, cost: Cost, deadline: float, priority: int, now: float) -> bool:
        """Return whether a newcomer would be answered in time, and nobody too late for its sake."""
        ahead = sum(self._queued[: priority + 1])
        all_s = self._surely_s(cost, ahead + 1)
        if now + all_s <= deadline:
            return True  # after all of them, so those behind, whose deadlines are later, are in time too
        if deadline >= self._latest:
            return False
        before, soonest = 0, float("inf")
        for other, due, _, _ in self._waiting:
            if other < priority or (other == priority and due <= deadline):
                before += 1
            elif other == priority and due < soonest:
                soonest = due
        return now + self._surely_s(cost, before + 1) <= deadline and now + all_s <= soonest

    def _recovered(self, now: float) -> bool:
        """Return whether what waits fits easily with nothing left out."""
        return self._surely_s(self.full, len(self._waiting) + 1) <= RECOVERED * (self._latest - now)

    def _wait_s(self, cost: Cost, rows: int) -> float:
        """Return the seconds after which so many rows will have been answered, all that is done between batches included."""
        largest = self._largest(cost)[0]
        return cost.drain(rows, largest) + self._pause_s * -(-rows // largest)

    def _surely_s(self, cost: Cost, rows: int) -> float:
        """Return the seconds after which so many rows will have been answered even if not all goes well."""
        wait_s = self._wait_s(cost, rows)
        return SAFETY * wait_s + min(STALL * wait_s, STALL_S)

    def _largest(self, cost: Cost) -> tuple[int, bool]:
        """Return how many rows the next batch may have, and whether it runs on the event loop."""
        fitting = cost.fitting(PRESSED_S if self.pressed else INLINE_S)
        return (min(fitting, self._max_batch), True) if fitting else (self._max_batch, False)

    def _cost(self) -> Cost:
        return self._cost_without_explanations() if self._skipping_explanations else self.full

    def _cost_without_explanations(self) -> Cost:
        return self.without_explanations if self.without_explanations.known else self.full

    def _too_late(self, cost: Cost, deadline: float, now: float) -> OverloadedError:
        wait_s = self._surely_s(cost, len(self._waiting) + 1)
        return OverloadedError(
            f"{len(self._waiting)} requests wait already: the answer would come after {wait_s * 1000:.0f} ms, the caller waits "
            f"{max(0.0, deadline - now) * 1000:.0f} ms",
            wait_s,
        )

    def _take(self, most: int) -> list[Job]:
        """Pop the next batch; a caller that went away is skipped, one whose deadline has passed or will have before the answer is told so.

        The first is tried whatever is expected: else a wrong expectation would never be put right.
        """
        batch: list[Job] = []
        now = time.monotonic()
        cost = self._cost()
        soon = now + WAY_BACK * self._wait_s(cost, min(most, len(self._waiting)))
        self._refused_s, self._refusal, self._fitting = -1.0, None, math.inf
        while self._waiting and len(batch) < most:
            priority, deadline, _, job = heapq.heappop(self._waiting)
            self._queued[priority] -= 1
            if job.gone:
                self.skipped += 1
            elif deadline <= now:
                job.done(_late(deadline, now))
            elif deadline <= soon and batch:
                job.done(self._too_late(cost, deadline, now))
            else:
                batch.append(job)
        if not self._waiting:
            self._latest = 0.0
        return batch

    def _next(self) -> None:
        without_explanations = self._skipping_explanations
        largest, inline = self._largest(self._cost())
        self._usual, self._may_recover = largest, True
        batch = self._take(largest)
        if not batch:
            self._idle()
            return
        requests = [job.request for job in batch]
        began = time.monotonic()
        if inline:
            try:
                stages = self._score(requests, without_explanations)
            except Exception as error:  # the batch fails, the server goes on
                self._fail(batch, error)
            else:
                self._finish(batch, stages, began, without_explanations)
        else:
            work = asyncio.get_running_loop().run_in_executor(self._executor, self._score, requests, without_explanations)
            work.add_done_callback(lambda done: self._done(batch, done, began, without_explanations))

    def _done(self, batch: list[Job], work: "asyncio.Future[Stages]", began: float, without_explanations: bool) -> None:
        if work.cancelled():
            self._fail(batch, DeadlineExceededError("the server is stopping"))
        elif isinstance(stages := outcome(work), Exception):
            self._fail(batch, stages)
        else:
            self._finish(batch, stages, began, without_explanations)

    def _finish(self, batch: list[Job], stages: Stages, began: float, without_explanations: bool) -> None:
        now = time.monotonic()
        self.batches += 1
        self.rows += len(batch)
        self.without_explanations_rows += len(batch) if without_explanations else 0
        _, features_s, model_s, encode_s, kept = stages
        for job, body, keep in zip(batch, stages.bodies, kept or repeat(None, len(batch)), strict=True):
            if job.gone:
                self.skipped += 1
            elif job.deadline < now:
                job.done(_late(job.deadline, now))
            else:
                job.done(Scored(body, began - job.since, features_s, model_s, encode_s, without_explanations, keep))
        end = time.monotonic()
        cost = self.without_explanations if without_explanations else self.full
        cost.learn(len(batch), end - began)
        pause_s = min(began - self._ready, PAUSE_LEAP * max(self._pause_s, cost.of(len(batch))))
        self._pause_s += PAUSE_SMOOTHING * (pause_s - self._pause_s)
        self._go_on(end)

    def _fail(self, batch: list[Job], error: Exception) -> None:
        for job in batch:
            if not job.gone:
                job.done(error)
        self._go_on(time.monotonic())

    def _go_on(self, now: float) -> None:
        if self._waiting:
            self._ready = now
            asyncio.get_running_loop().call_soon(self._next)
        else:
            self._idle()

    def _idle(self) -> None:
        self._busy = self._skipping_explanations = False
        self.pressed = self.pressed and time.monotonic() - self._refused_at < CALM_S


def _late(deadline: float, now: float) -> DeadlineExceededError:
    return DeadlineExceededError(f"the answer would have come {(now - deadline) * 1000:.1f} ms or more after the deadline")
