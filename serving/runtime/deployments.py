"""The Ray Serve deployments. Ray places, scales, checks and replaces replicas; a replica owns the socket it answers on."""

import ctypes
import gc
import logging
import os
import sys
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.api import RunTarget

from serving.metrics import node_folder
from serving.runtime import processes

if ray.is_initialized() and processes.MARK not in os.environ:  # a replica on a cluster; before prometheus_client is imported
    node_folder.use(ray.get_runtime_context().get_node_id())

from serving.app import Application
from serving.engines import named
from serving.ingress.http.listener import Listener
from serving.runtime import workers
from serving.runtime.isolation import folders, remote_access
from serving.runtime.model_preparer import RemotePreparer
from serving.runtime.placement import pooled
from serving.runtime.pool_socket import PoolSocket
from serving.runtime.socket_broker import ENVIRONMENT, LEAVING, READY, Lease, ensure
from serving.settings import ServerSettings, Settings

log = logging.getLogger(__name__)

APPLICATION = "revenue-engine"
DEPLOYMENT = "scorer"

COLLECT = (50_000, 20, 100)  # new objects between collections, and collections of each generation between those of the next
SWITCH_S = 0.0002
# Of a buffer that the allocator gives back at once; four times the buffer that asyncio receives each request into, which it is to keep.
LARGE_BYTES = 1024 * 1024
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3); left to themselves they grow with the first large buffers that are freed


class Replica:
    """A replica: the application, its listener on the node's socket, and Ray's own HTTP and handle paths beside it.

    `pools`: by question, the unix sockets of the pools; `only`: the pooled question that this replica answers on its socket, None for a
    replica that owns the node's socket.

    The listener opens in `reconfigure`, which Ray calls after the constructor and before it counts the replica as running, and drains in
    `__del__`, the only hook that Ray calls when it stops one.
    """

    def __init__(self, values: dict[str, Any], pools: dict[str, str], only: str | None = None) -> None:
        self._settings = Settings.model_validate(values)
        self._pools, self._only = {name: Path(path) for name, path in pools.items()}, only
        _log_to(self._settings.home / "logs" / "replica.log")
        if processes.MARK in os.environ:
            _keep_local()
        if self._settings.features.redis_url is None:
            log.warning("features.redis_url is not set: customers by name (value) and sessions by id (journey) are refused")
        self._application: Application | None = None
        self._listener: Listener | None = None
        self._lease: Lease | PoolSocket | None = None
        self._node_processes: list[Any] = []

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Load, warm, then accept: the first call opens everything, later ones find it open."""
        if self._application is not None:
            return
        self._node_processes = workers.start_on_node(self._settings)
        preparer = RemotePreparer(self._settings)
        application = self._of_all(preparer) if self._only is None else self._of_one(preparer, self._only)
        await application.__aenter__()
        application.require_ready()
        self._application = application
        _reduce_pauses()
        _return_memory()
        if self._settings.server.own_socket:
            self._lease = Lease(_broker(self._settings.server)) if self._only is None else PoolSocket(self._pools[self._only])
            self._listener = Listener(application.api, application.state, application.api.route_table)
            await self._listener.open(self._lease.sock)
            self._lease.notify(READY)

    def _of_all(self, preparer: RemotePreparer) -> Application:
        return Application(self._settings, preparer, pools=self._pools)

    def _of_one(self, preparer: RemotePreparer, name: str) -> Application:
        if self._settings.pool.low_priority:
            _lower_priority()
        return Application(self._settings, preparer, [named(name)], place="pool")

    def check_health(self) -> None:
        """Raise when the listener has died, so that Ray replaces this replica."""
        if (
            self._listener is not None
            and self._application is not None
            and not (self._listener.accepting or self._application.state.draining)
        ):
            raise RuntimeError("the listener no longer accepts connections")

    async def __call__(self, request: Any) -> Any:
        """Answer a request that came through Ray's own HTTP proxy: the same API."""
        from starlette.responses import Response

        assert self._application is not None, "a request before reconfigure; this is a bug"
        status, headers, chunks = 500, [], []

        async def send(message: Any) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], message["headers"]
            else:
                chunks.append(message.get("body", b""))

        await self._application.api(request.scope, request.receive, send)
        response = Response(b"".join(chunks), status)
        response.raw_headers = list(headers)
        return response

    async def score(self, task: str, body: bytes, authorization: bytes | None = None) -> bytes:
        """Answer a request that came through a Ray handle: a JSON body in, the JSON answer or problem out.

        `authorization`: the caller's, as it would be in that header; the endpoint makes the principal of it.
        """
        assert self._application is not None, "a request before reconfigure; this is a bug"
        endpoint = self._application.api.endpoints[task]
        headers = {b"content-type": b"application/json"} | ({} if authorization is None else {b"authorization": authorization})
        answer = await endpoint.answer(headers, body)
        reply: bytes = answer.body
        return reply

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the requests in flight, which Ray cannot count on our own socket."""
        return {"in_flight": float(self._application.state.in_flight if self._application else 0)}

    async def __del__(self) -> None:
        """Drain: answer the requests in flight and those that still arrive, then close everything."""
        if self._listener is not None and self._lease is not None:
            self._lease.notify(LEAVING)
            cut = await self._listener.drain(self._settings.server.drain_s)
            log.info("drained, %d requests cut", cut)
            self._lease.close()
        if self._application is not None:
            await self._application.__aexit__(None, None, None)
            self._application = None


def _lower_priority() -> None:
    """Run this process only on idle processors: the replicas answer in a millisecond and go first."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


def _log_to(path: Path) -> None:
    """Write this project's log to `path` too: Ray keeps a process's output in a folder that is removed with the node."""
    folders.private(path.parent)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    for package in ("serving", "training", "asyncio"):  # asyncio logs what failed in a callback of the loop
        logger = logging.getLogger(package)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)


def _reduce_pauses() -> None:
    """Have the garbage collector and the thread that loads the next model delay no answer."""
    # Models, code and settings live as long as the process: the collector need not scan them again, and little else remains.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)
    # A thread waits so long for the interpreter of one that computes: 5 ms by default, longer than an answer takes.
    sys.setswitchinterval(SWITCH_S)


def _return_memory() -> None:
    """Have each large buffer returned to the system once it is freed: a body of megabytes must not enlarge the process for good."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # of glibc
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 2 * LARGE_BYTES)


def _keep_local() -> None:
    """Bind the replica's own gRPC server to the loopback interface.

    Ray opens it on every interface without authentication, and its messages are pickles: who reaches it can run code here. Ray has no
    setting for it, and opens it after this constructor.
    """
    from ray.serve._private import replica

    bind = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", "127.0.0.1"))


def applications(settings: Settings, version: str, run: Path) -> list[RunTarget]:
    """Return the Ray Serve applications of a node: one for every question that is pooled, and the one that owns the socket.

    A second `serve.run_many` with another `version` replaces the replicas, one with the same only adds or removes some. `run`: the node's
    folder.
    """
    names = pooled(settings)
    pools = {name: str(run / f"pool-{name}") for name in names}
    targets = [RunTarget(_bound(settings, version, pools, name), name, None) for name in names]
    return [*targets, RunTarget(_bound(settings, version, pools), APPLICATION, "/")]


def _bound(settings: Settings, version: str, pools: dict[str, str], only: str | None = None) -> serve.Application:
    deployment = serve.deployment(
        name=DEPLOYMENT if only is None else only,
        num_replicas=settings.server.replicas if only is None else 1,
        max_ongoing_requests=256,
        max_queued_requests=1024,
        user_config={},
        graceful_shutdown_wait_loop_s=0.05,
        graceful_shutdown_timeout_s=20,
        health_check_period_s=1,
        health_check_timeout_s=10,
        max_surge_percent=100,  # a new replica accepts before an old one drains
        ray_actor_options={"num_cpus": 0},
    )(Replica)
    deployment._version = version  # otherwise Ray makes a new one at each run, and restarts every replica when only their number changes
    return deployment.bind(settings.model_dump(mode="json"), pools, only)


def _broker(server: ServerSettings) -> Path:
    """Return the unix socket of this node's socket broker."""
    return Path(os.environ[ENVIRONMENT]) if ENVIRONMENT in os.environ else ensure(server.host, server.port)


def build(args: dict[str, Any]) -> serve.Application:
    """Return the application for `serve run` and `serve deploy configs/serve.yaml`; `args` are settings.

    On a cluster every replica answers every question itself: a pool's unix socket may be on another machine.
    """
    from serving import settings

    loaded = settings.load(**args)
    if (exposed := remote_access.warning(loaded.server)) is not None:
        log.warning(exposed)
    return _bound(loaded, "1", {})
