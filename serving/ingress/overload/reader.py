"""Who was refused of late is read here, instead of by the event loop, for as long as requests are refused.

A refused caller asks again, and under several times the load that can be answered most of what a replica reads are requests to refuse. The
loop makes ten times as much of each as is needed, so those connections are taken out of it: they wait in an epoll of their own, of which
the loop sees only that something has come. What came is read and, while the queue has no room, refused by compiled code
(`serving.ingress.overload.fast_path`). The first request of each look is judged as usual; who has no more patience than one that was
refused in the same look is refused likewise, since nothing is taken out of the queue meanwhile.
"""

import asyncio
import contextlib
import os
import select
from typing import Protocol

import numpy as np

from serving.ingress.overload import fast_path
from serving.ingress.overload.shedder import Form, Shedder
from serving.ingress.overload.syscalls import EVENT_BYTES

# Connections read in one turn of the loop: about 12 ms where all are refused, for so long nothing else is done. Between two looks what was
# taken is scored and written, and at several times the load some hundreds come meanwhile: whoever reads fewer falls behind, until all that
# he reads has waited in vain.
LOOK = 1024
SOCKETS = 1024  # at first; grows with the numbers that the system gives out
LONGEST = 1024  # bytes of a refusal


class Caller(Protocol):
    """A connection whose reading is paused while the gate has it."""

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way and everything that was said has been sent."""

    def take(self, data: bytes) -> None:
        """Take bytes that came, as if from the transport, and not to be refused at once."""

    def take_aged(self, data: bytes, unread_ms: int) -> None:
        """Take bytes that are known to have lain unread for so long."""

    def take_rest(self, data: bytes) -> None:
        """Send what the kernel did not take of a reply."""

    def leave_gate(self) -> None:
        """Let the event loop read again."""


class OverloadReader:
    """The connections that are read here, by their descriptor. For one event loop; opens with the first of them."""

    def __init__(self, shedder: Shedder) -> None:
        self.shedder = shedder
        self._epoll: select.epoll | None = None
        self._callers: dict[int, Caller] = {}
        self._held = np.zeros(SOCKETS, np.uint8)  # 1: something may be under way there
        self._events = np.zeros(LOOK * EVENT_BYTES, np.uint8)
        self._sockets = np.zeros(LOOK, np.int32)
        self._data = np.zeros(fast_path.READ_BYTES, np.uint8)
        self._refusals = fast_path.refusals(len(shedder.asked), LONGEST)
        # Compile now: there is no such epoll, and nobody to refuse.
        fast_path.ready(-1, self._events, self._sockets)
        fast_path.refuse(self._sockets[:0], 0, self._held, self._data, shedder.bounds, self._refusals)

    @property
    def size(self) -> int:
        """How many connections are read here."""
        return len(self._callers)

    def admit(self, socket: int, caller: Caller) -> None:
        """Read from this connection, which the loop has stopped to read."""
        if self._epoll is None:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._look)
        if socket >= len(self._held):
            self._held = np.concatenate((self._held, np.zeros(socket + 1, np.uint8)))
        self._held[socket] = 1  # the loop may not have sent the refusal yet
        self._epoll.register(socket, select.EPOLLIN | select.EPOLLET)  # told once: whatever is not read here goes back to the loop
        self._callers[socket] = caller

    def forget(self, socket: int) -> None:
        """Read no more from it: it is being closed, or the loop reads it again."""
        if self._epoll is not None and self._callers.pop(socket, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(socket)

    def resume(self, socket: int) -> None:
        """Let compiled code read a connection: nothing is under way there any more."""
        self._held[socket] = 0

    def release(self, socket: int) -> None:
        """Let the loop read it again."""
        caller = self._callers[socket]
        self.forget(socket)
        caller.leave_gate()

    def close(self) -> None:
        """Let the loop read all connections again."""
        for socket in list(self._callers):
            self.release(socket)
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _look(self) -> None:
        """Refuse what has come, or hand it over."""
        if self._epoll is None:
            return
        sockets = self._sockets[: fast_path.ready(self._epoll.fileno(), self._events, self._sockets)]
        refusals = self._refusals
        refusals.limit_ms.fill(fast_path.NOBODY)
        refusals.counts.fill(0)
        refusals.lain.fill(0)
        at = 0
        while at < len(sockets):
            at, *seen = fast_path.refuse(sockets, at, self._held, self._data, self.shedder.bounds, refusals)
            if at < len(sockets) and not (seen[0] == fast_path.HELD and self._unhold(int(sockets[at]))):
                self._decide(int(sockets[at]), *seen)
                at += 1
        for asked, times in zip(self.shedder.asked, refusals.counts.tolist(), strict=True):
            if times:
                asked.shed_likewise(times)

    def _unhold(self, socket: int) -> bool:
        """Return whether a connection that was not read from, since it was held, may be read from now."""
        caller = self._callers.get(socket)
        if caller is None or not caller.quiet:
            return False
        self.resume(socket)
        return True

    def _decide(self, socket: int, got: int, path: int, left_ms: int, socket_queue_ms: int, sent: int) -> None:
        """Do what compiled code cannot: see `plain.refuse` for the numbers."""
        caller = self._callers.get(socket)
        if caller is None:  # it has been closed by what was done for another in this look
            return
        if sent >= 0:
            refusals = self._refusals
            self.release(socket)
            caller.take_rest(refusals.replies[path, sent : refusals.sizes[path]].tobytes())
        elif got in (fast_path.GONE, fast_path.HELD):
            self.release(socket)  # the loop finds out what it is
        elif path == fast_path.NOT_PLAIN or not self.shedder.pressed:
            self.release(socket)
            caller.take(self._data[:got].tobytes())
        elif (form := self.shedder.judge(path, left_ms)) is not None:
            self._refuse_likewise(path, left_ms, form)
            self._reply(socket, caller, form.filled())
        else:
            self._held[socket] = 1
            caller.take_aged(self._data[:got].tobytes(), socket_queue_ms)

    def _refuse_likewise(self, path: int, left_ms: int, form: Form) -> None:
        """Have whoever has no more patience refused in this form until the end of the look."""
        refusals, blank = self._refusals, np.frombuffer(form.blank, np.uint8)
        if len(blank) > LONGEST:
            return
        refusals.limit_ms[path] = max(refusals.limit_ms[path], left_ms)
        refusals.replies[path, : len(blank)] = blank
        refusals.sizes[path] = len(blank)
        refusals.marks[path] = form.marks

    def _reply(self, socket: int, caller: Caller, reply: bytes) -> None:
        try:
            sent = os.write(socket, reply)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(reply)  # the loop finds out
        if sent < len(reply):
            self.release(socket)
            caller.take_rest(reply[sent:])
