"""When requests are due: Poisson arrivals, and an alarm that wakes an epoll loop for the next one to the microsecond."""

import ctypes
import itertools
import math
import os
import random
from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True)
_libc.timerfd_settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_MONOTONIC, _NONBLOCK, _CLOEXEC = 1, 0o4000, 0o2000000
_LEAST_NS = 1  # zero would disarm


def poisson(rate: float, seed: int, began: float = 0.0) -> Iterator[float]:
    """Yield the times of a Poisson process of `rate` events a second that starts at `began`, in seconds, for ever."""
    draw, log = random.Random(seed).random, math.log
    return itertools.accumulate((-log(1.0 - draw()) / rate for _ in itertools.repeat(None)), initial=began)


class Alarm:
    """A timerfd, since epoll's own timeout is rounded up to whole milliseconds: readable once the time has come."""

    def __init__(self) -> None:
        self.fd: int = _libc.timerfd_create(_MONOTONIC, _NONBLOCK | _CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed; open-loop load needs Linux")
        self._time = (ctypes.c_long * 4)()  # struct itimerspec: interval s, ns; value s, ns
        self._address = ctypes.addressof(self._time)

    def set(self, seconds: float) -> None:
        """Ring in so many seconds, and not before; a ring that nobody read is forgotten."""
        whole, rest = divmod(max(_LEAST_NS, int(seconds * 1e9)), 1_000_000_000)
        self._time[2], self._time[3] = whole, rest
        _libc.timerfd_settime(self.fd, 0, self._address, None)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)
