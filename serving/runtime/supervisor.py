"""`revenue-engine serve` itself: starts a node in a session of its own, passes signals on, and leaves no process behind."""

import contextlib
import json
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
import psutil

from serving.errors import SettingsError
from serving.runtime import processes
from serving.runtime.node import SETTINGS, Launch, run_path
from serving.settings import Settings

TERM_S = 0.5
STOP_S = 28.0  # drain, Ray's own shutdown and the embedded engines; then whatever is left is killed, within 30 s in all


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
        self.node_id = secrets.token_hex(8)
        self._record = home / "run" / f"{settings.server.host}-{settings.server.port or self.node_id}.json"
        self._signals = 0
        self._node: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Clear what an earlier run left, start the node, wait for it, and end whatever is left of it."""
        try:
            self._record.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"cannot write into home {self.settings.home}: {error.strerror}; set REVENUE_ENGINE_HOME") from error
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
        """End what a killed run on this address left behind. Raises SettingsError when that run is alive."""
        record = self._read_record()
        if record is None:
            return
        if processes.alive(record["pid"], record["started"]):
            raise SettingsError(
                f"{self.settings.server.host}:{self.settings.server.port} is served from here already by process {record['pid']}; "
                "stop it, or choose another port with PORT=... or server.port"
            )
        left = _end(record["node"], record["session"])
        if left:
            print(f"ended {left} processes that an earlier run left behind", flush=True)

    def _read_record(self) -> Any:
        with contextlib.suppress(OSError, ValueError):
            return json.loads(self._record.read_text())
        return None

    def _write_record(self, session: int) -> None:
        record = {"pid": os.getpid(), "started": psutil.Process().create_time(), "node": self.node_id, "session": session}
        self._record.write_text(json.dumps(record))


def _end(node_id: str, session: int | None) -> int:
    """End whatever is left of a node and remove its folder; return how many processes there were."""
    ended = processes.clear(node_id, TERM_S, session)
    shutil.rmtree(run_path(node_id), ignore_errors=True)
    return len(ended)
