"""`revenue-engine train`: fit, evaluate, write a bundle."""

from pathlib import Path
from typing import Annotated, Any

import typer

from serving.commands.options import ColumnHelp, Json, Maps, Quiet, Report, Seed, Task, choices, headline, one_of, require
from serving.progress import shown


def train(
    ctx: typer.Context,
    task: Task,
    data: Annotated[Path | None, typer.Option("--data", metavar="PATH", help="CSV or Parquet: a file or a folder.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for the bundle: new or empty.")] = None,
    maps: Maps = None,
    column_help: ColumnHelp = False,
    effects: Annotated[
        str | None, typer.Option("--effects", metavar="LIST", help="pricing: of product,store,period. [default: those that the table has]")
    ] = None,
    positive: Annotated[
        str | None, typer.Option("--positive", metavar="TEXT", help="churn: the label of who left. [default: Yes, True or 1]")
    ] = None,
    control: Annotated[
        str | None, typer.Option("--control", metavar="TEXT", help="churn: the arm of `treatment` that nothing was done to.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="DAY", help="value: the last day to learn from. [default: the last]")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--end", metavar="DAY", help="value: the last day to compare with. [default: the last]")
    ] = None,
    score: Annotated[
        Path | None, typer.Option("--score", metavar="FILE", help="value: write every customer into it, .csv or .parquet.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="emotion: fine-tune the whole encoder, not the head alone; takes four times as long.")
    ] = False,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Report:
    """Fit a model on a table, write it as a bundle.

    DIR/metrics.json says how good it is.
    """
    chosen = choices(ctx, seed, as_json, quiet)
    from training.models import MODELS

    model = MODELS[one_of(task, tuple(MODELS), "task")]
    from serving.commands import columns as fields

    if column_help:
        return fields.described(task)
    data, out = require(data, "--data"), require(out, "--out")
    columns = fields.mapping(maps, task, data)
    words = None if effects is None else tuple(word.strip() for word in effects.split(",") if word.strip())
    given: dict[str, Any] = {"effects": words, "positive": positive, "control": control, "split": split, "end": end, "score": score}
    given["full"] = full or None
    options = {name: value for name, value in given.items() if value is not None}
    if unknown := [name for name in options if name not in model.options]:
        raise typer.BadParameter(f"--{unknown[0]} is nothing to {task}; leave it out")
    with shown(chosen.quiet or chosen.as_json) as progress:
        bundle = model.train(data, out, mapping=columns, seed=chosen.seed or 0, progress=progress, **options)
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
