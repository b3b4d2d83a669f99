"""The same engine and the same model behind a plain Ray Serve deployment: `@serve.deployment`, FastAPI, Ray's own HTTP proxy.

The scorer is the one that `revenue-engine serve` runs (ENGINES[0].load, columns, run, rows), requests are decoded and answers encoded by
msgspec as there: all that differs is the way to it and back. One replica, max_ongoing_requests=100 (the default of 5 would hold back most
of 32 connections), the loopback interface; everything else is Ray's default, except what would be unsafe or would only cost it time on a
small machine: no dashboard, no usage reports, and a token for Ray's own ports.
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

from benchmarks.servers import ROOT, running
from serving.engines import ENGINES

LABEL = "the same engine on Ray Serve's default proxy"
PURCHASE = ENGINES[0]


@contextlib.contextmanager
def start(bundle: Path, port: int) -> Iterator[str]:
    """Serve the bundle on a loopback port; yield the URL that answers purchase predictions."""
    environment = {
        "PYTHONPATH": str(ROOT),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # with _node_ip_address: Ray's daemons stay on the loopback interface
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    url = f"http://127.0.0.1:{port}{PURCHASE.route}"
    with running([__name__, str(bundle), str(port)], environment, url, bundle.parent / "ray_default.log"):
        yield url


def serve_forever(bundle: Path, port: int) -> None:
    """Serve the bundle until SIGTERM."""
    import msgspec
    import ray
    from fastapi import FastAPI, Request, Response
    from ray import serve

    app = FastAPI()

    @serve.deployment(max_ongoing_requests=100)
    @serve.ingress(app)
    class Scoring:
        def __init__(self) -> None:
            from ray.serve._private import replica

            from serving.settings import Settings
            from training import bundle as bundles

            # The replica's gRPC server, opened after this, would take pickles from anyone who reaches this machine.
            bind = replica.add_port_to_grpc_server
            replica.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", "127.0.0.1"))
            self._scorer = PURCHASE.load(bundles.load(bundle), Settings())
            self._decode = msgspec.json.Decoder(PURCHASE.request).decode
            self._encode = msgspec.json.Encoder().encode

        @app.post(PURCHASE.route)
        async def predict(self, request: Request) -> Response:
            asked = self._decode(await request.body())
            PURCHASE.check(asked)
            answers = self._scorer.run(self._scorer.columns([asked]))
            return Response(self._encode(self._scorer.rows([asked], answers)[0]), media_type="application/json")

    with tempfile.TemporaryDirectory(prefix="ray-default-") as scratch:
        ray.init(address="local", include_dashboard=False, _temp_dir=scratch, _node_ip_address="127.0.0.1")
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(Scoring.bind())
        # Only now: Ray puts its own handler there.
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        stop.wait()
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    os.environ.pop("RAY_ADDRESS", None)
    serve_forever(Path(sys.argv[1]), int(sys.argv[2]))
