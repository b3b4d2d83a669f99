"""A thread that rests: for long work beside a loop that answers, of which only one may have the interpreter at any time."""

import contextlib
import sys
import time
from collections.abc import Iterator
from types import FrameType

WORK_S, REST_S = 0.0005, 0.002  # a fifth of the time: the loop takes the interpreter ten times in an answer, and waits for it each time


@contextlib.contextmanager
def throttled(work_s: float = WORK_S, rest_s: float = REST_S) -> Iterator[None]:
    """Have this thread sleep for `rest_s` whenever it has computed for `work_s`, at the next call or return of a function.

    A shorter switch interval of the interpreter would not do: whoever answers would still wait for its turn again and again.
    """
    since = time.perf_counter()

    def rest(_frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal since
        if time.perf_counter() - since > work_s:
            time.sleep(rest_s)
            since = time.perf_counter()

    before = sys.getprofile()
    sys.setprofile(rest)
    try:
        yield
    finally:
        sys.setprofile(before)
