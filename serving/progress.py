"""The progress of long work, on standard error: a bar on a terminal, a line every few seconds elsewhere, nothing with --quiet."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

Progress = Callable[[str, float], None]  # what is being done, and how much of all is done, 0 to 1

LINE_S = 5.0


def silent(what: str, share: float) -> None:
    """Show nothing."""


@contextmanager
def shown(quiet: bool, stream: TextIO | None = None) -> Iterator[Progress]:
    """Return the progress for the length of a `with`: a bar if `stream` (standard error) is a terminal, else lines, or silence if quiet."""
    out = sys.stderr if stream is None else stream
    if quiet:
        yield silent
    elif out.isatty():
        with _bar(out) as bar:
            yield bar
    else:
        yield lines(out)


def lines(out: TextIO, clock: Callable[[], float] = time.monotonic) -> Progress:
    """Return a progress that writes a line every LINE_S seconds at most, the first one only when it takes so long."""
    last = clock()

    def report(what: str, share: float) -> None:
        nonlocal last
        now = clock()
        if now - last >= LINE_S:
            last = now
            print(f"{what}: {share:.0%}", file=out, flush=True)

    return report


@contextmanager
def _bar(out: TextIO) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(file=out), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)
