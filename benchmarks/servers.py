"""Starts a peer's server, waits until it answers rightly, and ends every process that came of it.

A peer (benchmarks/peers/<name>.py) has a LABEL for the plots, a QUESTION ("endpoint": the whole purchase endpoint; "model": the
bare model, 17 float32 in and one probability out), REQUIREMENTS, the packages that its own environment holds (none: it runs in this one),
and `start(model, port)`, a context in which its server runs and whose value is the Target to send requests to.

Only the standard library is imported at the top: a peer's server imports this module in an environment that has none of ours.
"""

import contextlib
import http.client
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
JSON = MappingProxyType({"content-type": "application/json"})
START_S = 180.0
STOP_S = 40.0
LOG_BYTES = 4_000
CHECKED_ROWS = 8
TOLERANCE = 1e-6


def features(row: Sequence[float]) -> bytes:
    """Return the JSON body of the peers that do not prescribe their own: {"features": [17 numbers]}."""
    return json.dumps({"features": list(row)}, separators=(",", ":")).encode()


class Target(NamedTuple):
    """The URL and bodies to POST, and where the probability is in the reply: it is the number right after `marker`."""

    url: str
    body: Callable[[Sequence[float]], bytes] = features
    marker: str = '"probability":'
    headers: Mapping[str, str] = JSON

    def answer(self, body: bytes) -> float:
        """Return the probability in an answer's body. Raises ValueError when there is none."""
        found = re.search(re.escape(self.marker.encode()) + rb"\s*(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)", body)
        if found is None:
            raise ValueError(f"no number after {self.marker} in {body[:200]!r}")
        return float(found[1])


@contextlib.contextmanager
def scoring(
    command: Sequence[str | Path], target: Target, model: Path, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Target]:
    """Run the server of a bare model and yield its target once its answers are XGBoost's within 1e-6; RuntimeError if they are not."""
    rows, probabilities = _right_answers(model)
    with running(command, target, target.body(rows[0]), log, environment):
        for row, probability in zip(rows, probabilities, strict=True):
            status, body = post(target, target.body(row))
            if status != 200 or abs(target.answer(body) - probability) > TOLERANCE:
                raise RuntimeError(f"{target.url} answered {status} {body[:300]!r} where XGBoost predicts {probability}")
        yield target


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    target: Target,
    probe: bytes,
    log: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> Iterator[Target]:
    """Run a server in `folder` and yield its target once a POST of `probe` to it is answered with 200; else RuntimeError, with its log.

    At the end the process gets SIGTERM and time to stop by itself; whatever it has started and left behind is ended after it.
    """
    from serving.runtime import processes  # not at the top: see there

    mark = secrets.token_hex(8)
    with log.open("wb") as output:
        process = processes.spawn(command, mark, env={**os.environ, **(environment or {})}, cwd=folder, output=output, die_with_parent=True)
    try:
        _wait_until_answered(process, target, probe, log)
        yield target
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        processes.clear(mark, term_s=3.0, session=process.pid)
        process.wait()  # it has been killed by now


def module(name: str, python: Path | None = None) -> list[str | Path]:
    """Return the command that runs a peer's module in an environment's Python, this one's if none is given."""
    # With -m and not as a script: a script's folder comes first in sys.path, where its neighbours could hide the real packages.
    return [python or sys.executable, "-m", name]


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _right_answers(model: Path) -> tuple[list[list[float]], list[float]]:
    import numpy as np
    import xgboost

    booster = xgboost.Booster({"nthread": 1}, model_file=model)
    rows = np.random.default_rng(0).normal(size=(CHECKED_ROWS, booster.num_features())).astype(np.float32)
    return rows.tolist(), booster.inplace_predict(rows).tolist()


def _wait_until_answered(process: "subprocess.Popen[bytes]", target: Target, probe: bytes, log: Path) -> None:
    end, seen = time.monotonic() + START_S, "no connection"
    while time.monotonic() < end and process.poll() is None:
        try:
            status, body = post(target, probe)
        except (OSError, http.client.HTTPException) as error:
            seen = repr(error)
        else:
            if status == 200:
                return
            seen = f"{status} {body[:300]!r}"
        time.sleep(0.2)
    ended = f"it ended with {process.returncode}; " if process.returncode is not None else ""
    tail = log.read_bytes()[-LOG_BYTES:].decode(errors="replace")
    raise RuntimeError(f"{log.stem} did not answer {target.url} with 200 but with {seen}; {ended}the end of its log:\n{tail}")


def post(target: Target, body: bytes) -> tuple[int, bytes]:
    """Return the status and the body of the answer to `body`."""
    url = urlsplit(target.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=5)
    try:
        connection.request("POST", url.path, body, dict(target.headers))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
