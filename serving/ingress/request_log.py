"""What is logged of requests: the id of each that got a problem and, where `server.access_log` is on, a line for every one."""

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.ingress.http.response import Response

log = logging.getLogger(__name__)

MAX_PER_S = 500  # ids of refused requests that a process logs in a second: in overload the log must not fill the disk
MAX_TEXT = 200
FLUSH_S = 0.1
MAX_LINES = 1000  # written at once
NONE = "-"


class ProblemLog:
    """Logs the ids of requests that got a problem, at most MAX_PER_S in a second; how many were left out is logged as well."""

    def __init__(self) -> None:
        self._second = self._used = self._left_out = 0

    @property
    def room(self) -> int:
        """How many ids may still be logged in this second, at least."""
        return MAX_PER_S - self._used

    def note(self, status: int, code: str, detail: str, ids: Sequence[str], number: int = 1) -> None:
        """Log that `number` requests, the first of which have these ids, got this problem."""
        shown = ids[: self._take(number)]
        if shown:
            level = logging.WARNING if status >= 500 else logging.INFO
            log.log(level, "request %s: %d %s: %s", " ".join(shown), status, code, repr(detail[:MAX_TEXT])[1:-1])

    def _take(self, wanted: int) -> int:
        """Return how many of so many ids may be logged now."""
        second = int(time.monotonic())
        if second != self._second:
            if self._left_out:
                log.warning("%d more requests got a problem: at most %d of them are logged in a second", self._left_out, MAX_PER_S)
            self._second, self._used, self._left_out = second, 0, 0
        taken = min(wanted, MAX_PER_S - self._used)
        self._used += taken
        self._left_out += wanted - taken
        return taken


class AccessLog:
    """A file with one line for every request: time, method, path, status, milliseconds, bytes of the body of the response, request id.

    Lines are gathered and written together, every FLUSH_S at the latest; a file that was moved or removed is opened anew.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = WatchedFileHandler(path, encoding="utf-8", delay=True)
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def note(self, method: str, path: str, status: int | None, seconds: float, size: int, request_id: str) -> None:
        """Note a request and its response; `status` is None where the client disconnected before there was one."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        shown = repr(path.partition("?")[0][:MAX_TEXT])[1:-1] or NONE
        self._lines.append(f"{now} {method} {shown} {NONE if status is None else status} {seconds * 1e3:.3f} {size} {request_id or NONE}")
        if len(self._lines) >= MAX_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def note_response(self, method: str, path: str, response: Response, seconds: float) -> None:
        """Note a request and its whole response."""
        self.note(method, path, response.status, seconds, len(response.body), id_of(response.pairs))

    def flush(self) -> None:
        """Write what was gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            self._file.emit(logging.LogRecord(__name__, logging.INFO, __file__, 0, "\n".join(lines), None, None))

    def close(self) -> None:
        """Write what was gathered and close the file."""
        self.flush()
        self._file.close()


class AccessLogMiddleware:
    """The ASGI middleware that notes every request."""

    def __init__(self, app: ASGIApp, access_log: AccessLog) -> None:
        self._app, self._log = app, access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and note it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, size, request_id = time.perf_counter(), None, 0, ""

        async def noting(message: Message) -> None:
            nonlocal status, size, request_id
            if message["type"] == "http.response.start":
                status, request_id = message["status"], id_of(message["headers"])
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            self._log.note(scope["method"], scope["path"], status, time.perf_counter() - began, size, request_id)


def id_of(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Return the request id in the headers of a response, "" without one."""
    return next((value.decode("latin-1") for name, value in headers if name == b"x-request-id"), "")
