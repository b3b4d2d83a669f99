"""A Ray cluster that others have started, of this one machine: `ray start --head`, then `serve deploy`."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import psutil
import pytest
import yaml

from serving.engines import ENGINES, named
from serving.runtime import processes, ray_cluster
from tests.serving.live import free_port
from training.registry.registry import Registry

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
REPLICAS = 2
START_S = 300


class Cluster:
    """A head node on the loopback interface with a token, as `ray start` makes one, and an application deployed there."""

    def __init__(self, folder, home, registry):
        self.folder, self.port, self._dashboard = folder, free_port(), free_port()
        document = yaml.safe_load((ROOT / "configs" / "serve.yaml").read_text())
        arguments = document["applications"][0]["args"]
        arguments["server"] |= {"port": self.port, "replicas": REPLICAS}
        arguments["models"]["registry"] = str(registry)
        arguments["home"] = str(home)
        document["http_options"]["port"] = free_port()
        self.config = home / "serve.yaml"
        self.config.write_text(yaml.safe_dump(document))
        own = {"TMPDIR": str(folder), "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
        dropped = ("RAY_AUTH_MODE", "PROMETHEUS_MULTIPROC_DIR", "RAY_ADDRESS")
        self.environment = {name: value for name, value in os.environ.items() if name not in dropped} | own

    def start(self):
        """Start the head node."""
        ports = ["--port", free_port(), "--dashboard-port", self._dashboard, "--dashboard-agent-listen-port", free_port()]
        options = ["--head", "--node-ip-address", "127.0.0.1", "--temp-dir", self.folder / "ray", "--num-cpus", REPLICAS]
        done = self.run("ray", "start", *options, *ports, "--object-store-memory", 80 * 2**20)
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, program, *arguments, **variables):
        """Run a program of Ray and return it."""
        command = [BIN / program, *map(str, arguments)]
        environment = self.environment | variables
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    def deploy(self, **variables):
        """Run `serve deploy`."""
        return self.run("serve", "deploy", "--address", f"http://127.0.0.1:{self._dashboard}", self.config, **variables)

    def status(self):
        """Return what `serve status` prints."""
        return self.run("serve", "status", "--address", f"http://127.0.0.1:{self._dashboard}", RAY_AUTH_MODE="token").stdout

    def request(self, path, body=None):
        """Return the status and the body of an answer, over a new connection."""
        headers = {"content-type": "application/json", "x-request-timeout-ms": "20000"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def wait_ready(self):
        """Wait until both replicas answer."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            try:
                if self.request("/health/ready")[0] == 200 and self.metric("revenue_engine_replicas") == REPLICAS:
                    return self
            except OSError:
                pass
            time.sleep(0.5)
        raise AssertionError(f"the application did not become ready:\n{self.status()}")

    def metric(self, name):
        """Return the sum of a metric over all its labels."""
        lines = self.request("/metrics")[1].decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def stop(self):
        """End every process of this cluster: each has its files open in the cluster's folder, or is a child of one that has."""
        for _ in range(5):
            users = ray_cluster._users(self.folder)
            children = [child.pid for pid in users if psutil.pid_exists(pid) for child in psutil.Process(pid).children(recursive=True)]
            if not users:
                break
            processes.end([*users, *children], 1.0)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, bundle_of):
    folder = Path(tempfile.mkdtemp(prefix="re-", dir="/tmp"))  # Ray's sockets are in it, whose paths have at most 107 bytes
    home = tmp_path_factory.mktemp("cluster")
    for task in ("purchase", "value", "pricing", "emotion"):
        Registry(str(home / "models"), home / "fetched").add(bundle_of(task).path, alias="champion")
    cluster = Cluster(folder, home, home / "models")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def deployed(cluster):
    done = cluster.deploy(RAY_AUTH_MODE="token")
    assert done.returncode == 0, done.stdout + done.stderr
    return cluster.wait_ready()


def test_a_deployment_without_the_token_mode_is_refused_by_ray_as_the_documentation_says(cluster):
    """`ray start` switches on tokens for its cluster, and leaves the commands that talk to it without."""
    done = cluster.deploy(RAY_AUTH_MODE="disabled")
    assert done.returncode != 0
    assert "AuthenticationError" in done.stderr
    page = (ROOT / "docs" / "run" / "ray.md").read_text()
    assert "AuthenticationError" in page
    assert "export RAY_AUTH_MODE=token" in page


def test_with_it_every_replica_answers_on_the_port_of_the_settings(deployed):
    status, body = deployed.request(ENGINES[0].route, msgspec.json.encode(ENGINES[0].example))
    assert status == 200
    assert 0 < json.loads(body)["purchaseProbability"] < 1


def test_counters_are_sums_of_all_replicas_and_never_go_back(deployed):
    seen = []
    for _ in range(40):  # a new connection each: both replicas take some
        deployed.request(ENGINES[0].route, msgspec.json.encode(ENGINES[0].example))
        seen.append(deployed.metric("revenue_engine_requests_total"))
    assert seen == sorted(seen)
    end = time.monotonic() + 30
    while deployed.metric("revenue_engine_requests_total") < 41:  # a replica writes its numbers ten times a second
        assert time.monotonic() < end
    assert deployed.metric("revenue_engine_requests_total") == 41
    assert deployed.metric("revenue_engine_replicas") == REPLICAS


def test_a_customer_by_name_is_refused_with_the_setting_that_is_missing(deployed):
    status, body = deployed.request(named("value").route, b'{"customerId":"c-1"}')
    assert status == 422
    assert "features.redis_url" in body.decode()
    log = (deployed.config.parent / "logs" / "replica.log").read_text()
    assert "features.redis_url is not set" in log


def test_what_the_replicas_share_is_private_to_their_user(deployed):
    shared = deployed.folder / f"revenue-engine-{os.geteuid()}"
    assert shared.stat().st_mode & 0o777 == 0o700
    assert (shared / f"broker-{deployed.port}.sock").is_socket()
    assert len(list(shared.glob("metrics-*"))) == 1
