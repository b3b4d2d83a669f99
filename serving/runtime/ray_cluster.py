"""A Ray for the length of a job: one of its own on this machine, safe by default, or a cluster that was named."""

import contextlib
import logging
import os
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from serving.errors import RayError
from serving.runtime import processes

STORE_SHARE, MAX_STORE_BYTES, MIN_STORE_BYTES = 0.25, 512 * 1024 * 1024, 80 * 1024 * 1024  # of this machine's memory
_END_S = 2.0
_JOB = "job-"  # and the pid of its owner, in the name of its folder
_QUIET = {"RAY_BACKEND_LOG_LEVEL": "fatal"}


@contextmanager
def connected(home: Path, address: str | None = None) -> Iterator[int]:
    """Return the cores of a Ray that is connected for the length of a `with`.

    address None: a Ray of this job alone, on the loopback interface with a token; every process of it is ended afterwards. Otherwise the
    cluster there is used and left as it is. Raises RayError if it does not come up.
    """
    if address is not None:
        with _environment({"RAY_USAGE_STATS_ENABLED": "0", **_QUIET}):
            yield from _init(address=address)
        return
    from serving.runtime.node import RAY, disable_unused_daemons, environment, run_folder

    clear()
    with run_folder(f"{_JOB}{os.getpid()}-{secrets.token_hex(2)}") as run, _environment({**environment(run, home), **_QUIET}):
        disable_unused_daemons()
        try:
            yield from _init(
                address="local",
                include_dashboard=False,
                num_cpus=cores(),
                object_store_memory=store_bytes(),
                _temp_dir=str(run / RAY),
                _node_ip_address="127.0.0.1",
            )
        finally:
            processes.end(_users(run), _END_S)


def clear() -> None:
    """End what jobs of this user left behind that were killed themselves, and remove their folders."""
    from serving.runtime.node import run_path

    pattern = run_path(f"{_JOB}*")
    for run in pattern.parent.glob(pattern.name):
        if run.lstat().st_uid == os.geteuid() and not _in_use(run):
            processes.end(_users(run), _END_S)
            shutil.rmtree(run, ignore_errors=True)


def _in_use(run: Path) -> bool:
    """Return whether the job that a folder belongs to runs. One that is being made has no owner yet, but the pid in its name."""
    from serving.runtime.node import OWNER

    try:
        return processes.alive(msgspec.json.decode((run / OWNER).read_bytes(), type=processes.ProcessIdentity))
    except (OSError, msgspec.DecodeError):
        owner = run.name.split("-")[-2]
        return owner.isdecimal() and psutil.pid_exists(int(owner))


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def store_bytes() -> int:
    """Return the size of the object store: chunks pass through it, a few at a time."""
    share = int(psutil.virtual_memory().total * STORE_SHARE)
    return max(MIN_STORE_BYTES, min(MAX_STORE_BYTES, share))


def _init(**options: Any) -> Iterator[int]:
    # Ray reads its environment when it is imported.
    import ray
    import ray.data

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        with _silenced():
            ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except Exception as error:  # whatever Ray raises
        where = options["address"]
        fix = "see revenue-engine doctor" if where == "local" else "if that cluster needs a token, set RAY_AUTH_MODE=token"
        raise RayError(f"Ray ({where}) does not start or answer: {str(error).strip()}; {fix}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_term)  # Ray has put its own there
    try:
        resources: dict[str, float] = ray.cluster_resources()
        yield max(1, int(resources.get("CPU", 1)))
    finally:
        ray.shutdown()


def _users(run: Path) -> list[int]:
    """Return the pids of processes with an open file in the folder: every process of Ray logs there."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            links = [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
            if pid != os.getpid() and any(link.startswith(f"{run}/") for link in links):
                found.append(pid)
    return found


@contextmanager
def _silenced() -> Iterator[None]:
    """Redirect standard error while Ray's core starts: it logs there before it has read its settings."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
