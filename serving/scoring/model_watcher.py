"""Follows the registry: loads the model that an alias points to, warms it beside the live one, and switches one reference."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

from kernels.arrays import Arrays
from serving.engines import Engine, Scorer
from serving.scoring.question import Question, score
from serving.scoring.throttle import throttled
from serving.settings import Settings
from training.errors import BundleError
from training.registry.registry import Registry

log = logging.getLogger(__name__)

WARM_ROWS = (1, 2, 8, 64)
WARM_RUNS = 5  # of each size, to know what it takes
SLOW_S = 0.05  # of a batch: what takes longer is not made larger


Prepare = Callable[[str, str], Arrays | None]  # task and name of a model


class Warm(NamedTuple):
    """A scorer after its first calls, what it chose for this machine, and (rows, without_explanations, seconds) of batches."""

    scorer: Scorer
    choices: Sequence[str]
    costs: Sequence[tuple[int, bool, float]]


def warm(engine: Engine, scorer: Scorer, live: Scorer | None = None) -> Warm:
    """Return the scorer after every kind of call at every batch size that matters, so that no request pays for a first one.

    Beside `live`, which answers meanwhile, one row of each kind is enough: this process has compiled and measured everything already.
    """
    request = engine.decode_example()
    choices = scorer.tune(live)
    scorer.base_rate(request)
    sizes, runs = (WARM_ROWS, WARM_RUNS) if live is None else ((1,), 1)
    costs = [cost for without_explanations in (False, True) for cost in _costs(scorer, request, without_explanations, sizes, runs)]
    return Warm(scorer, choices, costs)


def _costs(scorer: Scorer, request: Any, without_explanations: bool, sizes: Sequence[int], runs: int) -> Iterator[tuple[int, bool, float]]:
    """Yield (rows, without_explanations, seconds) of batches, up to the first slow one, since the next would take many seconds."""
    for rows in sizes:
        took = _seconds(scorer, [request] * rows, without_explanations, runs)
        yield rows, without_explanations, took
        if took > SLOW_S:
            return


def _seconds(scorer: Scorer, requests: list[Any], without_explanations: bool, runs: int) -> float:
    """Return the least seconds that scoring took."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        score(scorer, requests, without_explanations)
        times.append(time.perf_counter() - began)
    return min(times)


class ModelWatcher:
    """Loads what one engine's alias points to. `failed` counts what could not be loaded, once each; the live model stays."""

    def __init__(
        self, question: Question, registry: Registry, settings: Settings, executor: Executor, prepare: Prepare | None = None
    ) -> None:
        """`prepare` prepares models in another process, or returns None where that is not possible."""
        self._question = question
        self._registry = registry
        self._settings = settings
        self._executor = executor
        self._prepare = prepare
        self._seen: str | None = None
        self._last_error = ""
        self.failed = 0
        self.switched = 0

    @property
    def task(self) -> str:
        """The task whose alias is followed."""
        return self._question.engine.name

    def load(self, name: str) -> Warm:
        """Return the warm scorer of the bundle `name`. Raises TrainingError when it is corrupted or does not match."""
        live = self._question.live
        with contextlib.nullcontext() if live is None else throttled():
            arrays = None if self._prepare is None else self._prepare(self.task, name)
            bundle = self._registry.fetch(self.task, name)
            scorer = self._question.engine.load(bundle, self._settings, arrays)
            return warm(self._question.engine, scorer, live)

    def look(self) -> Warm | None:
        """Return a new scorer when the alias points to another model than at the last look, else None."""
        name = self._registry.pointer(self.task, self._settings.models.alias)
        if name is None or name == self._seen:
            return None
        try:
            loaded = self.load(name)
        except BundleError:
            self._seen = name  # a corrupted bundle is not tried again until the alias moves; a fault that may pass is, at the next look
            raise
        self._seen = name
        return loaded

    async def once(self) -> bool:
        """Look, load off the event loop, switch; True when the live model changed."""
        loop = asyncio.get_running_loop()
        try:
            loaded = await loop.run_in_executor(self._executor, self.look)
        except Exception as error:  # whatever it is, the live model goes on, and so does the watcher
            if repr(error) != self._last_error:
                self._last_error = repr(error)
                self.failed += 1
                log.error("%s@%s is not loaded, %s stays live: %s", self.task, self._settings.models.alias, self._question.version, error)
            return False
        if loaded is None:
            return False
        self._last_error = ""
        self._question.switch(loaded.scorer, loaded.choices, loaded.costs)
        self.switched += 1
        log.info("%s@%s is now %s", self.task, self._settings.models.alias, loaded.scorer.version)
        for choice in loaded.choices:
            log.info("%s: %s", self.task, choice)
        return True

    async def follow(self, sleep: Callable[[float], "asyncio.Future[None]"] | None = None) -> None:
        """Look every `models.poll_s` seconds until cancelled."""
        pause = sleep or asyncio.sleep
        while True:
            await pause(self._settings.models.poll_s)
            await self.once()
