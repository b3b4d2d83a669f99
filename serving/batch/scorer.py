"""Score chunks of a batch job's input: decode them, score them by the engine's own code, return the answers as columns."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import polars as pl

from serving.batch import completeness
from serving.batch import details as output_details
from serving.batch.sources import Chunk
from serving.batch.task import REQUEST_IDS, TAKEN, Task, is_table
from serving.engines import demo
from serving.errors import InvalidRequestError, TooLargeError
from serving.ingress.decoding.wording import worded
from training.errors import BundleError, CellError, TableError
from training.registry import bundle
from training.tables import frames

VERSION = "modelVersion"  # the last column of an output


class UnknownRows(NamedTuple):
    """Rows about something that the model does not have: how many, and the first of them; None: there is none."""

    number: int = 0
    first: str | None = None

    def __add__(self, later: object) -> "UnknownRows":
        """Return both together."""
        if not isinstance(later, UnknownRows):
            return NotImplemented
        return UnknownRows(self.number + later.number, later.first if self.first is None else self.first)


NONE_UNKNOWN = UnknownRows()


class ScoredChunk(NamedTuple):
    """The answers to a chunk, one row for each record, in order; and how much of the input is done with them, 0 to 1.

    rows: the records of the chunk, counted when it was read. left_out: numbers of rows that are part of no answer, by reason.
    """

    answers: pl.DataFrame
    share: float
    rows: int
    unknown: UnknownRows = NONE_UNKNOWN
    left_out: Mapping[str, int] = MappingProxyType({})


class ChunkScorer:
    """A loaded model, and the task for which it scores chunks."""

    def __init__(self, task: Task) -> None:
        """Load the task's model. Raises BundleError for a corrupted model, and for one of another task."""
        loaded = bundle.load(task.model)
        if loaded.task != task.name:
            raise BundleError(f"{task.model} is a model for {loaded.task}, not for {task.name}; pass a model for {task.name}")
        self._task, self._engine, self._details = task, task.engine, task.engine.details
        self._scorer = demo.load(self._engine, loaded, task.settings)
        # Computing factors takes five times as long as the score: none but those that are wanted.
        self._overrides = {"max_factors": task.wanted.factors} if "max_factors" in self._engine.request.__struct_fields__ else {}
        self._decode = msgspec.json.Decoder(self._engine.request).decode

    def __call__(self, chunk: Chunk) -> ScoredChunk:
        """Return the chunk's answers. Raises TableError for the first wrong record, OutputError where an answer is missing."""
        return self._rows(chunk) if is_table(chunk) else self._requests(chunk)

    def joined(self, frame: pl.DataFrame) -> ScoredChunk:
        """Return the answers to a table that `TableKind.join` returned. Raises TableError for the first wrong row."""
        return self._grouped(frame, self._scorer.table(frame), 1.0)

    def whole(self, chunks: Iterable[Chunk]) -> Generator[ScoredChunk, None, None]:
        """Yield the answers to all chunks of a table that is scored as a whole. Raises TableError for the first wrong row."""
        yield self._rows(*chunks)

    def _rows(self, *chunks: Chunk) -> ScoredChunk:
        """Return the answers to the rows of chunks, all at once."""
        frames = [self._task.frame(chunk) for chunk in chunks]
        for chunk, part in zip(chunks, frames, strict=True):
            completeness.require(part.height, chunk.rows, "rows were parsed", f"{chunk.file}, from line {chunk.line} on")
        frame = pl.concat(frames, how="vertical_relaxed")
        share = chunks[-1].share
        if not frame.height:
            return ScoredChunk(self._no_answers(chunks, frames), share, 0)
        try:
            columns = self._scorer.table(self._task.with_cells(frame))
        except CellError as error:
            if error.column in frame.columns:  # as it is written, not as it was read
                error = CellError(error.row, error.column, frame[error.column][error.row], error.fix)
            raise _located(error, chunks, [part.height for part in frames], self._task.mapping) from None
        except TableError as error:
            raise TableError(f"{chunks[0].file}: {error}") from None
        if self._task.plan is not None and not self._task.plan.per_row:
            return self._grouped(frame, columns, share)
        return self._answered(self._passed(chunks, frames), columns, share, frame.height)

    def _passed(self, chunks: Sequence[Chunk], frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Return the columns that are copied to the output, of all chunks."""
        if not self._task.passed:
            return pl.DataFrame()
        return pl.concat([self._task.passed_columns(*pair) for pair in zip(chunks, frames, strict=True)], how="vertical_relaxed")

    def _grouped(self, frame: pl.DataFrame, columns: Any, share: float) -> ScoredChunk:
        """Return the answers to a table of whose rows several have one answer."""
        scored = self._scored(pl.DataFrame(), columns, share, frame.height)
        completeness.require_distinct(scored.answers, self._task.name)
        return scored

    def _requests(self, chunk: Chunk) -> ScoredChunk:
        lines = enumerate(chunk.payload.split(b"\n"), chunk.line)
        requests = [self._request(line, f"{chunk.file}, line {number}") for number, line in lines if line.strip()]
        ids = {c.name: [getattr(request, REQUEST_IDS[c.source], None) for request in requests] for c in self._task.passed}
        frame = pl.DataFrame(ids, dict.fromkeys(ids, pl.String))
        if not requests:
            return ScoredChunk(self._no_answers([], []), chunk.share, chunk.rows)
        return self._answered(frame, self._scorer.columns(requests), chunk.share, chunk.rows)

    def _request(self, line: bytes, place: str) -> Any:
        try:
            request = self._decode(line)
            self._engine.check(request)
            if (refusal := self._scorer.refusal(request)) is not None:
                raise refusal
        except InvalidRequestError as error:
            raise TableError(f"{place}, {error}") from None
        except TooLargeError as error:
            raise TableError(f"{place}: {error}") from None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise TableError(f"{place}, {_path(str(error))}") from None
        return msgspec.structs.replace(request, **self._overrides)

    def _answered(self, passed: pl.DataFrame, columns: Any, share: float, rows: int) -> ScoredChunk:
        """Return the answers to records that have one each."""
        scored = self._scored(passed, columns, share, rows)
        completeness.require(scored.answers.height, rows, "rows were answered", f"a chunk of {rows:,} rows")
        return scored

    def _scored(self, passed: pl.DataFrame, columns: Any, share: float, rows: int) -> ScoredChunk:
        predictions = self._scorer.run(self._details_wanted(columns))
        answers = pl.DataFrame(self._scorer.output_columns(predictions))
        version = answers.drop_in_place(VERSION)
        answers = answers.hstack([*output_details.columns(self._details, self._task.wanted, self._scorer, predictions), version])
        if passed.columns:
            answers = passed.rename({name: TAKEN + name for name in passed.columns if name in answers.columns}).hstack(answers)
        details = self._details
        ids = [] if details.unknown is None else details.unknown.of(self._scorer, predictions)
        left_out = {} if details.left_out is None else details.left_out(self._scorer, predictions)
        return ScoredChunk(answers, share, rows, UnknownRows(len(ids), ids[0] if ids else None), left_out)

    def _details_wanted(self, columns: Any) -> Any:
        """Return the columns with the number of factors that is wanted of each row."""
        factors = self._details.factors
        if factors is None or not factors.column or not self._task.wanted.factors:
            return columns
        listed = getattr(columns, factors.column)
        return columns._replace(**{factors.column: [self._task.wanted.factors] * len(listed)})

    def _no_answers(self, chunks: Sequence[Chunk], frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Return the output's columns without a row."""
        passed = (
            self._passed(chunks, frames)
            if chunks
            else pl.DataFrame({c.name: [] for c in self._task.passed}, dict.fromkeys([c.name for c in self._task.passed], pl.String))
        )
        one = pl.DataFrame({name: [None] for name in passed.columns}, passed.schema)
        return self._scored(one, self._scorer.columns([self._engine.decode_example()]), 1.0, 1).answers.clear()


def _located(error: CellError, chunks: Sequence[Chunk], heights: Sequence[int], mapping: Mapping[str, str]) -> TableError:
    """Return the error with its file and line, and the name that the column has in the file. heights: the rows of each chunk."""
    row, number = error.row, 0
    while row >= heights[number]:
        row, number = row - heights[number], number + 1
    chunk = chunks[number]
    place = frames.line(chunk.payload, row, chunk.line) if chunk.kind == "csv" else chunk.line + row
    at = f"{'row' if chunk.kind == 'parquet' else 'line'} {place}"
    return CellError(row, mapping.get(error.column, error.column), error.value, error.fix, f"{chunk.file}, {at}")


def _path(message: str) -> str:
    """Return msgspec's `Expected ... - at `$.a.b`` with the field first: `a.b: expected ...`."""
    what, found, where = message.partition(" - at `$")
    return f"{where.rstrip('`').lstrip('.')}: {worded(what)}" if found else f"not a JSON request: {worded(what)}"
