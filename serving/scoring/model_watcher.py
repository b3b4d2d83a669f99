"""Follows the registry: loads the model that an alias points to, warms it beside the live one, and switches one reference."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

from kernels.arrays import Arrays
from serving.engines import Engine, Scorer, demo
from serving.errors import LoaderError
from serving.scoring.question import Question, score
from serving.scoring.throttle import throttled
from serving.settings import Settings
from training.errors import BundleError
from training.registry.registry import Promotion, Registry

log = logging.getLogger(__name__)

WARM_ROWS = (1, 2, 8, 64)
WARM_RUNS = 5  # of each size, to know what it takes
SLOW_S = 0.05  # of a batch: what takes longer is not made larger
MIN_PAUSE_S = 1.0  # after a fault that may pass; doubled at each repetition,
MAX_LOAD_PAUSE_S = 300.0  # up to this one before a model is loaded again,
MAX_READ_PAUSE_S = 30.0  # and up to this one before the registry is read again
MAX_PREVIOUS = 3  # models before a refused one that are tried where none is live
LOADER_PAUSE_S = 60.0  # the first one where the model has ended the process that loaded it, which costs the machine seconds

Prepare = Callable[[str, str, str], Arrays]  # task and name of a model, and since when an alias points to it


class Refusal(NamedTuple):
    """A model that could not be loaded: what it was, why not, and when (by the clock) to try again without a change, None: never."""

    promotion: Promotion
    fingerprint: str
    error: Exception
    retry_at: float | None
    pause_s: float = 0.0


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
    """Loads what one engine's alias points to. `failed` counts what could not be loaded, once each; the live model stays.

    A bundle that is refused is loaded again when its files change or it is promoted again; where the fault may pass, also after pauses that
    grow. The reason is in the log, and in `Question.problem` for /health/ready and the metrics, until another model is live or tried.
    """

    def __init__(
        self,
        question: Question,
        registry: Registry,
        settings: Settings,
        executor: Executor,
        prepare: Prepare | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`prepare` tries and prepares models in another process; without it they are prepared here."""
        self._question = question
        self._registry = registry
        self._settings = settings
        self._executor = executor
        self._prepare = prepare
        self._clock = clock
        self._seen: Promotion | None = None
        self._served: str | None = None
        self._refusal: Refusal | None = None
        self._read_at, self._read_pause_s, self._read_error = 0.0, 0.0, ""
        self._last_error = ""
        self.failed = 0
        self.switched = 0

    @property
    def task(self) -> str:
        """The task whose alias is followed."""
        return self._question.engine.name

    def load(self, name: str, promoted: str) -> Warm:
        """Return the warm scorer of the bundle `name`. Raises TrainingError when it is corrupted or does not match."""
        live = self._question.live
        with contextlib.nullcontext() if live is None else throttled():
            arrays = None if self._prepare is None else self._prepare(self.task, name, promoted)
            bundle = self._registry.fetch(self.task, name)
            scorer = demo.load(self._question.engine, bundle, self._settings, arrays)
            return warm(self._question.engine, scorer, live)

    def look(self) -> Warm | None:
        """Return a new scorer when the alias points to another model than the live one, and that one can be loaded; else None.

        Where no model is live, one that is refused gives way to the newest model before it that can be loaded.
        """
        promotion = self._promotion()
        if promotion is None or promotion == self._seen or not self._due(promotion):
            return None
        if promotion.name == self._served:
            self._seen, self._refusal = promotion, None
            return None
        self._question.loading = True
        loaded = self._try(promotion)
        if loaded is not None:
            self._seen, self._served, self._refusal = promotion, promotion.name, None
        elif self._question.live is None:
            loaded = self._previous(promotion)
        return loaded

    def _promotion(self) -> Promotion | None:
        """Return what the alias points to; None where it points to nothing, and where the registry cannot be read, which is reported."""
        if self._clock() < self._read_at:
            return None
        try:
            promotion = self._registry.promotion(self.task, self._settings.models.alias)
        except Exception as error:
            if repr(error) != self._read_error:
                self._read_error = repr(error)
                self.failed += 1
                log.error("%s@%s is not read, %s stays live: %s", self.task, self._settings.models.alias, self._question.version, error)
            self._read_pause_s = min(2 * self._read_pause_s or MIN_PAUSE_S, MAX_READ_PAUSE_S)
            self._read_at = self._clock() + self._read_pause_s
            return None
        self._read_pause_s, self._read_error = 0.0, ""
        return promotion

    def _due(self, promotion: Promotion) -> bool:
        """Return whether to load a model: not one that was refused, unless something has changed or a pause is over."""
        refusal = self._refusal
        if refusal is None or refusal.promotion != promotion or (refusal.retry_at is not None and self._clock() >= refusal.retry_at):
            return True
        return self._registry.fingerprint(self.task, promotion.name) != refusal.fingerprint

    def _try(self, promotion: Promotion) -> Warm | None:
        """Return the warm scorer of a model, or None, having noted why it is refused."""
        fingerprint = self._registry.fingerprint(self.task, promotion.name)
        try:
            return self.load(promotion.name, promotion.since)
        except BundleError as error:
            self._refuse(Refusal(promotion, fingerprint, error, None))
        except Exception as error:  # whatever it is, the live model goes on, and so does the watcher
            before = self._refusal
            repeated = before is not None and (before.promotion, before.fingerprint) == (promotion, fingerprint)
            first_s = LOADER_PAUSE_S if isinstance(error, LoaderError) else MIN_PAUSE_S
            pause_s = min(max(first_s, 2 * before.pause_s if before is not None and repeated else 0.0), MAX_LOAD_PAUSE_S)
            self._refuse(Refusal(promotion, fingerprint, error, self._clock() + pause_s, pause_s))
        return None

    def _previous(self, promotion: Promotion) -> Warm | None:
        """Return the newest of the models that the alias pointed to before which can be loaded, None if none can."""
        for name in list(dict.fromkeys(reversed(promotion.before)))[:MAX_PREVIOUS]:
            with contextlib.suppress(Exception):  # the report is about the model that should be live
                loaded = self.load(name, promotion.since)
                self._served = name
                log.warning("%s/%s, which was live before, is live instead", self.task, name)
                return loaded
        return None

    def _refuse(self, refusal: Refusal) -> None:
        """Note and report that a model is refused: in the log at each attempt, in `failed` once for each reason."""
        self._refusal = refusal
        pause = "" if refusal.retry_at is None else f", or in {refusal.pause_s:g} s"
        if repr(refusal.error) != self._last_error:
            self._last_error = repr(refusal.error)
            self.failed += 1
        log.error(
            "%s@%s (%s) is refused, %s stays live: %s (tried again when its files change or it is promoted again%s)",
            self.task, self._settings.models.alias, refusal.promotion.name, self._question.version, refusal.error, pause,
        )  # fmt: skip

    @property
    def problem(self) -> str | None:
        """Why the model that the alias points to is not live, None where it is."""
        if self._read_error:
            return f"the registry cannot be read: {self._read_error}"
        return None if self._refusal is None else f"{self._refusal.promotion.name} is refused: {self._refusal.error}"

    @property
    def pending(self) -> bool:
        """Whether the next look may bring a model though nobody has changed anything: it failed for a reason that may pass."""
        return bool(self._read_error) or (self._refusal is not None and self._refusal.retry_at is not None)

    async def once(self) -> bool:
        """Look, load off the event loop, switch; True when the live model changed."""
        loop = asyncio.get_running_loop()
        try:
            loaded = await loop.run_in_executor(self._executor, self.look)
        except Exception:  # whatever it is, the live model goes on, and so does the watcher
            log.exception("%s@%s could not be looked at, %s stays live", self.task, self._settings.models.alias, self._question.version)
            self._read_at = self._clock() + MAX_READ_PAUSE_S
            return False
        self._question.problem = self.problem
        self._question.loading = self.pending
        if loaded is None:
            return False
        self._question.switch(loaded.scorer, loaded.choices, loaded.costs)
        self.switched += 1
        if self._refusal is None:
            self._last_error = ""
        log.info("%s@%s is now %s", self.task, self._settings.models.alias, loaded.scorer.version)
        if self._question.demo:
            log.warning("%s was learned from a simulated shop: its answers are for demonstration (basis: demo)", loaded.scorer.version)
        for choice in loaded.choices:
            log.info("%s: %s", self.task, choice)
        return True

    async def follow(self, sleep: Callable[[float], "asyncio.Future[None]"] | None = None) -> None:
        """Look every `models.poll_s` seconds until cancelled."""
        pause = sleep or asyncio.sleep
        while True:
            await pause(self._settings.models.poll_s)
            await self.once()
