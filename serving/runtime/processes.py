"""Child processes of one node on Linux: started in a session of their own, marked, found again and ended.

Every process that a node starts carries `REVENUE_ENGINE_NODE=<id>` in its environment, so that what a SIGKILL left behind can be found by
the next start without a pid file. Some programs overwrite their environment when they set their title (Ray's workers do), so the
descendants of a marked process count as marked too.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

import msgspec
import psutil

MARK = "REVENUE_ENGINE_NODE"
_KILL_S = 5.0
_POLL_S = 0.05
_ROUNDS = 5
_START_FIELD = 22  # of /proc/PID/stat, counted from 1

# A program of its own between fork and exec: preexec_fn would run Python in a fork of a threaded process, which can deadlock.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))
if os.getppid() != int(sys.argv[1]): sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def spawn(
    args: Sequence[str | Path],
    node_id: str,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: int | IO[bytes] | None = None,
    die_with_parent: bool = False,
) -> subprocess.Popen[bytes]:
    """Start `args` in a session of its own with the mark of `node_id` and return it; `output` takes both stdout and stderr.

    `env` defaults to this process's. `die_with_parent` has the kernel send SIGTERM when the starting thread ends (PR_SET_PDEATHSIG goes by
    thread), so it is refused outside the main thread.
    """
    command = [os.fspath(arg) for arg in args]
    if die_with_parent:
        if threading.current_thread() is not threading.main_thread():
            raise ValueError(f"die_with_parent goes by the starting thread: start {command[0]} from the main thread, or without it")
        command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
    marked_env = {**(os.environ if env is None else env), MARK: node_id}
    stderr = None if output is None else subprocess.STDOUT
    return subprocess.Popen(
        command, env=marked_env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=stderr, start_new_session=True
    )


class ProcessIdentity(msgspec.Struct, frozen=True):
    """One process of this machine, distinct from every later one with the same pid, whatever the clock is set to meanwhile.

    ticks: clock ticks between the boot and its start. boot: the id of that boot.
    """

    pid: int
    ticks: int
    boot: str


def identity(pid: int) -> ProcessIdentity | None:
    """Return the identity of the running process `pid`, None when there is none; a zombie has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name of the program, field 2, is in parentheses and may contain anything, so fields are counted from its end.
    state, *fields = stat[stat.rindex(b")") + 2 :].split()
    return None if state in b"ZX" else ProcessIdentity(pid, int(fields[_START_FIELD - 4]), boot_id())


@cache
def boot_id() -> str:
    """Return the id that the kernel has drawn for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def alive(process: ProcessIdentity) -> bool:
    """Return whether this very process still runs."""
    return identity(process.pid) == process


def session_of(leader: ProcessIdentity) -> int | None:
    """Return the session that this process leads or has led, None where another has its number by now.

    The kernel gives the number of a session with members to no new process; so without a process of that number they are this leader's.
    """
    if leader.boot != boot_id():
        return None
    now = identity(leader.pid)
    return leader.pid if now is None or now == leader else None


def marked(node_id: str, session: int | None = None) -> list[int]:
    """Return the pids, ascending, of this user's processes with the mark of `node_id` and of their descendants, without this process.

    `session`: the node's own session. Its members count too: those who lost both their environment and their parents are found by it.
    """
    wanted = f"{MARK}={node_id}".encode()
    parents = {p.pid: p.info["ppid"] for p in psutil.process_iter(["ppid"]) if p.pid != os.getpid() and _own(p.pid)}
    found = {pid for pid in parents if wanted in _environ(pid) or (session is not None and _session(pid) == session)}
    young = found
    while young:
        young = {pid for pid, parent in parents.items() if parent in young} - found
        found = found | young
    return sorted(found)


def end(pids: Iterable[int], term_s: float) -> list[int]:
    """Send SIGTERM, wait up to `term_s` seconds, send SIGKILL to the rest; return the pids that are there even then (none, as a rule)."""
    running = [p for p in map(_process, pids) if p is not None]
    for stop, wait_s in ((psutil.Process.terminate, term_s), (psutil.Process.kill, _KILL_S)):
        for process in running:
            try:
                stop(process)
            except psutil.Error:
                continue
        running = _wait(running, wait_s)
    return [p.pid for p in running]


def clear(node_id: str, term_s: float, session: int | None = None) -> list[int]:
    """End every process marked with `node_id` or in its `session`, and those that replace them meanwhile; return the pids ended."""
    ended: set[int] = set()
    for _ in range(_ROUNDS):
        pids = marked(node_id, session)
        if not pids:
            break
        ended.update(set(pids) - set(end(pids, term_s)))
    return sorted(ended)


def _wait(running: list[psutil.Process], wait_s: float) -> list[psutil.Process]:
    """Return those that still run after `wait_s` seconds; polled, because an orphan's zombie may stay for ever."""
    deadline = time.monotonic() + wait_s
    while running and (left_s := deadline - time.monotonic()) > 0:
        _, there = psutil.wait_procs(running, timeout=min(left_s, _POLL_S))
        running = [process for process in there if not _dead(process)]
    return [process for process in running if not _dead(process)]


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _dead(process: psutil.Process) -> bool:
    """Return whether it has ended; a zombie has, and only its parent can remove it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def _own(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid()
    except OSError:
        return False


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
