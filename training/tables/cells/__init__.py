"""Read the cells of a table one way, for training, batch jobs and imports: keys, numbers, money, times and blank words.

What a cell means is decided from its whole column. What is ambiguous is refused with both readings; nothing is guessed.
"""

from training.tables.cells.categories import many_values
from training.tables.cells.columns import as_polars, texts
from training.tables.cells.ids import blank_words, ids, without
from training.tables.cells.notations import NumberNotation, distinct_texts
from training.tables.cells.numbers import floats, is_number, numbers
from training.tables.cells.options import BLANK, DEFAULT, EMPTY_ONLY, CellOptions
from training.tables.cells.times import WHOLE_NUMBER, TimeColumn, times

__all__ = [
    "BLANK",
    "DEFAULT",
    "EMPTY_ONLY",
    "WHOLE_NUMBER",
    "CellOptions",
    "NumberNotation",
    "TimeColumn",
    "as_polars",
    "blank_words",
    "distinct_texts",
    "floats",
    "ids",
    "is_number",
    "many_values",
    "numbers",
    "texts",
    "times",
    "without",
]
