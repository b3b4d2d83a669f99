"""A throttle for long work in a thread beside the event loop: only one of them has the interpreter at any time."""

import contextlib
import sys
import time
from collections.abc import Iterator
from types import FrameType

WORK_S, PAUSE_S = 0.0005, 0.002  # a fifth of the time: for one answer the loop takes the interpreter ten times, and may wait each time


@contextlib.contextmanager
def throttled(work_s: float = WORK_S, pause_s: float = PAUSE_S) -> Iterator[None]:
    """Have this thread sleep for `pause_s` whenever it has computed for `work_s`, at the next call or return of a function.

    A shorter switch interval of the interpreter would not do: the event loop would still wait for it again and again.
    """
    since = time.perf_counter()

    def pause(_frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal since
        if time.perf_counter() - since > work_s:
            time.sleep(pause_s)
            since = time.perf_counter()

    before = sys.getprofile()
    sys.setprofile(pause)
    try:
        yield
    finally:
        sys.setprofile(before)
