"""The whole purchase endpoint, the same engine and the same model, behind a plain Ray Serve deployment: FastAPI and Ray's own HTTP proxy.

The scorer is the one that `revenue-engine serve` runs (ENGINES[0].load, columns, run, rows), requests are decoded and answers encoded by
msgspec as there: all that differs is the way to it and back. Ray is set as in ray_default.py.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.peers import ray_default
from benchmarks.servers import Target, module, running
from serving.engines import ENGINES

LABEL = "the same engine on Ray Serve"
QUESTION = "endpoint"
REQUIREMENTS = ()

PURCHASE = ENGINES[0]


@contextlib.contextmanager
def start(model: Path, port: int) -> Iterator[Target]:
    """Serve the purchase bundle `model` on a loopback port."""
    target = Target(f"http://127.0.0.1:{port}{PURCHASE.route}", marker='"purchaseProbability":')
    command = [*module(__name__), model, str(port)]
    log = model.parent / "ray_default_endpoint.log"
    with running(command, target, msgspec.json.encode(PURCHASE.example), log, ray_default.environment()):
        yield target


def deployment(bundle: Path) -> Any:
    """Return the application that answers with the bundle."""
    from fastapi import FastAPI, Request, Response
    from ray import serve

    app = FastAPI()

    @serve.deployment(max_ongoing_requests=100)
    @serve.ingress(app)
    class Scoring:
        def __init__(self) -> None:
            from serving.settings import Settings
            from training.registry import bundle as bundles

            ray_default.keep_local()
            self._scorer = PURCHASE.load(bundles.load(bundle), Settings())
            self._decode = msgspec.json.Decoder(PURCHASE.request).decode
            self._encode = msgspec.json.Encoder().encode

        @app.post(PURCHASE.route)
        async def predict(self, request: Request) -> Response:
            asked = self._decode(await request.body())
            PURCHASE.check(asked)
            answers = self._scorer.run(self._scorer.columns([asked]))
            return Response(self._encode(self._scorer.rows([asked], answers)[0]), media_type="application/json")

    return Scoring.bind()


if __name__ == "__main__":
    os.environ.pop("RAY_ADDRESS", None)
    ray_default.serve_forever(deployment(Path(sys.argv[1])), int(sys.argv[2]))
