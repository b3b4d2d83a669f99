"""MLServer with its XGBoost runtime, called over HTTP with JSON in the Open Inference Protocol.

`mlserver start` on the two settings files that its documentation describes, and the runtime that MLServer ships for XGBoost. Adaptive
batching is on, up to 32 after at most 0.5 ms: without it, as by default, it answers fewer. parallel_workers=0: the default of one worker
process behind a queue makes it several times slower with a model as quick as this. One OpenMP thread, which is the runtime's nthread=1; no
metrics and no access log. It listens on 127.0.0.1 only. Installed as in its documentation: without httptools, which uvicorn would use.
"""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import environments
from benchmarks.servers import Target, free_port, scoring

LABEL = "MLServer"
QUESTION = "model"
REQUIREMENTS = ("mlserver", "mlserver-xgboost")


def body(row: Sequence[float]) -> bytes:
    """Return a request of the Open Inference Protocol."""
    tensor = {"name": "features", "shape": [1, len(row)], "datatype": "FP32", "data": list(row)}
    return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()


@contextlib.contextmanager
def start(model: Path, port: int) -> Iterator[Target]:
    """Serve the model on a loopback port."""
    python = environments.python("mlserver", REQUIREMENTS)
    with tempfile.TemporaryDirectory(prefix="bench-mlserver-") as scratch:
        folder = Path(scratch)
        shutil.copy2(model, folder / "model.ubj")
        (folder / "settings.json").write_text(json.dumps(settings(port)))
        (folder / "model-settings.json").write_text(json.dumps(model_settings(folder / "model.ubj")))
        target = Target(f"http://127.0.0.1:{port}/v2/models/scoring/infer", body, '"data":[')
        command = [python.parent / "mlserver", "start", folder]
        environment = {"OMP_NUM_THREADS": "1"}  # the runtime leaves XGBoost's threads to OpenMP
        with scoring(command, target, model, model.parent / "mlserver.log", environment):
            yield target


def settings(port: int) -> dict[str, object]:
    """Return the server's settings."""
    return {
        "debug": False,  # which is what turns the access log off
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_endpoint": None,
        "parallel_workers": 0,
    }


def model_settings(model: Path) -> dict[str, object]:
    """Return the model's settings."""
    return {
        "name": "scoring",
        "implementation": "mlserver_xgboost.XGBoostModel",
        "max_batch_size": 32,
        "max_batch_time": 0.0005,
        "parameters": {"uri": str(model)},
    }
