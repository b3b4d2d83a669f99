"""When requests are due: Poisson arrivals, and an alarm that can wake an epoll loop for the next one to the microsecond."""

import ctypes
import itertools
import math
import os
import random
from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True)
_MONOTONIC, _NONBLOCK, _CLOEXEC = 1, 0o4000, 0o2000000
MIN_NS = 1  # of an alarm: zero would disarm it


def poisson(rate: float, seed: int, began: float = 0.0) -> Iterator[float]:
    """Yield the times of a Poisson process of `rate` events a second that starts at `began`, in seconds, for ever."""
    draw, log = random.Random(seed).random, math.log
    return itertools.accumulate((-log(1.0 - draw()) / rate for _ in itertools.repeat(None)), initial=began)


class Alarm:
    """A timerfd, since epoll's own timeout is rounded up to whole milliseconds; `benchmarks.event_loop` sets it."""

    def __init__(self) -> None:
        self.fd: int = _libc.timerfd_create(_MONOTONIC, _NONBLOCK | _CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed; open-loop load needs Linux")

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)
