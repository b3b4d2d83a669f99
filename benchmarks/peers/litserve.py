"""LitServe: one worker on the CPU with batching, as its documentation sets it.

Batches of up to 32 after at most 0.5 ms, one worker and one API server, since the load generator shares the two cores (more of either were
slower), nthread=1. The fast queue that it offers for high rates changed nothing here and stays off. It listens on 127.0.0.1 only.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import environments
from benchmarks.servers import Target, module, scoring

LABEL = "LitServe"
QUESTION = "model"
REQUIREMENTS = ("litserve", "numpy", "xgboost-cpu")


@contextlib.contextmanager
def start(model: Path, port: int) -> Iterator[Target]:
    """Serve the model on a loopback port."""
    python = environments.python("litserve", REQUIREMENTS)
    target = Target(f"http://127.0.0.1:{port}/predict")
    with scoring([*module(__name__, python), model, str(port)], target, model, model.parent / "litserve.log"):
        yield target


if __name__ in {"__main__", "__mp_main__"}:  # the server and its worker, in the environment that has LitServe
    import litserve
    import numpy as np
    import xgboost

    MODEL, PORT = Path(sys.argv[1]), int(sys.argv[2])

    class Scoring(litserve.LitAPI):
        """What the worker runs."""

        def setup(self, device: str) -> None:
            """Load the model."""
            self._booster = xgboost.Booster({"nthread": 1}, model_file=MODEL)

        def decode_request(self, request: dict[str, Any]) -> list[float]:
            """Return the row of a request."""
            return request["features"]

        def batch(self, inputs: list[list[float]]) -> Any:
            """Return the rows of several requests as one array."""
            return np.array(inputs, dtype=np.float32)

        def predict(self, inputs: Any) -> Any:
            """Return the probabilities of a batch."""
            return self._booster.inplace_predict(inputs)

        def unbatch(self, output: Any) -> list[float]:
            """Return the probability of each request."""
            return output.tolist()

        def encode_response(self, output: float) -> dict[str, float]:
            """Return the answer to a request."""
            return {"probability": output}


if __name__ == "__main__":
    server = litserve.LitServer(Scoring(max_batch_size=32, batch_timeout=0.0005), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=PORT, num_api_servers=1, log_level="warning", generate_client_file=False)
