"""The command line: the table of commands, and what happens to what they give back or raise."""

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Any

import typer

from serving.commands import batch, doctor, models, serve, simulate, train
from serving.commands.options import Choices, Command, Json, Quiet, Report, Seed
from serving.errors import RevenueEngineError
from training.errors import TrainingError

DEBUG = "REVENUE_ENGINE_DEBUG"

COMMANDS: tuple[tuple[str, Command], ...] = (
    ("serve", serve.serve),
    ("train", train.train),
    ("batch", batch.batch),
    ("simulate", simulate.simulate),
    ("doctor", doctor.doctor),
)
GROUPS = (("models", models.COMMANDS, "The registry of models: list, show, add, promote, rollback."),)

_PLAIN: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        try:
            version = metadata.version("revenue-engine")
        except metadata.PackageNotFoundError:  # run from a checkout
            version = "(not installed)"
        typer.echo(f"revenue-engine {version}")
        raise typer.Exit


def _everywhere(ctx: typer.Context, seed: Seed = None, as_json: Json = False, quiet: Quiet = False) -> None:
    ctx.ensure_object(Choices).add(seed, as_json, quiet)


def _start(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Answers the questions a shop earns money with, live and in batches. Exit codes: 0 done, 1 failed, 2 wrong usage."""
    _everywhere(ctx, seed, as_json, quiet)


def _application() -> typer.Typer:
    app = typer.Typer(callback=_start, **_PLAIN)
    for name, command in COMMANDS:
        app.command(name)(command)
    for name, commands, summary in GROUPS:
        group = typer.Typer(callback=_everywhere, help=summary, **_PLAIN)
        for verb, command in commands:
            group.command(verb)(command)
        app.add_typer(group, name=name)
    return app


app = _application()


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    chosen = Choices(as_json="--json" in args)
    began = time.monotonic()
    try:
        # What a library prints must not get between a machine and its JSON.
        with contextlib.redirect_stdout(sys.stderr) if chosen.as_json else contextlib.nullcontext():
            given = app(list(args) or ["--help"], prog_name="revenue-engine", standalone_mode=False, obj=chosen)
    except (RevenueEngineError, TrainingError) as error:
        return _fail(chosen, error.code, str(error))
    except typer.TyperException as error:  # wrong usage
        return _fail(chosen, "usage", f"{error.format_message()} (see revenue-engine --help)", error.exit_code)
    except Exception as error:  # a bug, or a machine in trouble: say what is known, and how to learn more
        if os.environ.get(DEBUG):
            traceback.print_exc()
        return _fail(chosen, "internal", f"{type(error).__name__}: {error} (set {DEBUG}=1 to see where)")
    if isinstance(given, Report):
        return _tell(chosen, given, time.monotonic() - began)
    if given:  # typer's code for KeyboardInterrupt; --help and --version give 0
        return _fail(chosen, "interrupted", "interrupted; nothing half-written is left")
    return 0


def main() -> None:
    """Run this process's command line and exit with its code; SIGTERM ends a command as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; what Python flushes at exit goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 1
    sys.exit(code)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell(chosen: Choices, report: Report, seconds: float) -> int:
    if chosen.as_json:
        print(json.dumps({**report.data, "seconds": round(seconds, 3)}, default=str))
        return report.code
    for line in report.lines:
        print(line)
    if report.did and not chosen.quiet:
        print(f"{report.did} in {seconds:.1f} s", *report.notes, sep="\n")
    return report.code


def _fail(chosen: Choices, code: str, message: str, exit_code: int = 1) -> int:
    if chosen.as_json:
        print(json.dumps({"error": {"code": code, "message": message}}))
    else:
        print(f"error: {message}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    main()
