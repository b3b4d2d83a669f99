"""Models are prepared in a process of their own, one on each node, on idle processor time.

What takes long about a new model, its trees and their check against XGBoost, would delay a replica's answers: it needs the interpreter that
computes them. The preparer has an interpreter of its own, and for a promotion only the time that the kernel has left over (SCHED_IDLE).

It also loads each new model once and scores an example with it, before any replica does: a library that reads a damaged model may end the
process that it runs in, and this one is replaced (`serving.runtime.model_trials`).
"""

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Any

import ray
from numpy.typing import NDArray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from kernels.arrays import Arrays
from serving.engines import ENGINES, Engine
from serving.errors import LoaderError
from serving.runtime.isolation import folders
from serving.runtime.model_trials import MAX_S, ModelTrials
from serving.runtime.socket_broker import ENVIRONMENT
from serving.runtime.workers import MODEL_PREPARER, node_process
from serving.scoring.question import score
from serving.settings import Settings
from training.errors import TrainingError
from training.registry.bundle import Bundle
from training.registry.registry import Registry

log = logging.getLogger(__name__)

RETRY_PAUSES_S = (0.1, 1.0)  # before a preparer that has died is called again
WAIT_S = MAX_S + 30.0  # for an answer: a model may wait for the trial of another, or for a new preparer to start
LATE_NICE = 10  # of a preparer whose predecessor got too little time


class ModelPreparer:
    """Runs in the preparer's process. It keeps what it prepared last, for the node's other replicas."""

    def __init__(self, settings: Settings, trials: ModelTrials | None = None, restarted: bool | None = None) -> None:
        """By default `trials` are the node's, and Ray tells whether this process replaces one that has died."""
        self._settings = settings
        self._registry = Registry(settings.models.registry, Path(settings.home) / "fetched")
        self._engines = {engine.name: engine for engine in ENGINES}
        self._last: tuple[tuple[str, str], dict[str, NDArray[Any]]] | None = None
        self._trials = node_trials(settings) if trials is None else trials
        self._late = self._trials.recover(ray.get_runtime_context().was_current_actor_reconstructed if restarted is None else restarted)
        self._tasks = set[str]()
        self._warm(settings.models.alias)

    def prepare(self, task: str, name: str, promoted: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of the model `name`, which an alias points to since `promoted`, after a trial.

        Raises TrainingError when it is corrupted or does not match, LoaderError when it has ended the process that loaded it.
        """
        if self._last is None or self._last[0] != (task, name):
            if task in self._tasks:  # the first model of a task is waited for by replicas that start, a later one is a promotion
                _lower_priority(self._late)
            self._tasks.add(task)
            bundle = self._registry.fetch(task, name)
            with self._trials.trial(bundle, name, promoted) as passed:
                self._last = (task, name), self._tried(self._engines[task], bundle, passed)
        return self._last[1]

    def _tried(self, engine: Engine, bundle: Bundle, passed: bool) -> dict[str, NDArray[Any]]:
        """Return the arrays of a bundle, having done with it what a replica does, unless it has passed before."""
        arrays = dict(engine.prepare(bundle))
        if not passed:
            scorer = engine.load(bundle, self._settings, dict(arrays))
            for without_explanations in (False, True):
                score(scorer, [engine.decode_example()], without_explanations)
        return arrays

    def _warm(self, alias: str) -> None:
        """Prepare what is live and has passed, for the replicas that start now, before this process gives way to others."""
        for task in self._engines:
            with contextlib.suppress(TrainingError, LoaderError):  # a replica reports it
                promotion = self._registry.promotion(task, alias)
                if promotion is not None and self._trials.passed(self._registry.fetch(task, promotion.name)):
                    self.prepare(task, promotion.name, promotion.since)


def node_trials(settings: Settings) -> ModelTrials:
    """Return the trials of this node."""
    run = Path(os.environ[ENVIRONMENT]).parent if ENVIRONMENT in os.environ else folders.temporary()
    return ModelTrials(run, folders.private(Path(settings.home).resolve() / "run"))


def _lower_priority(late: bool) -> None:
    """Leave the processors to others: all of their time, or, where that was too little for a trial, most of it."""
    with contextlib.suppress(AttributeError, OSError):  # where SCHED_IDLE is missing or not allowed, the usual priority will do
        if late:
            os.nice(LATE_NICE)
        else:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


class RemotePreparer:
    """Calls this node's model preparer, or another one when it has ended with the replica that started it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._actor: Any = None

    def __call__(self, task: str, name: str, promoted: str) -> Arrays:
        """Return the arrays of a model that has passed its trial.

        Raises as `ModelPreparer.prepare` does, and LoaderError where that cannot be reached.
        """
        try:
            arrays = self._prepare_with_retries(task, name, promoted)
        except RayTaskError as error:
            raise error.cause from error
        except (RayActorError, GetTimeoutError) as error:
            reason = str(error).strip().splitlines()[0]
            raise LoaderError(
                f"the process that loads {task}/{name} for a trial does not answer ({reason}); no replica loads it"
            ) from error
        # Ray's arrays may only be read; the kernels are compiled for those that may be written to.
        return {key: array.copy() for key, array in arrays.items()}

    def _prepare_with_retries(self, task: str, name: str, promoted: str) -> dict[str, NDArray[Any]]:
        """Return what the preparer answers; one that has died is called again once it, or another, has started."""
        for pause_s in RETRY_PAUSES_S:
            try:
                return self._prepare(task, name, promoted)
            except RayActorError:
                self._actor = None
                time.sleep(pause_s)  # until Ray has noticed: before that it returns the dead one
        return self._prepare(task, name, promoted)

    def _prepare(self, task: str, name: str, promoted: str) -> dict[str, NDArray[Any]]:
        if self._actor is None:
            self._actor = node_process(MODEL_PREPARER, self._settings)
        arrays: dict[str, NDArray[Any]] = ray.get(self._actor.prepare.remote(task, name, promoted), timeout=WAIT_S)
        return arrays
