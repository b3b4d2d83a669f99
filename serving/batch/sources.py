"""The input of a batch job as a stream of chunks: whole records of a file, small enough to hold in memory, with their file and line."""

import io
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from serving.batch import records
from training.errors import TableError
from training.tables import csv_text, frames

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK_BYTES = 1024 * 1024  # of text; a chunk ends where a record ends
CHUNK_ROWS = 16_384  # of Parquet
MAX_RECORD_BYTES = 16 * 1024 * 1024  # one record of text
_PACKED_BYTES = 64 * 1024  # of gzip data at once
_GZIP = 16 + zlib.MAX_WBITS  # for zlib: a gzip header
HEAD_ROWS = 20_000  # an input of more rows is worth a Ray


class Chunk(NamedTuple):
    """Whole records of one file. CSV: bytes of text, header first; NDJSON and TSV: bytes of text; Parquet: an Arrow IPC stream.

    line: of the first record, counted from 1 (text: lines; Parquet: rows). rows: how many records, counted without the parser of their
    cells, so that a batch can check that none was lost. share: how much of the whole input is read with this chunk, 0 to 1.
    """

    file: str
    kind: str
    line: int
    rows: int
    share: float
    payload: bytes


class InputHead(NamedTuple):
    """The beginning of an input. chunks: the first, up to more than HEAD_ROWS rows; complete: there are no others."""

    chunks: list[Chunk]
    complete: bool


class Source:
    """The input at a path: its files, and its beginning, which is read once. Raises TableError for an input that cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def files(self) -> list[Path]:
        """Return the files in order."""
        return files(self.path)

    @cached_property
    def head(self) -> InputHead:
        """Return the first chunks."""
        chunks, rows = list[Chunk](), 0
        with closing(read(self.files)) as chunk_stream:
            for chunk in chunk_stream:
                chunks.append(chunk)
                rows += chunk.rows
                if rows > HEAD_ROWS:
                    return InputHead(chunks, complete=False)
        return InputHead(chunks, complete=True)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of the first file of a table, () of requests."""
        return columns_of(self.head.chunks[0])


class Format(NamedTuple):
    """The format of a suffix: the kind of records, and whether its bytes are gzip."""

    kind: str
    unzip: bool = False


FORMATS: dict[str, Format] = {
    ".csv": Format("csv"),
    ".csv.gz": Format("csv", unzip=True),
    ".parquet": Format("parquet"),
    ".tsv": Format("tsv"),
    ".txt": Format("txt"),
    ".ndjson": Format("ndjson"),
    ".jsonl": Format("ndjson"),
    ".ndjson.gz": Format("ndjson", unzip=True),
    ".jsonl.gz": Format("ndjson", unzip=True),
}


def suffix(path: Path) -> str:
    """Return the known suffix of a file's name (`.csv.gz` is one), or "" for none."""
    name = path.name.lower()
    return max((known for known in FORMATS if name.endswith(known)), key=len, default="")


def files(path: Path) -> list[Path]:
    """Return the file, or the folder's files of one kind in order of name. Raises TableError when there is none, or more than one kind."""
    if not path.exists():
        raise TableError(f"{path}: no such file or folder")
    found = sorted(p for p in path.iterdir() if p.is_file() and p.name[0] not in "._") if path.is_dir() else [path]
    if not found:
        raise TableError(f"{path}: the folder holds no file; put {', '.join(FORMATS)} files of one kind into it")
    for file in found:
        if not suffix(file):
            raise TableError(f"{file}: the suffix is unknown; use {', '.join(FORMATS)}")
    kinds = {FORMATS[suffix(file)].kind: file.name for file in found}
    if len(kinds) > 1:
        raise TableError(f"{path}: the folder holds {' and '.join(sorted(kinds))} ({', '.join(kinds.values())}); name one file")
    return found


def columns_of(chunk: Chunk) -> tuple[str, ...]:
    """Return the columns of a chunk of a table, () of requests. Raises TableError for a header that cannot be one."""
    return _COLUMNS[chunk.kind](chunk)


def read(paths: Sequence[Path]) -> Generator[Chunk, None, None]:
    """Return the files' records in order, chunk by chunk, at least one of each file; one is held at a time.

    Raises TableError for a broken file.
    """
    sizes = [path.stat().st_size for path in paths]
    total, before = max(sum(sizes), 1), 0
    for path, size in zip(paths, sizes, strict=True):
        kind, rows = FORMATS[suffix(path)].kind, 0
        try:
            for chunk in _READERS[kind](path, size):
                rows += chunk.rows
                yield chunk._replace(share=(before + chunk.share * size) / total)
        except EOFError as error:
            raise csv_text.not_whole(str(path), "ends early", rows) from error
        except (OSError, zlib.error) as error:
            raise TableError(f"{path}: cannot be read as {suffix(path)}: {error}; is it whole?") from error
        before += size


def _csv(path: Path, size: int) -> Iterator[Chunk]:
    header, line = b"", 1
    for text, share in _texts(path, size, quoted=True):
        if not header:
            header = text[: records.first_end(text)]
            line += header.count(b"\n")
            body = text[len(header) :]
        else:
            body = text
        yield Chunk(str(path), "csv", line, records.count(body), share, header + body)
        line += body.count(b"\n")
    if not header:
        raise TableError(f"{path}: is empty; its first line must name the columns")


def _ndjson(path: Path, size: int) -> Iterator[Chunk]:
    if size == 0:
        yield Chunk(str(path), "ndjson", 1, 0, 1.0, b"")
    yield from _by_line(path, size, "ndjson", lambda line: bool(line.strip()))


def _tsv(path: Path, size: int) -> Iterator[Chunk]:
    if size == 0:
        raise TableError(f"{path}: is empty")
    yield from _by_line(path, size, "tsv", lambda line: True)


def _txt(path: Path, size: int) -> Iterator[Chunk]:
    """Return the chunks of a text without a header, blanks between its cells, as CSV with one."""
    if size == 0:
        raise TableError(f"{path}: is empty")
    columns: tuple[str, ...] = ()
    for chunk in _by_line(path, size, "txt", lambda line: bool(line.strip())):
        text = frames.csv_of_txt(chunk.payload, chunk.file, columns, chunk.line)
        columns = columns or csv_text.columns(text, chunk.file)
        yield chunk._replace(kind="csv", payload=text)


def _by_line(path: Path, size: int, kind: str, is_record: Callable[[bytes], bool]) -> Iterator[Chunk]:
    """Return the chunks of text in which every line is a record for which `is_record` returns True."""
    line = 1
    for text, share in _texts(path, size, quoted=False):
        lines = text.removesuffix(b"\n").split(b"\n")
        yield Chunk(str(path), kind, line, sum(map(is_record, lines)), share, text)
        line += len(lines)


def _parquet(path: Path, _size: int) -> Iterator[Chunk]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            rows, schema = 0, file.schema_arrow
            if file.metadata.num_rows == 0:
                yield Chunk(str(path), "parquet", 1, 0, 1.0, _ipc(schema, []))
            for batch in file.iter_batches(CHUNK_ROWS):
                done = rows + batch.num_rows
                yield Chunk(str(path), "parquet", rows + 1, batch.num_rows, done / file.metadata.num_rows, _ipc(schema, [batch]))
                rows = done
    except pa.ArrowException as error:
        raise TableError(f"{path}: cannot be read as Parquet: {error}; is it whole?") from error


_READERS: dict[str, Callable[[Path, int], Iterator[Chunk]]] = {
    "csv": _csv,
    "ndjson": _ndjson,
    "tsv": _tsv,
    "txt": _txt,
    "parquet": _parquet,
}


def _parquet_columns(chunk: Chunk) -> tuple[str, ...]:
    import pyarrow as pa

    return tuple(pa.ipc.open_stream(chunk.payload).schema.names)


def _tsv_columns(chunk: Chunk) -> tuple[str, ...]:
    first = chunk.payload.partition(b"\n")[0]
    return tuple(f"column{place}" for place in range(1, first.count(b"\t") + 2))


_COLUMNS: dict[str, Callable[[Chunk], tuple[str, ...]]] = {
    "csv": lambda chunk: csv_text.columns(chunk.payload, chunk.file),
    "ndjson": lambda chunk: (),
    "tsv": _tsv_columns,
    "parquet": _parquet_columns,
}


def _ipc(schema: "pa.Schema", batches: "Sequence[pa.RecordBatch]") -> bytes:
    import pyarrow as pa

    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batches[0].schema if batches else schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return sink.getvalue()


def _texts(path: Path, size: int, *, quoted: bool) -> Iterator[tuple[bytes, float]]:
    """Return text that ends where a record ends, and how much of the file is read with it.

    Raises EOFError, after all whole records, where gzip data are cut short.
    """
    with path.open("rb") as raw:
        rest, line = b"", 1
        for block in _unzipped(raw) if FORMATS[suffix(path)].unzip else iter(lambda: raw.read(CHUNK_BYTES), b""):
            rest += block
            cut = records.last_end(rest) if quoted else rest.rfind(b"\n") + 1
            if cut:
                yield rest[:cut], raw.tell() / size
                line += rest.count(b"\n", 0, cut)
                rest = rest[cut:]
            elif len(rest) > MAX_RECORD_BYTES:
                raise TableError(f"{path}, line {line}: a record of more than {MAX_RECORD_BYTES:,} bytes; is a quotation mark left open?")
        if rest:
            yield rest, 1.0


def _unzipped(raw: BinaryIO) -> Iterator[bytes]:
    """Yield the content of gzip data in blocks of CHUNK_BYTES. Raises EOFError, after all that can be read, where they end early."""
    member, block, packed = zlib.decompressobj(_GZIP), b"", raw.read(_PACKED_BYTES)
    begun = bool(packed)
    while packed:
        if member.eof:  # zeros may follow a member, or another member
            packed = packed.lstrip(b"\0") or raw.read(_PACKED_BYTES).lstrip(b"\0")
            member = zlib.decompressobj(_GZIP) if packed else member
            continue
        block += member.decompress(packed, CHUNK_BYTES - len(block))
        packed = (member.unused_data if member.eof else member.unconsumed_tail) or raw.read(_PACKED_BYTES)
        if len(block) == CHUNK_BYTES:
            yield block
            block = b""
    if rest := block + member.flush():
        yield rest
    if begun and not member.eof:
        raise EOFError("the data end before the end of the gzip stream")
