"""`models add`, `promote`, `rollback` and `delete`: what changes the registry."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.commands.evaluation import judging
from serving.commands.models import comparison
from serving.commands.models.listing import entry_data
from serving.commands.options import (
    Blanks,
    Choices,
    Decimal,
    Json,
    Maps,
    ModelRef,
    Quiet,
    RegistryUrl,
    Report,
    Seed,
    Task,
    TimeFormat,
    cell_options,
    choices,
    one_of,
    registry,
)
from serving.progress import shown

if TYPE_CHECKING:
    from training.registry.registry import Registry, RegistryEntry
    from training.tables.cells import CellOptions

CHAMPION = "champion"
Alias = Annotated[str, typer.Option("--alias", help="The alias that is moved.")]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="The table with labels on which the model is compared with the one that the alias points to.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Point the alias to the model also where it is worse.")]


def _add(
    ctx: typer.Context,
    options: Mapping[str, Any],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A bundle that `train --out DIR` wrote.", show_default=False)],
    name: Annotated[str | None, typer.Option("--name", help="Its name in the registry. [default: its version]", show_default=False)] = None,
    alias: Annotated[str | None, typer.Option("--alias", help="Point this alias to it, such as champion.", show_default=False)] = None,
    data: Data = None,
    force: Force = False,
    maps: Maps = None,
    blank: Blanks = None,
    time_format: TimeFormat = None,
    decimal: Decimal = None,
    url: RegistryUrl = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Report:
    """Copy a bundle into the registry, verified.

    With --alias also do what `models promote` does.
    """
    chosen = choices(ctx, seed, as_json, quiet)
    models = registry(url)
    _refuse_without_alias(alias, data, force)
    warnings = [] if models.exists() else [_created(models)]
    entry = models.add(directory, name=name)
    ref = f"{entry.task}/{entry.name}"
    if alias is None:
        notes = [*warnings, f"to serve it: revenue-engine models promote {ref}"]
        return Report(f"added {ref} to {models.where}", notes, data=_data(models, entry))
    found = _examined(models, entry, alias, _table(data, maps, options, cell_options(blank, time_format, decimal)), force, chosen)
    entry = models.promote(ref, alias)
    did = f"added {ref} to {models.where} as {alias}"
    return Report(did, [*warnings, *_notes(found)], _lines(found), _data(models, entry, found))


def _promote(
    ctx: typer.Context,
    options: Mapping[str, Any],
    model: ModelRef,
    alias: Alias = CHAMPION,
    data: Data = None,
    force: Force = False,
    maps: Maps = None,
    blank: Blanks = None,
    time_format: TimeFormat = None,
    decimal: Decimal = None,
    url: RegistryUrl = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Report:
    """Point an alias to a model.

    Running servers take it within 5 seconds. It is compared with the model that the alias points to: on --data, or on simulated sessions
    where that model was learned from the simulated shop. Where it is worse you are asked first.
    """
    chosen = choices(ctx, seed, as_json, quiet)
    models = registry(url)
    table = _table(data, maps, options, cell_options(blank, time_format, decimal))
    found = _examined(models, models.show(model), alias, table, force, chosen)
    entry = models.promote(model, alias)
    did = f"{entry.task}@{alias} is now {entry.name} in {models.where}"
    return Report(did, _notes(found), _lines(found), _data(models, entry, found))


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

    models = registry(url)
    entry = models.rollback(one_of(task, tuple(MODELS), "task"), alias)
    return Report(f"{entry.task}@{alias} is {entry.name} again in {models.where}", data=_data(models, entry))


def delete(
    ctx: typer.Context, model: ModelRef, url: RegistryUrl = None, seed: Seed = None, as_json: Json = False, quiet: Quiet = False
) -> Report:
    """Remove a model to which no alias points. This cannot be undone."""
    choices(ctx, seed, as_json, quiet)
    models = registry(url)
    entry = models.delete(model)
    return Report(f"deleted {entry.task}/{entry.name} from {models.where}", data=_data(models, entry))


add, promote = judging.with_options(_add), judging.with_options(_promote)


def _table(data: Path | None, maps: Sequence[str] | None, options: Mapping[str, Any], cells: "CellOptions") -> judging.TableReading | None:
    return None if data is None else judging.TableReading(data, maps, options, cells)


def _refuse_without_alias(alias: str | None, data: Path | None, force: bool) -> None:
    """Raise BadParameter (exit code 2) for an option of a promotion where nothing is promoted."""
    for option, given in (("--data", data is not None), ("--force", force)):
        if given and alias is None:
            raise typer.BadParameter(f"{option} needs --alias: without it nothing is compared or replaced")


def _examined(
    models: "Registry",
    entry: "RegistryEntry",
    alias: str,
    table: judging.TableReading | None,
    force: bool,
    chosen: Choices,
) -> comparison.ChampionComparison | str | None:
    """Return how a model compares with the one it replaces, None with --force and no table to compare on.

    Raises RegistryError where it is worse and there is neither --force nor a person who agrees.
    """
    from training.errors import RegistryError

    if force and table is None:
        return None
    with shown(chosen.quiet or chosen.as_json) as progress:
        found = comparison.with_champion(models, entry, alias, table, progress)
    if isinstance(found, comparison.ChampionComparison) and found.worse and not force:
        ref = f"{entry.task}/{entry.name}"
        why = f"on {found.data} {found.sentence}"
        if chosen.as_json or chosen.quiet or not sys.stdin.isatty():
            raise RegistryError(f"{ref} is in {models.where}, but not {alias}: {why}; point {alias} to it anyway with --force")
        typer.echo("\n".join(found.lines), err=True)
        if not typer.confirm(f"{why}. Point {alias} to {ref} anyway?", err=True):
            raise RegistryError(f"{entry.task}@{alias} is still {found.champion}: {why}")
    return found


def _created(models: "Registry") -> str:
    return (
        f"warning: {models.where} was not there, and is created: no server reads it unless `revenue-engine serve` runs in {Path.cwd()}, or "
        f"has REVENUE_ENGINE_MODELS__REGISTRY={models.where}"
    )


def _notes(found: comparison.ChampionComparison | str | None) -> list[str]:
    if found is None:
        return []
    return [found if isinstance(found, str) else f"on {found.data} {found.sentence}"]


def _lines(found: comparison.ChampionComparison | str | None) -> list[str]:
    return found.lines if isinstance(found, comparison.ChampionComparison) else []


def _data(models: "Registry", entry: "RegistryEntry", found: comparison.ChampionComparison | str | None = None) -> dict[str, Any]:
    compared = found if found is None or isinstance(found, str) else found._asdict()
    return {"registry": models.where, **entry_data(entry), **({} if compared is None else {"comparison": compared})}
