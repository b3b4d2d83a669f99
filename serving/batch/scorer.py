"""Score chunks of a batch job's input: decode them, score them by the engine's own code, return the answers as columns."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import polars as pl

from serving.batch.sources import Chunk
from serving.batch.task import REQUEST_IDS, Task, is_table
from serving.errors import InvalidRequestError, TooLargeError
from training.errors import BundleError, CellError, TableError
from training.registry import bundle
from training.tables import frames


class ScoredChunk(NamedTuple):
    """The answers to a chunk, one row for each record, in order; and how much of the input is done with them, 0 to 1."""

    answers: pl.DataFrame
    share: float


class ChunkScorer:
    """A loaded model, and the task for which it scores chunks."""

    def __init__(self, task: Task) -> None:
        """Load the task's model. Raises BundleError for a corrupted model, and for one of another task."""
        loaded = bundle.load(task.model)
        if loaded.task != task.name:
            raise BundleError(f"{task.model} is a model for {loaded.task}, not for {task.name}; pass a model for {task.name}")
        self._task, self._engine = task, task.engine
        self._scorer = self._engine.load(loaded, task.settings)
        # Factors are not part of the output, and computing them takes five times as long as the score.
        self._overrides = {"max_factors": 0} if "max_factors" in self._engine.request.__struct_fields__ else {}
        self._decode = msgspec.json.Decoder(self._engine.request).decode

    def __call__(self, chunk: Chunk) -> ScoredChunk:
        """Return the chunk's answers. Raises TableError for the first wrong record."""
        answers = self._rows(chunk) if is_table(chunk) else self._requests(chunk)
        return ScoredChunk(answers, chunk.share)

    def joined(self, frame: pl.DataFrame) -> ScoredChunk:
        """Return the answers to a table that `TableKind.join` returned. Raises TableError for the first wrong row."""
        return ScoredChunk(pl.DataFrame(self._scorer.output_columns(self._scorer.run(self._scorer.table(frame)))), 1.0)

    def whole(self, chunks: Iterable[Chunk]) -> Generator[ScoredChunk, None, None]:
        """Yield the answers to all chunks of a table that is scored as a whole. Raises TableError for the first wrong row."""
        yield ScoredChunk(self._rows(*chunks), 1.0)

    def _rows(self, *chunks: Chunk) -> pl.DataFrame:
        """Return the answers to the rows of chunks, all at once."""
        frames = [self._task.frame(chunk) for chunk in chunks]
        frame = pl.concat(frames, how="vertical_relaxed")
        ids = frame.select(pl.col(self._task.ids).cast(pl.String))
        try:
            return self._answers(ids, self._scorer.table(frame)) if frame.height else self._no_answers()
        except CellError as error:
            raise _located(error, chunks, [part.height for part in frames], self._task.mapping) from None

    def _requests(self, chunk: Chunk) -> pl.DataFrame:
        lines = enumerate(chunk.payload.split(b"\n"), chunk.line)
        requests = [self._request(line, f"{chunk.file}, line {number}") for number, line in lines if line.strip()]
        ids = {name: [getattr(request, REQUEST_IDS[name], None) for request in requests] for name in self._task.ids}
        frame = pl.DataFrame(ids, dict.fromkeys(ids, pl.String))
        return self._answers(frame, self._scorer.columns(requests)) if requests else self._no_answers()

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

    def _answers(self, ids: pl.DataFrame, columns: Any) -> pl.DataFrame:
        answers = pl.DataFrame(self._scorer.output_columns(self._scorer.run(columns)))
        return ids.hstack(answers) if ids.columns else answers

    def _no_answers(self) -> pl.DataFrame:
        """Return the output's columns without a row."""
        ids = pl.DataFrame({name: [""] for name in self._task.ids}, dict.fromkeys(self._task.ids, pl.String))
        return self._answers(ids, self._scorer.columns([self._engine.decode_example()])).clear()


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
    return f"{where.rstrip('`').lstrip('.')}: {what}" if found else f"not a JSON request: {what}"
