"""One node: its listening socket, its embedded engines, its Ray and its replicas, in a session of their own.

`python -m serving.runtime.node`, started by `serving.runtime.supervisor`. SIGTERM drains the replicas and ends everything. SIGHUP adds or
removes replicas where `server.replicas` has changed, and replaces them one by one where it has not. The death of the supervisor counts as
SIGTERM.
"""

import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any, TextIO

import msgspec

from serving import settings
from serving.errors import RevenueEngineError, SettingsError
from serving.runtime import placement, processes
from serving.runtime.embedded import EMBEDDED
from serving.runtime.isolation import folders, remote_access
from serving.runtime.socket_broker import ENVIRONMENT, SocketBroker, bind
from serving.settings import Settings
from training import device
from training.errors import TrainingError

SETTINGS = "REVENUE_ENGINE_SETTINGS"  # where the supervisor puts them: an environment is private to its user, an argument is not
OWNER = "owner.json"  # in a node's folder: the identity of the process that removes it
RAY = "ray"  # in a node's folder, Ray's; short, since Ray's own sockets are in it
OBJECT_STORE_BYTES = 80 * 1024 * 1024  # scoring puts nothing into it; Ray's least is 75 MiB


class Launch(msgspec.Struct, frozen=True):
    """What a supervisor passes to its node: the settings, and the file and the command line that they came from."""

    settings: dict[str, Any]
    config: str | None
    overrides: dict[str, Any]

    def replicas(self) -> int:
        """Return `server.replicas` as the settings are now. Raises SettingsError when they have become wrong."""
        return settings.load(Path(self.config) if self.config else None, **self.overrides).server.replicas


class TerminationSignal(BaseException):
    """SIGTERM was received: unwind whatever is being done and close it."""


def environment(run: Path, home: Path) -> dict[str, str]:
    """Return the environment of Ray's daemons and the replicas: safe defaults, one thread for each library, one folder for caches."""
    return {
        # Every daemon on the loopback interface: Ray offers that only through the switch it made for laptops.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": "0",
        # With its default, ten times a second, the controller takes three per cent of a core while nothing happens.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.4",
        # By default Ray runs its workers at nice 15.
        "RAY_worker_niceness": "0",
        "RAY_DEDUP_LOGS": "0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR") or str(home / "numba"),
        "PROMETHEUS_MULTIPROC_DIR": str(run / "metrics"),
        ENVIRONMENT: str(run / "listen.sock"),
    }


def run_path(node_id: str) -> Path:
    """Return the node's folder for sockets and whatever lives as long as it does: short, since unix socket paths have 107 bytes."""
    return Path(tempfile.gettempdir()) / f"revenue-engine-{node_id}"


@contextmanager
def run_folder(node_id: str) -> Iterator[Path]:
    """The node's folder, private to this user, for as long as the node lives.

    Ray gets a folder in it, since Ray gives its temporary folder to every user of the machine.
    """
    run = folders.private(run_path(node_id))
    for name in ("metrics", RAY):
        folders.private(run / name)
    (run / OWNER).write_bytes(msgspec.json.encode(processes.identity(os.getpid())))
    try:
        yield run
    finally:
        shutil.rmtree(run, ignore_errors=True)


def disable_unused_daemons() -> None:
    """Have a local Ray start without its dashboard, cluster autoscaler and log monitor: call before `ray.init`.

    One machine needs none of them. `include_dashboard=False` still starts a dashboard without pages, and the three take more than half of
    Ray's start, and three ports.
    """
    from ray._private.node import Node

    for start in ("start_api_server", "start_monitor", "start_log_monitor"):
        setattr(Node, start, lambda self, **_: None)


class Node:
    """Starts everything a node needs, in order; `close` ends it in reverse."""

    def __init__(self, settings: Settings, notify: Callable[[str], None]) -> None:
        self.settings = settings
        self.node_id = os.environ[processes.MARK]
        self._notify = notify
        self._version = 1
        self._closing = ExitStack()

    def start(self) -> None:
        """Bind, start what is embedded, make sure there are models, start Ray and the replicas."""
        settings = self.settings
        self._notify(f"device: {device.resolve(settings.device)}")
        run = self._run = self._closing.enter_context(run_folder(self.node_id))
        os.environ.pop("RAY_ADDRESS", None)  # never join a cluster that happens to be there
        os.environ.update(environment(run, settings.home))
        broker = SocketBroker(bind(settings.server.host, settings.server.port), run / "listen.sock")
        self._closing.callback(broker.close)
        broker.start()
        self.port = broker.port
        self._start_embedded()
        self._require_models()
        placement.pooled(self.settings)  # a wrong placement is reported before Ray starts
        self._start_ray(run)
        self._deploy()

    def close(self) -> None:
        """Drain the replicas, then end everything that was started."""
        self._closing.close()

    def update(self, replicas: int) -> str:
        """Add or remove replicas where their number has changed, else replace each when its successor accepts; return what was done."""
        before = self.settings.server.replicas
        if replicas == before:
            self._version += 1
        self.settings = self.settings.model_copy(update={"server": self.settings.server.model_copy(update={"replicas": replicas})})
        self._deploy()
        return f"{before} replicas are now {replicas}" if replicas != before else f"replicas replaced (update {self._version})"

    def _deploy(self) -> None:
        from ray import serve

        from serving.runtime import deployments

        serve.run_many(deployments.applications(self.settings, str(self._version), self._run))

    def _start_embedded(self) -> None:
        """Start every embedded engine that is used and has no address, in the order of the table; they stop in reverse."""
        for engine in EMBEDDED:
            if not engine.needed(self.settings) or engine.address(self.settings) is not None:
                continue
            running = engine.start(self.settings.home, self.node_id)
            if running.url is None:
                self._notify(str(running.reason))
                continue
            self._closing.callback(running.stop)
            self.settings = engine.at(self.settings, running.url)

    def _require_models(self) -> None:
        from serving.engines import demo
        from serving.runtime.model_trials import ModelTrials
        from training.models import MODELS
        from training.registry import defaults
        from training.registry.registry import Registry

        registry, alias = Registry(self.settings.models.registry, self.settings.home / "fetched"), self.settings.models.alias
        missing = [task for task in MODELS if registry.pointer(task, alias) is None]
        allowed = self.settings.models.allow_demo
        defaults.ensure(registry, alias, self._notify, demo=allowed)
        if simulated := defaults.simulated(registry, alias):
            self._notify(demo.notice(simulated, allowed))
        trials = ModelTrials(self._run, self.settings.home / "run")
        for task in missing:
            if (name := registry.pointer(task, alias)) is not None:
                trials.trust(registry.fetch(task, name))  # this installation has made it, or came with it

    def _start_ray(self, run: Path) -> None:
        import ray
        from ray import serve

        disable_unused_daemons()
        ray.init(
            address="local",
            include_dashboard=False,
            num_cpus=os.cpu_count(),
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level="warning",
            _temp_dir=str(run / RAY),
            _node_ip_address="127.0.0.1",
        )
        _raise_on(signal.SIGTERM, TerminationSignal)  # Ray has put its own handler there, which aborts
        self._closing.callback(ray.shutdown)
        port = self.settings.server.ray_http_port
        if port is None:
            serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING"})
        else:
            serve.start(
                proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port}, logging_config={"log_level": "WARNING"}
            )
        self._closing.callback(serve.shutdown)


def main() -> None:
    """Run a node until SIGTERM. Exit code 0 after a drain, 1 when something could not be started."""
    launch = msgspec.json.decode(os.environ.pop(SETTINGS), type=Launch)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor handles the terminal's Ctrl-C
    updates: SimpleQueue[None] = SimpleQueue()  # a signal's handler may put into it, unlike an Event
    signal.signal(signal.SIGHUP, lambda *_: updates.put(None))
    node = Node(Settings.model_validate(launch.settings), lambda line: print(line, flush=True))
    logs = node.settings.home / "logs"
    terminal = _log_to(logs / "node.log")
    code = 0
    try:
        _raise_on(signal.SIGTERM, TerminationSignal)
        began = time.monotonic()
        node.start()
        print(ready_message(node, time.monotonic() - began), flush=True)
        _wait(node, launch, updates)
    except (TerminationSignal, SystemExit):  # while Ray starts, its own handler answers SIGTERM, by SystemExit
        print("draining: requests in flight are answered, new ones refused", flush=True)
    except (RevenueEngineError, TrainingError) as error:
        print(f"error: {error}", file=terminal, flush=True)
        code = 1
    except Exception:
        print(f"error: the node could not run; see {logs / 'node.log'}", file=terminal, flush=True)
        traceback.print_exc()
        code = 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.dup2(2, 1)  # Ray's messages about its own end belong in the log
        node.close()
    sys.exit(code)


def _log_to(path: Path) -> TextIO:
    """Send standard error, Ray's and every library's, to the log file; return what standard error was."""
    folders.private(path.parent)
    terminal = os.fdopen(os.dup(2), "w", buffering=1)
    with path.open("ab") as log:
        os.dup2(log.fileno(), 2)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # at INFO it names the port of a proxy that is not there
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return terminal


def ready_message(node: Node, seconds: float) -> str:
    """Return the lines that the server prints when it is ready: its address, and a curl to try."""
    from serving.engines import ENGINES

    address = remote_access.url(node.settings.server.host, node.port)
    logs = node.settings.home / "logs"
    example = msgspec.json.encode(ENGINES[0].example).decode()
    return (
        f"ready in {seconds:.1f} s: {address}   docs: {address}/docs   metrics: {address}/metrics   logs: {logs}\n"
        f"{''.join(f'{choice}{chr(10)}' for choice in _choices(address))}try:\n"
        f"  curl -s {address}{ENGINES[0].route} -H 'content-type: application/json' -d '{example}'"
    )


def _choices(address: str) -> list[str]:
    """Return what the replicas chose for this machine, and why."""
    try:
        with urllib.request.urlopen(f"{address}/health/ready", timeout=5) as reply:
            ready = msgspec.json.decode(reply.read())
    except OSError:  # the replica has ended again already
        return []
    return [f"{name}: {choice}" for name, choices in ready["choices"].items() for choice in choices]


def _wait(node: Node, launch: Launch, updates: "SimpleQueue[None]") -> None:
    """Rescale or replace the replicas at every SIGHUP, one update after the other, until TerminationSignal is raised."""
    while True:
        updates.get()
        while not updates.empty():
            updates.get()
        try:
            print(node.update(launch.replicas()), flush=True)
        except SettingsError as error:
            print(f"the replicas stay as they are: {error}", flush=True)


def _raise_on(number: signal.Signals, kind: type[BaseException]) -> None:
    def handler(_number: int, _frame: FrameType | None) -> None:
        raise kind

    signal.signal(number, handler)


if __name__ == "__main__":
    main()
