"""What the tables of all tasks have in common: fields with a name, columns that are fields, and words for what is wrong."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.errors import TableError

WHOLE = r"^(-?\d+)\.0+$"  # a whole number that a spreadsheet has made a decimal of: the first group is how it was written
WORDS = {"true": 1.0, "yes": 1.0, "y": 1.0, "t": 1.0, "1": 1.0, "false": 0.0, "no": 0.0, "n": 0.0, "f": 0.0, "0": 0.0}


@dataclass(frozen=True, slots=True)
class Field:
    """What a column may hold. `published`: its name in the published table; `needed`: what for; `several`: it may be several columns."""

    name: str
    unit: str
    needed: str = "no: absent is missing"
    published: str = ""
    several: bool = False


@dataclass(frozen=True, slots=True)
class Columns:
    """What a table's columns are: `of[field]` is the name of the field's column; `ignored` are the columns that are nothing."""

    of: Mapping[str, str]
    ignored: tuple[str, ...]


def like(word: str, known: Sequence[str]) -> str:
    """Return what to put behind a name that is not known, "" when none is near."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def listed(names: Sequence[str]) -> str:
    """Return names as a list to read, not all of them where there are many."""
    return ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")


def check(named: Mapping[str, Sequence[str]], fields: Sequence[str], columns: Sequence[str]) -> None:
    """Raise TableError unless what --map names, the columns of each field, are fields of the task and columns of the table."""
    for field, names in named.items():
        for name in names:
            if field not in fields:
                raise TableError(f"--map {field}={name}: there is no field {field!r}{like(field, fields)}; --column-help lists them")
            if name not in columns:
                raise TableError(f"--map {field}={name}: the table has no column {name!r}{like(name, columns)}; it has {listed(columns)}")
