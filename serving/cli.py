"""The command line: the table of commands, and how their reports and errors are printed."""

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

from kernels.errors import CompileCacheError
from serving.commands import batch, doctor, models, serve, simulate, train
from serving.commands.evaluation import evaluate
from serving.commands.explanation import explain
from serving.commands.options import PLAIN, Choices, Command, Json, Quiet, Report, Seed
from serving.commands.tasks import TaskVerb
from serving.errors import RevenueEngineError
from training.errors import TrainingError

DEBUG = "REVENUE_ENGINE_DEBUG"

COMMANDS: tuple[tuple[str, Command], ...] = (
    ("serve", serve.serve),
    ("simulate", simulate.simulate),
    ("doctor", doctor.doctor),
    ("evaluate", evaluate.COMMAND),
    ("explain", explain.explain),
)
TASK_VERBS: tuple[tuple[str, TaskVerb], ...] = (
    ("train", train.TRAIN),
    ("batch", batch.BATCH),
)
GROUPS = (("models", models.COMMANDS, "The registry of models: list, show, card, compare, add, promote, rollback, delete."),)


_BY_TASK: dict[str, Any] = {"invoke_without_command": True, "subcommand_metavar": "TASK [OPTIONS]"}


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
    """Score the questions that a shop earns money with, live and in batches. Exit codes: 0 done, 1 failed, 2 wrong usage."""
    _everywhere(ctx, seed, as_json, quiet)


def _require_task(ctx: typer.Context, seed: Seed = None, as_json: Json = False, quiet: Quiet = False) -> None:
    if ctx.invoked_subcommand is None:
        raise typer.BadParameter("Missing argument 'TASK'")
    _everywhere(ctx, seed, as_json, quiet)


def _application() -> typer.Typer:
    app = typer.Typer(callback=_start, **{**PLAIN, "add_completion": True})
    for name, command in COMMANDS:
        app.command(name)(command)
    for name, verb in TASK_VERBS:
        group = typer.Typer(
            callback=_require_task,
            help=verb.run.__doc__,
            cls=verb.group,
            epilog=f"Options of a task: revenue-engine {name} TASK --help",
            **_BY_TASK,
            **PLAIN,
        )
        app.add_typer(group, name=name)
    for name, commands, summary in GROUPS:
        group = typer.Typer(callback=_everywhere, help=summary, **PLAIN)
        for word, command in commands:
            group.command(word)(command)
        app.add_typer(group, name=name)
    return app


app = _application()


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    given = Choices(as_json="--json" in args)
    began = time.monotonic()
    try:
        # A library's own prints must not mix with the JSON on standard output.
        with contextlib.redirect_stdout(sys.stderr) if given.as_json else contextlib.nullcontext():
            result = app(list(args) or ["--help"], prog_name="revenue-engine", standalone_mode=False, obj=given)
    except (RevenueEngineError, TrainingError, CompileCacheError) as error:
        return _fail(given, error.code, str(error))
    except typer.TyperException as error:  # wrong usage
        return _fail(given, "usage", f"{error.format_message()} (see {_command(error)} --help)", error.exit_code)
    except Exception as error:  # a bug, or a failing machine: a short message, and how to see the traceback
        if os.environ.get(DEBUG):
            traceback.print_exc()
        return _fail(given, "internal", f"{type(error).__name__}: {error} (set {DEBUG}=1 to see where)")
    if isinstance(result, Report):
        return _print(given, result, time.monotonic() - began)
    if result:  # typer's code for KeyboardInterrupt; --help and --version give 0
        return _fail(given, "interrupted", "interrupted; nothing half-written is left")
    return 0


def _command(error: typer.TyperException) -> str:
    """Return the command that the error is about, as it was written."""
    context = getattr(error, "ctx", None)
    return "revenue-engine" if context is None else str(context.command_path)


def main() -> None:
    """Run this process's command line and exit with its code; SIGTERM ends a command as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has closed the pipe; discard what Python flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 1
    sys.exit(code)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _print(chosen: Choices, report: Report, seconds: float) -> int:
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
