"""`revenue-engine serve` itself: starts a node in a session of its own, passes signals on, and leaves no process behind."""

import contextlib
import http.client
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from serving.errors import SettingsError
from serving.runtime import processes
from serving.runtime.isolation import folders, remote_access
from serving.runtime.node import SETTINGS, Launch, run_path
from serving.settings import Settings

TERM_S = 0.5
STOP_S = 28.0  # drain, Ray's own shutdown and the embedded engines; then whatever is left is killed, within 30 s in all
ANSWER_S = 5.0  # for an earlier run to answer: one that does not is not a server any more
_PROBE_PAUSE_S = 0.1


class Record(msgspec.Struct, frozen=True):
    """What a run leaves under home for the next one on its address: its supervisor, its node, and the mark of all its processes."""

    supervisor: processes.ProcessIdentity
    node: processes.ProcessIdentity
    node_id: str


class Supervisor:
    """One run of the server. `run` returns its exit code."""

    def __init__(self, settings: Settings, config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> None:
        """Take the settings, and where they came from: the file and the command line, which SIGHUP has the node read again."""
        # Replicas start in folders of Ray's: every path must be absolute before it travels.
        home = settings.home.resolve()
        registry = settings.models.registry
        if "://" not in registry:
            registry = str(Path(registry).resolve())
        self.settings = settings.model_copy(update={"home": home, "models": settings.models.model_copy(update={"registry": registry})})
        self._launch = Launch(self.settings.model_dump(mode="json"), str(config.resolve()) if config else None, dict(overrides or {}))
        self.node_id = secrets.token_hex(4)  # short: it is part of the paths of unix sockets
        self._record = home / "run" / f"{settings.server.host}-{settings.server.port or self.node_id}.json"
        self._signals = 0
        self._node: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Clear what an earlier run left, start the node, wait for it, and end whatever is left of it."""
        if (exposed := remote_access.warning(self.settings.server)) is not None:
            print(exposed, file=sys.stderr, flush=True)  # with --quiet and --json, too
        try:
            self.settings.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"cannot write into home {self.settings.home}: {error.strerror}; set REVENUE_ENGINE_HOME") from error
        folders.private(self._record.parent)
        folders.private(self.settings.home / "logs")
        self._clear()
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        try:
            self._node = self._start()
            self._write_record(self._node.pid)
            if self._signals:  # it came before there was a node
                self._pass_on(signal.SIGTERM)
            code = self._wait()
            # A node that is stopped before it handles signals ends with this code.
            return 0 if self._signals == 1 and code == -signal.SIGTERM else code
        finally:
            _end(self.node_id, self._node.pid if self._node is not None else None)
            self._record.unlink(missing_ok=True)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _start(self) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, SETTINGS: msgspec.json.encode(self._launch).decode(), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "serving.runtime.node"]
        return processes.spawn(command, self.node_id, env=environment, die_with_parent=True)

    def _wait(self) -> int:
        assert self._node is not None
        give_up: float | None = None
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._node.wait(timeout=0.2)
            if self._signals and give_up is None:
                give_up = time.monotonic() + STOP_S
            if self._signals > 1 or (give_up is not None and time.monotonic() > give_up):
                self._node.kill()
                self._node.wait()
                return 1

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._pass_on(signal.SIGHUP)
            return
        self._signals += 1
        if self._signals == 1:
            self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: signal.Signals) -> None:
        if self._node is not None:
            with contextlib.suppress(ProcessLookupError):
                self._node.send_signal(number)

    def _clear(self) -> None:
        """End what a killed run on this address left behind. Raises SettingsError when that run is alive, or its address still answers."""
        record = self._read_record()
        if record is None:
            return
        server = self.settings.server
        if processes.alive(record.supervisor):
            raise SettingsError(
                f"{server.host}:{server.port} is served from here already by process {record.supervisor.pid}; "
                "stop it, or choose another port with PORT=... or server.port"
            )
        if record.node.boot != processes.boot_id():
            return  # the machine has started anew: nothing of that run is left, and its numbers may be others' by now
        session = processes.session_of(record.node)
        # Its node drains when its supervisor has been killed. What answers even after that is a server, and no server is ended here.
        give_up = time.monotonic() + STOP_S
        while server.port and (pids := processes.marked(record.node_id, session)) and answers(server.host, server.port):
            if time.monotonic() > give_up:
                raise SettingsError(
                    f"{server.host}:{server.port} still answers, though process {record.supervisor.pid} that started it has ended: end it "
                    f"(kill {' '.join(map(str, pids))}), or choose another port with PORT=... or server.port"
                )
            time.sleep(_PROBE_PAUSE_S)
        left = _end(record.node_id, session)
        if left:
            print(f"ended {left} processes that an earlier run left behind", flush=True)

    def _read_record(self) -> Record | None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(self._record.read_bytes(), type=Record)
        return None

    def _write_record(self, node: int) -> None:
        supervisor, started = processes.identity(os.getpid()), processes.identity(node)
        if supervisor is not None and started is not None:  # a node that has ended already leaves nothing to record
            self._record.write_bytes(msgspec.json.encode(Record(supervisor, started, self.node_id)))


def answers(host: str, port: int, timeout_s: float | None = None) -> bool:
    """Return whether anything answers a request to host:port within `timeout_s`, by default ANSWER_S, whatever the answer."""
    connection = http.client.HTTPConnection(remote_access.reached_at(host), port, timeout=ANSWER_S if timeout_s is None else timeout_s)
    try:
        connection.request("GET", "/health/live", headers={"connection": "close"})
        connection.getresponse()
    except http.client.HTTPException as error:
        return not isinstance(error, http.client.RemoteDisconnected)  # no HTTP, but something
    except OSError:
        return False
    finally:
        connection.close()
    return True


def _end(node_id: str, session: int | None) -> int:
    """End whatever is left of a node and remove its folder; return how many processes there were."""
    ended = processes.clear(node_id, TERM_S, session)
    shutil.rmtree(run_path(node_id), ignore_errors=True)
    return len(ended)
