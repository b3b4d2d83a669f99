"""NVIDIA Triton: the real `tritonserver` with its python backend and dynamic batching, asked over HTTP with JSON.

The server, the backend and the backend's stub for this Python are those of the nvidia-pytriton wheel; PyTriton itself is not used: its way
through a second process and ZeroMQ would only cost Triton time. The model joins the rows of a batch and calls `inplace_predict` once.
Set here, after Triton's guide to tuning its batcher: a delay of 0.5 ms, with which many callers get the most (without any, a lone caller
waits half as long: start(delay_us=0)), one instance on the CPU, nthread=1. gRPC and metrics are off. It listens on 127.0.0.1 only.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import environments
from benchmarks.servers import ROOT, Target, scoring

LABEL = "NVIDIA Triton"
QUESTION = "model"
REQUIREMENTS = ("nvidia-pytriton", "numpy", "xgboost-cpu")

CONFIG = """
backend: "python"
max_batch_size: 256
input [{ name: "features" data_type: TYPE_FP32 dims: [17] }]
output [{ name: "probability" data_type: TYPE_FP32 dims: [1] }]
instance_group [{ kind: KIND_CPU count: 1 }]
dynamic_batching { max_queue_delay_microseconds: %d }
parameters { key: "file" value { string_value: "%s" } }
"""


class TritonPythonModel:
    """What Triton's python backend loads and calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model."""
        import xgboost

        file = json.loads(args["model_config"])["parameters"]["file"]["string_value"]
        self._booster = xgboost.Booster({"nthread": 1}, model_file=file)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return a response to each request of a batch."""
        import numpy as np
        import triton_python_backend_utils as triton  # the backend's own; in no package

        rows = [triton.get_input_tensor_by_name(request, "features").as_numpy() for request in requests]
        scores = self._booster.inplace_predict(np.concatenate(rows)).reshape(-1, 1)
        parts = np.split(scores, np.cumsum([len(part) for part in rows])[:-1])
        return [triton.InferenceResponse([triton.Tensor("probability", part)]) for part in parts]


def body(row: Sequence[float]) -> bytes:
    """Return a request of KServe's inference protocol, version 2."""
    tensor = {"name": "features", "shape": [1, len(row)], "datatype": "FP32", "data": list(row)}
    return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()


@contextlib.contextmanager
def start(model: Path, port: int, *, delay_us: int = 500) -> Iterator[Target]:
    """Serve the model on a loopback port; a batch that is not full waits `delay_us` for more."""
    python = environments.python("triton", REQUIREMENTS)
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.check_output(asked, text=True).strip())
    with tempfile.TemporaryDirectory(prefix="bench-triton-") as scratch:
        folder = Path(scratch)
        backends = _backends(packages, folder)
        command: list[str | Path] = [
            packages / "pytriton/tritonserver/bin/tritonserver",
            f"--model-repository={_repository(model, folder, delay_us)}",
        ]
        command += [f"--backend-directory={backends}", "--http-address=127.0.0.1", f"--http-port={port}"]
        command += ["--allow-grpc=false", "--allow-metrics=false", "--allow-gpu-metrics=false", "--exit-timeout-secs=3"]
        libraries = [str(packages / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH", "")]
        # The stub ignores PYTHONPATH; its packages are those of the first python3 of PATH.
        environment = {"LD_LIBRARY_PATH": ":".join(filter(None, libraries)), "PATH": f"{python.parent}:{os.environ['PATH']}"}
        target = Target(f"http://127.0.0.1:{port}/v2/models/scoring/infer", body, '"data":[')
        with scoring(command, target, model, model.parent / "triton.log", environment):
            yield target


def _repository(model: Path, folder: Path, delay_us: int) -> Path:
    version = folder / "models" / "scoring" / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(CONFIG % (delay_us, model.resolve()))
    (version / "model.py").write_text(f"import sys\n\nsys.path.append({str(ROOT)!r})\nfrom {__name__} import TritonPythonModel\n")
    return folder / "models"


def _backends(packages: Path, folder: Path) -> Path:
    """Return a folder with the python backend, the stub for this Python beside it as the backend wants it."""
    wheel = packages / "pytriton" / "tritonserver"
    shutil.copytree(wheel / "backends" / "python", folder / "backends" / "python")
    stub = wheel / "python_backend_stubs" / sysconfig.get_python_version() / "triton_python_backend_stub"
    shutil.copy2(stub, folder / "backends" / "python")
    return folder / "backends"
