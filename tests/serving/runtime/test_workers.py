"""Workers: each runs where the table places it, begins again after a failure, and stops in reverse."""

import asyncio
from types import SimpleNamespace

import pytest

from serving.runtime import workers
from serving.runtime.workers import WORKERS, Worker


def test_every_worker_has_a_name_of_its_own_and_something_to_run_where_it_is_placed():
    assert len({worker.name for worker in WORKERS}) == len(WORKERS) > 0
    for worker in WORKERS:
        assert ("node" in worker.places) == (worker.process is not None)
        assert ({"replica", "pool"} & set(worker.places) != set()) == (worker.loops is not workers._no_loops)


def table(monkeypatch, events):
    """Make a table of two workers in the replica and one in the pool, each of which records when it begins and ends."""

    def running(name):
        async def loop():
            events.append(f"{name} begins")
            try:
                await asyncio.Event().wait()
            finally:
                events.append(f"{name} ends")

        return loop

    entries = (("first", "replica"), ("second", "replica"), ("pooled", "pool"))
    made = tuple(Worker(name, (place,), lambda _, name=name: [running(name)]) for name, place in entries)
    monkeypatch.setattr(workers, "WORKERS", made)


async def test_the_workers_of_a_place_start_in_the_order_of_the_table_and_stop_in_reverse(monkeypatch):
    events = []
    table(monkeypatch, events)
    tasks = workers.start("replica", SimpleNamespace(metrics=SimpleNamespace(worker_failed=events.append)))
    await asyncio.sleep(0)
    assert events == ["first begins", "second begins"]
    await workers.stop(tasks)
    assert events[2:] == ["second ends", "first ends"]


async def test_a_worker_that_fails_is_counted_and_begins_again():
    failures, runs = [], []

    async def loop():
        runs.append(len(failures))
        if len(runs) < 3:
            raise ValueError("broken")

    await workers.supervise("broken", loop, failures.append, restart_s=0.0)
    assert (runs, failures) == ([0, 1, 2], ["broken", "broken"])


async def test_a_worker_that_is_cancelled_ends():
    failures = []
    task = asyncio.create_task(workers.supervise("idle", asyncio.Event().wait, failures.append))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert failures == []
