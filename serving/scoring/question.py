"""One question in one replica: its live model, what stores add to a request, and the way from a request to its answer."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

import msgspec

from serving.auth.principals import Principal
from serving.engines import Engine, Scorer
from serving.engines.demo import is_demo
from serving.engines.session_memory import SessionMemory
from serving.errors import NoModelError, NotReadyError, OverloadedError, RevenueEngineError
from serving.scoring.answer import Answer, Cancel, Done
from serving.scoring.batcher import NORMAL, Batcher, Scored, Stages
from serving.scoring.cache.cache import Cache
from serving.scoring.degrade import Fallback
from serving.scoring.futures import outcome, resolve
from serving.scoring.single_flight import Call, SingleFlight, answered
from serving.settings import Settings
from serving.stores.features import Features
from serving.stores.sessions import Sessions

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class Question:
    """One engine, answered by whichever model is live. Everything here runs on one event loop, but `Scorer` calls may run in `executor`."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        executor: Executor,
        cache: Cache | None = None,
        features: Features | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        self.engine = engine
        self.choices: Sequence[str] = ()
        self.problem: str | None = None  # why the model that the registry points to is not live
        self.loading = True  # without a live model: whether one may become live without anybody's doing
        self._alias = settings.models.alias
        # Where demonstration models are refused, nobody has promised a model for any question.
        self._required = not engine.optional and settings.models.allow_demo
        self._features, self._sessions = features, sessions
        self._live: Scorer | None = None
        limits = settings.batcher
        self.batcher = Batcher(
            self._score,
            executor,
            max_queued=limits.max_queued,
            max_batch=limits.max_batch,
            without_explanations=settings.degrade.allows("no-explanation"),
        )
        cache = cache if settings.cache.enabled else None
        self.fallback = Fallback(settings.degrade, cache)
        self.single_flight = SingleFlight(engine.name, self.batcher, cache, self.fallback, lambda: self._live)

    @property
    def ready(self) -> bool:
        """Whether a model is live."""
        return self._live is not None

    @property
    def lacking(self) -> bool:
        """Whether a model that the server needs to be ready is not live yet."""
        return self._live is None and self._required

    @property
    def live(self) -> Scorer | None:
        """The live model, None while there is none."""
        return self._live

    @property
    def demo(self) -> bool:
        """Whether the live model is for demonstration."""
        return is_demo(self._live)

    @property
    def version(self) -> str | None:
        """The version of the live model, None while there is none."""
        return None if self._live is None else self._live.version

    def switch(self, scorer: Scorer, choices: Sequence[str] = (), costs: Sequence[tuple[int, bool, float]] = ()) -> None:
        """Make `scorer`, loaded and warm, the live model: one reference, so every batch is scored by one model.

        `choices`: what it chose for this machine; `costs`: (rows, without_explanations, seconds) of batches, for a batcher that has scored
        none yet.
        """
        self.choices = choices
        self._live = scorer
        if not self.batcher.full.known:
            for rows, without_explanations, seconds in costs:
                (self.batcher.without_explanations if without_explanations else self.batcher.full).learn(rows, seconds)

    def refusal(self, deadline: float, priority: int = NORMAL) -> OverloadedError | None:
        """Return why no request with this deadline would be answered in time, whatever it contains; None when one may be."""
        error = self.batcher.refusal(deadline, priority)
        if error is None or (deadline > time.monotonic() and self.fallback.possible()):
            return None
        self.batcher.note_refusal()
        return error

    @property
    def pressed(self) -> bool:
        """Whether a request was refused recently."""
        return self.batcher.pressed

    def begin(
        self,
        request: msgspec.Struct,
        done: Done,
        *,
        principal: Principal,
        deadline: float,
        fresh: bool = False,
        priority: int = NORMAL,
    ) -> Cancel | None:
        """Begin to answer by `deadline` (time.monotonic()): `done` gets the answer or the error, once, maybe at once.

        Call the function that it returns, if any, when the caller has disconnected. `fresh` does not read the cache.
        """
        if self._live is None:  # before any store is read: what is stored is of no use without a model
            done(self._without_model())
            return None
        call = Call(request, done, principal.tenant, deadline, fresh, priority)
        memory = self.engine.memory
        if memory is not None and (entity := memory.key(request)) is not None:
            return self._begin_remembered(memory, entity, call)
        lookup, features = self.engine.lookup, self._features
        if lookup is None or features is None or (entity := lookup.key(request)) is None:
            return self._begin(call)
        if self._live is not None and isinstance(found := self.single_flight.find(call, self._live), Answer):
            done(found)
            return None

        def fill(stored: Any) -> Cancel | None:
            call.request = lookup.fill(request, stored)
            return self._begin(call)

        return self._after(features.get(call.tenant, lookup, entity), fill, done)

    def ask(
        self, request: msgspec.Struct, *, principal: Principal, deadline: float, fresh: bool = False, priority: int = NORMAL
    ) -> "asyncio.Future[Answer]":
        """Return the answer to come, as `begin` gives it; it raises NoModelError, NotReadyError, OverloadedError, DeadlineExceededError."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            cancel = self.begin(request, partial(resolve, answer), principal=principal, deadline=deadline, fresh=fresh, priority=priority)
        except Exception as error:  # one item of a list must not take the others along
            resolve(answer, error)
            return answer
        if cancel is not None:
            answer.add_done_callback(lambda future: cancel() if future.cancelled() else None)
        return answer

    def _after(self, reading: "asyncio.Future[T]", begin: Callable[[T], Cancel | None], done: Done) -> Cancel:
        """Begin to answer once a store's reading has arrived."""
        cancel: Cancel | None = reading.cancel

        def ended(reading: "asyncio.Future[T]") -> None:
            nonlocal cancel
            if reading.cancelled():
                return
            found = outcome(reading)
            if isinstance(found, Exception):
                done(found)
                return
            try:
                cancel = begin(found)
            except Exception as error:
                done(error)

        reading.add_done_callback(ended)
        return lambda: cancel() if cancel is not None else None

    def _begin(self, call: Call) -> Cancel | None:
        """Begin to answer a complete request."""
        live = self._live
        if live is None:
            call.done(self._without_model())
            return None
        refusal = live.refusal(call.request)
        if refusal is not None:
            call.done(refusal)
            return None
        return self.single_flight.begin(call, live)

    def _begin_remembered(self, memory: SessionMemory, entity: str, call: Call) -> Cancel | None:
        """Begin to answer a request that continues earlier ones or is to be remembered; no cache holds its answer."""
        if self._sessions is None:
            call.done(memory.refusal())
            return None
        if not memory.continues(call.original):
            return self._remember(memory, entity, call)

        def fill(stored: bytes | None) -> Cancel | None:
            call.request = memory.resume(call.original, stored)
            return self._remember(memory, entity, call)

        return self._after(self._sessions.read(call.tenant, memory, entity), fill, call.done)

    def _remember(self, memory: SessionMemory, entity: str, call: Call) -> Cancel | None:
        """Begin to answer; the answer is given once what is to be remembered is stored."""
        sessions = self._sessions
        assert sessions is not None, "a request to be remembered without a store; this is a bug"
        if self._live is None:
            call.done(self._without_model())
            return None

        def deliver(scored: Scored | Exception) -> None:
            if isinstance(scored, Exception) or scored.snapshot is None:
                call.done(scored if isinstance(scored, Exception) else answered(scored, "bypass"))
                return
            sessions.write(call.tenant, memory, entity, scored.snapshot).add_done_callback(lambda writing: written(writing, scored))

        def written(writing: "asyncio.Future[None]", scored: Scored) -> None:
            if not writing.cancelled():
                error = writing.exception()
                call.done(error if isinstance(error, Exception) else answered(scored, "bypass"))

        job = self.batcher.put(call.request, call.deadline, deliver, call.priority)
        if isinstance(job, OverloadedError):
            call.done(job)
            return None
        return job.cancel

    def _without_model(self) -> RevenueEngineError:
        """Return why there is no answer while no model is live."""
        if self.loading:
            return NotReadyError(f"no model for {self.engine.name} is loaded yet{'' if self.problem is None else f': {self.problem}'}")
        return NoModelError(self.engine.name, self._alias, self.problem)

    def _score(self, requests: list[Any], without_explanations: bool) -> Stages:
        live = self._live
        assert live is not None, "a batch without a live model; this is a bug"
        return score(live, requests, without_explanations, self.engine.memory)


def score(
    scorer: Scorer,
    requests: list[Any],
    without_explanations: bool = False,
    memory: SessionMemory | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Stages:
    """Return the encoded answers of one batch: rows become columns, columns are scored, answers become rows again.

    `without_explanations` leaves out what the engine can leave out; `memory`: whose state to store for each request.
    """
    t0 = clock()
    columns = scorer.columns(requests)
    if without_explanations:
        columns = scorer.without_explanations(columns)
    t1 = clock()
    answers = scorer.run(columns)
    t2 = clock()
    bodies = [_encode(row) for row in scorer.rows(requests, answers)]
    snapshots = () if memory is None else memory.snapshots(scorer, requests, answers)
    return Stages(bodies, t1 - t0, t2 - t1, clock() - t2, snapshots)
