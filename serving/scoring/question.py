"""One question in one replica: its live model, the batcher before it, the cache before that, and what is answered when there is no time."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from serving.engines import Engine, Scorer
from serving.engines.session_memory import SessionMemory
from serving.engines.types import Degradation
from serving.errors import NotReadyError, OverloadedError
from serving.scoring.batcher import NORMAL, Batcher, Scored, Stages
from serving.scoring.cache import cache as caching
from serving.scoring.cache.cache import Cache
from serving.scoring.futures import outcome, tell
from serving.settings import Settings
from serving.stores.features import Features
from serving.stores.sessions import Sessions

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode

CacheState = Literal["hit", "hit-shared", "miss", "joined", "bypass", "off", "stale"]
HIT_RATE_SMOOTHING, MIN_HIT_RATE, TRY_EVERY = 0.02, 0.1, 16
IN_AND_OUT = 1.5  # rows that might be scored, among others, while one request is read and replied to

# How a degradation stands in an answer's JSON. A text of the caller's cannot look like it: quotes in a JSON string are escaped.
_NONE, _STALE = b'"degradation":"none"', b'"degradation":"stale"'


class Answer(NamedTuple):
    """An encoded answer: where it came from, its age, the seconds of each stage (zero for a cached one), and its degradation."""

    body: bytes
    state: CacheState
    age_s: float
    features_s: float = 0.0
    queue_s: float = 0.0
    model_s: float = 0.0
    encode_s: float = 0.0
    degradation: Degradation = "none"


Done = Callable[["Answer | Exception"], None]
Cancel = Callable[[], object]


class _How(NamedTuple):
    """What was asked, before anything was looked up, and how it is to be answered, as `Question.begin` takes it."""

    asked: msgspec.Struct
    deadline: float
    fresh: bool
    priority: int


class _NotKeptError(Exception):
    """A right answer that the cache must not keep: by another model than was asked for, or lacking something for want of time."""

    def __init__(self, scored: Scored) -> None:
        self.scored = scored


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
        self._features, self._sessions = features, sessions
        self.use_shared = False
        self.choices: Sequence[str] = ()
        self._live: Scorer | None = None
        self._hit_rate = 1.0  # the share of late looks into the cache that found something
        self._tries = itertools.count(1)
        self._cache = cache if settings.cache.enabled else None
        self._degrade = settings.degrade
        self._time_budget = TimeBudget(settings.degrade.base_rate_share if settings.degrade.allows("base-rate") else 0.0)
        limits = settings.batcher
        self.batcher = Batcher(
            self._score,
            executor,
            max_queued=limits.max_queued,
            max_batch=limits.max_batch,
            without_explanations=settings.degrade.allows("no-explanation"),
        )

    @property
    def ready(self) -> bool:
        """Whether a model is live."""
        return self._live is not None

    @property
    def lacking(self) -> bool:
        """Whether a model is needed that is not there, before a server is ready."""
        return self._live is None and not self.engine.optional

    @property
    def live(self) -> Scorer | None:
        """The live model, None while there is none."""
        return self._live

    @property
    def version(self) -> str | None:
        """The version of the live model, None while there is none."""
        return None if self._live is None else self._live.version

    def switch(self, scorer: Scorer, choices: Sequence[str] = (), costs: Sequence[tuple[int, bool, float]] = ()) -> None:
        """Make `scorer`, loaded and warm, the live model: one reference, so every batch is scored by one model.

        `choices`: what it chose for this machine; `costs`: (rows, without_explanations, seconds) of batches, for a batcher that knows
        nothing yet.
        """
        self.choices = choices
        self._live = scorer
        if not self.batcher.full.known:
            for rows, without_explanations, seconds in costs:
                (self.batcher.without_explanations if without_explanations else self.batcher.full).learn(rows, seconds)

    def refusal(self, deadline: float, priority: int = NORMAL) -> OverloadedError | None:
        """Return why nothing that is asked now will be answered in time, whatever it is; None when it may be."""
        error = self.batcher.refusal(deadline, priority)
        if error is None or (deadline > time.monotonic() and (self._time_budget.left() or self._may_know())):
            return None
        self.batcher.note_refusal()
        return error

    @property
    def pressed(self) -> bool:
        """Whether somebody was refused of late."""
        return self.batcher.pressed

    def begin(self, request: msgspec.Struct, done: Done, *, deadline: float, fresh: bool = False, priority: int = NORMAL) -> Cancel | None:
        """Begin to answer by `deadline` (time.monotonic()): `done` gets the answer, once, or why there is none; maybe at once.

        Call what it returns, if anything, when nobody waits for the answer any more. `fresh` does not look into the cache.
        """
        how = _How(request, deadline, fresh, priority)
        if self.engine.memory is not None and (entity := self.engine.memory.key(request)) is not None:
            return self._begin_remembered(self.engine.memory, entity, done, how)
        lookup, features = self.engine.lookup, self._features
        if lookup is None or features is None or (entity := lookup.key(request)) is None:
            return self._begin(request, done, how)
        if self._live is not None and (hit := self._peek(self._key(self._live, how))) is not None:
            done(hit)
            return None
        return self._after(features.get(lookup, entity), lambda found: self._begin(lookup.filled(request, found), done, how), done)

    def _after(self, reading: "asyncio.Future[T]", begin: Callable[[T], Cancel | None], done: Done) -> Cancel:
        """Begin to answer once what is stored of the entity is here."""
        cancel: list[Cancel] = []

        def ended(reading: "asyncio.Future[T]") -> None:
            if reading.cancelled():
                return
            found = outcome(reading)
            try:
                if isinstance(found, Exception):
                    raise found
                begun = begin(found)
            except Exception as error:
                done(error)
                return
            if begun is not None:
                cancel.append(begun)

        reading.add_done_callback(ended)
        return lambda: cancel[0]() if cancel else reading.cancel()

    def _begin(self, request: msgspec.Struct, done: Done, how: "_How") -> Cancel | None:
        """Begin to answer a request that lacks nothing; it is kept under what was asked."""
        live, cache, (_, deadline, fresh, priority) = self._live, self._cache, how
        if live is None:
            done(NotReadyError(f"no model for {self.engine.name} is loaded yet"))
            return None
        refusal = live.refusal(request)
        if refusal is not None:
            done(refusal)
            return None
        key = self._key(live, how)
        if cache is not None and not fresh:
            if (hit := self._peek(key)) is not None:
                done(hit)
                return None
            if self.batcher.refusal(deadline, priority) is None:
                return self._share(key, live, request, deadline, priority, done)
        state: CacheState = "off" if cache is None else "bypass"

        def deliver(scored: Scored | Exception) -> None:
            done(scored if isinstance(scored, Exception) else _answered(scored, state))

        job = self.batcher.put(request, deadline, deliver, priority)
        if isinstance(job, OverloadedError):
            done(self._instead(key, live, request) or job)
            return None
        return job.cancel

    def _begin_remembered(self, memory: SessionMemory, entity: str, done: Done, how: "_How") -> Cancel | None:
        """Begin to answer a request that goes on from the ones before it, or is to be remembered; no cache knows it."""
        if self._sessions is None:
            done(memory.refusal())
            return None
        if not memory.reads(how.asked):
            return self._remember(how.asked, memory, entity, done, how)
        reading = self._sessions.read(memory, entity)
        return self._after(reading, lambda found: self._remember(memory.filled(how.asked, found), memory, entity, done, how), done)

    def _remember(self, request: msgspec.Struct, memory: SessionMemory, entity: str, done: Done, how: "_How") -> Cancel | None:
        """Begin to answer; the answer is given once what is to be remembered of it is."""
        live, sessions = self._live, self._sessions
        assert sessions is not None, "a request to be remembered without a store; this is a bug"
        if live is None:
            done(NotReadyError(f"no model for {self.engine.name} is loaded yet"))
            return None

        def deliver(scored: Scored | Exception) -> None:
            if isinstance(scored, Exception) or scored.kept is None:
                done(scored if isinstance(scored, Exception) else _answered(scored, "bypass"))
                return
            sessions.write(memory, entity, scored.kept).add_done_callback(lambda writing: written(writing, scored))

        def written(writing: "asyncio.Future[None]", scored: Scored) -> None:
            if not writing.cancelled():
                error = writing.exception()
                done(error if isinstance(error, Exception) else _answered(scored, "bypass"))

        job = self.batcher.put(request, how.deadline, deliver, how.priority)
        if isinstance(job, OverloadedError):
            done(job)
            return None
        return job.cancel

    def _key(self, live: Scorer, how: "_How") -> bytes:
        """Return what an answer is kept under, nothing where it is not."""
        return b"" if self._cache is None or how.fresh else caching.key(self.engine.name, live.version, how.asked)

    def _peek(self, key: bytes) -> Answer | None:
        """Return the answer that this process has, None where it has none or is not to look."""
        if self._cache is None or not key:
            return None
        hit = self._cache.peek(key)
        self._hit_rate += HIT_RATE_SMOOTHING * ((hit is not None) - self._hit_rate)
        return None if hit is None else Answer(hit.value, hit.state, hit.age_s)

    def ask(self, request: msgspec.Struct, *, deadline: float, fresh: bool = False, priority: int = NORMAL) -> "asyncio.Future[Answer]":
        """Return the answer to come, as `begin` gives it; it raises NotReadyError, OverloadedError, DeadlineExceededError."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            cancel = self.begin(request, lambda asked: tell(answer, asked), deadline=deadline, fresh=fresh, priority=priority)
        except Exception as error:  # one item of a list must not take the others along
            tell(answer, error)
            return answer
        if cancel is not None:
            answer.add_done_callback(lambda future: cancel() if future.cancelled() else None)
        return answer

    def _share(self, key: bytes, live: Scorer, request: msgspec.Struct, deadline: float, priority: int, done: Done) -> Cancel:
        """Compute the answer once for all who ask the same meanwhile."""
        task = asyncio.get_running_loop().create_task(self._shared(key, live, request, deadline, priority))

        def ended(task: "asyncio.Task[Answer]") -> None:
            if not task.cancelled():
                asked = outcome(task)
                done(asked)

        task.add_done_callback(ended)
        return task.cancel

    async def _shared(self, key: bytes, live: Scorer, request: msgspec.Struct, deadline: float, priority: int) -> Answer:
        assert self._cache is not None, "a shared answer without a cache; this is a bug"
        scored_here: list[Scored] = []

        async def compute() -> bytes:
            scored = await self.batcher.submit(request, deadline, priority)
            if scored.without_explanations or self._live is not live:
                raise _NotKeptError(scored)
            scored_here.append(scored)
            return scored.body

        try:
            cached = await self._cache.get(key, compute, use_shared=self.use_shared)
        except _NotKeptError as error:
            return _answered(error.scored, "miss")
        except OverloadedError as error:
            instead = self._instead(key, live, request)
            if instead is None:
                raise error
            return instead
        if scored_here:
            return _answered(scored_here[0], cached.state)
        return Answer(cached.value, cached.state, cached.age_s)

    def _instead(self, key: bytes, live: Scorer, request: msgspec.Struct) -> Answer | None:
        """Return what can be said without scoring: an old answer, or the base rate; None when neither may or can be given."""
        if self._cache is not None and key and self._degrade.allows("stale"):
            old = self._cache.stale(key)
            if old is not None:
                self._hit_rate += HIT_RATE_SMOOTHING
                return Answer(old.value.replace(_NONE, _STALE, 1), "stale", old.age_s, degradation="stale")
        if not self._time_budget.left():
            return None
        began = time.perf_counter()
        row = live.base_rate(request)
        if row is None:
            return None
        body = _encode(row)
        self._time_budget.spend(time.perf_counter() - began + IN_AND_OUT * self.batcher.full.row_s)
        return Answer(body, "off" if self._cache is None else "bypass", 0.0, degradation="base-rate")

    def _may_know(self) -> bool:
        """Return whether to look into the cache before refusing: that costs half an answer, and pays only where it finds enough of them."""
        return self._cache is not None and (self._hit_rate > MIN_HIT_RATE or next(self._tries) % TRY_EVERY == 0)

    def _score(self, requests: list[Any], without_explanations: bool) -> Stages:
        live = self._live
        assert live is not None, "a batch without a live model; this is a bug"
        return score(live, requests, without_explanations, self.engine.memory)


class TimeBudget:
    """The share of the time that may go to answers that are better than none: a budget that fills as time passes, up to a second's."""

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._share, self._clock = share, clock
        self._seconds, self._seen = share, clock()

    def left(self) -> bool:
        """Return whether there is something to spend."""
        now = self._clock()
        self._seconds = min(self._share, self._seconds + self._share * (now - self._seen))
        self._seen = now
        return self._seconds > 0

    def spend(self, seconds: float) -> None:
        """Take what an answer took."""
        self._seconds -= seconds


def score(
    scorer: Scorer,
    requests: list[Any],
    without_explanations: bool = False,
    memory: SessionMemory | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Stages:
    """Return the encoded answers of one batch: rows become columns, columns are scored, answers become rows again.

    `without_explanations` leaves out what the engine can leave out; `memory` says what is to be remembered of it.
    """
    t0 = clock()
    columns = scorer.columns(requests)
    if without_explanations:
        columns = scorer.without_explanations(columns)
    t1 = clock()
    answers = scorer.run(columns)
    t2 = clock()
    bodies = [_encode(row) for row in scorer.rows(requests, answers)]
    kept = () if memory is None else memory.kept(scorer, requests, answers)
    return Stages(bodies, t1 - t0, t2 - t1, clock() - t2, kept)


def _answered(scored: Scored, state: CacheState) -> Answer:
    degradation: Degradation = "no-explanation" if scored.without_explanations else "none"
    return Answer(scored.body, state, 0.0, scored.features_s, scored.queue_s, scored.model_s, scored.encode_s, degradation)
