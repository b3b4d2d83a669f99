"""The checks of every batch job that no record is lost: as many rows leave as come in."""

import polars as pl

from serving.batch.task import TABLE_IDS
from serving.errors import OutputError

_BUG = "this is a bug in the program, not in the input; nothing was written; please report it with the file"


def require(found: int, expected: int, what: str, where: str) -> None:
    """Raise OutputError unless `found` rows are the `expected` ones; what: what happened to them, such as "rows were parsed"."""
    if found != expected:
        raise OutputError(f"{where}: {found:,} {what}, of {expected:,} in the input: {_BUG}")


def require_distinct(answers: pl.DataFrame, task: str) -> None:
    """Raise OutputError unless each answer is for another group of rows, such as a customer, named in its first column with an id."""
    name = next((name for name in answers.columns if name in TABLE_IDS), None)
    if name is None:
        raise OutputError(f"the answers of {task} name no group of rows: {_BUG}")
    if (again := answers.filter(pl.col(name).is_duplicated())).height:
        raise OutputError(f"{name} {again[name][0]!r} has more than one answer: {_BUG}")
