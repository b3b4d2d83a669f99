"""One computation for all callers that send the same request at once, and its answer for all within the cache's time to live.

A request is looked up in the cache. A hit is answered; where the same request is being computed, the caller joins that flight; otherwise
the request goes into the batcher, and its answer lands for all callers that wait. A request for which the batcher has no time gets the
fallback's answer.
"""

from collections.abc import Callable
from functools import partial

import msgspec

from serving.engines import Scorer
from serving.engines.types import Degradation
from serving.errors import DeadlineExceededError, OverloadedError
from serving.scoring.answer import Answer, CacheState, Cancel, Done
from serving.scoring.batcher import Batcher, Scored
from serving.scoring.cache.cache import Cache
from serving.scoring.cache.flight import Flight
from serving.scoring.cache.key import answer_key
from serving.scoring.degrade import Fallback

MAX_JOINS = 2  # flights that end with another caller's deadline before a caller computes for itself


class Call:
    """One request on its way to an answer. `original`: as decoded, what its cache key is made of; `request`: with what stores added."""

    __slots__ = ("deadline", "done", "fresh", "key", "live", "original", "priority", "request", "tenant")

    def __init__(self, request: msgspec.Struct, done: Done, tenant: str, deadline: float, fresh: bool, priority: int) -> None:
        self.original = self.request = request
        self.done = done
        self.tenant = tenant
        self.deadline = deadline
        self.fresh = fresh
        self.priority = priority
        self.key = b""
        self.live: Scorer | None = None  # the model that the key names


class SingleFlight:
    """Answers requests that lack nothing. `live` returns the live model; `use_shared`: whether the shared cache is worth a look."""

    def __init__(self, engine: str, batcher: Batcher, cache: Cache | None, fallback: Fallback, live: Callable[[], Scorer | None]) -> None:
        self.use_shared = False
        self._engine = engine
        self._batcher = batcher
        self._cache = cache
        self._fallback = fallback
        self._live = live

    def begin(self, call: Call, live: Scorer) -> Cancel | None:
        """Begin to answer by the model `live`; return what to call when the caller has disconnected, None where it was answered."""
        if self._cache is None or call.fresh:
            call.live = live
            return self._score_alone(call, "off" if self._cache is None else "bypass")
        return self._share(call, live, self._cache)

    def find(self, call: Call, live: Scorer) -> Answer | Flight | None:
        """Return the cached answer of the model `live`, else the flight of one, else None."""
        if self._cache is None or call.fresh:
            return None
        if call.live is not live:
            call.key, call.live = answer_key(call.tenant, self._engine, live.version, call.original), live
        found = self._cache.find(call.key)
        self._fallback.note_lookup(isinstance(found, Answer))
        return found

    def _score_alone(self, call: Call, state: CacheState) -> Cancel | None:
        """Put a request into the batcher that shares its answer with no other."""

        def deliver(scored: Scored | Exception) -> None:
            call.done(scored if isinstance(scored, Exception) else answered(scored, state))

        job = self._batcher.put(call.request, call.deadline, deliver, call.priority)
        if isinstance(job, OverloadedError):
            self._degrade(call, job)
            return None
        return job.cancel

    def _share(self, call: Call, live: Scorer, cache: Cache, joins: int = 0) -> Cancel | None:
        """Answer from the cache, else join the flight of the same request, else open one."""
        found = self.find(call, live)
        if isinstance(found, Answer):
            call.done(found)
            return None
        flight = found if joins < MAX_JOINS else None
        if flight is None and not self.use_shared:
            return self._lead(call, live, cache)
        error = self._batcher.refusal(call.deadline, call.priority)
        if error is not None:
            self._batcher.note_refusal()
            self._degrade(call, error)
            return None
        return self._lead_from_shared(call, live, cache) if flight is None else self._join(call, live, cache, flight, joins + 1)

    def _lead(self, call: Call, live: Scorer, cache: Cache) -> Cancel | None:
        """Put the request into the batcher, and open a flight that its answer lands."""
        job = self._batcher.put(call.request, call.deadline, lambda scored: self._land(flight, scored, live), call.priority)
        if isinstance(job, OverloadedError):
            self._degrade(call, job)
            return None
        flight = cache.open(call.key, job.cancel)  # before the batcher calls back, which it never does at once
        return flight.join(partial(self._deliver, call))

    def _lead_from_shared(self, call: Call, live: Scorer, cache: Cache) -> Cancel:
        """Open a flight that looks into the shared cache first, and into the batcher only then."""
        flight = cache.open(call.key)
        leave = flight.join(partial(self._deliver, call))

        def compute() -> None:
            job = self._batcher.put(call.request, call.deadline, lambda scored: self._land(flight, scored, live), call.priority)
            if isinstance(job, OverloadedError):
                flight.fail(job)
            else:
                flight.start(job.cancel)

        flight.look(compute)
        return leave

    def _join(self, call: Call, live: Scorer, cache: Cache, flight: Flight, joins: int) -> Cancel:
        """Wait for the flight that another caller opened; where it ends with that caller's deadline, begin again."""
        leave: Cancel | None = None

        def landed(answer: Answer | Exception) -> None:
            nonlocal leave
            if isinstance(answer, DeadlineExceededError):
                leave = self._share(call, live, cache, joins)
            else:
                self._deliver(call, answer)

        leave = flight.join(landed)
        return lambda: leave() if leave is not None else None

    def _land(self, flight: Flight, scored: Scored | Exception, live: Scorer) -> None:
        """Deliver what the batcher answers; an answer without explanations, or by another model than the key names, is not kept."""
        if isinstance(scored, Exception):
            flight.fail(scored)
        else:
            flight.land(answered(scored, "miss"), keep=not scored.without_explanations and self._live() is live)

    def _deliver(self, call: Call, answer: Answer | Exception) -> None:
        if isinstance(answer, OverloadedError):
            self._degrade(call, answer)
        else:
            call.done(answer)

    def _degrade(self, call: Call, error: OverloadedError) -> None:
        """Answer without scoring where that is allowed and possible, else with the error."""
        assert call.live is not None, "a call is degraded before its model is known; this is a bug"
        answer: Answer | Exception | None
        try:
            answer = self._fallback.answer(call.key, call.live, call.request, self._batcher.full.row_s)
        except Exception as failure:  # of the engine; it must not reach the batcher, which may be the caller
            answer = failure
        call.done(answer or error)


def answered(scored: Scored, state: CacheState) -> Answer:
    """Return the answer that a batch gave a request."""
    degradation: Degradation = "no-explanation" if scored.without_explanations else "none"
    return Answer(scored.body, state, 0.0, scored.features_s, scored.queue_s, scored.model_s, scored.encode_s, degradation)
