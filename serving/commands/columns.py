"""What a task's table holds: the answer to --column-help, and the fields that --map may name."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from serving.batch import sources
from serving.batch.task import columns_of
from serving.commands.options import Report, aligned, like, mapped
from training.errors import TableError
from training.models import MODELS


def names(task: str) -> tuple[str, ...]:
    """Return the names of the task's fields."""
    return tuple(field.name for field in _fields(task))


def described(task: str) -> Report:
    """Return the task's fields: name, unit, whether they are needed, and the column of the published table that each one is."""
    found = _fields(task)
    rows = [("FIELD", "UNIT", "NEEDED", "PUBLISHED COLUMN"), *((f.name, f.unit, f.needed, f.published or "-") for f in found)]
    published = f", its published name ({MODELS[task].table.PUBLISHED_AS})" if any(f.published for f in found) else ""
    several = [f.name for f in found if f.several]
    lines = [*aligned(rows), f"A column may have its field's name{published}, or any with --map."]
    lines += [f"Several columns may be one of {', '.join(several)}: repeat --map FIELD=COLUMN."] if several else []
    return Report(lines=lines, data={"task": task, "fields": [asdict(field) for field in found]})


def mapping(words: Sequence[str] | None, task: str, table: Path) -> dict[str, Any]:
    """Return {field: column} of the --map words, {field: columns} where a field may be several.

    Raises BadParameter (exit code 2) for no field of the task, or no column of `table`.
    """
    found = mapped(words, names(task), {field.name for field in _fields(task) if field.several})
    columns = _columns(table) if found else ()
    for field, named in found.items():
        for column in (named,) if isinstance(named, str) else named:
            if columns and column not in columns:
                raise typer.BadParameter(f"--map {field}={column}: {table} has no column {column!r}{like(column, columns)}")
    return found


def _columns(table: Path) -> tuple[str, ...]:
    """Return the columns of the first file, () if that cannot be told: the command itself will say why."""
    try:
        with closing(sources.read(sources.files(table))) as read:
            return columns_of(next(read))
    except TableError:
        return ()


def _fields(task: str) -> Sequence[Any]:
    fields: Sequence[Any] = MODELS[task].table.FIELDS
    return fields
