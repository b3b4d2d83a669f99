"""The watcher: a promotion is taken without a gap, and a bundle that is not whole is never taken."""

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.engines import ENGINES
from serving.scoring.model_watcher import ModelWatcher
from serving.scoring.question import Question
from serving.settings import ModelSettings, Settings
from training.registry.registry import Registry

PURCHASE = ENGINES[0]


@pytest.fixture
def own(tmp_path, bundle, second_bundle):
    """A registry of this test's own with two models; the first is champion."""
    registry = Registry(str(tmp_path / "models"), tmp_path / "fetched")
    registry.add(bundle.path, alias="champion")
    registry.add(second_bundle.path)
    return registry


@pytest.fixture
def watcher(own):
    with ThreadPoolExecutor(1) as executor:
        settings = Settings()
        yield ModelWatcher(Question(PURCHASE, settings, executor), own, settings, executor)


async def test_the_champion_is_loaded_once_and_a_promotion_is_taken_at_the_next_look(watcher, own, bundle, second_bundle):
    assert await watcher.once()
    assert watcher._question.version == bundle.version
    assert not await watcher.once()
    own.promote(second_bundle.version)
    assert await watcher.once()
    assert watcher._question.version == second_bundle.version
    own.rollback("purchase")
    assert await watcher.once()
    assert watcher._question.version == bundle.version
    assert (watcher.switched, watcher.failed) == (3, 0)


async def test_a_corrupted_bundle_is_refused_and_the_live_model_stays(watcher, own, bundle, second_bundle, tmp_path):
    await watcher.once()
    own.promote(second_bundle.version)
    model = Path(tmp_path / "models" / "purchase" / second_bundle.version / "model.ubj")
    model.chmod(0o644)
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    assert not await watcher.once()
    assert (watcher._question.version, watcher.failed) == (bundle.version, 1)
    assert not await watcher.once()  # not tried again until the alias moves
    assert watcher.failed == 1


class Moody(Registry):
    """A registry that fails in turn: out of reach, then with an error that nobody foresaw."""

    def __init__(self, *args):
        super().__init__(*args)
        self.moods = [OSError("timed out"), OSError("timed out"), ZeroDivisionError("a bug")]

    def fetch(self, task, name):
        if self.moods:
            raise self.moods.pop(0)
        return super().fetch(task, name)


async def test_a_fault_that_passes_is_tried_again_and_counted_once_and_no_fault_ends_the_watching(own, bundle, tmp_path):
    with ThreadPoolExecutor(1) as executor:
        settings = Settings()
        moody = Moody(str(tmp_path / "models"), tmp_path / "fetched")
        watcher = ModelWatcher(Question(PURCHASE, settings, executor), moody, settings, executor)
        assert [await watcher.once() for _ in range(5)] == [False, False, False, True, False]
    assert (watcher._question.version, watcher.failed) == (bundle.version, 2)


async def test_a_registry_that_cannot_be_reached_leaves_the_live_model_alone(watcher, bundle, tmp_path):
    await watcher.once()
    shutil.rmtree(tmp_path / "models")
    (tmp_path / "models").write_text("not a folder")
    await watcher.once()
    assert watcher._question.version == bundle.version


async def test_following_looks_until_it_is_cancelled(own, bundle):
    looks = asyncio.Event()

    async def pause(_):
        if watcher.switched:
            looks.set()
        await asyncio.sleep(0)

    with ThreadPoolExecutor(1) as executor:
        settings = Settings(models=ModelSettings(poll_s=0.01))
        watcher = ModelWatcher(Question(PURCHASE, settings, executor), own, settings, executor)
        task = asyncio.create_task(watcher.follow(pause))
        await asyncio.wait_for(looks.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert watcher._question.version == bundle.version
