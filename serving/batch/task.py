"""What a batch job scores: the question, the model, and how the input's records become the engine's columns."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from serving.batch import notations
from serving.batch.frames import unpacked
from serving.batch.sources import Chunk, Source
from serving.engines import Engine, named
from serving.settings import Settings
from training.errors import CellError, TableError
from training.models import MODELS
from training.registry import bundle as bundles
from training.tables import cells, frames
from training.tables.cells import DEFAULT, CellOptions
from training.tables.table import ReadPlan, TableKind, like, listed

ALL = "all"  # of `keep`: every column of the input
TAKEN = "input:"  # prefix of a kept column that has the name of a column of the answer

# Passed through: the column, and the field of a request.
REQUEST_IDS = {"sessionId": "session_id", "customerId": "customer_id", "productId": "product_id"}
TABLE_IDS = {**REQUEST_IDS, "product": "product_id", "customer": "customer_id", "customerID": "customer_id"}


class PassedColumn(NamedTuple):
    """A column of the input that is copied to the output. is_id: as text; else as it is in the file."""

    source: str
    name: str
    is_id: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the output has beside ids and answers.

    keep: columns of the input, or ALL; factors: how many of each row; actions: whether it has them.
    """

    keep: tuple[str, ...] = ()
    factors: int = 0
    actions: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """A question to score, with a model; small, so that it can be sent to every worker.

    mapping: {field: column} where a table has other names than the task. options: the task's own, arguments of its table's `join`. keys:
    {id of a request: column} of ids that are not fields of the table. plan: how the table is read, None of requests, and before the input
    was seen. passed: the columns that are copied to the output, none where an answer is for a group of rows and names it. cells: how
    cells are read where the table alone does not decide it.
    """

    name: str
    model: Path
    mapping: Mapping[str, Any]
    settings: Settings
    options: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    wanted: Wanted = Wanted()
    plan: ReadPlan | None = None
    passed: tuple[PassedColumn, ...] = ()
    cells: CellOptions = DEFAULT

    @property
    def engine(self) -> Engine:
        """Return the engine of the question."""
        return named(self.name)

    @property
    def table(self) -> TableKind:
        """Return the table of the question."""
        return MODELS[self.name].table

    @property
    def ignored(self) -> tuple[str, ...]:
        """Return the columns of the input that are neither used nor passed through."""
        passed = {column.source for column in self.passed}
        return tuple(name for name in self.plan.ignored if name not in passed) if self.plan else ()

    def of_input(self, source: Source) -> "Task":
        """Return the task for this input. Raises TableError when its columns are not those of the task."""
        first = source.head.chunks[0]
        if first.kind not in _TABLES:
            for option, given in (("--map", self.mapping or self.keys), ("--keep", self.wanted.keep)):
                if given:
                    raise TableError(f"{first.file}: {option} names columns, and requests have none; leave it out")
            if self.cells != DEFAULT:
                raise TableError(f"{first.file}: --blank, --time-format and --decimal are about cells of tables; leave them out")
            ids = self._ids(REQUEST_IDS) if self.table.grain == "row" else ()
            return replace(self, passed=tuple(PassedColumn(name, name, True) for name in ids))
        try:
            plan = self.table.plan(source.columns, self.mapping)
        except TableError as error:
            raise TableError(f"{first.file}: {error}") from None
        plan = self._of_model(plan)
        numbers = plan.numbers | self._number_features()
        plan = replace(plan, numbers=numbers, decimals=notations.decimals(source, numbers, self.cells, whole=plan.whole))
        if not plan.per_row:
            self.require_no_columns()
            return replace(self, plan=plan)
        return replace(self, plan=plan, passed=(*self._id_columns(plan.columns), *self._kept(first.file, plan.columns)))

    @property
    def lacking(self) -> tuple[str, ...]:
        """Return the features that the model was trained with and the table has no column for."""
        if self.plan is None or (had := self.plan.features) is None:
            return ()
        return tuple(one["name"] for one in self._features() if one["name"] not in had and one.get("missingShare", 0) < 1)

    def _features(self) -> Sequence[Mapping[str, Any]]:
        """Return the features of the model, as its manifest has them."""
        features: Sequence[Mapping[str, Any]] = bundles.load(self.model).manifest.get("features", ())
        return features

    def _of_model(self, plan: ReadPlan) -> ReadPlan:
        """Return the plan with the columns that are no features of this model among the ignored ones."""
        known = {one["name"] for one in self._features()}
        others = tuple(name for name in plan.features or () if known and name not in known)
        return replace(plan, ignored=(*plan.ignored, *others))

    def _number_features(self) -> frozenset[str]:
        """Return the features of the model that are numbers, of a table of which any column may be one."""
        if self.table.number_columns(self.mapping):
            return frozenset()
        return frozenset(one["name"] for one in self._features() if one.get("kind") == "number")

    def with_cells(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a table, columns named by field, with its ids and times read; see `TableKind.with_cells` for what it raises."""
        return self.table.with_cells(frame, self.cells)

    def require_no_columns(self) -> None:
        """Raise TableError where columns of single rows are to be copied: of a table of whose rows several have one answer."""
        for option, given in (("--keep", self.wanted.keep), ("--map", tuple(self.keys))):
            if given:
                raise TableError(
                    f"{option} {given[0]} is a column of single rows, and an answer of {self.name} is for several; leave it out"
                )

    def _id_columns(self, columns: Sequence[str]) -> list[PassedColumn]:
        """Return the columns with ids: those of `keys`, those that are mapped to a field which is an id, and those with a known name."""
        known = self._ids(TABLE_IDS)
        mapped = {field: str(column) for field, column in self.mapping.items() if field in known} | dict(self.keys)
        used = {*mapped.values()}.union(*((of,) if isinstance(of, str) else of for of in self.mapping.values()))
        own = {name: name for name in columns if name in known and name not in used and name not in mapped}
        return [PassedColumn((mapped | own)[name], name, True) for name in known if name in mapped | own]

    def _kept(self, file: str, columns: Sequence[str]) -> list[PassedColumn]:
        """Return the columns of --keep, ids left out: they are in the output anyway."""
        keep = columns if self.wanted.keep == (ALL,) and ALL not in columns else self.wanted.keep
        for name in keep:
            if name not in columns:
                raise TableError(f"{file}: --keep {name}: the table has no column {name!r}{like(name, columns)}; it has {listed(columns)}")
        ids = {column.source for column in self._id_columns(columns)}
        return [PassedColumn(name, name, False) for name in dict.fromkeys(keep) if name not in ids]

    def _ids(self, known: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(name for name, field in known.items() if field in self.engine.request.__struct_fields__)

    def frame(self, chunk: Chunk) -> pl.DataFrame:
        """Return the table in a chunk, mapped columns under their field's name. Raises TableError naming file and line."""
        frame = self._columns(chunk, self._plan().numbers)
        single = {field: column for field, column in self.mapping.items() if isinstance(column, str)}  # several keep their own names
        replaced = [field for field, column in single.items() if field in frame.columns and field != column]
        return frame.drop(replaced).rename({column: field for field, column in single.items()})

    def passed_columns(self, chunk: Chunk, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the columns that are copied to the output; frame: what `frame` returned for the chunk.

        A cell that is kept has every character of the file, also where the model reads a number.
        """
        fields = {column: field for field, column in self.mapping.items() if isinstance(column, str)}
        # In `frame` a mapped column has its field's name, and a column that had that name is gone.
        named = {c.source: fields.get(c.source, "" if c.source in self.mapping else c.source) for c in self.passed}
        again = {source for source, name in named.items() if name not in frame.columns or source in self._plan().numbers}
        raw = self._columns(chunk, ()) if again else frame
        found = [(raw[c.source] if c.source in again else frame[named[c.source]]).alias(c.name) for c in self.passed]
        return pl.DataFrame([cells.ids(series, self.cells) if c.is_id else series for series, c in zip(found, self.passed, strict=True)])

    def _columns(self, chunk: Chunk, numbers: Collection[str]) -> pl.DataFrame:
        """Return the columns of a chunk under their own names. Raises TableError where they are not those of the plan."""
        frame = _TABLES[chunk.kind](chunk, numbers, self)
        if odd := sorted(set(frame.columns) ^ set(self._plan().columns)):
            raise TableError(f"{chunk.file}: column {odd[0]!r} is not in every file of the input; make their columns the same")
        return frame

    def _plan(self) -> ReadPlan:
        if self.plan is None:
            raise RuntimeError("a table is read before its plan was made: this is a bug")
        return self.plan


def is_table(chunk: Chunk) -> bool:
    """Return whether a chunk's records are rows of a table, not requests."""
    return chunk.kind in _TABLES


def _csv(chunk: Chunk, numbers: Collection[str], task: Task) -> pl.DataFrame:
    decimals = {} if task.plan is None else task.plan.decimals
    return frames.parse(chunk.payload, numbers, file=chunk.file, line=chunk.line, options=task.cells, decimals=decimals)


def _tsv(chunk: Chunk, numbers: Collection[str], task: Task) -> pl.DataFrame:
    return _with_numbers(frames.parse_tsv(chunk.payload, chunk.file, chunk.line), chunk, numbers, task, "line")


def _parquet(chunk: Chunk, numbers: Collection[str], task: Task) -> pl.DataFrame:
    return _with_numbers(unpacked(chunk.payload), chunk, numbers, task, "row")


def _with_numbers(frame: pl.DataFrame, chunk: Chunk, numbers: Collection[str], task: Task, place: str) -> pl.DataFrame:
    try:
        return frames.with_numbers(frame, numbers, task.cells, {} if task.plan is None else task.plan.decimals)
    except CellError as error:
        raise error.at(f"{chunk.file}, {place} {chunk.line + error.row}") from None
    except TableError as error:
        raise TableError(f"{chunk.file}, from {place} {chunk.line} on: {error}") from None


_TABLES: Mapping[str, Callable[[Chunk, Collection[str], Task], pl.DataFrame]] = {"csv": _csv, "tsv": _tsv, "parquet": _parquet}
