"""Calls the load generator, and reads meanwhile what the servers cost: CPU seconds, memory, and what other programs took of the machine."""

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil

from benchmarks.machine import ROOT

QUIET_CORES = 0.1  # what other programs may use without a remark
MAX_S = 600.0  # of any run

Report = dict[str, Any]

_began = time.monotonic()


class WrongAnswerError(RuntimeError):
    """A server gave another number than the right one: whatever was measured is worth nothing."""


class FailedError(RuntimeError):
    """A server refused or lost requests where it should not."""


def log(what: str) -> None:
    """Report progress."""
    print(f"[{time.monotonic() - _began:4.0f} s] {what}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Questions:
    """What is sent to one server and what must come back, as files that the load generator reads."""

    url: str
    bodies: Path
    expected: Path | None
    marker: str
    headers: Mapping[str, str]
    items: int = 1  # scores in one request

    @classmethod
    @contextlib.contextmanager
    def written(
        cls,
        url: str,
        bodies: Sequence[bytes],
        expected: Sequence[Sequence[float]] | None,
        marker: str = '"purchaseProbability":',
        headers: Mapping[str, str] | None = None,
    ) -> Iterator["Questions"]:
        """Write the files, and remove them in the end. `expected` None: nothing is checked."""
        with tempfile.TemporaryDirectory(prefix="bench-questions-") as folder:
            files = Path(folder) / "bodies", Path(folder) / "expected"
            files[0].write_bytes(b"\n".join(bodies))
            if expected is not None:
                files[1].write_text("\n".join(" ".join(map(repr, numbers)) for numbers in expected))
            others = {name: value for name, value in (headers or {}).items() if name.lower() != "content-type"}
            yield cls(url, files[0], files[1] if expected is not None else None, marker, others, len(expected[0]) if expected else 1)


def load(questions: Questions, *arguments: object, core: int | None = None) -> Report:
    """Return the load generator's report. `core`: the only one that it may use. Raises WrongAnswerError."""
    with loading(questions, *arguments, core=core) as process:
        return report_of(process, questions.url)


@contextlib.contextmanager
def loading(
    questions: Questions, *arguments: object, core: int | None = None, low_priority: bool = False
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the load generator meanwhile; it is ended where nobody waits for its report. `low_priority`: it uses what others leave."""
    before = ("chrt", "--idle", "0") if low_priority else ()
    command: list[object] = [*before, sys.executable, "-m", "benchmarks.load", "--url", questions.url]
    command += ["--body", questions.bodies, "--marker", questions.marker]
    if questions.expected is not None:
        command += ["--expected", questions.expected]
    for name, value in questions.headers.items():
        command += ["--header", f"{name}: {value}"]
    if core is not None:
        command += ["--core", core]
    with subprocess.Popen(list(map(str, [*command, *arguments])), stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def report_of(process: "subprocess.Popen[bytes]", url: str) -> Report:
    """Return the report of a load generator once it has ended. Raises WrongAnswerError."""
    printed, _ = process.communicate(timeout=MAX_S)
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    report: Report = json.loads(printed)
    if wrong := report["errors"].get("wrong answer"):
        raise WrongAnswerError(f"{url} gave {wrong} wrong answers; nothing is recorded")
    return report


def metrics(url: str) -> dict[str, float]:
    """Return the server's metrics: of each series, the sum over its labels, and of each series with its labels the value."""
    page = urlsplit(url)
    with urlopen(f"{page.scheme}://{page.netloc}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[str, float] = {}
    for name, value in (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#")):
        found[name] = float(value)
        if "{" in name:
            bare = name.partition("{")[0]
            found[bare] = found.get(bare, 0.0) + float(value)
    return found


def without_errors(report: Report, url: str) -> Report:
    """Return the report of a run in which nothing went wrong. Raises FailedError for any other."""
    if report["errors"] or not report["requests"]:
        raise FailedError(f"{url} gave {report['requests']:,} right answers and these errors: {report['errors']}")
    return report


class Servers:
    """Every process that we have started and that is there now, with its children."""

    def __init__(self) -> None:
        self._processes = psutil.Process().children(recursive=True)

    def cpu_s(self) -> float:
        """Return the CPU seconds that they have used in all."""
        total = 0.0
        for process in self._processes:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def rss_mib(self) -> float:
        """Return their resident memory in MiB, pages that several of them share counted for each."""
        total = 0
        for process in self._processes:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return round(total / 2**20, 1)


def load_with_costs(questions: Questions, *arguments: object) -> Report:
    """Return the report of a run with what it cost: the server's CPU seconds for 1,000 scores, its memory, the cores that others used."""
    servers = Servers()
    began, busy_s, server_s, load_s = time.monotonic(), _busy_s(), servers.cpu_s(), _children_s()
    report = load(questions, *arguments)
    server_s = servers.cpu_s() - server_s
    others_s = _busy_s() - busy_s - server_s - (_children_s() - load_s)
    others = round(max(0.0, others_s) / (time.monotonic() - began), 2)
    if others > QUIET_CORES:
        log(f"other programs used {others:.2f} cores meanwhile; a figure to show needs a quiet machine")
    thousands = max(1, report["requests"]) * questions.items / 1000
    costs = {"server_cpu_s_per_1000": round(server_s / thousands, 4), "rss_mib": servers.rss_mib(), "others_cores": others}
    return {**report, **costs}


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Let this process, and so whatever it starts meanwhile, use one core only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def two_cores() -> tuple[int, int]:
    """Return the core for the server and the one for the load. Raises RuntimeError on a machine that has but one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise RuntimeError("server and load need a core each, and this process may use one only")
    return cores[0], cores[1]


def _busy_s() -> float:
    """Return the seconds that the machine's cores have worked since it started."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice  # user and nice include the guests'


def _children_s() -> float:
    """Return the CPU seconds of the processes that we have started and that have ended: the load generators."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime
