"""HTTP/1.1 on one connection: uvicorn's protocol with a bound on a request's head, and problems where it answers in plain text."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.errors import HeadTooLargeError, MalformedRequestError, RevenueEngineError
from serving.ingress import problems
from serving.ingress.headers import request_id

MAX_HEAD_BYTES = 64 * 1024


class Protocol(HttpToolsProtocol):
    """One connection. `_turns` counts ends of heads and of messages; what arrives between two of them in a head counts as `_head_bytes`."""

    _in_head = True
    _turns = 0
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket; a head without an end is refused."""
        before = self._turns
        super().data_received(data)
        self._head_bytes = self._head_bytes + len(data) if self._in_head and self._turns == before else 0
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(HeadTooLargeError(f"the request line and headers have more than {MAX_HEAD_BYTES} bytes; send less"))

    def on_headers_complete(self) -> None:
        """Begin to answer; what follows is the body."""
        self._in_head = False
        self._turns += 1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request; what follows is the next one's head."""
        self._in_head = True
        self._turns += 1
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with a problem."""
        self._refuse(MalformedRequestError(f"{msg.rstrip('.')}: this is not HTTP/1.1 as RFC 9112 has it"))

    def _refuse(self, error: RevenueEngineError) -> None:
        answer = problems.answer(error, request_id({})).closing()
        headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
        lines = [b"%b: %b\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[answer.status], *lines, b"\r\n", answer.body]))
        self.transport.close()
