"""`revenue-engine models ...`: the registry."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.commands.options import Command, Json, Quiet, RegistryUrl, Report, Seed, Task, aligned, choices, headline, one_of, registry

if TYPE_CHECKING:
    from training.registry.registry import RegistryEntry

CHAMPION = "champion"
Ref = Annotated[str, typer.Argument(metavar="MODEL", help="TASK/NAME, TASK@ALIAS, or a NAME that is unique.", show_default=False)]
Alias = Annotated[str, typer.Option("--alias", help="The alias that is moved.")]


def list_(
    ctx: typer.Context,
    task: Annotated[str | None, typer.Argument(metavar="[TASK]", help="Only the models of this task.", show_default=False)] = None,
    url: RegistryUrl = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Report:
    """List the models with their aliases, newest last."""
    choices(ctx, seed, as_json, quiet)
    from training.models import MODELS

    entries = registry(url).list(None if task is None else one_of(task, tuple(MODELS), "task"))
    header = ("TASK", "NAME", "CREATED", "ALIASES", "METRICS")
    rows = [(e.task, e.name, e.created_at, ",".join(e.aliases) or "-", e.problem or headline(e.metrics)) for e in entries]
    lines = aligned([header, *rows]) if rows else []
    return Report(f"listed {len(entries)} models", lines=lines, data={"models": [_data(entry) for entry in entries]})


def show(ctx: typer.Context, model: Ref, url: RegistryUrl = None, seed: Seed = None, as_json: Json = False, quiet: Quiet = False) -> Report:
    """Show one model: version, aliases, metrics."""
    choices(ctx, seed, as_json, quiet)
    entry = registry(url).show(model)
    facts = {"task": entry.task, "name": entry.name, "version": entry.version, "created": entry.created_at}
    metrics = {name: f"{value:.5g}" for name, value in entry.metrics.items()}
    problem = {"problem": entry.problem} if entry.problem else {}
    lines = [*facts.items(), ("aliases", ", ".join(entry.aliases) or "-"), *metrics.items(), *problem.items()]
    return Report(f"found {entry.task}/{entry.name}", lines=aligned(lines), data=_data(entry))


def add(
    ctx: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A bundle that `train --out DIR` wrote.", show_default=False)],
    name: Annotated[str | None, typer.Option("--name", help="Its name in the registry. [default: its version]", show_default=False)] = None,
    alias: Annotated[str | None, typer.Option("--alias", help="Point this alias to it, such as champion.", show_default=False)] = None,
    url: RegistryUrl = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Report:
    """Copy a bundle into the registry, verified."""
    choices(ctx, seed, as_json, quiet)
    entry = registry(url).add(directory, name=name, alias=alias)
    ref = f"{entry.task}/{entry.name}"
    notes = [] if alias else [f"to serve it: revenue-engine models promote {ref}"]
    return Report(f"added {ref}{f' as {alias}' if alias else ''}", notes, data=_data(entry))


def promote(
    ctx: typer.Context,
    model: Ref,
    alias: Alias = CHAMPION,
    url: RegistryUrl = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Report:
    """Point an alias to a model.

    Running servers take it within 5 seconds.
    """
    choices(ctx, seed, as_json, quiet)
    entry = registry(url).promote(model, alias)
    return Report(f"{entry.task}@{alias} is now {entry.name}", data=_data(entry))


def rollback(
    ctx: typer.Context,
    task: Task,
    alias: Alias = CHAMPION,
    url: RegistryUrl = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Report:
    """Point an alias back by one model."""
    choices(ctx, seed, as_json, quiet)
    from training.models import MODELS

    entry = registry(url).rollback(one_of(task, tuple(MODELS), "task"), alias)
    return Report(f"{entry.task}@{alias} is {entry.name} again", data=_data(entry))


COMMANDS: tuple[tuple[str, Command], ...] = (("list", list_), ("show", show), ("add", add), ("promote", promote), ("rollback", rollback))


def _data(entry: "RegistryEntry") -> dict[str, Any]:
    return {
        "task": entry.task,
        "name": entry.name,
        "version": entry.version,
        "createdAt": entry.created_at,
        "aliases": list(entry.aliases),
        "metrics": dict(entry.metrics),
        **({"problem": entry.problem} if entry.problem else {}),
    }
