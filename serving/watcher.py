"""Follows the registry: loads what an alias points to, warms it beside the live model, and switches one reference."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor

from serving.engines import Engine, Scorer
from serving.service import Question, score
from serving.settings import Settings
from training.errors import BundleError
from training.registry import Registry

log = logging.getLogger(__name__)

WARM_ROWS = (1, 2, 8, 64)


def warm(engine: Engine, scorer: Scorer) -> None:
    """Score the engine's example at every batch size that matters, so that no caller meets a first call."""
    request = engine.decode_example()
    for rows in WARM_ROWS:
        score(scorer, [request] * rows)


class Watcher:
    """One engine's eye on the registry. `failed` counts what was refused, once each; the live model stays."""

    def __init__(self, question: Question, registry: Registry, settings: Settings, executor: Executor) -> None:
        self._question = question
        self._registry = registry
        self._settings = settings
        self._executor = executor
        self._seen: str | None = None
        self._complaint = ""
        self.failed = 0
        self.switched = 0

    @property
    def task(self) -> str:
        """The task whose alias is followed."""
        return self._question.engine.name

    def load(self, name: str) -> Scorer:
        """Return the warm scorer of the bundle `name`. Raises TrainingError when it is corrupted or does not match."""
        bundle = self._registry.fetch(self.task, name)
        scorer = self._question.engine.load(bundle, self._settings)
        warm(self._question.engine, scorer)
        return scorer

    def look(self) -> Scorer | None:
        """Return a new scorer when the alias points elsewhere than at the last look, else None."""
        name = self._registry.pointer(self.task, self._settings.models.alias)
        if name is None or name == self._seen:
            return None
        try:
            scorer = self.load(name)
        except BundleError:
            self._seen = name  # what is not whole is not tried again until the alias moves; a fault that may pass is, at the next look
            raise
        self._seen = name
        return scorer

    async def once(self) -> bool:
        """Look, load off the event loop, switch; True when the live model changed."""
        loop = asyncio.get_running_loop()
        try:
            scorer = await loop.run_in_executor(self._executor, self.look)
        except Exception as error:  # whatever it is, the live model goes on and so does the watching
            if repr(error) != self._complaint:
                self._complaint = repr(error)
                self.failed += 1
                log.error("%s@%s not taken, %s stays: %s", self.task, self._settings.models.alias, self._question.version, error)
            return False
        if scorer is None:
            return False
        self._complaint = ""
        self._question.switch(scorer)
        self.switched += 1
        log.info("%s@%s is now %s", self.task, self._settings.models.alias, scorer.version)
        return True

    async def follow(self, sleep: Callable[[float], "asyncio.Future[None]"] | None = None) -> None:
        """Look every `models.poll_s` seconds until cancelled."""
        pause = sleep or asyncio.sleep
        while True:
            await pause(self._settings.models.poll_s)
            await self.once()
