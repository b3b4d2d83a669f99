"""A chunk of a batch job becomes answers: decoded, scored by an engine's own code, given back as columns."""

import io
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl

from serving.batch.sources import Chunk
from serving.engines import Engine, named
from serving.errors import InvalidRequestError, TooLargeError
from serving.settings import Settings
from training.errors import BundleError, CellError, TableError
from training.models import MODELS
from training.registry import bundle
from training.tables import frames

# Passed through: the column, and the field of a request.
IDS = {"sessionId": "session_id", "customerId": "customer_id", "productId": "product_id"}
TABLE_IDS = {**IDS, "product": "product_id", "customer": "customer_id", "customerID": "customer_id"}


class Scored(NamedTuple):
    """A chunk's answers, one row for each record, in order; and how much of the input is done with them, 0 to 1."""

    answers: pl.DataFrame
    share: float


@dataclass(frozen=True, slots=True)
class Task:
    """What every worker must know to score chunks; small, so that it can be sent to it.

    mapping: {field: column} where a table's names are not the task's. options: what its table's `gather` takes beside them. columns: those
    of every table of the input, () before one was seen; ids: those that are passed through, none where an answer is for several rows and
    says whose it is; ignored: those that are nothing to the model, the label among them; whole: the table says what ties its rows together,
    so that it cannot be scored in parts.
    """

    name: str
    model: Path
    mapping: Mapping[str, Any]
    settings: Settings
    options: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    whole: bool = False

    @property
    def engine(self) -> Engine:
        """Return the engine that answers this task."""
        return named(self.name)

    def of_input(self, first: Chunk) -> "Task":
        """Return the task for the input that begins with this chunk. Raises TableError when its columns are not those of the task."""
        if first.kind not in _TABLES:
            if self.mapping:
                raise TableError(f"{first.file}: --map names columns, and requests have none; leave it out")
            return replace(self, ids=self._ids(IDS))
        columns = columns_of(first)
        try:
            table = MODELS[self.name].table
            found = table.resolve(columns, self.mapping)
        except TableError as error:
            raise TableError(f"{first.file}: {error}") from None
        named = {name for name in columns if name not in self.mapping.values()} | self.mapping.keys()
        ids = tuple(name for name in self._ids(TABLE_IDS) if name in named)
        whole = any(field in found.of for field in table.TOGETHER)
        return replace(self, columns=columns, ids=ids, ignored=tuple(name for name in found.ignored if name not in ids), whole=whole)

    def _ids(self, known: Mapping[str, str]) -> tuple[str, ...]:
        if getattr(MODELS[self.name].table, "GROUPED", False):
            return ()
        return tuple(name for name, field in known.items() if field in self.engine.request.__struct_fields__)

    def table(self, chunk: Chunk) -> pl.DataFrame:
        """Return the table in a chunk, mapped columns under their field's name. Raises TableError naming file and line."""
        frame = _TABLES[chunk.kind](chunk, MODELS[self.name].table.number_columns(self.mapping))
        if odd := sorted(set(frame.columns) ^ set(self.columns)):
            raise TableError(f"{chunk.file}: column {odd[0]!r} is not in every file of the input; make their columns the same")
        named = {field: column for field, column in self.mapping.items() if isinstance(column, str)}  # several keep their own names
        gone = [field for field, column in named.items() if field in frame.columns and field != column]
        return frame.drop(gone).rename({column: field for field, column in named.items()})


class Scoring:
    """A loaded model and the task that it scores chunks for."""

    def __init__(self, task: Task) -> None:
        """Load the task's model. Raises BundleError when it is corrupted or another task's."""
        loaded = bundle.load(task.model)
        if loaded.task != task.name:
            raise BundleError(f"{task.model} is a model for {loaded.task}, not for {task.name}; name one for {task.name}")
        self._task, self._engine = task, task.engine
        self._scorer = self._engine.load(loaded, task.settings)
        # No factor reaches the output, and finding them costs five times the score.
        self._less = {"max_factors": 0} if "max_factors" in self._engine.request.__struct_fields__ else {}
        self._decode = msgspec.json.Decoder(self._engine.request).decode

    def __call__(self, chunk: Chunk) -> Scored:
        """Return the chunk's answers. Raises TableError for the first record that is wrong."""
        answers = self._rows(chunk) if chunk.kind in _TABLES else self._requests(chunk)
        return Scored(answers, chunk.share)

    def gathered(self, frame: pl.DataFrame) -> Scored:
        """Return the answers to a table that its module has put together of several files. Raises TableError for what is wrong in it."""
        return Scored(pl.DataFrame(self._scorer.answers_frame(self._scorer.run(self._scorer.table(frame)))), 1.0)

    def together(self, chunks: Iterable[Chunk]) -> Generator[Scored, None, None]:
        """Yield the answers to all chunks of a table that cannot be scored in parts. Raises TableError for the first row that is wrong."""
        yield Scored(self._rows(*chunks), 1.0)

    def _rows(self, *chunks: Chunk) -> pl.DataFrame:
        """Return the answers to the rows of chunks, all at once."""
        frames = [self._task.table(chunk) for chunk in chunks]
        frame = pl.concat(frames, how="vertical_relaxed")
        ids = frame.select(pl.col(self._task.ids).cast(pl.String))
        try:
            return self._answers(ids, self._scorer.table(frame)) if frame.height else self._no_answers()
        except CellError as error:
            raise _located(error, chunks, [part.height for part in frames], self._task.mapping) from None

    def _requests(self, chunk: Chunk) -> pl.DataFrame:
        lines = enumerate(chunk.payload.split(b"\n"), chunk.line)
        requests = [self._request(line, f"{chunk.file}, line {number}") for number, line in lines if line.strip()]
        ids = {name: [getattr(request, IDS[name], None) for request in requests] for name in self._task.ids}
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
        return msgspec.structs.replace(request, **self._less)

    def _answers(self, ids: pl.DataFrame, columns: Any) -> pl.DataFrame:
        answers = pl.DataFrame(self._scorer.answers_frame(self._scorer.run(columns)))
        return ids.hstack(answers) if ids.columns else answers

    def _no_answers(self) -> pl.DataFrame:
        """Return the output's columns without a row."""
        ids = pl.DataFrame({name: [""] for name in self._task.ids}, dict.fromkeys(self._task.ids, pl.String))
        return self._answers(ids, self._scorer.columns([self._engine.decode_example()])).clear()


def packed(frame: pl.DataFrame) -> bytes:
    """Return a frame as bytes that `unpacked` makes the same frame of."""
    sink = io.BytesIO()
    frame.write_ipc_stream(sink)
    return sink.getvalue()


def unpacked(content: bytes) -> pl.DataFrame:
    """Return the frame in what `packed` returned."""
    return pl.read_ipc_stream(io.BytesIO(content))


def columns_of(chunk: Chunk) -> tuple[str, ...]:
    """Return the columns of a chunk of a table, () of requests. Raises TableError for a header that is none."""
    return tuple(_TABLES[chunk.kind](chunk, ()).columns) if chunk.kind in _TABLES else ()


def _csv(chunk: Chunk, numbers: Collection[str]) -> pl.DataFrame:
    return frames.parse(chunk.payload, numbers, file=chunk.file, line=chunk.line)


def _tsv(chunk: Chunk, _numbers: Collection[str]) -> pl.DataFrame:
    return frames.parse_tsv(chunk.payload, chunk.file, chunk.line)


def _parquet(chunk: Chunk, _numbers: Collection[str]) -> pl.DataFrame:
    return unpacked(chunk.payload)


_TABLES: Mapping[str, Callable[[Chunk, Collection[str]], pl.DataFrame]] = {"csv": _csv, "tsv": _tsv, "parquet": _parquet}


def _located(error: CellError, chunks: Sequence[Chunk], heights: Sequence[int], mapping: Mapping[str, str]) -> TableError:
    """Return the error with its file and line, and the column as the file calls it; `heights`: the rows of each chunk."""
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
