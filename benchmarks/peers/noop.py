"""The limit of our own HTTP stack: the listener and the parser of `revenue-engine serve`, and a hot route that answers a constant.

No model, no JSON, no validation: nothing behind this listener can be faster. Its answer is no probability, so it is not checked.
"""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvloop
from starlette.responses import PlainTextResponse

from benchmarks.servers import Target, features, module, running
from serving.ingress.http.headers import Headers
from serving.ingress.http.listener import Listener
from serving.ingress.http.response import Response
from serving.ingress.http.routes import Begin, Cancel, Reply, Route, RouteTable

LABEL = "our HTTP stack, no-op"
QUESTION = "model"
REQUIREMENTS = ()
CHECKED = False

PATH = "/score"
JSON_LINE = b"content-type: application/json\r\n"
CONSTANT = Response(200, JSON_LINE, b'{"probability":0.5}')
MAX_REQUESTS = 10_000
MAX_BODY_BYTES = 4_096


@contextlib.contextmanager
def start(model: Path, port: int) -> Iterator[Target]:
    """Answer requests on a loopback port."""
    target = Target(f"http://127.0.0.1:{port}{PATH}")
    with running([*module(__name__), str(port)], target, features([0.0] * 17), model.parent / "noop.log"):
        yield target


def begin(headers: Headers, body: bytes, reply: Reply, unread_s: float) -> Cancel:
    """Answer at once."""
    reply(CONSTANT)
    return nothing


def nothing() -> None:
    """Give up an answer that has been given."""


async def answer_forever(begin: Begin, port: int) -> None:
    """Answer with `begin` on a loopback port until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    hot = RouteTable({PATH.encode(): Route(begin)}, max_requests=MAX_REQUESTS, max_body_bytes=MAX_BODY_BYTES)
    listener = Listener(PlainTextResponse("nothing here", 404), hot.state, hot)
    with socket.create_server(("127.0.0.1", port), backlog=1024) as sock:
        gc.collect()
        gc.freeze()  # as a replica does
        await listener.open(sock)
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(answer_forever(begin, int(sys.argv[1])))
