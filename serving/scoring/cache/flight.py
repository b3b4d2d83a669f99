"""One computation of an answer, under way for all callers that sent the same request meanwhile."""

import asyncio
import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from serving.scoring.answer import Answer, Cancel, Done
from serving.scoring.cache.lru import Entry
from serving.scoring.futures import outcome

if TYPE_CHECKING:
    from serving.scoring.cache.cache import Cache


class Flight:
    """The callers that wait for one answer; the first to join is the one that opened it, and gets the answer as it was computed.

    A caller that leaves takes nothing from the others. When all have left, the computation is cancelled and the cache forgets the flight.
    """

    __slots__ = ("_began", "_cache", "_cancel", "_start", "_waiters", "_waiting", "key", "shared")

    def __init__(self, cache: "Cache", key: bytes) -> None:
        self.key = key
        self.shared = False  # whether the answer is looked up and kept in the shared cache too
        self._cache = cache
        self._waiters: list[Done | None] = []  # None: has left, or has its answer
        self._waiting = 0
        self._cancel: Cancel | None = None
        self._began = self._start = 0.0

    def join(self, done: Done) -> Cancel:
        """Wait: `done` gets the answer or the error, once. Return what the caller calls to leave."""
        self._waiters.append(done)
        self._waiting += 1
        return functools.partial(self._leave, len(self._waiters) - 1)

    def look(self, compute: Callable[[], None]) -> None:
        """Look into the shared cache: deliver its answer, or call `compute` where it has none."""
        self.shared = True
        reading = self._cache.look(self.key)
        self._cancel = reading.cancel
        reading.add_done_callback(functools.partial(self._looked, compute))

    def start(self, cancel: Cancel) -> None:
        """Note that the computation has begun, which `cancel` ends: the answer's time to live counts from here."""
        self._cancel = cancel
        self._cache.misses += 1
        self._began, self._start = self._cache.clock(), time.perf_counter()

    def land(self, answer: Answer, *, keep: bool = True) -> None:
        """Deliver the computed answer to all callers that wait; `keep`: store it in the cache too, for its time to live."""
        cost_s = time.perf_counter() - self._start
        if keep:
            self._cache.keep(self, Entry(answer.body, self._began, self._began + self._cache.ttl_s, cost_s))
        self._deliver(answer, cost_s)

    def cancel(self) -> None:
        """Cancel the computation, without an answer or an error for the callers that wait."""
        cancel, self._cancel = self._cancel, None
        if cancel is not None:
            cancel()

    def fail(self, error: Exception) -> None:
        """Deliver an error to all callers that wait; it is never kept."""
        self._end()
        for place in range(len(self._waiters)):
            if (done := self._take(place)) is not None:
                done(error)

    def _looked(self, compute: Callable[[], None], reading: "asyncio.Future[Entry | None]") -> None:
        if reading.cancelled():
            return
        found = outcome(reading)
        entry = self._cache.adopt(self.key, found)
        if entry is not None:
            self._deliver(Answer(entry.value, "hit-shared", self._cache.clock() - entry.computed_at), entry.cost_s)
            return
        try:
            compute()
        except Exception as error:  # it must reach the callers that wait
            self.fail(error)

    def _deliver(self, answer: Answer, cost_s: float) -> None:
        self._end()
        if (done := self._take(0)) is not None:
            done(answer)
        if not self._waiting:
            return
        self._cache.note_joined(self._waiting, cost_s)
        joined = Answer(answer.body, "joined", 0.0, degradation=answer.degradation)
        for place in range(1, len(self._waiters)):
            if (done := self._take(place)) is not None:
                done(joined)

    def _end(self) -> None:
        """Close the flight, in the same step as its answer is kept: every caller finds either the flight or the answer."""
        self._cancel = None
        self._cache.forget(self)

    def _leave(self, place: int) -> None:
        if self._take(place) is not None and not self._waiting:
            self._cache.forget(self)
            self.cancel()

    def _take(self, place: int) -> Done | None:
        done, self._waiters[place] = self._waiters[place], None
        self._waiting -= done is not None
        return done
