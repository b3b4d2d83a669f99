"""The supervisor: what answers is never ended, and what a killed run left behind is."""

import os
import socket
import stat
import sys

import msgspec
import pytest

from serving.errors import SettingsError
from serving.runtime import processes, supervisor
from serving.runtime.supervisor import Record, Supervisor, answers
from serving.settings import ServerSettings, Settings

HTTP_SERVER = """
import http.server
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
print(server.server_port, flush=True)
server.serve_forever()
"""
LISTENER = """
import socket, time
sock = socket.create_server(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)
time.sleep(600)
"""
IDLE = "import time; print(0, flush=True); time.sleep(600)"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def node_id():
    return f"test-supervisor-{os.getpid()}"


@pytest.fixture
def earlier(node_id):
    """Start a program of an earlier run, and return it with the port that it has printed."""
    started = []

    def start(program):
        child = processes.spawn([sys.executable, "-c", program], node_id, output=-1)
        started.append(child)
        return child, int(child.stdout.readline())

    yield start
    for child in started:
        processes.end([child.pid], 0.0)
        child.wait()
        child.stdout.close()


@pytest.fixture
def ended():
    """The identity of a process that has ended."""
    child = processes.spawn(["sleep", "600"], "test-supervisor-ended")
    found = processes.identity(child.pid)
    processes.end([child.pid], 0.0)
    child.wait()
    return found


@pytest.fixture
def later(tmp_path, node_id):
    """A run that finds the record of an earlier one on its port."""

    def begin(port, by, node):
        run = Supervisor(Settings(home=tmp_path, server=ServerSettings(port=port)))
        run._record.parent.mkdir()
        run._record.write_bytes(msgspec.json.encode(Record(by, node, node_id)))
        return run

    return begin


def test_a_run_whose_supervisor_lives_is_refused_and_nothing_of_it_is_ended(earlier, later):
    child, port = earlier(HTTP_SERVER)
    me = processes.identity(os.getpid())
    with pytest.raises(SettingsError, match=rf"127.0.0.1:{port} is served from here already by process {os.getpid()}"):
        later(port, me, processes.identity(child.pid))._clear()
    assert child.poll() is None


@pytest.mark.parametrize("field", ["ticks", "boot"])
def test_a_server_that_answers_is_not_ended_though_its_supervisor_is_not_recognised(earlier, later, monkeypatch, field):
    monkeypatch.setattr(supervisor, "STOP_S", 0.0)
    child, port = earlier(HTTP_SERVER)
    me = processes.identity(os.getpid())
    other = msgspec.structs.replace(me, **{field: me.ticks + 1 if field == "ticks" else "of another boot"})
    with pytest.raises(SettingsError, match=rf"127.0.0.1:{port} still answers.*\(kill {child.pid}\)"):
        later(port, other, processes.identity(child.pid))._clear()
    assert child.poll() is None


@pytest.mark.parametrize("program", [IDLE, LISTENER], ids=["listens nowhere", "listens and does not answer"])
def test_what_a_killed_run_left_and_does_not_answer_is_ended(earlier, later, ended, monkeypatch, program, capsys):
    monkeypatch.setattr(supervisor, "ANSWER_S", 0.2)
    child, port = earlier(program)
    later(port or 1, ended, processes.identity(child.pid))._clear()
    assert processes.identity(child.pid) is None
    assert "ended 1 processes that an earlier run left behind" in capsys.readouterr().out


def test_nothing_is_ended_for_a_record_of_another_boot(earlier, later, ended):
    """The numbers of its processes and of its session are others' by now."""
    child, _ = earlier(IDLE)
    node = msgspec.structs.replace(processes.identity(child.pid), boot="of another boot")
    later(1, msgspec.structs.replace(ended, boot="of another boot"), node)._clear()
    assert child.poll() is None


def test_a_session_that_took_the_number_of_an_earlier_node_is_not_ended(later, ended, node_id):
    stranger = processes.spawn(["sleep", "600"], "test-supervisor-stranger")
    node = processes.identity(stranger.pid)
    later(1, ended, msgspec.structs.replace(node, ticks=node.ticks - 1))._clear()
    assert stranger.poll() is None
    processes.end([stranger.pid], 0.0)
    stranger.wait()


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": 1, "started": 1.5, "node": "x", "session": 1}'], ids=["empty", "half", "older"])
def test_a_record_that_cannot_be_read_ends_nothing(earlier, later, ended, content):
    child, _ = earlier(IDLE)
    run = later(1, ended, processes.identity(child.pid))
    run._record.write_bytes(content)
    run._clear()
    assert child.poll() is None


def test_a_second_run_finds_the_record_that_the_first_wrote(later, ended, node_id):
    run = later(1, ended, ended)
    child = processes.spawn(["sleep", "600"], node_id)
    run._write_record(child.pid)
    assert run._read_record() == Record(processes.identity(os.getpid()), processes.identity(child.pid), run.node_id)
    processes.end([child.pid], 0.0)
    child.wait()


def test_the_folders_of_sockets_and_logs_are_private_even_where_they_were_open(tmp_path, monkeypatch):
    for name in ("run", "logs"):
        (tmp_path / name).mkdir(mode=0o777)
        (tmp_path / name).chmod(0o777)
    run = Supervisor(Settings(home=tmp_path, server=ServerSettings(port=1)))
    monkeypatch.setattr(run, "_start", lambda: processes.spawn(["true"], run.node_id))
    assert run.run() == 0
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("run", "logs")} == {0o700}


def test_silence_and_a_closed_port_are_no_answer():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert not answers("127.0.0.1", port, timeout_s=0.1)
    assert not answers("127.0.0.1", port, timeout_s=0.1)


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost"])
def test_whatever_comes_back_is_an_answer(earlier, host):
    _, port = earlier(HTTP_SERVER)  # which answers 501
    assert answers(host, port)
