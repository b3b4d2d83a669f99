"""The examples in the OpenAPI document: of each question its request, and the answer that a server gave to it.

    revenue-engine serve
    python -m serving.ingress.examples http://127.0.0.1:8000

The first command has the default models. The models of the other questions were added to its registry: value trained on UCI Online Retail,
churn on IBM Telco Customer Churn, as in docs/tutorials/data-science.md, journey on what `train journey --example` writes. The
second command asks the server every question and writes each answer beside the question's code, as `answer.json`. A question without that
file has no example of an answer.
"""

import sys
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import msgspec

from serving.engines import ENGINES, Engine

ANSWER = "answer.json"


def answer(engine: Engine) -> dict[str, Any] | None:
    """Return the answer to the engine's example, None where there is none."""
    file = files(_package(engine)) / ANSWER
    found: dict[str, Any] | None = msgspec.json.decode(file.read_bytes()) if file.is_file() else None
    return found


def write(url: str) -> None:
    """Ask the server at `url` the example of every question and write its answers."""
    for engine in ENGINES:
        body = msgspec.json.encode(engine.example)
        request = Request(url.rstrip("/") + engine.route, body, {"content-type": "application/json", "cache-control": "no-cache"})
        with urlopen(request, timeout=30) as reply:
            content = msgspec.json.format(reply.read(), indent=2)
        Path(str(files(_package(engine)))).joinpath(ANSWER).write_bytes(content + b"\n")


def _package(engine: Engine) -> str:
    return engine.response.__module__.rpartition(".")[0]


if __name__ == "__main__":
    write(sys.argv[1])
