"""`revenue-engine evaluate`: the figures of a model on a table with labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

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
    aligned,
    cell_options,
    choices,
    require,
)
from serving.progress import shown

FIGURES = "figures.json"
_MODEL = "The folder of a bundle, or a model of the registry: TASK/NAME, TASK@ALIAS."


def evaluate(
    ctx: typer.Context,
    options: Mapping[str, Any],
    model: Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL, show_default=False)],
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
    """Compute the figures of a model on a table with labels.

    They are those of metrics.json, on rows that are given, with plots of calibration and lift. Rows that the model learned from make it
    look better than it is.
    """
    chosen = choices(ctx, seed, as_json, quiet)
    from serving import settings

    source: Path = require(data, "--data")
    judging.require_free(out)
    with shown(chosen.quiet or chosen.as_json) as progress:
        bundle = references.bundle(model, url, settings.load(), progress)
        judging.require_judged(bundle.task)
        progress("scoring", 0.2)
        judged = judging.judge(bundle, judging.TableReading(source, maps, options, cell_options(blank, time_format, decimal)))
        figures = judged.measured()
        content = {"task": bundle.task, "version": bundle.version, "data": source.name, "rows": judged.rows, "figures": figures}
        files = [] if out is None else judging.write(out, FIGURES, content, {bundle.version: judged}, source.name)
    lines = aligned([(name, "-" if value is None else f"{value:.5g}", f"on {source.name}") for name, value in figures.items()])
    plots = [f"plots: {', '.join(str(out / name) for name in files[1:])}"] if out is not None else ["--out DIR also writes plots"]
    notes = [*judging.seen(bundle, source), *plots]
    return Report(f"evaluated {bundle.version} on {judged.rows:,} rows of {source}", notes, lines, {**content, "files": files})


COMMAND = judging.with_options(evaluate)
