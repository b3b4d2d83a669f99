"""CSV: read fast by Polars; record by record only when that fails or is ambiguous, to locate the error.

A file is checked against RFC 4180 before Polars reads it, and as many records must come out as are in it: what a parser makes of a stray
quotation mark is never taken. A quotation mark inside a cell that does not begin with one, such as `5" pipe`, is text.

Cells are text unless their column is passed as numbers; types are never inferred, so that a chunk of a file reads as the whole file does.
"""

import csv
import io
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import polars as pl

from kernels.types import I64
from training.errors import TableError

GZIP = ".gz"
MAX_CELL = 1 << 20  # characters; a longer cell is a quotation mark left open
_PACKED = 1 << 18  # bytes of gzip data that are unzipped at once
_GZIP_HEADER = 16 + zlib.MAX_WBITS  # for zlib: the data have one
_MARK = b"\xef\xbb\xbf"  # of UTF-8, at the beginning of a file
_COMMA, _QUOTE, _RETURN, _NEWLINE = b',"\r\n'

Source = Path | bytes  # a file, or text with its header


class Record(NamedTuple):
    """A record: the line it begins on, from 1, the line after it, and its cells."""

    line: int
    after: int
    cells: list[str]


class EndOfBlocksError(Exception):
    """A compressed file ends early, or is damaged, after the blocks that were read. reason: which of them."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read(source: Source, file: str, numbers: Collection[str] = (), line: int = 0) -> pl.DataFrame:
    """Return the table in a CSV: the columns in `numbers` as float64, the others as text, blank cells null, empty lines left out.

    file: its name in errors; line: the line of the file on which the first record begins, 0 when `source` is the whole file. A column of
    `numbers` that holds other text than plain numbers stays text. Raises TableError naming the file and the line.
    """
    content = _content(source, file)
    header = _header(content, file)
    shift = line - header.after if line else 0
    checked = _well_formed(content, file, shift)
    floats = {name: pl.Float64 for name in header.cells if name in numbers}
    frame = _parsed(checked.text, floats) if floats else None
    frame = _parsed(checked.text, {}) if frame is None else frame
    if frame is None or frame.height != checked.records:
        frame = _by_record(content, file, header.cells, shift)
    if frame.height and frame[header.cells[-1]].has_nulls():  # a short line reads as one with blank cells, and so does an empty one
        kept = _checked(content, file, header.cells, shift)
        frame = frame if len(kept) == frame.height else frame[kept]
    return frame


def columns(source: Source, file: str) -> tuple[str, ...]:
    """Return the columns that the header names. Raises TableError for a header that cannot be one."""
    return tuple(_header(source, file).cells)


def lines(source: Source, line: int = 0) -> Iterator[int]:
    """Yield the line on which each row begins; `line` as for `read`."""
    records = _records(_content(source, "the text"), "the text")
    header = next(records)
    shift = line - header.after if line else 0
    return (record.line + shift for record in records if record.cells)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def unzipped(raw: BinaryIO) -> Iterator[bytes]:
    """Yield the content of a gzip file in blocks, to the last byte that can be read. Raises EndOfBlocksError where it is not whole."""
    member, begun = zlib.decompressobj(_GZIP_HEADER), False
    try:
        while packed := raw.read(_PACKED):
            while packed:
                if member.eof:  # another file follows, or bytes that fill up the last block
                    packed = packed.lstrip(b"\0")
                    member, begun = zlib.decompressobj(_GZIP_HEADER), False
                    continue
                begun = True
                if block := member.decompress(packed):
                    yield block
                packed = member.unused_data
    except zlib.error as error:
        raise EndOfBlocksError(f"is damaged ({first_line(error)})") from error
    if begun and not member.eof:
        raise EndOfBlocksError("ends early")


def not_whole(file: str, reason: str, rows: int) -> TableError:
    """Return the error for a file of which only `rows` whole rows can be read."""
    return TableError(f"{reason}: {file}, after row {rows}; is it whole? Copy it again, or write it again")


def whole_rows(text: bytes) -> int:
    """Return the number of whole records after the header."""
    return max(len(_ends(text)[0]) - 1, 0)


def _content(source: Source, file: str) -> bytes:
    """Return the text of a source without the mark of UTF-8. Raises TableError for a file that cannot be read."""
    return (source if isinstance(source, bytes) else _file(source, file)).removeprefix(_MARK)


def _file(path: Path, file: str) -> bytes:
    blocks = list[bytes]()
    try:
        if not path.name.lower().endswith(GZIP):
            return path.read_bytes()
        with path.open("rb") as raw:
            for block in unzipped(raw):
                blocks.append(block)
    except EndOfBlocksError as error:
        raise not_whole(file, error.reason, whole_rows(b"".join(blocks))) from error
    except OSError as error:
        raise TableError(f"{file}: cannot be read: {first_line(error)}; is it whole?") from error
    return b"".join(blocks)


def _header(source: Source, file: str) -> Record:
    head = source[:MAX_CELL] if isinstance(source, bytes) else _head(source, file)
    if b"\r" in head and b"\n" not in head:
        raise TableError(f"{file}: its lines end in a carriage return alone; write it again with line feeds (\\n, or \\r\\n)")
    first = next(_records(head.removeprefix(_MARK), file), None)
    if first is None:
        raise TableError(f"{file}: is empty; its first line must name the columns")
    names = first.cells
    if len(names) == 1 and (other := next((mark for mark in ";\t|" if mark in names[0]), "")):
        raise TableError(f"{file}, line 1: the columns are separated by {other!r}; separate them by commas")
    if all(_is_number(name) for name in names):
        raise TableError(f"{file}, line 1: holds values ({', '.join(names[:3])}, ...) instead of column names; add a first line with them")
    for name in names:
        if not name.strip() or names.count(name) > 1:
            raise TableError(f"{file}, line 1: {f'column {name!r} is there twice' if name.strip() else 'a column has no name'}; rename it")
    return first


def _head(path: Path, file: str) -> bytes:
    """Return the beginning of a file, as much as a header may be long."""
    try:
        with path.open("rb") as raw:
            if not path.name.lower().endswith(GZIP):
                return raw.read(MAX_CELL)
            return next(unzipped(raw), b"")
    except EndOfBlocksError as error:
        raise not_whole(file, error.reason, 0) from error
    except OSError as error:
        raise TableError(f"{file}: cannot be read: {first_line(error)}; is it whole?") from error


class _Checked(NamedTuple):
    """Text that is well-formed by RFC 4180. records: how many follow the header, empty lines included."""

    text: bytes
    records: int


def _well_formed(content: bytes, file: str, shift: int) -> _Checked:
    """Return the text of a CSV, cells with quotation marks inside quoted. Raises TableError for text that is malformed, with the line."""
    if b'"' not in content:
        number, paired = content.count(b"\n"), True
    else:
        ends, paired = _ends(content)
        number = len(ends)
    if paired and (b"\r" not in content or content.count(b"\r") == content.count(b"\r\n")):
        return _Checked(content, number - 1 + (not content.endswith(b"\n")))
    records = [record.cells for record in _records(content, file, shift, strict=True)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(records)
    return _Checked(text.getvalue().encode(), len(records) - 1)


def _ends(content: bytes) -> tuple[I64, bool]:
    """Return the places after the line feeds that end a record, and whether every quotation mark belongs to a quoted cell.

    Only if all do, a place is in a quoted cell where an odd number of them is before it.
    """
    letters = np.frombuffer(content, np.uint8)
    newlines = np.flatnonzero(letters == _NEWLINE).astype(np.int64)
    if b'"' not in content:
        return newlines + 1, True
    quotes = np.flatnonzero(letters == _QUOTE)
    opening, closing = quotes[::2], quotes[1::2]
    before = np.where(opening > 0, letters[opening - 1], _NEWLINE)
    after = np.where(closing + 1 < len(letters), letters[np.minimum(closing + 1, len(letters) - 1)], _NEWLINE)
    paired = len(quotes) % 2 == 0 and _all_of(before, _COMMA, _NEWLINE, _QUOTE) and _all_of(after, _COMMA, _RETURN, _NEWLINE, _QUOTE)
    return newlines[np.searchsorted(quotes, newlines) % 2 == 0] + 1, paired


def _all_of(letters: np.ndarray[tuple[int], np.dtype[np.uint8]], *allowed: int) -> bool:
    return bool(np.isin(letters, allowed).all())


def _parsed(text: bytes, floats: dict[str, type[pl.Float64]]) -> pl.DataFrame | None:
    """Return the table that Polars reads, None where it cannot."""
    try:
        return pl.read_csv(text, infer_schema=False, schema_overrides=floats)
    except pl.exceptions.PolarsError:
        return None


def _by_record(content: bytes, file: str, names: Sequence[str], shift: int) -> pl.DataFrame:
    """Return the table read record by record, empty lines included. Raises TableError for text that is not CSV."""
    _checked(content, file, names, shift)
    records = _records(content, file, shift)
    next(records)
    empty = [None] * len(names)
    rows = [[cell or None for cell in record.cells] or empty for record in records]
    return pl.DataFrame(rows, dict.fromkeys(names, pl.String), orient="row")


def _checked(content: bytes, file: str, names: Sequence[str], shift: int) -> I64:
    """Return the numbers of the records that are not empty lines. Raises TableError at the first with too few or too many cells."""
    if b'"' not in content and (kept := _rows_of(content, len(names))) is not None:
        return kept
    found = []
    records = _records(content, file, shift)
    next(records)
    for number, record in enumerate(records):
        if len(record.cells) not in (0, len(names)):
            raise TableError(
                f"{file}, line {record.line + shift}: has {len(record.cells)} cells, the first line names {len(names)} columns "
                f"({names[0]} ... {names[-1]}); quote cells that contain commas, fill in missing ones"
            )
        if record.cells:
            found.append(number)
    return np.array(found, np.int64)


def _rows_of(content: bytes, width: int) -> I64 | None:
    """Return what `_checked` does, of text without quotation marks; None where a record has another number of cells than the header."""
    letters = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(letters == _NEWLINE)
    if not content.endswith(b"\n"):
        ends = np.append(ends, len(content))
    begins = np.concatenate(([0], ends[:-1] + 1))
    commas = np.flatnonzero(letters == _COMMA)
    cells = np.diff(np.searchsorted(commas, np.append(begins, len(content))))[1:] + 1
    length = (ends - begins)[1:]
    empty = (length == 0) | ((length == 1) & (letters[np.minimum(begins[1:], len(letters) - 1)] == _RETURN))
    if ((cells != width) & ~empty).any():
        return None
    return np.flatnonzero(~empty).astype(np.int64)


def _records(content: bytes, file: str, shift: int = 0, *, strict: bool = False) -> Iterator[Record]:
    """Yield every record with its line in the source, the header first. Raises TableError for text that is not CSV.

    strict: raises it for a quotation mark after blanks at the beginning of a cell too, which opens none.
    """
    limit = csv.field_size_limit(MAX_CELL)
    begins = 1
    try:
        with io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="\n") as text:
            reader = csv.reader(text, strict=True)
            for cells in reader:
                after = reader.line_num + 1
                if strict and any(cell[:1] in (" ", "\t") and cell.lstrip().startswith('"') for cell in cells):
                    raise csv.Error("a quotation mark follows blanks at the beginning of a cell, and opens none")
                yield Record(begins, after, cells)
                begins = after
    except UnicodeDecodeError as error:
        raise TableError(f"{file}, line {_undecoded(content) + shift}: is not UTF-8 ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        reason = str(error).removesuffix(" - do you need to open the file with newline=''?")
        fix = "is a quotation mark left open, or not doubled inside a quoted cell?"
        raise TableError(f"{file}, line {begins + shift}: is not CSV as of RFC 4180 ({reason}); {fix}") from error
    finally:
        csv.field_size_limit(limit)


def _undecoded(content: bytes) -> int:
    """Return the first line that is not UTF-8."""
    return next(number for number, text in enumerate(io.BytesIO(content), 1) if not _decodes(text))


def _decodes(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
