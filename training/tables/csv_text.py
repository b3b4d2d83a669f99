"""CSV: read fast by Polars; record by record only when that fails or is ambiguous, to locate the error.

Cells are text unless their column is passed as numbers; types are never inferred, so that a chunk of a file reads as the whole file does.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO, cast

import polars as pl

from training.errors import CellError, TableError

GZIP = ".gz"
BLANK = ("", "na", "n/a", "nan", "null", "none")  # cells that are missing, in small letters and without spaces around
MAX_CELL = 1 << 20  # characters; a longer cell is a quotation mark left open

Source = Path | bytes  # a file, or text with its header


class Record(NamedTuple):
    """A record: the line it begins on, from 1, the line after it, and its cells."""

    line: int
    after: int
    cells: list[str]


def read(source: Source, file: str, numbers: Collection[str], line: int = 0) -> pl.DataFrame:
    """Return the table in a CSV: the columns in `numbers` as float64, the others as text, blank cells null, empty lines left out.

    file: its name in errors; line: the line of the file on which the first record begins, 0 when `source` is the whole file.
    """
    header = _header(source, file)
    shift = line - header.after if line else 0
    floats = {name: pl.Float64 for name in header.cells if name in numbers}
    try:
        frame = pl.read_csv(source, infer_schema=False, schema_overrides=floats)
    except (pl.exceptions.PolarsError, OSError):
        frame = _slowly(source, file, header.cells, floats, shift)
    if frame.height and frame[header.cells[-1]].has_nulls():  # a short line reads as one with blank cells, and so does an empty one
        kept = _checked(source, file, header.cells, shift)
        frame = frame if len(kept) == frame.height else frame[kept]
    return frame


def columns(source: Source, file: str) -> tuple[str, ...]:
    """Return the columns that the header names. Raises TableError for a header that cannot be one."""
    return tuple(_header(source, file).cells)


def lines(source: Source, line: int = 0) -> Iterator[int]:
    """Yield the line on which each row begins; `line` as for `read`."""
    records = _records(source, "the text")
    header = next(records)
    shift = line - header.after if line else 0
    return (record.line + shift for record in records if record.cells)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _header(source: Source, file: str) -> Record:
    first = next(_records(source, file), None)
    if first is None:
        raise TableError(f"{file}: is empty; its first line must name the columns")
    names = first.cells
    if _ends_in_carriage_returns(source):
        raise TableError(f"{file}: its lines end in a carriage return alone; write it again with line feeds (\\n, or \\r\\n)")
    if len(names) == 1 and (other := next((mark for mark in ";\t|" if mark in names[0]), "")):
        raise TableError(f"{file}, line 1: the columns are separated by {other!r}; separate them by commas")
    if all(_is_number(name) for name in names):
        raise TableError(f"{file}, line 1: holds values ({', '.join(names[:3])}, ...) instead of column names; add a first line with them")
    for name in names:
        if not name.strip() or names.count(name) > 1:
            raise TableError(f"{file}, line 1: {f'column {name!r} is there twice' if name.strip() else 'a column has no name'}; rename it")
    return first


def _ends_in_carriage_returns(source: Source) -> bool:
    with _opened(source) as text:
        head = text.read(MAX_CELL)
    return "\r" in head and "\n" not in head


def _slowly(source: Source, file: str, names: list[str], floats: Collection[str], shift: int) -> pl.DataFrame:
    """Return the table of a CSV that Polars rejected: spaces around numbers and words for blank are accepted, other text is an error."""
    kept = _checked(source, file, names, shift)
    try:
        frame = pl.read_csv(source, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{file}: cannot be read as CSV: {first_line(error)}; write it again with a CSV writer") from error
    for name in floats:
        text = frame[name].str.strip_chars()
        text = text.set(text.str.to_lowercase().is_in(BLANK), None)
        number = text.cast(pl.Float64, strict=False)
        wrong = (number.is_null() & text.is_not_null()).arg_true()
        if len(wrong):
            row = wrong[0]
            at = next(record.line for number, record in enumerate(_records(source, file)) if number == row + 1) + shift
            raise CellError(
                kept.index(row), name, text[row], "is not a number; write one such as 12.5, or leave it empty", f"{file}, line {at}"
            )
        frame = frame.with_columns(number.alias(name))
    return frame


def _checked(source: Source, file: str, names: Sequence[str], shift: int) -> list[int]:
    """Return the numbers of the records that are not empty lines. Raises TableError at the first with too few or too many cells."""
    kept = []
    records = _records(source, file, shift)
    next(records)
    for number, record in enumerate(records):
        if len(record.cells) not in (0, len(names)):
            raise TableError(
                f"{file}, line {record.line + shift}: has {len(record.cells)} cells, the first line names {len(names)} columns "
                f"({names[0]} ... {names[-1]}); quote cells that contain commas, fill in missing ones"
            )
        if record.cells:
            kept.append(number)
    return kept


def _records(source: Source, file: str, shift: int = 0) -> Iterator[Record]:
    """Yield every record with its line in the source, the header first. Raises TableError for text that is not CSV."""
    limit = csv.field_size_limit(MAX_CELL)
    begins = 1
    try:
        with _opened(source) as text:
            reader = csv.reader(text, strict=True)
            for cells in reader:
                after = reader.line_num + 1
                yield Record(begins, after, cells)
                begins = after
    except UnicodeDecodeError as error:
        raise TableError(f"{file}, line {_undecoded(source) + shift}: is not UTF-8 ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise TableError(f"{file}, line {begins + shift}: {error}; is a quotation mark left open?") from error
    except (OSError, EOFError, zlib.error) as error:
        raise TableError(f"{file}: cannot be read: {error}; is it whole?") from error
    finally:
        csv.field_size_limit(limit)


@contextmanager
def _opened(source: Source) -> Iterator[TextIO]:
    with _bytes_of(source) as content, io.TextIOWrapper(content, "utf-8-sig", newline="") as text:
        yield text


def _bytes_of(source: Source) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return cast(BinaryIO, gzip.open(source)) if source.name.lower().endswith(GZIP) else source.open("rb")


def _undecoded(source: Source) -> int:
    """Return the first line that is not UTF-8."""
    with _bytes_of(source) as content:
        return next(number for number, text in enumerate(content, 1) if not _decodes(text))


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
