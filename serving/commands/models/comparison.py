"""`models compare`, and the comparison with the champion that a promotion makes."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from serving.commands import references
from serving.commands.evaluation import judging
from serving.commands.options import (
    Blanks,
    Decimal,
    Json,
    Maps,
    Quiet,
    RegistryUrl,
    Report,
    Seed,
    TimeFormat,
    cell_options,
    choices,
    require,
)
from serving.progress import Progress, shown
from training.models import MODELS

if TYPE_CHECKING:
    from training.evaluation.comparison import Comparison
    from training.registry.bundle import Bundle
    from training.registry.registry import Registry, RegistryEntry

SESSIONS, SEED = 5_000, 1  # of the shop that is simulated for a comparison; a default model is learned from another seed's
COMPARISON = "comparison.json"
_ONE = "The folder of a bundle, or a model of the registry: TASK/NAME, TASK@ALIAS."


def _compare(
    ctx: typer.Context,
    options: Mapping[str, Any],
    one: Annotated[str, typer.Argument(metavar="A", help=_ONE, show_default=False)],
    other: Annotated[str, typer.Argument(metavar="B", help="Another model of the same task.", show_default=False)],
    data: judging.Data = None,
    out: judging.Out = None,
    maps: Maps = None,
    blank: Blanks = None,
    time_format: TimeFormat = None,
    decimal: Decimal = None,
    url: RegistryUrl = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Report:
    """Compare two models on the same rows.

    Figures of both, and B - A with an interval by the bootstrap over rows, or over customers where the table names them.
    """
    chosen = choices(ctx, seed, as_json, quiet)
    from serving import settings

    source: Path = require(data, "--data")
    judging.require_free(out)
    read = judging.TableReading(source, maps, options, cell_options(blank, time_format, decimal))
    with shown(chosen.quiet or chosen.as_json) as progress:
        current = settings.load()
        first, second = (references.bundle(ref, url, current, progress) for ref in (one, other))
        if first.task != second.task:
            raise typer.BadParameter(f"{one} is a model of {first.task}, {other} of {second.task}; compare models of one task")
        judging.require_judged(first.task)
        names = (first.version, second.version) if first.version != second.version else (one, other)
        judged, found = _compared(first, second, read, chosen.seed or 0, progress)
        content = {"task": first.task, "a": first.version, "b": second.version, "data": source.name, **judging.comparison_data(found)}
        files = [] if out is None else judging.write(out, COMPARISON, content, dict(zip(names, judged, strict=True)), source.name)
    lines = [f"A {one} ({first.version}), B {other} ({second.version}), on {source.name}", *judging.lines(found, "A", "B")]
    plots = [f"plots: {', '.join(str(out / name) for name in files[1:])}"] if out is not None else ["--out DIR also writes plots"]
    notes = [*judging.seen(first, source), *judging.seen(second, source), *plots]
    did = f"compared on {found.rows:,} rows of {source}: {judging.sentence(found, 'A', 'B')}"
    return Report(did, notes, lines, {**content, "files": files})


compare = judging.with_options(_compare)


def _compared(one: "Bundle", other: "Bundle", table: judging.TableReading, seed: int, progress: Progress) -> tuple[list[Any], "Comparison"]:
    """Return what two bundles predict for a table, and their comparison."""
    from training.evaluation import comparison

    judged = list[Any]()
    for place, bundle in enumerate((one, other)):
        progress(f"scoring with {bundle.version}", 0.3 * place)
        judged.append(judging.judge(bundle, table))
    progress("comparing", 0.6)
    return judged, comparison.compare(judged[0], judged[1], seed)


class ChampionComparison(NamedTuple):
    """How a model compares with the one that an alias points to. lines: the table; sentence: in words; worse: whether it is worse."""

    champion: str
    data: str
    lines: list[str]
    sentence: str
    worse: bool


def with_champion(
    models: "Registry",
    entry: "RegistryEntry",
    alias: str,
    table: judging.TableReading | None,
    progress: Progress,
) -> ChampionComparison | str | None:
    """Return how a model compares with the one that the alias points to; why they are not compared; None where there is no other.

    They are compared on `table`; without it, where that model was learned from the simulated shop, on other simulated sessions.
    """
    champion = models.pointer(entry.task, alias)
    if champion is None or champion == entry.name:
        return None
    if not MODELS[entry.task].evaluation:
        if table is not None:
            judging.require_judged(entry.task)
        return f"not compared with {champion}: a model of {entry.task} is not evaluated on a table"
    from training.registry.simulated import is_simulated

    bundles = models.fetch(entry.task, champion), models.fetch(entry.task, entry.name)
    if table is not None:
        return _of_champion(champion, bundles, table, table.data.name, progress)
    if not is_simulated(bundles[0].manifest):
        named = models.show(f"{entry.task}/{champion}").data or "its training data"
        return (
            f"not compared with {champion}, since {named} is not at hand: pass --data TABLE, or use "
            f"`revenue-engine models compare {entry.task}/{champion} {entry.task}/{entry.name} --data TABLE`"
        )
    with tempfile.TemporaryDirectory(prefix="revenue-engine-") as scratch:
        from training.datasets.shop import shop

        progress(f"simulating {SESSIONS:,} sessions to compare on", 0.0)
        shop.write(shop.simulate(SESSIONS, SEED), folder := Path(scratch) / "shop")
        return _of_champion(champion, bundles, judging.TableReading(folder, None, {}), f"{SESSIONS:,} simulated sessions", progress)


def _of_champion(
    champion: str, bundles: "tuple[Bundle, Bundle]", table: judging.TableReading, named: str, progress: Progress
) -> ChampionComparison:
    _, found = _compared(*bundles, table, 0, progress)
    lines = [f"on {named}:", *judging.lines(found, "CHAMPION", "NEW")]
    lines += [line for bundle in bundles for line in judging.seen(bundle, table.data)]
    return ChampionComparison(champion, named, lines, judging.sentence(found, "the champion", "the new model"), bool(found.by("worse")))
