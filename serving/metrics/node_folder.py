"""Where the replicas that a Ray cluster has placed on one node add up their metrics, so that each of them returns the sum of all.

`revenue-engine serve` makes such a folder itself. On a cluster the first replica on a node makes it. This module must be used before
prometheus_client is imported, which reads the environment then.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from serving.runtime.isolation import folders

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX, _LOCK = "metrics-", ".lock"
_held: list[IO[bytes]] = []  # while this process lives: the locks of its folders


def use(node: str) -> None:
    """Have the metrics of this process written to the folder of the Ray node `node`, unless the environment names another.

    Folders of nodes of which no replica lives are removed.
    """
    if VARIABLE in os.environ:
        return
    parent = folders.temporary()
    _held.append(_joined(parent / f"{_PREFIX}{node}"))
    os.environ[VARIABLE] = str(parent / f"{_PREFIX}{node}")
    for folder in parent.glob(f"{_PREFIX}*"):
        with _left(folder) as left:
            if left:
                shutil.rmtree(folder, ignore_errors=True)


def _joined(folder: Path) -> IO[bytes]:
    """Return the file that keeps a folder from being removed, of which every process that uses the folder holds a shared lock."""
    while True:
        lock = (folders.private(folder) / _LOCK).open("ab")
        fcntl.flock(lock, fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
            if os.path.samestat(os.fstat(lock.fileno()), os.stat(folder / _LOCK)):
                return lock
        lock.close()


@contextlib.contextmanager
def _left(folder: Path) -> Iterator[bool]:
    """Yield whether no process uses a folder; none begins to meanwhile."""
    try:
        lock = (folder / _LOCK).open("ab")
    except OSError:  # it is being made or removed
        yield False
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
