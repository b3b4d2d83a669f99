"""The folder in which the replicas of a cluster's node add up their metrics: one for each node, kept while a replica lives."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from serving.metrics import node_folder
from serving.runtime.isolation import folders

ROOT = Path(__file__).parents[3]
REPLICA = """
import sys
from serving.metrics import node_folder
node_folder.use(sys.argv[1])
import os
print(os.environ["PROMETHEUS_MULTIPROC_DIR"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """The folder of this user among the temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return folders.temporary()


@pytest.fixture
def replica(tmp_path):
    """Start a replica of a node, and return it with its folder of metrics; all are ended after the test."""
    started = []

    def start(node):
        environment = {name: value for name, value in os.environ.items() if name != node_folder.VARIABLE} | {"TMPDIR": str(tmp_path)}
        command = [sys.executable, "-c", REPLICA, node]
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(child)
        return child, Path(child.stdout.readline().strip())

    yield start
    for child in started:
        child.kill()
        child.communicate()


def test_replicas_of_a_node_have_one_private_folder_and_those_of_another_node_another(shared, replica):
    (_, one), (_, same), (_, other) = replica("node-1"), replica("node-1"), replica("node-2")
    assert one == same != other
    assert {one, other} == set(shared.glob("metrics-*"))
    assert stat.S_IMODE(one.stat().st_mode) == 0o700


def test_the_counters_of_a_replica_that_has_ended_stay_while_another_one_lives(replica):
    (first, folder), _ = replica("node-1"), replica("node-1")
    (folder / "counter_1.db").write_bytes(b"counted")
    first.kill()
    first.wait()
    replica("node-1")
    assert (folder / "counter_1.db").read_bytes() == b"counted"


def test_the_folder_of_a_node_without_a_living_replica_is_removed_and_no_other(replica):
    (gone, left), (_, kept) = replica("node-1"), replica("node-2")
    gone.kill()
    gone.wait()
    replica("node-3")
    assert not left.exists()
    assert kept.exists()


def test_a_folder_that_the_environment_names_is_used_as_it_is(shared, monkeypatch):
    monkeypatch.setenv(node_folder.VARIABLE, "/elsewhere")
    node_folder.use("node-1")
    assert os.environ[node_folder.VARIABLE] == "/elsewhere"
    assert list(shared.iterdir()) == []
