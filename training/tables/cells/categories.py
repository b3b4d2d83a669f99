"""Categories with nearly as many values as rows, from which nothing can be learned."""

import polars as pl

from training.errors import TableError
from training.tables.cells.notations import parsed
from training.tables.cells.options import DEFAULT, CellOptions
from training.tables.cells.times import times

MIN_VALUES = 50  # of a category, to be warned about
MANY = 0.9  # values of a category for each of its rows, from which on it is warned about
FEW_OTHERS = 0.5  # the share of texts that are numbers, from which on a column may be one of numbers
LONG = 30  # characters of a text that is free


def many_values(name: str, distinct: pl.Series, rows: int, fix: str, options: CellOptions = DEFAULT) -> list[str]:
    """Return a warning about a category with nearly as many values as rows: what it may be; none where it has fewer.

    distinct: its values, without blank ones; rows: those that are not blank; fix: what to do with a column that is no category.
    """
    if len(distinct) < MIN_VALUES or len(distinct) < MANY * rows:
        return []
    return [f"column {name} is read as a category, and has {len(distinct):,} values in {rows:,} rows: {_guess(distinct, options)}; {fix}"]


def _guess(distinct: pl.Series, options: CellOptions) -> str:
    texts = distinct.cast(pl.String).str.strip_chars()
    found = parsed(texts)
    numbers = {mark: values.is_not_null() for mark, values in found.values.items()}
    best = max(numbers.values(), key=lambda there: int(there.sum()))
    if best.sum() >= FEW_OTHERS * len(texts):
        return f"it may be numbers, of which {texts.filter(~best)[0]!r} is none" if not best.all() else "it may be numbers in two notations"
    if _are_times(texts, options):
        return "it may be times, which are no category"
    return "it may be free text" if (texts.str.len_chars().mean() or 0) > LONG else "it may be an id"  # type: ignore[operator]


def _are_times(texts: pl.Series, options: CellOptions) -> bool:
    try:
        times(texts, options)
    except TableError:
        return False
    return True
