"""Micro-batches without waiting: what is queued when the model is free is scored in one call, nearest deadline first, bounded.

A request is accepted only if it can be answered in time: the batcher learns what a batch costs (`serving.scoring.cost`) and refuses at once
what would be late, with the seconds after which there will be room. Where leaving out explanations makes it fit, they are left out until
the queue is short again. So under any load accepted requests keep their deadlines (Gujarati et al. 2020, Clockwork: a refusal now is worth
more than an answer too late).
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
from serving.scoring.futures import outcome, resolve

INLINE_S = 0.005  # a batch expected to take less than this runs on the event loop: a thread costs more than it saves
PRESSED_S = 0.002  # the same while requests are refused: a refusal may have to wait so long
PAUSE_SMOOTHING, MAX_PAUSE_RATIO = 0.2, 4.0  # weight of the newest pause in the mean; it counts as at most so many times the mean
SAFETY = 1.25  # a queue is expected to take so many times its computed time,
STALL_S, STALL = 0.1, 2.0  # and STALL times that time besides, at most STALL_S: a shared machine may stall for a moment
REPLY_BATCHES = 2.0  # batches until an answer has reached its caller: its own, and the one during which it is written
RECOVERED = 0.5  # share of the time left that the queue must fit into, with explanations, before explanations are computed again
NEARLY_S = 0.0005  # a request with hardly more time than a refused one is refused too: to read it takes about so long
CALM_S = 0.1  # after the last refusal, until the batcher is no longer pressed
BESIDE_S = 0.001  # the same for requests of low priority alone, while others arrive: those would wait for the whole batch,
BESIDE_ROWS = 4  # unless so few rows take longer: a slow model needs its large batches
RECENT_S = 0.1  # since the last request of another priority, for as long as they count as arriving
PRIORITIES = 8  # urgencies of RFC 9218: 0 first, 7 last
NORMAL = 3

Done = Callable[["Scored | Exception"], None]


class Scored(NamedTuple):
    """One encoded answer with the seconds of its stages, those of the whole batch, since every row waited for all of it.

    snapshot: the state to store in the session memory, None where there is none.
    """

    body: bytes
    queue_s: float
    features_s: float
    model_s: float
    encode_s: float
    without_explanations: bool = False
    snapshot: bytes | None = None


class Stages(NamedTuple):
    """The result of scoring one batch: a body for each request, in order, and the seconds of each stage.

    snapshots: for each request the state to store in the session memory; empty where the engine has none.
    """

    bodies: Sequence[bytes]
    features_s: float
    model_s: float
    encode_s: float
    snapshots: Sequence[bytes | None] = ()


class Job:
    """One request in the queue. `cancelled`: its caller has disconnected."""

    __slots__ = ("cancelled", "deadline", "done", "request", "since")

    def __init__(self, request: Any, deadline: float, done: Done, since: float) -> None:
        self.request, self.deadline, self.done, self.since = request, deadline, done, since
        self.cancelled = False

    def cancel(self) -> None:
        """Note that the caller has disconnected: the request is skipped, or its answer dropped."""
        self.cancelled = True


class Batcher:
    """The queue of one model. `score` takes a list of requests and whether to leave out explanations; one batch at a time is scored.

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
        self._latest = 0.0  # no queued request has a later deadline
        self._usual = 1  # the most rows that the last batch could have had
        self._numbers = itertools.count()
        self._busy = False
        self._skipping_explanations = False
        self._may_recover = False  # a batch was taken since the last check whether explanations may be computed again
        self._ready = 0.0  # since when requests have been queued while none is scored
        self._pause_s = 0.0  # mean seconds from then to the next batch: reading, refusing and replying take time too
        self.pressed = False  # a request was refused recently
        self._refused_at = 0.0  # time of the last refusal
        self._urgent_at = -math.inf  # time of the last request that was not of low priority
        self._refused_s = -1.0  # the most time left of a request refused since the queue last became shorter,
        self._refusal: OverloadedError | None = None  # and its error
        self._fitting = math.inf  # the earliest deadline accepted since the queue last changed
        self.full, self.without_explanations = Cost(), Cost()
        self.batches = 0
        self.rows = 0
        self.without_explanations_rows = 0
        self.skipped = 0  # requests whose caller had left
        self.refused = 0

    @property
    def depth(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def put(self, request: Any, deadline: float, done: Done, priority: int = NORMAL) -> Job | OverloadedError:
        """Queue a request: `done` gets its answer or error, once, and never before this returns. Return the error if it is refused.

        The error is returned and not raised: many requests share it, and its traceback would keep every one of them in memory.
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
        if priority <= NORMAL:
            self._urgent_at = now
        if deadline > self._latest:
            self._latest = deadline
        if not self._busy:
            self._busy = True
            self._ready = now
            # After the loop has read every ready socket: requests that arrive together are scored together.
            asyncio.get_running_loop().call_soon(self._next)
        return job

    def submit(self, request: Any, deadline: float, priority: int = NORMAL) -> "asyncio.Future[Scored]":
        """Return the scored answer to come. It raises OverloadedError, DeadlineExceededError or what `score` raises."""
        answer: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
        job = self.put(request, deadline, lambda scored: resolve(answer, scored), priority)
        if isinstance(job, OverloadedError):
            answer.set_exception(job)
        else:
            answer.add_done_callback(lambda done: job.cancel() if done.cancelled() else None)
        return answer

    def refusal(self, deadline: float, priority: int = NORMAL, now: float | None = None) -> OverloadedError | None:
        """Return the error with which a request would be refused now, None if it would be accepted."""
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
        """Count a refusal."""
        self.refused += 1
        self.pressed = True
        self._refused_at = time.monotonic()

    def _easily_fits(self, waiting: int, left_s: float) -> bool:
        """Return whether all that is queued and one more fit in the worst case: true of nearly all requests, and quickly found."""
        cost = self._cost()
        batches = 1 + waiting // self._usual
        max_s = (SAFETY + STALL) * (batches * (self._pause_s + cost.fixed_s) + cost.row_s * (waiting + 1))
        return max_s <= left_s and waiting < self._max_queued

    def _judge(self, waiting: int, deadline: float, priority: int, now: float) -> OverloadedError | None:
        """Return the error of a request that would be late, None if it would be in time; leaves out explanations where that decides."""
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
        """Return whether a new request would be answered in time, and would make no queued one late."""
        ahead = sum(self._queued[: priority + 1])
        all_s = self._bound_s(cost, ahead + 1)
        if now + all_s <= deadline:
            return True  # it is scored last, so every queued request is in time too
        if deadline >= self._latest:
            return False
        before, soonest = 0, float("inf")
        for other, due, _, _ in self._waiting:
            if other < priority or (other == priority and due <= deadline):
                before += 1
            elif other == priority and due < soonest:
                soonest = due
        return now + self._bound_s(cost, before + 1) <= deadline and now + all_s <= soonest

    def _recovered(self, now: float) -> bool:
        """Return whether all that is queued fits easily with explanations."""
        return self._bound_s(self.full, len(self._waiting) + 1) <= RECOVERED * (self._latest - now)

    def _wait_s(self, cost: Cost, rows: int) -> float:
        """Return the expected seconds until so many rows are answered, including the pauses between batches."""
        largest = self._largest(cost)[0]
        return cost.drain(rows, largest) + self._pause_s * -(-rows // largest)

    def _bound_s(self, cost: Cost, rows: int) -> float:
        """Return the seconds until so many rows are answered, with a margin for stalls."""
        wait_s = self._wait_s(cost, rows)
        return SAFETY * wait_s + min(STALL * wait_s, STALL_S)

    def _largest(self, cost: Cost) -> tuple[int, bool]:
        """Return how many rows the next batch may have, and whether it is scored on the event loop."""
        fitting = cost.fitting(PRESSED_S if self.pressed else INLINE_S)
        return (min(fitting, self._max_batch), True) if fitting else (self._max_batch, False)

    def _largest_beside(self, largest: int) -> int:
        """Return how many of at most `largest` rows the next batch has, where some are of low priority and others are not to wait long."""
        low = sum(self._queued[NORMAL + 1 :])
        if not low or time.monotonic() - self._urgent_at > RECENT_S:
            return largest
        fitting = self._cost().fitting(BESIDE_S)
        return min(largest, max(fitting, len(self._waiting) - low)) if fitting >= BESIDE_ROWS else largest

    def _cost(self) -> Cost:
        return self._cost_without_explanations() if self._skipping_explanations else self.full

    def _cost_without_explanations(self) -> Cost:
        return self.without_explanations if self.without_explanations.known else self.full

    def _too_late(self, cost: Cost, deadline: float, now: float) -> OverloadedError:
        wait_s = self._bound_s(cost, len(self._waiting) + 1)
        return OverloadedError(
            f"{len(self._waiting)} requests wait already: the answer would come after {wait_s * 1000:.0f} ms, the caller waits "
            f"{max(0.0, deadline - now) * 1000:.0f} ms",
            wait_s,
        )

    def _take(self, max_rows: int) -> list[Job]:
        """Pop the next batch. Requests without a caller are skipped; those whose deadline has passed, or will have, get their error.

        The first is scored whatever is expected: otherwise a wrong cost would never be corrected.
        """
        batch: list[Job] = []
        now = time.monotonic()
        cost = self._cost()
        replied = now + REPLY_BATCHES * self._wait_s(cost, min(max_rows, len(self._waiting)))
        self._refused_s, self._refusal, self._fitting = -1.0, None, math.inf
        while self._waiting and len(batch) < max_rows:
            priority, deadline, _, job = heapq.heappop(self._waiting)
            self._queued[priority] -= 1
            if job.cancelled:
                self.skipped += 1
            elif deadline <= now:
                job.done(_late(deadline, now))
            elif deadline <= replied and batch:
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
        batch = self._take(self._largest_beside(largest))
        if not batch:
            self._idle()
            return
        requests = [job.request for job in batch]
        began = time.monotonic()
        if inline:
            try:
                stages = self._score(requests, without_explanations)
            except Exception as error:  # of the engine: this batch fails, the next ones do not
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
        _, features_s, model_s, encode_s, snapshots = stages
        for job, body, snapshot in zip(batch, stages.bodies, snapshots or repeat(None, len(batch)), strict=True):
            if job.cancelled:
                self.skipped += 1
            elif job.deadline < now:
                job.done(_late(job.deadline, now))
            else:
                job.done(Scored(body, began - job.since, features_s, model_s, encode_s, without_explanations, snapshot))
        end = time.monotonic()
        cost = self.without_explanations if without_explanations else self.full
        cost.learn(len(batch), end - began)
        pause_s = min(began - self._ready, MAX_PAUSE_RATIO * max(self._pause_s, cost.of(len(batch))))
        self._pause_s += PAUSE_SMOOTHING * (pause_s - self._pause_s)
        self._go_on(end)

    def _fail(self, batch: list[Job], error: Exception) -> None:
        for job in batch:
            if not job.cancelled:
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
