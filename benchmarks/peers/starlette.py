"""What many write themselves: one Starlette route on uvicorn that calls `Booster.inplace_predict`, without batching.

uvicorn with uvloop and httptools, one process, no access log, nthread=1: the fastest settings that its documentation names for one worker.
The handler scores on the event loop, since a thread would cost more than the 0.4 ms that a score takes. It listens on 127.0.0.1 only.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.servers import Target, module, scoring

LABEL = "Starlette + inplace_predict"
QUESTION = "model"
REQUIREMENTS = ()


@contextlib.contextmanager
def start(model: Path, port: int) -> Iterator[Target]:
    """Serve the model on a loopback port."""
    target = Target(f"http://127.0.0.1:{port}/score")
    with scoring([*module(__name__), model, str(port)], target, model, model.parent / "starlette.log"):
        yield target


def serve_forever(model: Path, port: int) -> None:
    """Serve the model until SIGTERM."""
    import numpy as np
    import uvicorn
    import xgboost
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    booster = xgboost.Booster({"nthread": 1}, model_file=model)

    async def score(request: Request) -> JSONResponse:
        row = np.array([(await request.json())["features"]], dtype=np.float32)
        return JSONResponse({"probability": float(booster.inplace_predict(row)[0])})

    app = Starlette(routes=[Route("/score", score, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning")


if __name__ == "__main__":
    serve_forever(Path(sys.argv[1]), int(sys.argv[2]))
