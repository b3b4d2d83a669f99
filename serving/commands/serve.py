"""`revenue-engine serve`: the server."""

import os
import sys
from typing import Annotated, Any

import typer

from serving.commands.options import Config, Json, Quiet, Report, Seed, choices


def serve(
    ctx: typer.Context,
    config: Config = None,
    port: Annotated[int | None, typer.Option("--port", min=0, max=65535, help="[default: 8000; 0: any free one]")] = None,
    host: Annotated[str | None, typer.Option("--host", help="[default: 127.0.0.1]")] = None,
    replicas: Annotated[
        int | None, typer.Option("--replicas", min=1, help="Replicas on the one port. [default: a core each, up to 4]")
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Report:
    """Run the server.

    SIGTERM or Ctrl-C drains it, a second one ends it at once, SIGHUP replaces the replicas one by one.
    """
    chosen = choices(ctx, seed, as_json, quiet)
    from serving import settings
    from serving.runtime.supervisor import Supervisor

    given = {"port": port, "host": host, "replicas": replicas}
    server: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    supervisor = Supervisor(settings.load(config, server=server), config, {"server": server})
    # The node writes to descriptor 1, which is not ours to fill when a machine reads it.
    result = os.dup(1)
    if chosen.as_json or chosen.quiet:
        os.dup2(2 if chosen.as_json else os.open(os.devnull, os.O_WRONLY), 1)
    code = supervisor.run()
    sys.stdout.flush()
    os.dup2(result, 1)
    return Report("served", data={"exitCode": code}, code=code)
