"""The columns of a task's table: the answer to --column-help, and the columns that --map and --keep name."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any, Literal

import typer

from serving.batch.sources import Source
from serving.batch.task import ALL, REQUEST_IDS
from serving.commands.options import Report, aligned, like, mapped
from training.errors import TableError
from training.models import MODELS

Verb = Literal["train", "batch"]
_VERBS = {"train": "TO TRAIN", "batch": "TO SCORE"}


def described(task: str, verb: Verb) -> Report:
    """Return the task's fields: name, unit, whether `train` or `batch` needs them, and the column of the published table that each is."""
    table = MODELS[task].table
    fields = table.fields
    head = ("FIELD", "UNIT", f"NEEDED {_VERBS[verb]}", "PUBLISHED COLUMN")
    rows = [head, *((f.name, f.unit, f.need(verb), f.published or "-") for f in fields)]
    published = f", its published name ({table.published_as})" if any(f.published for f in fields) else ""
    several = [f.name for f in fields if f.several]
    lines = [*aligned(rows), f"A column may have its field's name{published}, or any with --map."]
    lines += [f"Several columns may be one of {', '.join(several)}: repeat --map FIELD=COLUMN."] if several else []
    if verb == "batch" and (known := ids(task)):
        lines += [f"Ids to copy to the output: {', '.join(known)}; --map names columns of other names, --keep copies any column."]
    lines += [f"Example: revenue-engine {verb} {task} --example FILE"]
    described_fields = [{**asdict(field), "needed": field.need(verb)} for field in fields]
    for field in described_fields:
        field.pop("scoring")
    return Report(lines=lines, data={"task": task, "verb": verb, "fields": described_fields})


def ids(task: str) -> tuple[str, ...]:
    """Return the ids of a request that --map can name for `batch`: those of a row that are no fields of the task's table."""
    from serving.engines import named

    table, request = MODELS[task].table, named(task).request
    fields = {field.name for field in table.fields}
    known = REQUEST_IDS.items() if table.grain == "row" else ()
    return tuple(name for name, field in known if field in request.__struct_fields__ and name not in fields)


def mapping(words: Sequence[str] | None, task: str, ids: Sequence[str] = ()) -> dict[str, Any]:
    """Return {field: column} of the --map words, {field: columns} where a field may be several; ids: names that are allowed beside fields.

    Raises BadParameter (exit code 2) for a word that names neither.
    """
    fields = MODELS[task].table.fields
    return mapped(words, [*(field.name for field in fields), *ids], {field.name for field in fields if field.several})


def require_columns(mapping: dict[str, Any], task: str, source: Source) -> None:
    """Raise BadParameter (exit code 2) for a mapped column that the source does not have.

    An input that cannot be read, and one whose files are joined first, are left to the command.
    """
    for field, named in mapping.items():
        for column in (named,) if isinstance(named, str) else named:
            _require(column, f"--map {field}={column}", _columns(task, source), source)


def require_kept(keep: Collection[str], task: str, source: Source) -> None:
    """Raise BadParameter (exit code 2) for a column of --keep that the source does not have, and where rows have no answer each."""
    if keep and MODELS[task].table.grain != "row":
        raise typer.BadParameter(f"--keep {next(iter(keep))}: an answer of {task} is for several rows, so none can be copied; leave it out")
    columns = _columns(task, source) if keep else ()
    for name in keep:
        if name == ALL and ALL not in columns and len(keep) > 1:
            raise typer.BadParameter(f"--keep {ALL} beside other columns; leave them out, or leave {ALL} out")
        if name != ALL:
            _require(name, f"--keep {name}", columns, source)


def _columns(task: str, source: Source) -> tuple[str, ...]:
    """Return the columns of a table, () of requests and where they are not yet known."""
    if source.path.is_dir() and MODELS[task].table.joins(source.path):
        return ()
    try:
        return source.columns
    except TableError:
        return ()


def _require(column: str, option: str, columns: Sequence[str], source: Source) -> None:
    if columns and column not in columns:
        raise typer.BadParameter(f"{option}: {source.path} has no column {column!r}{like(column, columns)}")
