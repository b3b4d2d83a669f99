"""Models are prepared in a process of their own, one on each node, on idle processor time.

What takes long about a new model, its trees and their check against XGBoost, would delay a replica's answers: it needs the interpreter that
computes them. The preparer has an interpreter of its own, and from the kernel only the time that is left over (SCHED_IDLE).
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
from serving.engines import ENGINES
from serving.runtime.workers import MODEL_PREPARER, node_process
from serving.settings import Settings
from training.errors import TrainingError
from training.registry.registry import Registry

log = logging.getLogger(__name__)

MAX_S = 60.0  # on a machine without idle time for so long, the replica prepares the model itself
RETRY_PAUSES_S = (0.1, 1.0)  # before a preparer that has died is called again


class ModelPreparer:
    """Runs in the preparer's process. It keeps what it prepared last, for the node's other replicas."""

    def __init__(self, settings: Settings) -> None:
        self._registry = Registry(settings.models.registry, Path(settings.home) / "fetched")
        self._engines = {engine.name: engine for engine in ENGINES}
        self._last: tuple[tuple[str, str], dict[str, NDArray[Any]]] | None = None
        self._warm(settings.models.alias)
        with contextlib.suppress(AttributeError, OSError):  # where SCHED_IDLE is missing or not allowed, the usual priority will do
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    def prepare(self, task: str, name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of the model `name`. Raises TrainingError when it is corrupted or does not match."""
        if self._last is None or self._last[0] != (task, name):
            self._last = (task, name), dict(self._engines[task].prepare(self._registry.fetch(task, name)))
        return self._last[1]

    def _warm(self, alias: str) -> None:
        """Prepare what is live, for the replicas that start now, before this process gives way to others."""
        for task in self._engines:
            name = self._registry.pointer(task, alias)
            if name is not None:
                with contextlib.suppress(TrainingError):  # a replica reports it
                    self.prepare(task, name)


class RemotePreparer:
    """Calls this node's model preparer, or another one when it has ended with the replica that started it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._actor: Any = None

    def __call__(self, task: str, name: str) -> Arrays | None:
        """Return the arrays of a model, None where the preparer cannot be reached. Raises TrainingError as `ModelPreparer.prepare` does."""
        try:
            arrays = self._prepare_with_retries(task, name)
        except RayTaskError as error:
            raise error.cause from error
        except (RayActorError, GetTimeoutError) as error:
            log.warning("%s/%s is prepared in the replica: %s", task, name, str(error).splitlines()[0])
            return None
        # Ray's arrays may only be read; the kernels are compiled for those that may be written to.
        return {key: array.copy() for key, array in arrays.items()}

    def _prepare_with_retries(self, task: str, name: str) -> dict[str, NDArray[Any]]:
        """Return what the preparer answers; one that has died is called again once it, or another, has started."""
        for pause_s in RETRY_PAUSES_S:
            try:
                return self._prepare(task, name)
            except RayActorError:
                self._actor = None
                time.sleep(pause_s)  # until Ray has noticed: before that it returns the dead one
        return self._prepare(task, name)

    def _prepare(self, task: str, name: str) -> dict[str, NDArray[Any]]:
        if self._actor is None:
            self._actor = node_process(MODEL_PREPARER, self._settings)
        arrays: dict[str, NDArray[Any]] = ray.get(self._actor.prepare.remote(task, name), timeout=MAX_S)
        return arrays
