"""The replica's end of the node's listening socket: answers what it accepts, and drains without resetting a connection."""

import asyncio
import socket
import time
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from serving.ingress.hot import Hot
from serving.ingress.protocol import Protocol
from serving.ingress.state import State

KEEP_ALIVE_S = 75  # longer than the idle time of the usual clients' pools: it is they who close an idle connection
BACKLOG = 4096  # the loop listens anew: by default with 100, and who finds that queue full tries again after a whole second
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
        self._server: asyncio.Server | None = None

    @property
    def accepting(self) -> bool:
        """Whether new connections are accepted."""
        return self._server is not None and self._server.is_serving()

    async def open(self, sock: socket.socket) -> None:
        """Begin to accept on `sock`, which is already bound and listening."""
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, sock=sock, backlog=BACKLOG, start_serving=True)

    def _connection(self) -> Protocol:
        return Protocol(self._config, self._server_state, {}, hot=self._hot)

    async def drain(self, budget_s: float) -> int:
        """Stop accepting, answer what still comes with `Connection: close`, and return how many requests had to be cut.

        An idle keep-alive connection is left open until its next request or the end of the budget: closing it at once could meet a
        request that is already on its way, which the client would see as a reset.
        """
        self._state.draining = True
        if self._server is not None:
            self._server.close()
        give_up = time.monotonic() + budget_s
        while self._server_state.connections and time.monotonic() < give_up:
            await asyncio.sleep(SETTLE_S)
        for connection in list(self._server_state.connections):
            connection.shutdown()  # closes an idle one; one that is being answered closes after its answer
        while self._state.in_flight and time.monotonic() < give_up + LAST_S:
            await asyncio.sleep(SETTLE_S)
        return self._state.in_flight
