"""Reads the connections whose last request was refused, in place of the event loop, for as long as requests are refused.

A refused client tries again, so at several times the load that can be answered most requests that a replica reads are to be refused. The
event loop spends ten times as much on each as is needed. Those connections are therefore registered with an epoll of their own, and the
loop is only notified that one of them is readable. What has arrived is read and, while the queue is full, refused by compiled code
(`serving.ingress.overload.fast_path`). In each pass the first request is judged by the question's batcher. Whoever has no more time left
than a request that was refused in the same pass is refused likewise, since nothing leaves the queue during the pass.
"""

import asyncio
import contextlib
import os
import select
from typing import Protocol

import numpy as np

from serving.ingress.overload import fast_path
from serving.ingress.overload.shedder import RefusalTemplate, Shedder
from serving.ingress.overload.syscalls import EVENT_BYTES

# Connections read in one pass: about 12 ms if all are refused, during which the loop does nothing else. Between two passes the accepted
# requests are scored and written, and at several times the load some hundreds arrive meanwhile. A smaller number would fall behind until
# every request has timed out before it is read.
MAX_READS = 1024
INITIAL_SOCKETS = 1024  # size of a table by file descriptor; grows with the descriptors
MAX_REPLY_BYTES = 1024  # of a refusal


class ReadableConnection(Protocol):
    """A connection that the overload reader can read while its reading from the event loop is paused."""

    @property
    def socket(self) -> int:
        """The file descriptor."""

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and everything has been sent."""

    def parse(self, data: bytes) -> None:
        """Take bytes that were read, as if they came from the transport."""

    def parse_aged(self, data: bytes, unread_ms: int) -> None:
        """Take bytes that have waited in the socket for `unread_ms`."""

    def given_back(self, unsent: bytes) -> None:
        """Read from the event loop again, and send `unsent`, what the kernel did not take of a reply."""


class OverloadReader:
    """The connections that are read here, by file descriptor. For one event loop; the epoll opens with the first connection.

    `take` has a connection read here, `give_back` has the event loop read it again, from either side. In between `resume` lets compiled
    code read a connection again after its response.
    """

    def __init__(self, shedder: Shedder) -> None:
        self.shedder = shedder
        self._epoll: select.epoll | None = None
        self._connections: dict[int, ReadableConnection] = {}
        self._held = np.zeros(INITIAL_SOCKETS, np.uint8)  # 1: a request may be under way on this descriptor
        self._events = np.zeros(MAX_READS * EVENT_BYTES, np.uint8)
        self._sockets = np.zeros(MAX_READS, np.int32)
        self._data = np.zeros(fast_path.READ_BYTES, np.uint8)
        self._refusals = fast_path.refusals(len(shedder.routes), MAX_REPLY_BYTES)
        self._templates: dict[int, RefusalTemplate] = {}  # by path: what is sent in this pass
        # Compile now: with no epoll and no socket these calls do nothing.
        fast_path.ready(-1, self._events, self._sockets)
        fast_path.refuse(self._sockets[:0], 0, self._held, self._data, shedder.bounds, self._refusals)

    @property
    def size(self) -> int:
        """How many connections are read here."""
        return len(self._connections)

    def take(self, connection: ReadableConnection) -> None:
        """Read a connection here from now on; its reading from the event loop is paused."""
        socket = connection.socket
        if self._epoll is None:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._on_readable)
        if socket >= len(self._held):
            self._held = np.concatenate((self._held, np.zeros(socket + 1, np.uint8)))
        self._held[socket] = 1  # the loop may not have sent the last refusal yet
        self._epoll.register(socket, select.EPOLLIN | select.EPOLLET)  # edge-triggered: what is not read here goes back to the loop
        self._connections[socket] = connection

    def give_back(self, connection: ReadableConnection, unsent: bytes = b"") -> None:
        """Have the event loop read a connection again, and send `unsent`; nothing happens to one that is not read here."""
        socket = connection.socket
        if self._epoll is not None and self._connections.pop(socket, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(socket)
            connection.given_back(unsent)

    def resume(self, socket: int) -> None:
        """Let compiled code read a connection: nothing is under way there any more."""
        self._held[socket] = 0

    def close(self) -> None:
        """Give all connections back."""
        for connection in list(self._connections.values()):
            self.give_back(connection)
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _on_readable(self) -> None:
        """Refuse what has arrived, or hand it to its connection."""
        if self._epoll is None:
            return
        sockets = self._sockets[: fast_path.ready(self._epoll.fileno(), self._events, self._sockets)]
        refusals = self._refusals
        refusals.limit_ms.fill(fast_path.REFUSE_NONE)
        refusals.counts.fill(0)
        refusals.group_ms.fill(0)
        refusals.kept.fill(0)
        at = 0
        while at < len(sockets):
            at, *found = fast_path.refuse(sockets, at, self._held, self._data, self.shedder.bounds, refusals)
            if at < len(sockets) and not (found[0] == fast_path.HELD and self._resume_idle(int(sockets[at]))):
                self._decide(int(sockets[at]), *found)
                at += 1
        for route, times in zip(self.shedder.routes, refusals.counts.tolist(), strict=True):
            if times:
                route.shed_likewise(times)
        if refusals.kept[0]:
            self._log_refusals()

    def _log_refusals(self) -> None:
        """Have the request ids logged of what compiled code refused in this pass."""
        refusals, kept = self._refusals, int(self._refusals.kept[0])
        for path, template in self._templates.items():
            ids = refusals.ids[:kept][refusals.id_paths[:kept] == path]
            self.shedder.log(path, template, ids.tobytes().decode("ascii"))

    def _resume_idle(self, socket: int) -> bool:
        """Let compiled code read a connection that was held, if it is idle now; return whether."""
        connection = self._connections.get(socket)
        if connection is None or not connection.idle:
            return False
        self.resume(socket)
        return True

    def _decide(self, socket: int, got: int, path: int, left_ms: int, socket_queue_ms: int, sent: int) -> None:
        """Do what compiled code cannot: see `fast_path.refuse` for the numbers."""
        connection = self._connections.get(socket)
        if connection is None:  # closed by what was done for another connection in this pass
            return
        if sent >= 0:
            refusals = self._refusals
            self.give_back(connection, refusals.replies[path, sent : refusals.sizes[path]].tobytes())
        elif got in (fast_path.GONE, fast_path.HELD):
            self.give_back(connection)  # the loop reads the end of the stream, or the next request
        elif path == fast_path.NOT_PLAIN or not self.shedder.pressed:
            self.give_back(connection)
            connection.parse(self._data[:got].tobytes())
        elif (template := self.shedder.judge(path, left_ms)) is not None:
            self._refuse_likewise(path, left_ms, template)
            self._reply(connection, self.shedder.fill(path, template))
        else:
            self._held[socket] = 1
            connection.parse_aged(self._data[:got].tobytes(), socket_queue_ms)

    def _refuse_likewise(self, path: int, left_ms: int, template: RefusalTemplate) -> None:
        """Have compiled code send this refusal to requests with at most `left_ms` left, until the end of the pass."""
        refusals, reply = self._refusals, np.frombuffer(template.reply, np.uint8)
        if len(reply) > MAX_REPLY_BYTES:
            return
        self._templates[path] = template
        refusals.limit_ms[path] = max(refusals.limit_ms[path], left_ms)
        refusals.replies[path, : len(reply)] = reply
        refusals.sizes[path] = len(reply)
        refusals.id_offsets[path] = template.id_offsets

    def _reply(self, connection: ReadableConnection, reply: bytes) -> None:
        try:
            sent = os.write(connection.socket, reply)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(reply)  # the loop notices that the connection is broken
        if sent < len(reply):
            self.give_back(connection, reply[sent:])
