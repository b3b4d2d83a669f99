"""Read a table of texts with their emotions: the labels, and the groups of emotions.

Labels and groups are GoEmotions' (Demszky et al. 2020): 27 emotions and neutral, and Ekman's six with neutral as the seventh.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from kernels.types import F32
from training.errors import CellError, TableError
from training.tables import cells
from training.tables.cells import DEFAULT, CellOptions
from training.tables.table import Field, FieldColumns, Mapped, ReadPlan, TableKind, check, like, listed, single

TEXT, LABELS = "text", "labels"
FIELDS: tuple[Field, ...] = (
    Field(TEXT, "text, in English", "yes; of a .tsv without a header: column1"),
    Field(LABELS, "names or numbers of emotions, with commas between them", "yes; of a .tsv: column2", scoring="ignored"),
)
FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in FIELDS)
_KNOWN_AS = {TEXT: (TEXT, "column1"), LABELS: (LABELS, "column2")}

EMOTIONS: tuple[str, ...] = (
    *("admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion", "curiosity", "desire", "disappointment"),
    *("disapproval", "disgust", "embarrassment", "excitement", "fear", "gratitude", "grief", "joy", "love", "nervousness", "optimism"),
    *("pride", "realization", "relief", "remorse", "sadness", "surprise", "neutral"),
)
NEUTRAL = "neutral"
EKMAN: Mapping[str, tuple[str, ...]] = {
    "anger": ("anger", "annoyance", "disapproval"),
    "disgust": ("disgust",),
    "fear": ("fear", "nervousness"),
    "joy": (
        *("joy", "amusement", "approval", "excitement", "gratitude", "love", "optimism", "relief", "pride", "admiration"),
        *("desire", "caring"),
    ),
    "sadness": ("sadness", "disappointment", "embarrassment", "grief", "remorse"),
    "surprise": ("surprise", "realization", "confusion", "curiosity"),
    NEUTRAL: (NEUTRAL,),
}
FRUSTRATION: tuple[str, ...] = ("anger", "annoyance", "disappointment", "disapproval", "disgust")  # any of them; ours
_PLACES = {name: place for place, name in enumerate(EMOTIONS)}
_GROUPS = [[_PLACES[name] for name in names] for names in (*EKMAN.values(), FRUSTRATION)]


@dataclass(frozen=True, slots=True)
class LabelledTexts:
    """Texts, and the emotions in each: float32 [texts, len(EMOTIONS)] of 0 and 1."""

    texts: list[str]
    labels: F32


class TextsTable(TableKind):
    """A table of texts, one a row."""

    fields = FIELDS

    def number_columns(self, mapping: Mapped | None = None) -> frozenset[str]:
        """Return nothing: no column holds numbers."""
        return frozenset()

    def plan(self, columns: Sequence[str], mapping: Mapped | None = None) -> ReadPlan:
        """Return how to read the texts; see `resolve` for what it raises."""
        return ReadPlan(tuple(columns), frozenset(), resolve(columns, mapping).ignored)

    def with_cells(self, frame: pl.DataFrame, options: CellOptions = DEFAULT) -> pl.DataFrame:
        """Return a table with an empty text in place of one that is nothing but a word for a missing cell."""
        if TEXT not in frame.columns:
            return frame
        return frame.with_columns(pl.when(cells.ids(frame[TEXT], options).is_null()).then(pl.lit("")).otherwise(pl.col(TEXT)).alias(TEXT))


TABLE = TextsTable()


def resolve(columns: Sequence[str], mapping: Mapped | None = None) -> FieldColumns:
    """Return the column of each field: that in `mapping`, else the one with the field's name. Raises TableError without a text."""
    mapping = single(mapping)
    check({field: (column,) for field, column in mapping.items()}, FIELD_NAMES, columns)
    of = dict(mapping)
    for field, known in _KNOWN_AS.items():
        column = next((name for name in known if name in columns and name not in mapping.values()), None)
        if field not in of and column is not None:
            of[field] = column
    if TEXT not in of:
        raise TableError(f"no column is the text; the table has {listed(columns)}. Name it with --map text=COLUMN")
    return FieldColumns(of, tuple(column for column in columns if column != of[TEXT]))


def texts(frame: Any, mapping: Mapped | None = None) -> list[str]:
    """Return the texts of a table, "" for missing ones. Raises TableError without a column of texts."""
    table = nw.from_native(frame, eager_only=True)
    column = table[resolve(table.columns, mapping).of[TEXT]].cast(nw.String)
    return ["" if text is None else text for text in column.to_list()]


def read(frame: Any, mapping: Mapped | None = None) -> LabelledTexts:
    """Return the texts of a table with their emotions. Raises TableError without a column of labels, CellError for an unknown one."""
    table = nw.from_native(frame, eager_only=True)
    of = resolve(table.columns, mapping).of
    if LABELS not in of:
        raise TableError(f"no column is the labels; the table has {listed(table.columns)}. Name it with --map labels=COLUMN")
    labels = np.zeros((len(table), len(EMOTIONS)), np.float32)
    for row, cell in enumerate(table[of[LABELS]].cast(nw.String).to_list()):
        for word in (cell or "").split(","):
            labels[row, _place(word.strip(), row, of[LABELS])] = 1
    return LabelledTexts(texts(frame, mapping), labels)


def grouped(labels: F32) -> F32:
    """Return whether any emotion of a group is present, float32 [texts, groups]: Ekman's in the order of EKMAN, and FRUSTRATION."""
    return np.stack([labels[:, places].max(axis=1) for places in _GROUPS], axis=1)


def _place(word: str, row: int, column: str) -> int:
    place = int(word) if word.isdecimal() else _PLACES.get(word.lower(), -1)
    if not 0 <= place < len(EMOTIONS):
        raise CellError(row, column, word, f"give names or numbers from 0 to {len(EMOTIONS) - 1}{like(word, EMOTIONS)}")
    return place
