#!/usr/bin/env bash
# Starlette: GZipMiddleware compresses for a client that has excluded gzip by a weight of 0, and does not for one that accepts everything.
#
# Guess     The middleware reads `Accept-Encoding` as RFC 9110 12.5.3 defines it: `gzip;q=0` means that gzip is not acceptable, `*` that any
#           coding is.
# Behaviour It looks for the letters "gzip" in the header. `gzip;q=0` and `identity, gzip;q=0.0` get a gzip body;
#           `*` gets a plain one.
# Versions  Starlette 1.10.0, Python 3.11. Seen on 2026-12-01.
# Matters   Proxies and embedded clients switch compression off by a weight of 0 and then read compressed bytes as JSON. A server that has to
#           obey the header reads it before the middleware, or instead of it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check starlette==1.10.0
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import platform

import starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse

print("Starlette", starlette.__version__, "Python", platform.python_version())


async def coding(accepted):
    """Return the Content-Encoding of a response of 5,000 bytes to a client with this Accept-Encoding, None without one."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"accept-encoding", accepted)]}
    await GZipMiddleware(PlainTextResponse("x" * 5000))(scope, receive, send)
    return dict(sent[0]["headers"]).get(b"content-encoding")


found = {accepted: asyncio.run(coding(accepted)) for accepted in (b"gzip", b"gzip;q=0", b"identity, gzip;q=0.0", b"*")}
for accepted, got in found.items():
    print(f"  Accept-Encoding: {accepted.decode()}  ->  {got}")

assert found[b"gzip"] == b"gzip", "a client that accepts gzip gets another coding"
assert found[b"gzip;q=0"] == found[b"identity, gzip;q=0.0"] == b"gzip", "the weight is read now"
assert found[b"*"] is None, "the asterisk is read now"
PYTHON
