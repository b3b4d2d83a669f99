"""One question in one replica: its live model, the batcher before it and the cache before that."""

import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Literal, NamedTuple

import msgspec

from serving import cache as caching
from serving.batcher import Batcher, Scored, Stages
from serving.cache import Cache
from serving.engines import Engine, Scorer
from serving.errors import NotReadyError
from serving.settings import Settings

_encode = msgspec.json.Encoder().encode

CacheState = Literal["hit", "hit-shared", "miss", "joined", "bypass", "off"]


class Asked(NamedTuple):
    """One answer: the encoded object, where it came from, its age, and the seconds of each stage (zero for a cached one)."""

    body: bytes
    state: CacheState
    age_s: float
    features_s: float = 0.0
    queue_s: float = 0.0
    model_s: float = 0.0
    encode_s: float = 0.0


class _SwitchedError(Exception):
    """The model was switched between asking the cache and scoring: a right answer, but not under the key that was asked for."""

    def __init__(self, scored: Scored) -> None:
        self.scored = scored


class Question:
    """One engine, answered by whichever model is live. Everything here runs on one event loop, but `Scorer` calls may run in `executor`."""

    def __init__(self, engine: Engine, settings: Settings, executor: Executor, cache: Cache | None = None) -> None:
        self.engine = engine
        self.use_shared = False
        self._live: Scorer | None = None
        self._cache = cache if settings.cache.enabled else None
        limits = settings.batcher
        self.batcher = Batcher(self._score, executor, max_queued=limits.max_queued, max_batch=limits.max_batch)

    @property
    def ready(self) -> bool:
        """Whether a model is live."""
        return self._live is not None

    @property
    def live(self) -> Scorer | None:
        """The live model, None while there is none."""
        return self._live

    @property
    def version(self) -> str | None:
        """The version of the live model, None while there is none."""
        return None if self._live is None else self._live.version

    def switch(self, scorer: Scorer) -> None:
        """Make `scorer`, loaded and warm, the live model: one reference, so every batch is scored by one model."""
        self._live = scorer

    async def ask(self, request: msgspec.Struct, *, deadline: float, fresh: bool = False) -> Asked:
        """Return the answer to one request by `deadline` (time.monotonic()); `fresh` does not look into the cache.

        Raises NotReadyError while no model is live, OverloadedError and DeadlineExceededError as the batcher does.
        """
        if self._live is None:
            raise NotReadyError(f"no model for {self.engine.name} is loaded yet")
        if self._cache is None or fresh:
            scored = await self.batcher.submit(request, deadline)
            return _asked(scored, "off" if self._cache is None else "bypass")
        asked_for = self._live
        scored_here: list[Scored] = []

        async def compute() -> bytes:
            scored = await self.batcher.submit(request, deadline)
            if self._live is not asked_for:
                raise _SwitchedError(scored)  # what is raised is not kept
            scored_here.append(scored)
            return scored.body

        key = caching.key(self.engine.name, asked_for.version, request)
        try:
            cached = await self._cache.get(key, compute, use_shared=self.use_shared)
        except _SwitchedError as switched:
            return _asked(switched.scored, "miss")
        if scored_here:
            return _asked(scored_here[0], cached.state)
        return Asked(cached.value, cached.state, cached.age_s)

    def _score(self, requests: list[Any]) -> Stages:
        live = self._live
        assert live is not None, "a batch without a live model; this is a bug"
        return score(live, requests)


def score(scorer: Scorer, requests: list[Any], clock: Callable[[], float] = time.perf_counter) -> Stages:
    """Return the encoded answers of one batch: rows become columns, columns are scored, answers become rows again."""
    t0 = clock()
    columns = scorer.columns(requests)
    t1 = clock()
    answers = scorer.run(columns)
    t2 = clock()
    bodies = [_encode(row) for row in scorer.rows(requests, answers)]
    return Stages(bodies, t1 - t0, t2 - t1, clock() - t2)


def _asked(scored: Scored, state: CacheState) -> Asked:
    return Asked(scored.body, state, 0.0, scored.features_s, scored.queue_s, scored.model_s, scored.encode_s)
