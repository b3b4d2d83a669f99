"""The bare model on Ray Serve as its documentation shows it: a deployment with `@serve.batch` behind Ray's own HTTP proxy.

One replica. Set for speed: max_ongoing_requests=100 (the default of 5 would hold back most of 32 connections), batches of up to 32 after at
most 0.5 ms (the default waits 10 ms), nthread=1, no access log, workers at the usual priority. Set for safety or to spare a small machine:
the loopback interface, no dashboard, no usage reports, a token for Ray's own ports. Everything else is Ray's default.
"""

import contextlib
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.servers import ROOT, Target, module, scoring

LABEL = "Ray Serve"
QUESTION = "model"
REQUIREMENTS = ()


@contextlib.contextmanager
def start(model: Path, port: int) -> Iterator[Target]:
    """Serve the model on a loopback port."""
    target = Target(f"http://127.0.0.1:{port}/")
    with scoring([*module(__name__), model, str(port)], target, model, model.parent / "ray_default.log", environment()):
        yield target


def environment() -> dict[str, str]:
    """Return what keeps Ray to this machine and to its work."""
    return {
        "PYTHONPATH": str(ROOT),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # with _node_ip_address: Ray's daemons stay on the loopback interface
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # the default of 15 would give way to the load generator
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


def deployment(model: Path) -> Any:
    """Return the application that scores with the model."""
    import numpy as np
    from ray import serve
    from starlette.requests import Request

    @serve.deployment(max_ongoing_requests=100)
    class Scoring:
        def __init__(self) -> None:
            import xgboost

            keep_local()
            self._booster = xgboost.Booster({"nthread": 1}, model_file=model)

        @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.0005)
        async def score(self, rows: list[list[float]]) -> list[float]:
            return self._booster.inplace_predict(np.array(rows, dtype=np.float32)).tolist()

        async def __call__(self, request: Request) -> dict[str, float]:
            return {"probability": await self.score((await request.json())["features"])}

    return Scoring.bind()


def keep_local() -> None:
    """Bind this replica's gRPC server, opened later, to 127.0.0.1: it would take pickles from anyone who reaches this machine."""
    from ray.serve._private import replica

    bind = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", "127.0.0.1"))


def serve_forever(application: Any, port: int) -> None:
    """Serve the application with Ray Serve until SIGTERM."""
    import ray
    from ray import serve

    with tempfile.TemporaryDirectory(prefix="bench-ray-") as scratch:
        ray.init(address="local", include_dashboard=False, _temp_dir=scratch, _node_ip_address="127.0.0.1")
        serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"enable_access_log": False})
        serve.run(application)
        # Only now: Ray puts its own handler there.
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        stop.wait()
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    os.environ.pop("RAY_ADDRESS", None)
    serve_forever(deployment(Path(sys.argv[1])), int(sys.argv[2]))
