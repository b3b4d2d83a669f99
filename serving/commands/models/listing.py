"""`models list`, `models show` and `models card`: what is in the registry."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.commands.options import Json, ModelRef, Quiet, RegistryUrl, Report, Seed, aligned, choices, headline, one_of, registry

if TYPE_CHECKING:
    from training.registry.registry import RegistryEntry

_HEADER = ("TASK", "NAME", "CREATED", "ALIASES", "DATA", "METRICS ON IT")


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

    models = registry(url)
    entries = models.list(None if task is None else one_of(task, tuple(MODELS), "task"))
    rows = [(e.task, e.name, e.created_at, ",".join(e.aliases) or "-", _data(e) or "-", e.problem or headline(e.metrics)) for e in entries]
    lines = aligned([_HEADER, *rows]) if rows else []
    there = "" if models.exists() else ", where there is no registry"
    data = {"registry": models.where, "models": [entry_data(entry) for entry in entries]}
    return Report(f"listed {len(entries)} models of {models.where}{there}", lines=lines, data=data)


def show(
    ctx: typer.Context, model: ModelRef, url: RegistryUrl = None, seed: Seed = None, as_json: Json = False, quiet: Quiet = False
) -> Report:
    """Show one model: version, aliases, metrics."""
    choices(ctx, seed, as_json, quiet)
    models = registry(url)
    entry = models.show(model)
    facts = {"task": entry.task, "name": entry.name, "version": entry.version, "created": entry.created_at}
    on = f"on {_data(entry)}" if entry.data else ""
    metrics = [(name, f"{value:.5g}", on) for name, value in entry.metrics.items()]
    problem = {"problem": entry.problem} if entry.problem else {}
    lines = [*((*fact, "") for fact in (facts | {"aliases": ", ".join(entry.aliases) or "-"} | problem).items()), *metrics]
    return Report(f"found {entry.task}/{entry.name} in {models.where}", lines=aligned(lines), data=entry_data(entry))


def card(
    ctx: typer.Context, model: ModelRef, url: RegistryUrl = None, seed: Seed = None, as_json: Json = False, quiet: Quiet = False
) -> Report:
    """Print the card of one model: its use, data and quality, for people."""
    choices(ctx, seed, as_json, quiet)
    models = registry(url)
    text = models.card(model)
    entry = models.show(model)
    return Report(lines=text.rstrip("\n").split("\n"), data={"task": entry.task, "name": entry.name, "card": text})


def _data(entry: "RegistryEntry") -> str:
    """Return the name of the data that a model was learned from, and whether they were simulated."""
    return f"{entry.data} (simulated)" if entry.simulated else entry.data


def entry_data(entry: "RegistryEntry") -> dict[str, Any]:
    """Return an entry for machines."""
    return {
        "task": entry.task,
        "name": entry.name,
        "version": entry.version,
        "createdAt": entry.created_at,
        "aliases": list(entry.aliases),
        "data": entry.data,
        "simulated": entry.simulated,
        "metrics": dict(entry.metrics),
        **({"problem": entry.problem} if entry.problem else {}),
    }
