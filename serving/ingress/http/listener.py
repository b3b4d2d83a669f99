"""Accepts connections on the node's listening socket for one replica, and drains them without a reset."""

import asyncio
import errno
import logging
import socket
import struct
import sys
import time
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from serving.ingress.http.lifecycle import State
from serving.ingress.http.protocol import HttpProtocol
from serving.ingress.http.routes import RouteTable

log = logging.getLogger(__name__)

BACKLOG = 4096  # a client that finds the queue full tries again only after a second
MAX_ACCEPTS = 32  # connections accepted in one iteration of the event loop
RETRY_S = 0.5  # pause after the kernel had no descriptor or memory for another connection
SETTLE_S = 0.05
LAST_S = 1.0  # for responses that are under way when the drain budget is spent


class Listener:
    """Serves the hot routes of `table`, and `app` for every other request, on a listening socket that outlives the replica.

    While `state.draining` every response has `Connection: close`.
    """

    def __init__(self, app: Any, state: State, table: RouteTable | None = None) -> None:
        self._state = state
        self._table = RouteTable() if table is None else table
        self._config = uvicorn.Config(
            app,
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
        )
        self._config.load()
        self._server_state = ServerState()
        self._sock: socket.socket | None = None
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def accepting(self) -> bool:
        """Whether new connections are accepted."""
        return self._sock is not None and self._sock.fileno() >= 0

    async def open(self, sock: socket.socket) -> None:
        """Begin to accept on `sock`, which is already bound; the caller closes it after `drain`."""
        sock.setblocking(False)
        sock.listen(BACKLOG)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by accepted connections
        self._sock = sock
        asyncio.get_running_loop().add_reader(sock, self._accept)

    def _accept(self) -> None:
        """Accept half of the connections that wait: the other replicas of this node accept from the same queue.

        Where as many are open as there may be, those that have waited longest for their client are closed for them.

        The servers of the event loops accept one connection per iteration (uvloop) or all of them (asyncio). While iterations last
        milliseconds, new connections would wait for seconds, or one replica would get all of them.
        """
        sock, loop = self._sock, asyncio.get_running_loop()
        if sock is None:
            return
        connections = self._table.connections
        for _ in range(min(MAX_ACCEPTS, _waiting(sock) // 2 + 1)):
            if connections.room <= 0 and not connections.make_room():
                self._pause(sock, f"{len(connections)} are open (server.max_open_connections), and none of them waits for its client")
                return
            try:
                caller, _ = sock.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                if connections.make_room():  # its descriptor is free in the next iteration
                    return
                self._pause(sock, str(error))
                return
            connections.expect(1)
            caller.setblocking(False)
            task = loop.create_task(self._connect(caller))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _pause(self, sock: socket.socket, reason: str) -> None:
        """Accept no connection for a moment."""
        log.error("no connection can be accepted for %g s: %s", RETRY_S, reason)
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        loop.call_later(RETRY_S, self._accept_again)

    def _accept_again(self) -> None:
        if self._sock is not None:
            asyncio.get_running_loop().add_reader(self._sock, self._accept)

    async def _connect(self, caller: socket.socket) -> None:
        """Give an accepted connection its protocol, unless the client has disconnected."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._connection, caller)
        except OSError:
            self._table.connections.expect(-1)
            caller.close()

    def _connection(self) -> HttpProtocol:
        return HttpProtocol(self._config, self._server_state, {}, table=self._table)

    async def drain(self, budget_s: float) -> int:
        """Stop accepting, answer further requests with `Connection: close`, and return how many requests were cut off after `budget_s`.

        An idle keep-alive connection stays open until its next request or the end of the budget. If it were closed at once, a request
        that is already on its way would meet a reset.
        """
        self._state.draining = True
        sock, self._sock = self._sock, None
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock)
        if self._table.overload_reader is not None:
            self._table.overload_reader.close()
        give_up = time.monotonic() + budget_s
        await asyncio.gather(*self._connecting)
        while self._server_state.connections and time.monotonic() < give_up:
            await asyncio.sleep(SETTLE_S)
        for connection in list(self._server_state.connections):
            connection.shutdown()  # closes at once if idle, else after the response
        while self._state.in_flight and time.monotonic() < give_up + LAST_S:
            await asyncio.sleep(SETTLE_S)
        return self._state.in_flight


def _waiting(sock: socket.socket) -> int:
    """Return how many connections wait to be accepted: tcp_info.tcpi_unacked of a listening socket on Linux; 0 elsewhere."""
    if sys.platform != "linux" or sock.family == socket.AF_UNIX:
        return 0
    waiting: int = struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0]
    return waiting
