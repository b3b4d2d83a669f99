"""What the tables of all tasks have in common: the protocol of a table, its fields, its columns, and the checks of --map."""

import dataclasses
import difflib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from training.errors import TableError
from training.tables import cells
from training.tables.cells import DEFAULT, CellOptions
from training.tables.cells.options import DecimalMark

if TYPE_CHECKING:
    import polars as pl

Grain = Literal["row", "group", "folder"]
Mapped = Mapping[str, str | Sequence[str]]  # {field: column}, {field: columns} of a field that may have several

WORDS = {"true": 1.0, "yes": 1.0, "y": 1.0, "t": 1.0, "1": 1.0, "false": 0.0, "no": 0.0, "n": 0.0, "f": 0.0, "0": 0.0}


@dataclass(frozen=True, slots=True)
class Field:
    """A field. published: its column in the published table; several: it may have several columns.

    needed: whether training needs it, and for what; scoring: the same for `batch`, "" where it is as in training.
    """

    name: str
    unit: str
    needed: str = "no: absent is missing"
    published: str = ""
    several: bool = False
    scoring: str = ""

    def need(self, verb: str) -> str:
        """Return whether `train` or `batch` needs it, and for what."""
        return self.scoring if verb == "batch" and self.scoring else self.needed


@dataclass(frozen=True, slots=True)
class FieldColumns:
    """The columns of a table. of: {field: its column}; ignored: the columns that no model uses, the label among them when scoring."""

    of: Mapping[str, str]
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """How a job reads a table, resolved once from its header and --map.

    columns: those of every file; numbers: the columns to read as float64; ignored: the columns that the model does not use; whole: an
    answer depends on several rows, so that the table is scored as a whole; per_row: there is one answer for each row. decimals: {column:
    decimal mark} of numbers that are text, None where what was read before the first row is scored does not show it; others have a point.
    features: what the table has for features of a model, by their names there; None of a table without such features.
    """

    columns: tuple[str, ...]
    numbers: frozenset[str]
    ignored: tuple[str, ...]
    whole: bool = False
    per_row: bool = True
    decimals: Mapping[str, DecimalMark | None] = dataclasses.field(default_factory=dict)
    features: tuple[str, ...] | None = None


class TableKind(Protocol):
    """A kind of table that a task learns from and scores.

    fields: what its columns may be; keys: those that hold ids; published_as: the data set whose column names it accepts too, "" for none.
    grain: what an answer is for: "row", each row; "group", each group of rows, such as a customer's purchases; "folder", each group of rows
    that `join` makes of the files in a folder.
    """

    fields: tuple[Field, ...]
    keys: tuple[str, ...] = ()
    published_as: str = ""
    grain: Grain = "row"

    @abstractmethod
    def number_columns(self, mapping: Mapped | None = None) -> frozenset[str]:
        """Return the names of columns whose cells are numbers and nothing else, for `frames.read`."""

    @abstractmethod
    def plan(self, columns: Sequence[str], mapping: Mapped | None = None) -> ReadPlan:
        """Return how to read a table with these columns.

        Raises TableError when a mapped field or column does not exist, or a column that is needed does not.
        """

    def with_cells(self, frame: "pl.DataFrame", options: CellOptions = DEFAULT) -> "pl.DataFrame":
        """Return a table, columns named by field, with its ids as text, null where one is blank; then no word is blank any more.

        A table with times returns them typed. Raises TableError and CellError for times that cannot be read.
        """
        return frame.with_columns([cells.ids(frame[name], options) for name in self.keys if name in frame.columns])

    def joins(self, source: Path) -> bool:
        """Return whether `join` reads this source; without it each file is a table."""
        return False

    def join(self, source: Path, mapping: Mapped | None = None, cells: CellOptions = DEFAULT, **options: Any) -> "pl.DataFrame":
        """Return one table of the files in `source`, its columns named by field. options: the task's own for `batch`.

        Raises TableError for files that do not fit together.
        """
        raise TypeError(f"{type(self).__name__} joins no files: this is a bug")


def single(mapping: Mapped | None) -> dict[str, str]:
    """Return {field: column} of a mapping in which no field has several columns."""
    return {field: str(column) for field, column in (mapping or {}).items()}


def like(word: str, known: Sequence[str]) -> str:
    """Return a suggestion to append to the message about an unknown name, "" when no known name is similar."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def listed(names: Sequence[str]) -> str:
    """Return names as a list for a message, at most 20 of them."""
    return ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")


def check(named: Mapping[str, Sequence[str]], fields: Sequence[str], columns: Sequence[str]) -> None:
    """Raise TableError unless --map, the columns of each field, has fields of the task and columns of the table alone."""
    for field, names in named.items():
        for name in names:
            if field not in fields:
                raise TableError(f"--map {field}={name}: there is no field {field!r}{like(field, fields)}; --column-help lists them")
            if name not in columns:
                raise TableError(f"--map {field}={name}: the table has no column {name!r}{like(name, columns)}; it has {listed(columns)}")
