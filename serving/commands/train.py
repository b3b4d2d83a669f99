"""`revenue-engine train`: fit, evaluate, write a bundle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from serving.commands.options import (
    Blanks,
    ColumnHelp,
    Decimal,
    Example,
    Json,
    Maps,
    Quiet,
    Report,
    Seed,
    TimeFormat,
    cell_options,
    choices,
    headline,
    require,
)
from serving.commands.tasks import TaskVerb
from serving.progress import shown
from training.models import MODELS


def train(
    ctx: typer.Context,
    task: str,
    options: Mapping[str, Any],
    data: Annotated[Path | None, typer.Option("--data", metavar="PATH", help="CSV or Parquet: a file or a folder.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for the bundle: new or empty.")] = None,
    maps: Maps = None,
    blank: Blanks = None,
    time_format: TimeFormat = None,
    decimal: Decimal = None,
    column_help: ColumnHelp = False,
    example: Example = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Report:
    """Fit a model on a table, write it as a bundle.

    DIR/metrics.json has its quality on held-out rows.
    """
    chosen = choices(ctx, seed, as_json, quiet)
    from serving.batch.sources import Source
    from serving.commands import columns, examples

    if column_help:
        return columns.described(task, "train")
    if example is not None:
        return examples.written(task, example, chosen.seed or 0, "train")
    data, out = require(data, "--data"), require(out, "--out")
    mapping = columns.mapping(maps, task)
    columns.require_columns(mapping, task, Source(data))
    cells = cell_options(blank, time_format, decimal)
    with shown(chosen.quiet or chosen.as_json) as progress:
        bundle = MODELS[task].train(data, out, mapping=mapping, cells=cells, seed=chosen.seed or 0, progress=progress, **options)
    metrics = bundle.json("metrics.json")
    return Report(
        f"trained {bundle.version} into {out}",
        [
            *(f"warning: {one}" for one in metrics.get("warnings", ())),
            headline(metrics),
            f"all figures: {out / 'metrics.json'}",
            f"to serve it: revenue-engine models add {out} --alias champion",
        ],
        data={"task": task, "version": bundle.version, "out": str(out), "metrics": metrics},
    )


TRAIN = TaskVerb(train, lambda task: MODELS[task].train_options)
