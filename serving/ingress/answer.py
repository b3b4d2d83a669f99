"""What goes back to the caller, before any HTTP framework has a say, and how ASGI sends it."""

from typing import NamedTuple

from starlette.responses import Response
from starlette.types import Send

CLOSE = (b"connection", b"close")


class Answer(NamedTuple):
    """A whole response. `headers` has everything but content-length, which the transport adds."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def closing(self) -> "Answer":
        """Return the same answer, after which the connection is closed."""
        return self._replace(headers=[*self.headers, CLOSE])


async def respond(answer: Answer, send: Send) -> None:
    """Send the answer over ASGI."""
    headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def response(answer: Answer) -> Response:
    """Return the answer as Starlette knows it."""
    made = Response(answer.body, answer.status)
    made.raw_headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    return made
