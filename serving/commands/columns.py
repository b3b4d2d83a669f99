"""The columns of a task's table: the answer to --column-help, and the columns that --map names."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import typer

from serving.batch.sources import Source
from serving.commands.options import Report, aligned, like, mapped
from training.errors import TableError
from training.models import MODELS


def described(task: str) -> Report:
    """Return the task's fields: name, unit, whether they are needed, and the column of the published table that each one is."""
    table = MODELS[task].table
    fields = table.fields
    rows = [("FIELD", "UNIT", "NEEDED", "PUBLISHED COLUMN"), *((f.name, f.unit, f.needed, f.published or "-") for f in fields)]
    published = f", its published name ({table.published_as})" if any(f.published for f in fields) else ""
    several = [f.name for f in fields if f.several]
    lines = [*aligned(rows), f"A column may have its field's name{published}, or any with --map."]
    lines += [f"Several columns may be one of {', '.join(several)}: repeat --map FIELD=COLUMN."] if several else []
    return Report(lines=lines, data={"task": task, "fields": [asdict(field) for field in fields]})


def mapping(words: Sequence[str] | None, task: str) -> dict[str, Any]:
    """Return {field: column} of the --map words, {field: columns} where a field may be several.

    Raises BadParameter (exit code 2) for a word that names no field of the task.
    """
    fields = MODELS[task].table.fields
    return mapped(words, [field.name for field in fields], {field.name for field in fields if field.several})


def require_columns(mapping: dict[str, Any], task: str, source: Source) -> None:
    """Raise BadParameter (exit code 2) for a mapped column that the source does not have.

    An input that cannot be read, and one whose files are joined first, are left to the command.
    """
    if not mapping or (source.path.is_dir() and MODELS[task].table.joins(source.path)):
        return
    try:
        columns = source.columns
    except TableError:
        return
    for field, named in mapping.items():
        for column in (named,) if isinstance(named, str) else named:
            if columns and column not in columns:
                raise typer.BadParameter(f"--map {field}={column}: {source.path} has no column {column!r}{like(column, columns)}")
