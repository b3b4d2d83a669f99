"""The answer to --example: a small valid table of a task, and the command that takes it."""

from pathlib import Path

import typer

from serving.commands.options import Report
from serving.errors import OutputError
from training.models import MODELS

_SUFFIXES = (".csv", ".csv.gz", ".parquet")
_NEXT = {
    "train": "revenue-engine train {task} --data {path} --out {task}-model",
    "batch": "revenue-engine batch {task} --model {task}-model --input {path} --output {task}-scores.csv",
}


def written(task: str, path: Path, seed: int, verb: str) -> Report:
    """Write the example of a task for `train` or `batch` into a new file and return the report.

    Raises BadParameter (exit code 2) for a suffix that is no table's, OutputError where the file exists, TableError for a kind of table
    without an example.
    """
    from serving.batch import sinks
    from training.datasets import examples

    if not path.name.lower().endswith(_SUFFIXES):
        raise typer.BadParameter(f"--example {path}: the suffix is not known; use {', '.join(_SUFFIXES)}")
    if path.exists():
        raise OutputError(f"{path} exists; name another file for the example")
    sinks.accepted(path)
    tables = examples.of(MODELS[task].table_module, seed)
    frame = tables.train if verb == "train" else tables.batch
    with sinks.opened(path) as write:
        write(frame)
    return Report(
        f"wrote a simulated table of {frame.height:,} rows into {path}",
        [f"next: {_NEXT[verb].format(task=task, path=path)}"],
        data={"task": task, "example": str(path), "rows": frame.height, "columns": frame.columns, "seed": seed},
    )
