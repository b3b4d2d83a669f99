"""The replica's end of the node's listening socket: answers what it accepts, and drains without resetting a connection."""

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
from serving.ingress.http.protocol import Protocol
from serving.ingress.http.routes import Hot

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 75  # longer than the idle time of the usual clients' pools: it is they who close an idle connection
BACKLOG = 4096  # who finds that queue full tries again after a whole second
ACCEPTED = 32  # connections taken in one turn of the loop at most
RETRY_S = 0.5  # after the kernel had no descriptor or memory for another connection
SETTLE_S = 0.05
LAST_S = 1.0  # for answers that are under way when the budget is spent


class Listener:
    """Serves `app` on a listening socket that outlives it, and the `hot` routes before it.

    `state.draining` makes both answer with `Connection: close`.
    """

    def __init__(self, app: Any, state: State, hot: Hot | None = None) -> None:
        self._state = state
        self._hot = hot
        self._config = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
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
        """Begin to accept on `sock`, which is already bound, and stays the caller's to close after `drain`."""
        sock.setblocking(False)
        sock.listen(BACKLOG)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # whom it accepts has it too
        self._sock = sock
        asyncio.get_running_loop().add_reader(sock, self._accept)

    def _accept(self) -> None:
        """Take half of the connections that wait: the other replicas of this node look at the same queue.

        The loops' own servers take one a turn (uvloop) or all there are (asyncio): while turns last milliseconds that makes newcomers
        wait for seconds, or gives one replica everything.
        """
        sock, loop = self._sock, asyncio.get_running_loop()
        if sock is None:
            return
        for _ in range(min(ACCEPTED, _waiting(sock) // 2 + 1)):
            try:
                caller, _ = sock.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                log.error("no connection can be accepted for %g s: %s", RETRY_S, error)
                loop.remove_reader(sock)
                loop.call_later(RETRY_S, self._accept_again)
                return
            caller.setblocking(False)
            task = loop.create_task(self._connect(caller))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _accept_again(self) -> None:
        if self._sock is not None:
            asyncio.get_running_loop().add_reader(self._sock, self._accept)

    async def _connect(self, caller: socket.socket) -> None:
        """Give an accepted connection its protocol; one that has gone meanwhile needs none."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._connection, caller)
        except OSError:
            caller.close()

    def _connection(self) -> Protocol:
        return Protocol(self._config, self._server_state, {}, hot=self._hot)

    async def drain(self, budget_s: float) -> int:
        """Stop accepting, answer what still comes with `Connection: close`, and return how many requests had to be cut.

        An idle keep-alive connection is left open until its next request or the end of the budget: closing it at once could meet a
        request that is already on its way, which the client would see as a reset.
        """
        self._state.draining = True
        sock, self._sock = self._sock, None
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock)
        if self._hot is not None and self._hot.gate is not None:
            self._hot.gate.close()
        give_up = time.monotonic() + budget_s
        await asyncio.gather(*self._connecting)
        while self._server_state.connections and time.monotonic() < give_up:
            await asyncio.sleep(SETTLE_S)
        for connection in list(self._server_state.connections):
            connection.shutdown()  # closes an idle one; one that is being answered closes after its answer
        while self._state.in_flight and time.monotonic() < give_up + LAST_S:
            await asyncio.sleep(SETTLE_S)
        return self._state.in_flight


def _waiting(sock: socket.socket) -> int:
    """Return how many connections wait to be accepted: what Linux has in tcp_info.tcpi_unacked of a listening socket; 0 elsewhere."""
    if sys.platform != "linux" or sock.family == socket.AF_UNIX:
        return 0
    waiting: int = struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0]
    return waiting
