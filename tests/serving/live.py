"""A real server in a process of its own, and callers that count its answers."""

import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec
import psutil

from serving.engines import ENGINES
from serving.runtime.node import run_path

_runs = itertools.count()
START_S = 120
STOP_S = 40
PURCHASE = ENGINES[0]


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Live:
    """`revenue-engine serve` with its own home, in its own process group, as a shell would start it."""

    def __init__(self, home, registry, *arguments, port=None):
        self.port = port or free_port()
        self.log = Path(home) / f"serve-{next(_runs)}.log"
        self.home, self.registry = home, registry
        environment = {
            **os.environ,
            "REVENUE_ENGINE_HOME": str(home),
            "REVENUE_ENGINE_MODELS__REGISTRY": str(registry),
        }
        command = [sys.executable, "-m", "serving.cli", "serve", "--port", str(self.port), *arguments]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, process_group=0)

    def wait_ready(self, printed=True):
        """Wait until the server is ready; `printed`: and has printed so, which it does once every replica accepts requests."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                if self.get("/health/ready")[0] == 200 and (not printed or "ready in" in self.log.read_text()):
                    return self
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"the server did not become ready:\n{self.log.read_text()}")

    def get(self, path, headers=None):
        return self.request("GET", path, None, headers or {})

    def post(self, body, headers=None):
        return self.request("POST", PURCHASE.route, msgspec.json.encode(body), {"content-type": "application/json", **(headers or {})})

    def request(self, method, path, body, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            connection.close()

    def metric(self, name):
        """Return the sum of a metric over all its labels, 0 when it is not there."""
        text = self.get("/metrics")[2].decode()
        lines = [line for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def family(self):
        """Return the server's process and its descendants."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def replicas(self):
        return [p for p in self.family() if "ServeReplica:revenue-engine" in _words(p)]

    def pools(self):
        """Return the processes of the pools."""
        return [p for p in self.family() if "ServeReplica" in _words(p) and "ServeReplica:revenue-engine" not in _words(p)]

    def preparers(self):
        return [p for p in self.family() if "ModelPreparer" in _words(p)]

    def run_folder(self):
        """Return the node's folder of sockets."""
        record = json.loads((Path(self.home) / "run" / f"127.0.0.1-{self.port}.json").read_text())
        return run_path(record["node_id"])

    def kill_loader(self):
        """Wait until a process loads a model for a trial, and kill it meanwhile."""
        trial = self.run_folder() / "trial.json"
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            try:
                pid = json.loads(trial.read_bytes())["process"]["pid"]
            except OSError:
                continue
            os.kill(pid, signal.SIGKILL)
            return
        raise AssertionError(f"no model was loaded:\n{self.replica_log()}")

    def replica_log(self):
        """Return the log of the replicas."""
        return (Path(self.home) / "logs" / "replica.log").read_text()

    def answered_by(self):
        """Return the version of the live model."""
        return json.loads(self.post(PURCHASE.example, {"cache-control": "no-cache"})[2])["modelVersion"]

    def stop(self, number=signal.SIGTERM, group=False):
        """Send the signal and return the exit code; a server that does not end fails the test with its log."""
        family = self.family()
        if self.process.poll() is None:
            (os.killpg if group else os.kill)(self.process.pid, number)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the server did not end:\n{self.log.read_text()}") from None
        _, left = psutil.wait_procs(family, timeout=1)
        self.left = [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        return code


class Callers:
    """Threads that send requests without pause: half over keep-alive connections, half over new ones. `with` starts and ends them."""

    def __init__(self, port, body=None, threads=4, retries=0):
        self.port = port
        self.retries = retries
        self.body = msgspec.json.encode(body or PURCHASE.example)
        self.counts = Counter()
        self.failures = []
        self.versions = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i % 2 == 0,), daemon=True) for i in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for(self, answers):
        """Wait until that many more answers have arrived."""
        goal = self.counts["answered"] + answers
        end = time.monotonic() + 60
        while self.counts["answered"] < goal:
            assert time.monotonic() < end, f"only {self.counts} arrived; {self.failures[:3]}"
            time.sleep(0.02)

    def _run(self, keep):
        connection = self._send_requests(keep)
        if connection is not None:
            connection.close()

    def _send_requests(self, keep):
        connection = None
        while not self._stop.is_set():
            for attempt in range(self.retries + 1):
                try:
                    if connection is None:
                        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                    headers = {"content-type": "application/json", "cache-control": "no-cache", "x-request-timeout-ms": "20000"}
                    connection.request("POST", PURCHASE.route, self.body, headers)
                    reply = connection.getresponse()
                    text = reply.read()
                    if reply.will_close or not keep:
                        connection.close()
                        connection = None
                    if reply.status != 200:
                        raise AssertionError(f"{reply.status} {text[:200]!r}")
                    self.versions[json.loads(text)["modelVersion"]] += 1
                    self.counts["answered"] += 1
                    break
                except (OSError, http.client.HTTPException, AssertionError) as error:
                    if connection is not None:
                        connection.close()
                    connection = None
                    if attempt == self.retries:
                        self.counts["failed"] += 1
                        self.failures.append(repr(error))
        return connection


def _words(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it ended meanwhile
        return ""
