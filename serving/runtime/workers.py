"""What runs without a request: one line of WORKERS for each, and how it is started, restarted, counted and stopped.

A worker is placed in every replica, in every process of a pool, or in a process of its own on each node. A new one is a module and a line
here.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from serving.settings import Settings

if TYPE_CHECKING:
    from serving.app import Application

log = logging.getLogger(__name__)

RESTART_S = 1.0  # before a loop that failed begins again
NAMESPACE = "revenue-engine"  # of the node's processes, in Ray

Place = Literal["replica", "pool", "node"]
Loop = Callable[[], Coroutine[Any, Any, None]]


def _no_loops(_: "Application") -> Sequence[Loop]:
    return ()


@dataclass(frozen=True, slots=True)
class Worker:
    """Something that runs without a request.

    name: in logs, metrics and the names of processes. places: where it runs. loops: of an application, the coroutines that run there until
    they are cancelled (replica, pool). process: returns the class of the Ray actor, made with the settings (node).
    """

    name: str
    places: tuple[Place, ...]
    loops: Callable[["Application"], Sequence[Loop]] = _no_loops
    process: Callable[[], type[Any]] | None = None


def _model_preparer() -> type[Any]:
    from serving.runtime.model_preparer import ModelPreparer

    return ModelPreparer


MODEL_PREPARER = Worker("model-preparer", ("node",), process=_model_preparer)

WORKERS: tuple[Worker, ...] = (
    Worker("metrics", ("replica", "pool"), lambda application: [application.metrics.follow]),
    Worker("model-watcher", ("replica", "pool"), lambda application: [watcher.follow for watcher in application.watchers]),
    MODEL_PREPARER,
)


def start(place: Place, application: "Application") -> "list[asyncio.Task[None]]":
    """Start the loops of every worker that is placed here, in the order of the table; return their tasks."""
    return [
        asyncio.create_task(supervise(worker.name, loop, application.metrics.worker_failed), name=worker.name)
        for worker in WORKERS
        if place in worker.places
        for loop in worker.loops(application)
    ]


async def supervise(name: str, loop: Loop, on_failure: Callable[[str], None], restart_s: float = RESTART_S) -> None:
    """Run a loop until it returns or is cancelled; one that fails is logged, reported to `on_failure` and begun again."""
    while True:
        try:
            await loop()
            return
        except Exception:
            log.exception("worker %s failed and starts again in %g s", name, restart_s)
            on_failure(name)
            await asyncio.sleep(restart_s)


async def stop(tasks: "Sequence[asyncio.Task[None]]") -> None:
    """Cancel the tasks in reverse order, each when the one before has ended."""
    for task in reversed(tasks):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def start_on_node(settings: Settings) -> list[Any]:
    """Start every worker that has a process of its own on this node, unless it runs, without waiting for it.

    Return their handles, to be kept: a process ends when the one that started it has dropped its handle.
    """
    return [node_process(worker, settings) for worker in WORKERS if "node" in worker.places]


def node_process(worker: Worker, settings: Settings) -> Any:
    """Return the Ray handle of a worker's process on this node, started if there is none, without waiting for it.

    Ray starts it again when it dies; with the process that started it, it ends, and the next call starts another.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    assert worker.process is not None, f"worker {worker.name} has no process of its own; this is a bug"
    node = ray.get_runtime_context().get_node_id()
    options = {"name": f"{worker.name}-{node}", "namespace": NAMESPACE, "get_if_exists": True, "num_cpus": 0, "max_restarts": -1}
    place = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(worker.process()).options(**options, scheduling_strategy=place).remote(settings)
