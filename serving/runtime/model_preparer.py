"""Models are prepared in a process of their own, one on each node, that computes only while nobody else wants to.

What takes long about a new model, its trees and their check against XGBoost, would keep a replica's callers waiting: it wants the
interpreter that answers them. Here it has another one, and from the kernel only the time that is left over (SCHED_IDLE).
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
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kernels.arrays import Arrays
from serving.engines import ENGINES
from serving.settings import Settings
from training.errors import TrainingError
from training.registry.registry import Registry

log = logging.getLogger(__name__)

MAX_S = 60.0  # a machine that has nothing left over for so long must get its new model all the same
PAUSES_S = (0.1, 1.0)  # before a dead preparer is looked for again
_NAMESPACE = "revenue-engine"


class ModelPreparer:
    """Runs in that process. It keeps what it prepared last, for the node's other replicas."""

    def __init__(self, settings: Settings) -> None:
        self._registry = Registry(settings.models.registry, Path(settings.home) / "fetched")
        self._engines = {engine.name: engine for engine in ENGINES}
        self._last: tuple[tuple[str, str], dict[str, NDArray[Any]]] | None = None
        self._warm(settings.models.alias)
        with contextlib.suppress(AttributeError, OSError):  # where there is no such thing, or it is not allowed, the usual priority will do
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    def prepare(self, task: str, name: str) -> dict[str, NDArray[Any]]:
        """Return the parts of the model `name`. Raises TrainingError when it is corrupted or does not match."""
        if self._last is None or self._last[0] != (task, name):
            self._last = (task, name), dict(self._engines[task].prepare(self._registry.fetch(task, name)))
        return self._last[1]

    def _warm(self, alias: str) -> None:
        """Prepare what is live, for the replicas that start now; in the time that is left over it would take them too long."""
        for task in self._engines:
            name = self._registry.pointer(task, alias)
            if name is not None:
                with contextlib.suppress(TrainingError):  # a replica tells of it
                    self.prepare(task, name)


class RemotePreparer:
    """Asks this node's preparer, which whoever is first starts; each of them starts it again when it has died."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._actor: Any = None

    def start(self) -> None:
        """Start the preparer if there is none, without waiting for it."""
        node = ray.get_runtime_context().get_node_id()
        options = {"name": f"preparer-{node}", "namespace": _NAMESPACE, "get_if_exists": True, "num_cpus": 0}
        place = NodeAffinitySchedulingStrategy(node, soft=False)
        self._actor = ray.remote(ModelPreparer).options(**options, scheduling_strategy=place).remote(self._settings)

    def __call__(self, task: str, name: str) -> Arrays | None:
        """Return the parts of a model, None where nobody can prepare it elsewhere. Raises TrainingError as `ModelPreparer.prepare` does."""
        try:
            parts = self._asked(task, name)
        except RayTaskError as error:
            raise error.cause from error
        except (RayActorError, GetTimeoutError) as error:
            log.warning("%s/%s is prepared here: %s", task, name, str(error).splitlines()[0])
            return None
        # Ray's arrays may only be read; the kernels are compiled for those that may be written to.
        return {part: array.copy() for part, array in parts.items()}

    def _asked(self, task: str, name: str) -> dict[str, NDArray[Any]]:
        """Return what the preparer says; one that has died, perhaps with the replica that started it, is started again."""
        for pause_s in PAUSES_S:
            try:
                return self._answer(task, name)
            except RayActorError:
                self._actor = None
                time.sleep(pause_s)  # until Ray knows of it too: so long it hands out the dead one
        return self._answer(task, name)

    def _answer(self, task: str, name: str) -> dict[str, NDArray[Any]]:
        if self._actor is None:
            self.start()
        parts: dict[str, NDArray[Any]] = ray.get(self._actor.prepare.remote(task, name), timeout=MAX_S)
        return parts
