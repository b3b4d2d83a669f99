"""Read a table of customers as numbers: the label, the features, and the values of their cells.

Every column without a field is a feature: a number where its cells are numbers, else a category. Cells are parsed here alone, for training,
batch and requests, so that all three have the same numbers.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import narwhals as nw
import numpy as np
import polars as pl

from kernels.types import F32, F64, I64
from training.errors import CellError, TableError
from training.tables import cells, frames
from training.tables.cells import DEFAULT, EMPTY_ONLY, CellOptions
from training.tables.cells.ids import WHOLE
from training.tables.table import Field, Mapped, ReadPlan, TableKind, check, listed

CUSTOMER, LABEL, TREATMENT, LEFT_OUT = "customer", "label", "treatment", "leftOut"

FIELDS: tuple[Field, ...] = (
    Field(CUSTOMER, "text", "no: rows of one customer are in one fold", "customerID", scoring="no: passed through"),
    Field(LABEL, "Yes or No, TRUE or FALSE, 1 or 0; others with --positive", "yes", "Churn", scoring="ignored"),
    Field(TREATMENT, "text: the treatment of the customer, assigned at random", "no: to learn its effect", scoring="ignored"),
    Field(
        LEFT_OUT, "anything", "no: columns to leave out; every other column without a field is a feature", several=True, scoring="ignored"
    ),
)
FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in FIELDS)
_KNOWN_AS = {CUSTOMER: (CUSTOMER, "customerID", "customerId"), LABEL: (LABEL, "Churn", "churn"), TREATMENT: (TREATMENT,)}
CONTROLS = ("control", "none", "no", "0", "nothing", "holdout", "no e-mail", "no treatment")  # names of the untreated arm

PAIRS = (("yes", "no"), ("true", "false"), ("1", "0"))  # labels whose positive one, the first, is evident
MIN_ROWS, MIN_OF_LABEL = 200, 20  # of a table to learn from, and of each of its two labels
MAX_NUMBER = 1e12  # of a number's size: far beyond any shop, and well within float32
MIN_NUMBER_TEXTS = 20  # distinct texts: of more, NUMBERS of which are numbers, the others are errors and not categories
NUMBERS = 0.9  # the share of distinct texts that makes such a column numeric

Value = float | str | bool | None


@dataclass(frozen=True, slots=True)
class CustomerFeature:
    """A column of the matrix. values: of a category, as spelled in the table: a value's place is its number in the matrix."""

    name: str
    kind: Literal["number", "category"]
    values: tuple[str, ...] = ()

    def reader(self) -> Callable[[Value], float]:
        """Return the parser of a value: NaN where it is missing or unseen; it raises ValueError for a text that is not a number."""
        if self.kind == "number":
            return number
        # No word is blank here: one that was so in training is none of the values.
        codes = {key(value, EMPTY_ONLY): float(place) for place, value in enumerate(self.values)}
        return lambda value: codes.get(key(value, EMPTY_ONLY), math.nan)


@dataclass(frozen=True, slots=True)
class CustomerColumns:
    """The columns of a table of customers. of: {field: its columns}; ignored: those that no model uses, the label among them."""

    of: Mapping[str, tuple[str, ...]]
    features: tuple[str, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LabelledCustomers:
    """A table to learn from.

    X: float32 [n, features], of a category the place among its `values`; y: float64 [n], 1 for the positive label; customer: int64 [n], the
    customer of a row, None where each has one row. unused: {column without information: reason}. arm: int64 [n], the place in `arms` of a
    customer's treatment, the untreated arm first; None without an experiment. warnings: about categories that are hardly any.
    """

    X: F32
    y: F64
    features: tuple[CustomerFeature, ...]
    customer: I64 | None
    positive: str
    negative: str
    columns: CustomerColumns
    unused: Mapping[str, str]
    arm: I64 | None = None
    arms: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class CustomersTable(TableKind):
    """A table of customers, one or more rows each."""

    fields = FIELDS
    published_as = "IBM's Telco sample"

    def number_columns(self, mapping: Mapped | None = None) -> frozenset[str]:
        """Return nothing: which columns are numbers is found from all of their cells in training, and kept with the model."""
        return frozenset()

    def plan(self, columns: Sequence[str], mapping: Mapped | None = None) -> ReadPlan:
        """Return how to read the customers; see `resolve` for what it raises."""
        found = resolve(columns, mapping)
        return ReadPlan(tuple(columns), self.number_columns(mapping), found.ignored, features=found.features)


TABLE = CustomersTable()


def resolve(columns: Sequence[str], mapping: Mapped | None = None) -> CustomerColumns:
    """Return the columns of each field: those in `mapping`, else one named as the field, else one with its published name.

    Raises TableError when a mapped field or column does not exist, or no column is left for a feature.
    """
    mapping = mapping or {}
    of = {field: (named,) if isinstance(named, str) else tuple(named) for field, named in mapping.items()}
    check(of, FIELD_NAMES, columns)
    taken = {name for names in of.values() for name in names}
    for field, names in _KNOWN_AS.items():
        found = next((name for name in names if name in columns and name not in taken), None)
        if field not in of and found is not None:
            of[field] = (found,)
    used = {name for names in of.values() for name in names}
    # A field's name belongs to the field, whatever column is mapped to it: a batch renames that column to it.
    features = tuple(name for name in columns if name not in used and name not in FIELD_NAMES)
    if not features:
        raise TableError(f"no column is a feature; the table has {listed(columns)}")
    return CustomerColumns(of, features, tuple(name for name in columns if name not in features and name not in of.get(CUSTOMER, ())))


def read_file(
    path: Path,
    mapping: Mapped | None = None,
    positive: str | None = None,
    control: str | None = None,
    *,
    options: CellOptions = DEFAULT,
) -> LabelledCustomers:
    """Return the table in a file or a folder to learn from; for the arguments see `read`.

    Raises what `read` raises, with the file and the line, and TableError for fewer than MIN_ROWS rows or MIN_OF_LABEL of a label.
    """
    frame = frames.read(path, numbers=TABLE.number_columns(mapping), options=options)
    try:
        rows = read(frame, mapping, positive, control, options=options)
    except CellError as error:
        raise error.at(frames.place(path, error.row)) from None
    except TableError as error:
        raise TableError(f"{path}: {error}") from None
    positives = int(rows.y.sum())
    negatives = len(rows.y) - positives
    if len(rows.y) < MIN_ROWS or min(positives, negatives) < MIN_OF_LABEL:
        raise TableError(
            f"{path}: insufficient data: {len(rows.y)} rows, {positives} with the label {rows.positive} and {negatives} with "
            f"{rows.negative}; at least {MIN_ROWS} rows are needed, {MIN_OF_LABEL} with each label: collect more"
        )
    return rows


def read(
    frame: Any,
    mapping: Mapped | None = None,
    positive: str | None = None,
    control: str | None = None,
    *,
    options: CellOptions = DEFAULT,
) -> LabelledCustomers:
    """Return a table (polars or pandas) to learn from.

    positive: the label of y = 1; control: the untreated arm; None where the table makes them evident. Raises TableError for
    ambiguous labels, arms or numbers, and where no column can be learned from; CellError for a blank label or arm, text among numbers.
    """
    table = nw.from_native(frame, eager_only=True)
    columns = resolve(table.columns, mapping)
    y, labels = _labels(table, columns, positive, options)
    features, parts, unused, warnings = list[CustomerFeature](), list[F64](), dict[str, str](), list[str]()
    for name in columns.features:
        column = cells.as_polars(table[name]).alias(name)
        feature = _feature(column, options)
        part = None if feature is None else _cells(column, feature, options)
        if feature is None or part is None or np.isnan(part).all():
            unused[name] = "is neither numbers nor text" if feature is None else "is blank in every row"
        elif np.nanmin(part) == np.nanmax(part) and not np.isnan(part).any():
            unused[name] = "has a single value"
        else:
            features.append(feature)
            parts.append(part)
            warnings += _category_warnings(feature, part, options)
    if not features:
        raise TableError(f"no column can be learned from: {', '.join(f'{name} {why}' for name, why in unused.items())}")
    X = np.stack(parts, axis=1).astype(np.float32)
    arm, arms = _arms(table, columns, control, options)
    customer = _customers(table, columns, options)
    return LabelledCustomers(X, y, tuple(features), customer, *labels, columns, unused, arm, arms, tuple(warnings))


def matrix(frame: Any, features: Sequence[CustomerFeature]) -> F32:
    """Return the float32 [rows, features] matrix of a table to score; values that training has not seen, and absent columns, are missing.

    Raises TableError where no feature has a column, CellError for the first text among numbers.
    """
    table = nw.from_native(frame, eager_only=True)
    there = set(table.columns)
    if not any(feature.name in there for feature in features):
        raise TableError(
            f"no column is one of the model's features ({listed([f.name for f in features])}); there are {listed(sorted(there))}"
        )
    X = np.full((len(table), len(features)), np.nan, np.float32)
    for place, feature in enumerate(features):
        if feature.name in there:
            X[:, place] = _cells(cells.as_polars(table[feature.name]).alias(feature.name), feature, DEFAULT)
    return X


def number(value: Value) -> float:
    """Return a number, NaN for one that is missing. Raises ValueError for a text that is none, and beyond MAX_NUMBER."""
    if value is None or (isinstance(value, str) and is_blank(value)):
        return math.nan
    if isinstance(value, str) and "_" in value:  # which Python would take
        raise ValueError(value)
    found = float(value)
    if not (abs(found) <= MAX_NUMBER or math.isnan(found)):
        raise ValueError(value)
    return found


def key(value: Value, options: CellOptions = DEFAULT) -> str:
    """Return the form in which a category's value is looked up, "" where it is missing.

    Case and surrounding spaces do not matter, and a whole number is one however it is written.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = str(value).strip().lower()
    return "" if text in options.blank_cells else re.sub(WHOLE, r"\1", text)


def is_blank(text: str) -> bool:
    """Return whether a text means a missing cell."""
    return DEFAULT.is_blank(text)


def _feature(column: pl.Series, options: CellOptions) -> CustomerFeature | None:
    """Return the feature of a column, None for dates and lists, which are not used."""
    if column.dtype.is_numeric():
        return CustomerFeature(column.name, "number")
    if column.dtype not in (pl.String, pl.Boolean, pl.Categorical, pl.Enum):
        return None
    distinct = cells.distinct_texts(column.cast(pl.String), options)
    notation = cells.NumberNotation(column.name, options)
    notation.add_distinct(distinct)
    if notation.share == 1 or (len(distinct) > MIN_NUMBER_TEXTS and notation.share >= NUMBERS):
        return CustomerFeature(column.name, "number")
    spelled = {key(text, EMPTY_ONLY): text for text in reversed(distinct.to_list())}
    return CustomerFeature(column.name, "category", tuple(spelled[name] for name in sorted(spelled)))


def _cells(column: pl.Series, feature: CustomerFeature, options: CellOptions) -> F64:
    """Return a column as float64 [rows], NaN where a cell is missing. Raises CellError for the first that cannot be."""
    if feature.kind == "category":
        return _codes(column, feature)
    fix = f"is not a number from {-MAX_NUMBER:g} to {MAX_NUMBER:g}, as other cells of this column; correct it, or leave it empty"
    values = cells.floats(column, options, fix=fix)
    wrong = np.flatnonzero(np.abs(values) > MAX_NUMBER)  # infinite ones too
    if len(wrong):
        raise CellError(int(wrong[0]), column.name, column[int(wrong[0])], fix)
    return values


def _codes(column: pl.Series, feature: CustomerFeature) -> F64:
    """Return the place of each cell's value among those of a category, float64 [rows], NaN where it is missing or none of them."""
    read = feature.reader()
    if column.dtype.is_numeric():
        values, where = np.unique(column.cast(pl.Float64).fill_null(math.nan).to_numpy(), return_inverse=True)
        return np.array([read(value) for value in values.tolist()])[where]
    texts = column.cast(pl.String)
    distinct = texts.drop_nulls().unique()
    places = pl.Series([read(text) for text in distinct.to_list()], dtype=pl.Float64)
    return np.asarray(texts.replace_strict(distinct, places, default=math.nan, return_dtype=pl.Float64).to_numpy(), np.float64)


def _category_warnings(feature: CustomerFeature, part: F64, options: CellOptions) -> list[str]:
    if feature.kind != "category":
        return []
    fix = f"write all its cells as numbers if it is one, else leave it out with --map {LEFT_OUT}={feature.name}"
    return cells.many_values(feature.name, pl.Series(feature.values), int((~np.isnan(part)).sum()), fix, options)


def _labels(table: Any, columns: CustomerColumns, positive: str | None, options: CellOptions) -> tuple[F64, tuple[str, str]]:
    """Return 1.0 for each row with the positive label, else 0.0, and both labels as the table spells them, the positive one first."""
    if LABEL not in columns.of:
        raise TableError(f"no column is the label; the table has {listed(table.columns)}. Name it with --map {LABEL}=COLUMN")
    column = table[columns.of[LABEL][0]]
    keys = [key(value, options) for value in column.to_list()]
    if "" in keys:
        row = keys.index("")
        raise CellError(row, column.name, column[row], "is a blank label; fill it in, or leave the row out")
    spelled = {name: str(value).strip() for name, value in zip(reversed(keys), reversed(column.to_list()), strict=True)}
    found = f"column {column.name} holds {listed(sorted(spelled.values()))}"
    if len(spelled) != 2:
        raise TableError(f"{found}: a label has two values; leave out the rows with others")
    yes = _positive(found, spelled, positive)
    no = next(name for name in spelled if name != yes)
    return np.array([float(name == yes) for name in keys]), (spelled[yes], spelled[no])


def _positive(found: str, labels: Mapping[str, str], given: str | None) -> str:
    """Return which of two labels is that of customers who left."""
    if given is not None:
        if key(given) not in labels:
            raise TableError(
                f"{found}: none of them is {given}, the label of customers who left in training (--positive); name one of them there"
            )
        return key(given)
    for yes, no in PAIRS:
        if labels.keys() == {yes, no}:
            return yes
    raise TableError(f"{found}: which one is the label of customers who left? Name it with --positive TEXT")


def _arms(table: Any, columns: CustomerColumns, control: str | None, options: CellOptions) -> tuple[I64 | None, tuple[str, ...]]:
    """Return the arm of each row, and the arms' names as spelled in the table, the control first; None without an experiment."""
    if TREATMENT not in columns.of:
        if control is not None:
            raise TableError(f"--control {control}: no column is the treatment; name it with --map {TREATMENT}=COLUMN")
        return None, ()
    column = table[columns.of[TREATMENT][0]]
    names = cells.ids(column, options.but(*CONTROLS))  # "none" is an arm here, not a missing cell
    if names.has_nulls():
        row = int(names.is_null().arg_true()[0])
        raise CellError(row, column.name, column[row], "is a blank treatment; fill it in, or leave the row out")
    keys = names.str.to_lowercase().to_list()
    spelled = dict(zip(reversed(keys), reversed(names.to_list()), strict=True))
    found = f"column {column.name} holds {listed(sorted(spelled.values()))}"
    if len(spelled) < 2:
        raise TableError(f"{found}: an experiment has at least two arms; leave the column out with --map {LEFT_OUT}={column.name}")
    untreated = _control(found, spelled, control)
    order = [untreated, *sorted(spelled.keys() - {untreated})]
    place = {name: at for at, name in enumerate(order)}
    return np.array([place[name] for name in keys], np.int64), tuple(spelled[name] for name in order)


def _control(found: str, arms: Mapping[str, str], given: str | None) -> str:
    """Return the untreated arm."""
    if given is not None:
        if given.strip().lower() not in arms:
            raise TableError(f"--control {given}: {found}; name one of them")
        return given.strip().lower()
    known = [name for name in CONTROLS if name in arms]
    if len(known) != 1:
        raise TableError(f"{found}: which one is the untreated arm? Name it with --control TEXT")
    return known[0]


def _customers(table: Any, columns: CustomerColumns, options: CellOptions) -> I64 | None:
    """Return the customer of each row, a blank one being a customer of its own; None where no customer has two rows."""
    if CUSTOMER not in columns.of:
        return None
    ids = cells.ids(table[columns.of[CUSTOMER][0]], options).to_list()
    names = [f"\0{row}" if one is None else one for row, one in enumerate(ids)]
    _, where = np.unique(np.array(names), return_inverse=True)
    return None if where.max(initial=0) + 1 == len(names) else where.astype(np.int64)
