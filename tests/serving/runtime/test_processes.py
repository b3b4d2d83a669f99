"""Child processes: every one is found again by its mark, and every one can be ended."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from serving.runtime import processes

Start = Callable[..., "subprocess.Popen[bytes]"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def node() -> str:
    return f"test-processes-{os.getpid()}"


@pytest.fixture
def start(node: str) -> Iterator[Start]:
    """Start a shell script with the mark of `node` and return it when it has written its first line; all are ended after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def shell(script: str, node_id: str = node) -> "subprocess.Popen[bytes]":
        child = processes.spawn(["sh", "-c", script], node_id, output=subprocess.PIPE)
        started.append(child)
        assert child.stdout is not None
        child.first = child.stdout.readline().decode().strip()  # type: ignore[attr-defined]  # for the test to read
        return child

    yield shell
    for child in started:
        processes.end(processes.marked(node, child.pid), 0.0)
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def test_a_child_has_a_session_of_its_own_and_is_found_by_its_mark_alone(start: Start, node: str) -> None:
    child, other = start("echo up; exec sleep 60"), start("echo up; exec sleep 60", f"{node}0")
    assert os.getsid(child.pid) == child.pid != os.getsid(0)
    assert processes.marked(node) == [child.pid]
    assert processes.marked(f"{node}0") == [other.pid]
    assert processes.marked(node[:-1]) == []


def test_the_calling_process_is_not_found_even_when_marked(node: str) -> None:
    script = f"from serving.runtime import processes; print(processes.marked({node!r}))"
    child = processes.spawn([sys.executable, "-c", script], node, cwd=Path(__file__).parents[3], output=subprocess.PIPE)
    assert child.communicate()[0].strip() == b"[]"


def test_descendants_that_wiped_their_environment_are_found_too(start: Start, node: str) -> None:
    """Ray's workers set their title over their environment, mark included."""
    child = start("env -i sh -c 'sleep 60 & echo up; exec sleep 60' & wait")
    found = processes.marked(node)
    assert found == sorted(p.pid for p in _tree(child.pid))
    assert len(found) >= 3
    bare = [pid for pid in found if b"REVENUE_ENGINE_NODE" not in Path(f"/proc/{pid}/environ").read_bytes()]
    assert bare


def test_an_orphan_without_environment_is_found_by_the_session(start: Start, node: str) -> None:
    child = start("(env -i sleep 60 & echo $!); exec sleep 60")
    orphan = int(child.first)  # type: ignore[attr-defined]  # see start
    assert processes.end([child.pid], 5.0) == []
    assert processes.marked(node) == []
    assert orphan in processes.marked(node, session=child.pid)
    assert orphan in processes.clear(node, 5.0, session=child.pid)


def test_the_environment_is_handed_on_with_the_mark(start: Start, node: str) -> None:
    child = processes.spawn(["sh", "-c", 'echo "$REVENUE_ENGINE_NODE $GIVEN $HOME"'], node, env={"GIVEN": "yes"}, output=subprocess.PIPE)
    assert child.communicate()[0].split() == [node.encode(), b"yes"]


def test_a_process_that_handles_sigterm_can_clean_up(start: Start, tmp_path: Path) -> None:
    child = start(f"trap 'echo clean > {tmp_path}/left; exit' TERM; echo up; while :; do sleep 0.01; done")
    assert processes.end([child.pid], 30.0) == []
    assert (tmp_path / "left").read_text() == "clean\n"


def test_a_process_that_ignores_sigterm_is_killed(start: Start) -> None:
    child = start("trap '' TERM; echo up; while :; do sleep 0.1; done")
    found = processes.identity(child.pid)
    assert found is not None
    assert processes.alive(found)
    assert processes.end([child.pid], 0.05) == []
    assert not processes.alive(found)


def test_ending_what_is_not_there_is_done_already(start: Start) -> None:
    child = start("echo up")
    child.wait()
    assert processes.end([child.pid, 2**22 - 1], 5.0) == []
    assert processes.end([], 5.0) == []


def test_a_zombie_that_is_never_reaped_counts_as_ended(start: Start) -> None:
    child = start("sh -c 'exit 0' & echo $!; exec sleep 60")
    zombie = int(child.first)  # type: ignore[attr-defined]  # see start
    process = psutil.Process(zombie)
    while process.status() != psutil.STATUS_ZOMBIE:
        os.sched_yield()
    assert processes.identity(zombie) is None
    assert processes.end([zombie], 0.0) == []


def test_alive_distinguishes_a_process_from_a_later_one_with_the_same_pid_and_from_one_of_another_boot() -> None:
    me = processes.identity(os.getpid())
    assert me is not None
    assert processes.alive(me)
    assert not processes.alive(msgspec.structs.replace(me, ticks=me.ticks - 1))
    assert not processes.alive(msgspec.structs.replace(me, boot="of another boot"))
    assert not processes.alive(msgspec.structs.replace(me, pid=2**22 - 1))


def test_a_process_is_recognised_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of a process in seconds since 1970 is the boot's, which moves with the clock, and the ticks since then, which do not."""
    me = processes.identity(os.getpid())
    now, boot = time.time(), psutil.boot_time()
    monkeypatch.setattr(time, "time", lambda: now + 3600.0)
    monkeypatch.setattr(psutil, "boot_time", lambda: boot + 3600.0)
    assert me is not None
    assert processes.alive(me)
    assert processes.identity(os.getpid()) == me


def test_a_name_of_a_program_with_parentheses_and_blanks_does_not_shift_the_fields(tmp_path: Path, node: str) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to(shutil.which("sleep") or "/bin/sleep")
    child = processes.spawn([program, "60"], node)
    while psutil.Process(child.pid).name() != program.name:  # it is still on its way there
        os.sched_yield()
    found = processes.identity(child.pid)
    assert processes.end([child.pid], 0.0) == []
    child.wait()
    me = processes.identity(os.getpid())
    assert found is not None
    assert me is not None
    assert me.ticks <= found.ticks <= time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")


def test_the_session_of_a_leader_is_its_own_until_another_process_has_its_number(start: Start) -> None:
    child = start("(env -i sleep 60 & echo $!); exec sleep 60")
    leader = processes.identity(child.pid)
    assert leader is not None
    assert processes.session_of(leader) == child.pid
    assert processes.session_of(msgspec.structs.replace(leader, ticks=leader.ticks - 1)) is None
    assert processes.session_of(msgspec.structs.replace(leader, boot="of another boot")) is None
    assert processes.end([child.pid], 5.0) == []
    assert processes.session_of(leader) == child.pid


def test_clear_leaves_nothing_even_where_a_parent_replaces_its_children(start: Start, node: str) -> None:
    child = start("trap '' TERM; echo up; while :; do sh -c 'sleep 60; exit 0'; done")
    assert child.pid in processes.clear(node, 0.05)
    assert processes.marked(node) == []


def test_a_child_that_is_to_die_with_its_parent_does_though_the_parent_is_killed(node: str) -> None:
    script = f"""
from serving.runtime import processes
child = processes.spawn(["sleep", "60"], {node!r}, die_with_parent=True)
print(child.pid, flush=True)
child.wait()
"""
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[3], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    while child.name() != "sleep":  # it is still on its way there
        os.sched_yield()
    parent.kill()
    parent.communicate()
    _, left = psutil.wait_procs([child], timeout=30.0)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in left)
    assert processes.clear(node, 0.0) == []


def test_dying_with_the_parent_is_refused_where_it_would_mean_dying_with_a_thread(node: str) -> None:
    refused: list[ValueError] = []

    def elsewhere() -> None:
        try:
            processes.spawn(["sleep", "60"], node, die_with_parent=True)
        except ValueError as error:
            refused.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "main thread" in str(refused[0])
    assert processes.marked(node) == []
