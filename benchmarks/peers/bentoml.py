"""BentoML: `bentoml serve` of one service with adaptive batching, in one worker.

After its guide to adaptive batching: a batchable endpoint, batches of up to 32; max_latency_ms stays at its minute, since a bound of 20 ms
makes it refuse most requests of 32 connections. One worker, for the load generator has the other core, nthread=1, and neither metrics nor
an access log. A batchable endpoint takes and returns a list of rows; a request here has one. It listens on 127.0.0.1 only. Installed as
in its documentation: without uvloop and httptools, which uvicorn would use if they were there.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import environments
from benchmarks.servers import Target, scoring

LABEL = "BentoML"
QUESTION = "model"
REQUIREMENTS = ("bentoml", "numpy", "xgboost-cpu")


def body(row: Sequence[float]) -> bytes:
    """Return the JSON body of an endpoint whose argument is named rows."""
    return json.dumps({"rows": [list(row)]}, separators=(",", ":")).encode()


@contextlib.contextmanager
def start(model: Path, port: int) -> Iterator[Target]:
    """Serve the model on a loopback port."""
    python = environments.python("bentoml", REQUIREMENTS)
    target = Target(f"http://127.0.0.1:{port}/score", body, "[")
    home = model.parent / "bentoml"
    environment = {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "SCORING_MODEL": str(model)}
    command = [python.parent / "bentoml", "serve", f"{__name__}:service", "--host", "127.0.0.1", "--port", str(port)]
    with scoring(command, target, model, model.parent / "bentoml.log", environment):
        yield target


def __getattr__(name: str) -> Any:
    """Return the service, which BentoML imports from here; anyone else imports this module without BentoML."""
    if name != "service":
        raise AttributeError(name)
    import bentoml
    import numpy as np
    import xgboost

    @bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
    class Scoring:
        def __init__(self) -> None:
            self._booster = xgboost.Booster({"nthread": 1}, model_file=os.environ["SCORING_MODEL"])

        @bentoml.api(batchable=True, max_batch_size=32)
        def score(self, rows: list[list[float]]) -> list[float]:
            return self._booster.inplace_predict(np.array(rows, dtype=np.float32)).tolist()

    return globals().setdefault("service", Scoring)
