"""Trials: a model that ends the process that loads it is found out by the next one, and by no replica."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serving.errors import LoaderError
from serving.runtime import model_trials
from serving.runtime.model_trials import ModelTrials
from training.registry import bundle as bundles

ROOT = Path(__file__).parents[3]
PROMOTED = "2026-01-01T00:00:00Z"

# Begins the trial of a bundle, as the process that loads models does, and does what it is told meanwhile.
LOADER = """
import ctypes, os, signal, sys
from pathlib import Path
from serving.runtime import model_trials
from training.registry import bundle
folder, path, what, model_trials.MAX_S = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])
trials = model_trials.ModelTrials(folder, folder)
with trials.trial(bundle.load(path), "m", sys.argv[5]) as passed:
    print(passed, flush=True)
    if what == "hang":
        ctypes.PyDLL(None).sleep(600)  # with the interpreter's lock: no other thread could end it
    elif what == "wait":
        sys.stdin.read()
    elif what == "raise":
        raise ValueError("damaged")
    elif what != "end":
        os.kill(os.getpid(), int(what))
"""


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        import time

        self.now = time.monotonic()

    def __call__(self):
        return self.now


@pytest.fixture
def small(tmp_path):
    """A bundle."""
    return bundles.write(tmp_path / "bundle", task="purchase", files={"model.json": b"{}"}, meta={})


@pytest.fixture
def load(tmp_path, small):
    """Run the loader until it ends, and return its exit code."""

    def run(what, max_s=60.0, promoted=PROMOTED):
        command = [sys.executable, "-c", LOADER, tmp_path, small.path, str(what), str(max_s), promoted]
        return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=False).returncode

    return run


def begin(trials, bundle, promoted=PROMOTED):
    with trials.trial(bundle, "m", promoted) as passed:
        return passed


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_model_whose_loader_was_killed_is_refused_by_the_next_one_until_it_may_be_tried_again(load, small, tmp_path, number):
    assert load(int(number)) == -number
    clock = Clock()
    trials = ModelTrials(tmp_path, tmp_path, clock)
    assert not trials.recover(restarted=True)
    with pytest.raises(LoaderError, match="the process that loaded purchase/m for a trial died; no replica loads it"):
        begin(trials, small)
    assert begin(trials, small, "promoted again") is False
    clock.now += model_trials.AGREE_S
    begin(trials, small)


def test_a_loader_that_is_stuck_in_a_library_is_ended_in_time_and_its_model_refused_as_late(load, small, tmp_path, monkeypatch):
    assert load("hang", max_s=0.2) == -signal.SIGALRM
    monkeypatch.setattr(model_trials, "MAX_S", 0.2)
    trials = ModelTrials(tmp_path, tmp_path)
    assert trials.recover(restarted=True)
    with pytest.raises(LoaderError, match=r"was not done within 0\.2 s"):
        begin(trials, small)


def test_a_loader_that_was_ended_with_its_owner_says_nothing_about_the_model(load, small, tmp_path):
    load(int(signal.SIGKILL))
    trials = ModelTrials(tmp_path, tmp_path)
    assert not trials.recover(restarted=False)
    assert begin(trials, small) is False
    trials.recover(restarted=True)  # and is forgotten
    begin(trials, small)


def test_a_trial_that_runs_in_another_process_is_not_taken_for_a_death(small, tmp_path):
    command = [sys.executable, "-c", LOADER, tmp_path, small.path, "wait", "60", PROMOTED]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as loader:
        assert loader.stdout.readline() == b"False\n"
        trials = ModelTrials(tmp_path, tmp_path)
        trials.recover(restarted=True)
        begin(trials, small)
        loader.communicate()


def test_a_model_that_has_passed_is_not_tried_again_by_later_processes_and_other_nodes_of_this_home(load, small, tmp_path):
    assert load("end") == 0
    (tmp_path / "another-node").mkdir()
    trials = ModelTrials(tmp_path / "another-node", tmp_path)
    assert trials.passed(small)
    assert begin(trials, small, "at another time") is True


def test_other_content_under_the_same_name_and_another_version_of_a_library_are_tried(load, small, tmp_path, monkeypatch):
    assert load("end") == 0
    trials = ModelTrials(tmp_path, tmp_path)
    assert not trials.passed(bundles.write(tmp_path / "other", task="purchase", files={"model.json": b"[]"}, meta={}))
    monkeypatch.setattr(model_trials, "_libraries", lambda: "another version")
    assert not trials.passed(small)


def test_a_model_that_raises_has_not_passed_and_is_not_refused_either(load, small, tmp_path):
    assert load("raise") == 1
    trials = ModelTrials(tmp_path, tmp_path)
    trials.recover(restarted=True)
    assert begin(trials, small) is False


def test_what_this_installation_has_made_needs_no_trial(small, tmp_path):
    trials = ModelTrials(tmp_path, tmp_path)
    assert not trials.passed(small)
    trials.trust(small)
    assert begin(trials, small) is True


@pytest.mark.parametrize("content", [b"", b"{", b'{"old": 1}'])
def test_notes_that_cannot_be_read_are_as_none(small, tmp_path, content):
    for name in ("trial.json", "failed-trials.json", "passed-trials.json"):
        (tmp_path / name).write_bytes(content)
    trials = ModelTrials(tmp_path, tmp_path)
    assert not trials.recover(restarted=True)
    assert begin(trials, small) is False
    assert trials.passed(small)


def test_after_a_trial_nothing_ends_this_process(small, tmp_path):
    begin(ModelTrials(tmp_path, tmp_path), small)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert os.listdir(tmp_path).count("trial.json") == 0
