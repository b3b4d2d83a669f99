"""What a batch job scores: the question, the model, and how the input's records become the engine's columns."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from serving.batch.frames import unpacked
from serving.batch.sources import Chunk, Source
from serving.engines import Engine, named
from serving.settings import Settings
from training.errors import TableError
from training.models import MODELS
from training.tables import frames
from training.tables.table import ReadPlan, TableKind

# Passed through: the column, and the field of a request.
REQUEST_IDS = {"sessionId": "session_id", "customerId": "customer_id", "productId": "product_id"}
TABLE_IDS = {**REQUEST_IDS, "product": "product_id", "customer": "customer_id", "customerID": "customer_id"}


@dataclass(frozen=True, slots=True)
class Task:
    """A question to score, with a model; small, so that it can be sent to every worker.

    mapping: {field: column} where a table has other names than the task. options: the task's own, arguments of its table's `join`. plan:
    how the table is read, None of requests, and before the input was seen. ids: the columns that are passed through, none where an answer
    is for a group of rows and names it.
    """

    name: str
    model: Path
    mapping: Mapping[str, Any]
    settings: Settings
    options: Mapping[str, Any] = field(default_factory=dict)
    plan: ReadPlan | None = None
    ids: tuple[str, ...] = ()

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
        return tuple(name for name in self.plan.ignored if name not in self.ids) if self.plan else ()

    def of_input(self, source: Source) -> "Task":
        """Return the task for this input. Raises TableError when its columns are not those of the task."""
        first = source.head.chunks[0]
        if first.kind not in _TABLES:
            if self.mapping:
                raise TableError(f"{first.file}: --map names columns, and requests have none; leave it out")
            return replace(self, ids=self._ids(REQUEST_IDS) if self.table.grain == "row" else ())
        try:
            plan = self.table.plan(source.columns, self.mapping)
        except TableError as error:
            raise TableError(f"{first.file}: {error}") from None
        named = {name for name in plan.columns if name not in self.mapping.values()} | self.mapping.keys()
        ids = tuple(name for name in self._ids(TABLE_IDS) if name in named) if plan.per_row else ()
        return replace(self, plan=plan, ids=ids)

    def _ids(self, known: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(name for name, field in known.items() if field in self.engine.request.__struct_fields__)

    def frame(self, chunk: Chunk) -> pl.DataFrame:
        """Return the table in a chunk, mapped columns under their field's name. Raises TableError naming file and line."""
        plan = self._plan()
        frame = _TABLES[chunk.kind](chunk, plan.numbers)
        if odd := sorted(set(frame.columns) ^ set(plan.columns)):
            raise TableError(f"{chunk.file}: column {odd[0]!r} is not in every file of the input; make their columns the same")
        single = {field: column for field, column in self.mapping.items() if isinstance(column, str)}  # several keep their own names
        replaced = [field for field, column in single.items() if field in frame.columns and field != column]
        return frame.drop(replaced).rename({column: field for field, column in single.items()})

    def _plan(self) -> ReadPlan:
        if self.plan is None:
            raise RuntimeError("a table is read before its plan was made: this is a bug")
        return self.plan


def is_table(chunk: Chunk) -> bool:
    """Return whether a chunk's records are rows of a table, not requests."""
    return chunk.kind in _TABLES


def _csv(chunk: Chunk, numbers: Collection[str]) -> pl.DataFrame:
    return frames.parse(chunk.payload, numbers, file=chunk.file, line=chunk.line)


def _tsv(chunk: Chunk, _numbers: Collection[str]) -> pl.DataFrame:
    return frames.parse_tsv(chunk.payload, chunk.file, chunk.line)


def _parquet(chunk: Chunk, _numbers: Collection[str]) -> pl.DataFrame:
    return unpacked(chunk.payload)


_TABLES: Mapping[str, Callable[[Chunk, Collection[str]], pl.DataFrame]] = {"csv": _csv, "tsv": _tsv, "parquet": _parquet}
