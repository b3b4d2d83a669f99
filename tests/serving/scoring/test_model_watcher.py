"""The watcher: a promotion is taken without a gap, and a bundle that is not whole is never taken."""

import asyncio
import itertools
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.engines import ENGINES
from serving.errors import LoaderError
from serving.scoring.model_watcher import ModelWatcher
from serving.scoring.question import Question
from serving.settings import ModelSettings, Settings
from training.errors import BundleError
from training.registry.registry import Registry

PURCHASE = ENGINES[0]


@pytest.fixture
def own(tmp_path, bundle, second_bundle):
    """A registry of this test's own with two models; the first is champion."""
    registry = Registry(str(tmp_path / "models"), tmp_path / "fetched")
    registry.add(bundle.path, alias="champion")
    registry.add(second_bundle.path)
    return registry


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


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
    assert (watcher.switched, watcher.failed, watcher._question.problem) == (3, 0, None)


async def test_a_corrupted_bundle_is_refused_and_the_live_model_stays(watcher, own, bundle, second_bundle, tmp_path):
    await watcher.once()
    own.promote(second_bundle.version)
    model = Path(tmp_path / "models" / "purchase" / second_bundle.version / "model.ubj")
    model.chmod(0o644)
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    assert not await watcher.once()
    assert (watcher._question.version, watcher.failed) == (bundle.version, 1)
    assert not await watcher.once()  # not tried again until something changes
    assert watcher.failed == 1


async def test_a_refused_bundle_is_loaded_once_its_files_are_mended_in_place(watcher, own, bundle, second_bundle, tmp_path):
    await watcher.once()
    own.promote(second_bundle.version)
    folder = Path(tmp_path / "models" / "purchase" / second_bundle.version)
    whole = (folder / "model.ubj").read_bytes()
    for content in (whole[:-1], whole[:-2]):  # the second one is another fault: the copy is under way
        (folder / "model.ubj").chmod(0o644)
        (folder / "model.ubj").write_bytes(content)
        assert not await watcher.once()
        assert f"has {len(content)} bytes" in watcher._question.problem
        assert not await watcher.once()
    assert watcher.failed == 2
    (folder / "model.ubj").write_bytes(whole)
    assert await watcher.once()
    assert (watcher._question.version, watcher._question.problem) == (second_bundle.version, None)


async def test_a_refused_model_is_tried_again_when_it_is_promoted_again(clock, own, bundle, second_bundle):
    attempts = []

    def prepare(task, name, promoted):
        attempts.append((name, promoted))
        raise BundleError("this machine cannot load it")

    with ThreadPoolExecutor(1) as executor:
        settings = Settings()
        watcher = ModelWatcher(Question(PURCHASE, settings, executor), own, settings, executor, prepare, clock)
        for _ in range(3):
            assert not await watcher.once()
        assert len(attempts) == 1
        clock.now += 1e6  # time alone does not mend a bundle
        assert not await watcher.once()
        own.promote(bundle.version)
        assert not await watcher.once()
    assert [name for name, _ in attempts] == [bundle.version] * 2
    assert attempts[0][1] != attempts[1][1]


class FaultyRegistry(Registry):
    """A registry that raises `faults` in turn when a model is fetched, and notes when that was."""

    def __init__(self, url, cache, clock, faults):
        super().__init__(url, cache)
        self.clock, self.faults, self.fetched = clock, list(faults), []

    def fetch(self, task, name):
        self.fetched.append(self.clock())
        if self.faults:
            raise self.faults.pop(0)
        return super().fetch(task, name)


async def test_a_fault_that_may_pass_is_tried_again_after_pauses_that_double_up_to_a_bound_and_is_counted_once(
    own, bundle, tmp_path, clock
):
    with ThreadPoolExecutor(1) as executor:
        settings = Settings()
        registry = FaultyRegistry(str(tmp_path / "models"), tmp_path / "fetched", clock, [OSError("timed out")] * 11)
        watcher = ModelWatcher(Question(PURCHASE, settings, executor), registry, settings, executor, clock=clock)
        while not await watcher.once():
            assert "timed out" in watcher._question.problem
            clock.now += 0.5  # models.poll_s
    assert watcher._question.version == bundle.version
    assert (watcher.failed, watcher._question.problem) == (1, None)
    pauses = [after - before for before, after in itertools.pairwise(registry.fetched)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


async def test_every_kind_of_fault_is_counted_and_none_ends_the_watching(own, bundle, tmp_path, clock):
    with ThreadPoolExecutor(1) as executor:
        settings = Settings()
        faults = [OSError("timed out"), ZeroDivisionError("a bug"), MemoryError()]
        registry = FaultyRegistry(str(tmp_path / "models"), tmp_path / "fetched", clock, faults)
        watcher = ModelWatcher(Question(PURCHASE, settings, executor), registry, settings, executor, clock=clock)
        for count in (1, 2, 3):
            assert not await watcher.once()
            assert watcher.failed == count
            clock.now += 100
        assert await watcher.once()
    assert watcher._question.version == bundle.version


async def test_a_model_that_ended_the_process_that_loaded_it_is_not_loaded_here_and_not_tried_soon(
    watcher, own, bundle, second_bundle, clock
):
    await watcher.once()
    watcher._clock = clock
    tried = []

    def prepare(task, name, promoted):
        tried.append(clock.now)
        raise LoaderError(f"the process that loaded {task}/{name} for a trial died; no replica loads it")

    watcher._prepare = prepare
    own.promote(second_bundle.version)
    for _ in range(1200):
        assert not await watcher.once()
        clock.now += 0.5
    assert watcher._question.version == bundle.version
    assert watcher._question.problem == f"{second_bundle.version} is refused: {LoaderError(*watcher._refusal.error.args)}"
    assert tried == [0.0, 60.0, 180.0, 420.0]
    assert watcher.failed == 1


async def test_a_rollback_to_the_live_model_loads_nothing_and_ends_the_report(watcher, own, bundle, second_bundle):
    await watcher.once()

    def prepare(task, name, promoted):
        raise BundleError(f"{name} is damaged")

    watcher._prepare = prepare
    own.promote(second_bundle.version)
    assert not await watcher.once()
    assert "is damaged" in watcher.problem
    own.rollback("purchase")
    assert not await watcher.once()
    assert (watcher.problem, watcher._question.problem, watcher.failed, watcher.switched) == (None, None, 1, 1)


async def test_a_start_while_the_champion_is_refused_takes_the_model_before_it_and_reports_that(
    watcher, own, bundle, second_bundle, tmp_path
):
    """As the replicas that run do: the live model stays."""
    own.promote(second_bundle.version)
    model = tmp_path / "models" / "purchase" / second_bundle.version / "model.ubj"
    whole = model.read_bytes()
    model.chmod(0o644)
    model.write_bytes(whole[:-1])
    assert await watcher.once()
    assert watcher._question.version == bundle.version
    assert watcher._question.problem.startswith(f"{second_bundle.version} is refused: ")
    assert not await watcher.once()
    model.write_bytes(whole)
    assert await watcher.once()
    assert (watcher._question.version, watcher._question.problem) == (second_bundle.version, None)


async def test_a_registry_that_cannot_be_read_is_reported_once_and_read_less_and_less_often(own, bundle, tmp_path, clock):
    reads = []

    class Unreachable(Registry):
        def promotion(self, task, alias):
            reads.append(clock.now)
            raise OSError("out of reach")

    with ThreadPoolExecutor(1) as executor:
        settings = Settings()
        registry = Unreachable(str(tmp_path / "models"), tmp_path / "fetched")
        watcher = ModelWatcher(Question(PURCHASE, settings, executor), registry, settings, executor, clock=clock)
        for _ in range(240):
            assert not await watcher.once()
            clock.now += 0.5
    assert reads == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 61.0, 91.0]
    assert watcher.failed == 1
    assert watcher._question.problem == "the registry cannot be read: OSError('out of reach')"


async def test_a_registry_that_cannot_be_reached_leaves_the_live_model_alone(watcher, bundle, tmp_path):
    await watcher.once()
    shutil.rmtree(tmp_path / "models")
    (tmp_path / "models").write_text("not a folder")
    await watcher.once()
    assert watcher._question.version == bundle.version


async def test_a_question_waits_for_a_model_only_while_one_may_come_by_itself(own, bundle, tmp_path, clock):
    """Not where the registry has none, nor where the one that it has is refused for good."""
    faults = []

    def prepare(task, name, promoted):
        raise faults[0]

    with ThreadPoolExecutor(1) as executor:
        settings = Settings()
        empty = Registry(str(tmp_path / "none"), tmp_path / "fetched")
        for registry, fault, waits in (
            (empty, None, False),
            (own, BundleError("its hash differs"), False),
            (own, LoaderError("the process that loads it has died"), True),
            (own, OSError("the disk is gone"), True),
        ):
            faults[:] = [fault]
            question = Question(PURCHASE, settings, executor)
            assert question.loading
            assert not await ModelWatcher(question, registry, settings, executor, prepare, clock).once()
            assert question.loading is waits


async def test_demonstration_models_are_refused_by_the_setting_and_marked_without_it(own, bundle):
    with ThreadPoolExecutor(1) as executor:
        for allowed in (True, False):
            settings = Settings(models=ModelSettings(allow_demo=allowed))
            question = Question(PURCHASE, settings, executor)
            assert await ModelWatcher(question, own, settings, executor).once() is allowed
            assert (question.ready, question.demo, question.loading, question.lacking) == (allowed, allowed, False, False)
            assert (question.problem is None) is allowed
        assert f"{bundle.version} is refused: " in question.problem
        assert "models.allow_demo is false" in question.problem


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
