"""A model is loaded for a trial before a replica loads it, by a process that may die of it: what became of these trials.

A library that reads a damaged model can end its process, and no exception tells. So the process writes down which model it begins with, and
its successor reads there which one its predecessor has died of. A model that has passed needs no second trial on this machine.
"""

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from importlib import metadata
from os import getpid
from pathlib import Path
from typing import TypeVar

import msgspec

from serving.errors import LoaderError
from serving.runtime import processes
from training.registry import disk
from training.registry.bundle import Bundle

T = TypeVar("T")

MAX_S = 120.0  # for one trial, kernels not compiled yet and a busy machine included: after that the kernel ends the process
AGREE_S = 30.0  # for which a failed trial counts: the other replicas of the node get the same answer, a later promotion a new trial
MAX_PASSED = 200
_LIBRARIES = ("revenue-engine", "numba", "numpy", "torch", "tokenizers", "safetensors", "xgboost", "xgboost-cpu")


class Begun(msgspec.Struct, frozen=True):
    """A trial that has begun: of which promotion, by which process, when (time.monotonic(), which all processes of a boot share)."""

    key: str
    process: processes.ProcessIdentity
    at: float


class Failed(msgspec.Struct, frozen=True):
    """A trial that has ended its process: when it was noticed (time.monotonic()), and what happened."""

    at: float
    what: str


class ModelTrials:
    """The trials of one node. run: a private folder that lives as long as the node, home: one that outlives it."""

    def __init__(self, run: Path, home: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._begun, self._failed, self._passed = run / "trial.json", run / "failed-trials.json", home / "passed-trials.json"
        self._clock = clock

    def recover(self, restarted: bool) -> bool:
        """Note what the process before this one has died of; return whether it was because of the time.

        restarted: this process replaces one that has died by itself, not one that was ended with its owner.
        """
        begun = _read(self._begun, Begun)
        if begun is None or processes.alive(begun.process):
            return False
        late = self._clock() - begun.at >= MAX_S
        if restarted:
            what = f"was not done within {MAX_S:g} s" if late else "died"
            failed = {**self._all_failed(), begun.key: Failed(self._clock(), what)}
            disk.replace_file(self._failed, msgspec.json.encode(failed))
        self._begun.unlink(missing_ok=True)
        return restarted and late

    @contextlib.contextmanager
    def trial(self, bundle: Bundle, name: str, promoted: str) -> Iterator[bool]:
        """Run the body as a trial, which has passed when it ends; yield whether the model has passed one before.

        promoted: when the alias was pointed to the model: promoting it again is another trial. Raises LoaderError, instead of running the
        body, where the process that did so has died of it. While the body runs the kernel ends this process after MAX_S.
        """
        key = f"{_digest(bundle)} {promoted}"
        failed = self._all_failed().get(key)
        if failed is not None and self._clock() - failed.at < AGREE_S:
            raise LoaderError(f"the process that loaded {bundle.task}/{name} for a trial {failed.what}; no replica loads it")
        process = processes.identity(getpid())
        if process is not None:
            disk.replace_file(self._begun, msgspec.json.encode(Begun(key, process, self._clock())))
        signal.setitimer(signal.ITIMER_REAL, MAX_S)  # SIGALRM is not handled: it ends a process that is stuck in a library, too
        try:
            yield _passed_key(bundle) in self._all_passed()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            self._begun.unlink(missing_ok=True)
        self.trust(bundle)

    def passed(self, bundle: Bundle) -> bool:
        """Return whether this model has passed a trial on this machine, with the libraries that are installed now."""
        return _passed_key(bundle) in self._all_passed()

    def trust(self, bundle: Bundle) -> None:
        """Note that a model has passed, or needs no trial: this installation has made it."""
        key, before = _passed_key(bundle), self._all_passed()
        if key not in before:
            disk.replace_file(self._passed, msgspec.json.encode([*before, key][-MAX_PASSED:]))

    def _all_failed(self) -> dict[str, Failed]:
        return _read(self._failed, dict[str, Failed]) or {}

    def _all_passed(self) -> list[str]:
        return _read(self._passed, list[str]) or []


def _digest(bundle: Bundle) -> str:
    """Return the hash of a bundle: the manifest has the hashes of all files."""
    return sha256(json.dumps(bundle.manifest, sort_keys=True).encode()).hexdigest()


def _passed_key(bundle: Bundle) -> str:
    return sha256(f"{_digest(bundle)} {_libraries()}".encode()).hexdigest()


@cache
def _libraries() -> str:
    """Return the versions of what reads a model: another version may die of what this one reads."""
    found = []
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return ", ".join((sys.version, *found))


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):  # none yet, or of another version: what it would have said is found out again
        return None
