"""Starts a contestant's server in a process of its own, waits until it answers, and ends every process that came of it."""

import contextlib
import http.client
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from serving import processes
from serving.engines import ENGINES

ROOT = Path(__file__).resolve().parent.parent
PROBE = msgspec.json.encode(ENGINES[0].example)
START_S = 180.0
STOP_S = 40.0
LOG_BYTES = 4_000


@contextlib.contextmanager
def running(module: Sequence[str], environment: Mapping[str, str], url: str, log: Path, probe: bytes = PROBE) -> Iterator[str]:
    """Run `python -m MODULE ARGUMENTS...` and yield `url` once a POST of `probe` to it is answered with 200; RuntimeError if it never is.

    At the end the process gets SIGTERM and time to stop by itself; whatever it has started and left behind is ended after it.
    """
    mark = secrets.token_hex(8)
    # With -m and not as a script: a script's folder comes first in sys.path, where ray_default's neighbours could hide real packages.
    command = [sys.executable, "-m", *module]
    with log.open("wb") as output:
        process = processes.spawn(command, mark, env={**os.environ, **environment}, cwd=ROOT, output=output, die_with_parent=True)
    try:
        _wait_until_answered(process, url, probe, log)
        yield url
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        processes.clear(mark, term_s=3.0)


def _wait_until_answered(process: "subprocess.Popen[bytes]", url: str, probe: bytes, log: Path) -> None:
    end, seen = time.monotonic() + START_S, "no connection"
    while time.monotonic() < end and process.poll() is None:
        try:
            seen = str(_post(url, probe))
        except (OSError, http.client.HTTPException) as error:
            seen = repr(error)
        if seen == "200":
            return
        time.sleep(0.2)
    tail = log.read_bytes()[-LOG_BYTES:].decode(errors="replace")
    raise RuntimeError(f"{' '.join(process.args[-4:])} did not answer {url} with 200 but with {seen}; the end of its log:\n{tail}")


def _post(url: str, body: bytes) -> int:
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=5)
    try:
        connection.request("POST", target.path, body, {"content-type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()
