"""The composition root: settings in, a running application out; whatever it opens it closes, in reverse."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from serving.engines import ENGINES, Engine
from serving.errors import NotReadyError
from serving.ingress.api import build
from serving.ingress.decoding.reading_process import ReadingProcess
from serving.ingress.http.lifecycle import State
from serving.ingress.pool_client import PoolClient
from serving.ingress.request_log import AccessLog
from serving.metrics.collect import Metrics
from serving.runtime import workers
from serving.runtime.workers import Place
from serving.scoring.cache import redis as shared
from serving.scoring.cache.cache import Cache
from serving.scoring.cache.lru import LruCache
from serving.scoring.cache.redis import SharedCache
from serving.scoring.model_watcher import ModelWatcher, Prepare
from serving.scoring.question import Question, score
from serving.settings import Settings
from serving.stores.features import Features
from serving.stores.sessions import Sessions
from training.registry.registry import Registry

log = logging.getLogger(__name__)

WARM_RUNS = 20


class Application:
    """Everything one replica runs: questions, cache, metrics, API. Use it as `async with Application(settings) as app`."""

    metrics: Metrics
    questions: list[Question]
    watchers: list[ModelWatcher]

    def __init__(
        self,
        settings: Settings,
        prepare: Prepare | None = None,
        engines: Sequence[Engine] = ENGINES,
        pools: Mapping[str, Path] | None = None,
        place: Place = "replica",
    ) -> None:
        """`prepare` prepares models in another process; `pools`: by question, the unix sockets of the processes that answer it.

        `place`: whose workers to run (`serving/runtime/workers.py`).
        """
        self.settings = settings
        self._prepare, self._place = prepare, place
        self._engines, self._pools = engines, {} if pools is None else pools
        self.state = State()
        self._closing = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the stores, load and warm every engine's champion, and build the API."""
        settings = self.settings
        # One thread scores, another loads: a promotion never waits for a batch, nor a batch for a promotion.
        scoring = self._closing.enter_context(ThreadPoolExecutor(1, "score"))
        loading = self._closing.enter_context(ThreadPoolExecutor(1, "load"))
        self.metrics = Metrics(replica=self._engines == ENGINES)
        self.cache = self._open_cache()
        self.features = self._open_features()
        self.sessions = self._open_sessions()
        self.registry = Registry(settings.models.registry, Path(settings.home) / "fetched")
        self.questions = [Question(engine, settings, scoring, self.cache, self.features, self.sessions) for engine in self._own()]
        self.watchers = [ModelWatcher(question, self.registry, settings, loading, self._prepare) for question in self.questions]
        for watcher in self.watchers:
            await watcher.once()
        await self._decide_sharing()
        self.metrics.watch(self.questions, self.cache, self.watchers)
        relays = [await self._relayed(engine) for engine in self._engines if engine.name in self._pools]
        routes: dict[str, Question | PoolClient] = {question.engine.name: question for question in self.questions}
        routes |= {relay.engine.name: relay for relay in relays}
        process = ReadingProcess()
        self._closing.push_async_callback(process.aclose)
        outer = self._place == "replica"  # a pool answers replicas, which do for its answers what concerns callers
        served = settings if outer else settings.model_copy(update={"server": settings.server.model_copy(update={"cors_origins": ()})})
        access_log = self._open_access_log() if outer else None
        self.api = build([routes[engine.name] for engine in self._engines], self.state, served, self.metrics, process, access_log)
        self._closing.push_async_callback(workers.stop, workers.start(self._place, self))
        self.state.ready = not any(question.lacking for question in self.questions)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close everything, in reverse."""
        self.state.ready = False
        await self._closing.aclose()

    def require_ready(self) -> None:
        """Raise NotReadyError naming the engines that lack a model."""
        missing = [question.engine.name for question in self.questions if question.lacking]
        if missing:
            raise NotReadyError(
                f"no model {'@'.join((missing[0], self.settings.models.alias))} in {self.settings.models.registry}; train one: "
                f"revenue-engine train {missing[0]} --data FILE --out DIR, then revenue-engine models add DIR --alias champion"
            )

    def _own(self) -> list[Engine]:
        return [engine for engine in self._engines if engine.name not in self._pools]

    async def _relayed(self, engine: Engine) -> PoolClient:
        """Return the way to the process that answers for an engine."""
        relay = PoolClient(
            engine,
            self._pools[engine.name],
            default_timeout_ms=self.settings.server.default_timeout_ms,
            max_queued=self.settings.batcher.max_queued,
            meter=self.metrics.meter(engine.name),
        )
        self._closing.push_async_callback(relay.aclose)
        await relay.open()
        self.metrics.read("queue_rows", engine.name, value=relay.depth)  # beside what waits in the other process
        return relay

    def _open_cache(self) -> Cache | None:
        section = self.settings.cache
        if not section.enabled:
            return None
        shared_cache = None
        if section.redis_url is not None and section.shared != "never":
            shared_cache = SharedCache(section.redis_url, timeout_s=section.redis_timeout_ms / 1000)
        degrade = self.settings.degrade
        memory = LruCache(section.max_bytes, degrade.max_stale_s if degrade.allows("stale") else 0.0)
        cache = Cache(memory, shared_cache, section.ttl_s)
        self._closing.push_async_callback(cache.aclose)
        return cache

    def _open_access_log(self) -> AccessLog | None:
        if not self.settings.server.access_log:
            return None
        access_log = AccessLog(Path(self.settings.home) / "logs" / "access.log")
        self._closing.callback(access_log.close)
        return access_log

    def _open_features(self) -> Features | None:
        section = self.settings.features
        if section.redis_url is None:
            return None
        features = Features(section.redis_url, section.timeout_ms / 1000, section.fresh_s)
        self._closing.push_async_callback(features.aclose)
        return features

    def _open_sessions(self) -> Sessions | None:
        section = self.settings.features
        if section.redis_url is None or not any(engine.memory for engine in self._own()):
            return None
        sessions = Sessions(section.redis_url, section.timeout_ms / 1000)
        self._closing.push_async_callback(sessions.aclose)
        return sessions

    async def _decide_sharing(self) -> None:
        """A shared cache must be cheaper than the answer: compare a round trip with a score, engine by engine."""
        shared_cache = self.cache.shared if self.cache is not None else None
        if shared_cache is None:
            return
        round_trip_s = await shared.measure_shared(shared_cache)
        for question in self.questions:
            compute_s = await asyncio.to_thread(_cost, question)
            question.single_flight.use_shared = shared.shared_pays(self.settings.cache.shared, round_trip_s, compute_s)
            log.info(
                "shared cache %s for %s: a round trip takes %.0f us, an answer %.0f us (cache.shared=%s)",
                "on" if question.single_flight.use_shared else "off",
                question.engine.name,
                round_trip_s * 1e6,
                compute_s * 1e6,
                self.settings.cache.shared,
            )


def _cost(question: Question) -> float:
    """Return the median seconds of one answer, the example's."""
    scorer = question.live
    if scorer is None:
        return 0.0
    request = question.engine.decode_example()
    seconds = []
    for _ in range(WARM_RUNS):
        began = time.perf_counter()
        score(scorer, [request])
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[WARM_RUNS // 2]
