"""The bare model on what `revenue-engine serve` is made of: its listener, its batcher and its forest kernel, behind a minimal route.

The request is validated (exactly 17 numbers), has a deadline and is refused when it cannot be met, as on the purchase endpoint; there is no
feature, factor, action or cache. It listens on 127.0.0.1 only.
"""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import uvloop

from benchmarks.peers.noop import JSON_LINE, answer_forever, nothing
from benchmarks.servers import Target, module, scoring
from kernels.trees.forest import Forest
from serving.errors import MalformedRequestError
from serving.ingress.http.headers import Headers
from serving.ingress.http.response import Response
from serving.ingress.http.routes import Cancel, Reply, refuse
from serving.scoring.batcher import Batcher, Scored, Stages

LABEL = "revenue-engine, bare model"
QUESTION = "model"
REQUIREMENTS = ()

DEADLINE_S = 1.0
COLUMNS = 17

Row = Annotated[list[float], msgspec.Meta(min_length=COLUMNS, max_length=COLUMNS)]


class Request(msgspec.Struct, gc=False):
    """What is asked."""

    features: Row


@contextlib.contextmanager
def start(model: Path, port: int) -> Iterator[Target]:
    """Serve the model on a loopback port."""
    target = Target(f"http://127.0.0.1:{port}/score")
    with scoring([*module(__name__), model, str(port)], target, model, model.parent / "ours_model.log"):
        yield target


class Scoring:
    """The hot route: `begin` puts a row into the queue, the batcher has `score` called with what waits there."""

    def __init__(self, forest: Forest) -> None:
        self._predict = forest.predict
        self._decode = msgspec.json.Decoder(Request).decode
        self._batcher = Batcher(self.score, ThreadPoolExecutor(1), max_queued=1_000, max_batch=256)

    def begin(self, headers: Headers, body: bytes, reply: Reply, unread_s: float) -> Cancel:
        """Begin to answer."""

        def done(outcome: Scored | Exception) -> None:
            reply(refuse(headers, outcome) if isinstance(outcome, Exception) else Response(200, JSON_LINE, outcome.body))

        try:
            return self._batcher.put(self._decode(body).features, time.monotonic() + DEADLINE_S, done).cancel
        except msgspec.MsgspecError as error:
            done(MalformedRequestError(str(error)))
        except Exception as error:  # too many wait
            done(error)
        return nothing

    def score(self, rows: Sequence[list[float]], without_explanations: bool) -> Stages:
        """Return the encoded answers to a batch."""
        probabilities: Any = self._predict(np.array(rows, np.float32))
        return Stages([b'{"probability":%r}' % probability for probability in probabilities.tolist()], 0.0, 0.0, 0.0)


def serve_forever(model: Path, port: int) -> None:
    """Serve the model until SIGTERM."""
    import xgboost

    forest = Forest.from_booster(xgboost.Booster({"nthread": 1}, model_file=model))
    forest.tune()
    uvloop.run(answer_forever(Scoring(forest).begin, port))


if __name__ == "__main__":
    serve_forever(Path(sys.argv[1]), int(sys.argv[2]))
