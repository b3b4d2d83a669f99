"""The dataframe seam: a CSV or Parquet file, or a folder of them, becomes one table, Polars on the CPU or cuDF on the GPU.

CSV cells are text unless their column is named as numbers; nothing is guessed, so that a chunk of a file reads as the whole file does.
A file is read fast first; only when that fails, or leaves a doubt, is it walked line by line to name what is wrong.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO, cast

import polars as pl

from training.errors import TableError

SUFFIXES = (".csv", ".csv.gz", ".parquet")
BLANK = ("", "na", "n/a", "nan", "null", "none")  # a cell that says, in small letters and without spaces around, that nothing is known
MAX_CELL = 1 << 20  # characters; a longer cell is a quotation mark left open

Source = Path | bytes  # a file, or the text of a chunk with its header


class CellError(TableError):
    """A cell does not hold what its column needs. `row` counts from 0 in the table that was read; `at` tells where that is in the file."""

    def __init__(self, row: int, column: str, value: object, fix: str, place: str = "") -> None:
        self.row, self.column, self.value, self.fix = row, column, value, fix
        super().__init__(f"{place or f'row {row + 1}'}, column {column}: {value!r} {fix}")

    def at(self, place: str) -> "CellError":
        """Return the error with its place, such as `sessions.csv, line 17`."""
        return CellError(self.row, self.column, self.value, self.fix, place)


class Record(NamedTuple):
    """A record of a CSV: the line it begins on, from 1, and its cells."""

    line: int
    cells: list[str]


def read(path: Path, device: str = "cpu", *, numbers: Collection[str] = ()) -> Any:
    """Return the table in `path`: .csv, .csv.gz, .parquet, or a folder of files of one of these kinds, in the order of their names.

    device: "cpu" for a polars.DataFrame, "cuda" for a cudf.DataFrame. numbers: the CSV columns to read as float64.
    Raises TableError naming the file, the line, the column and the fix.
    """
    paths = files(path)
    parts = [_parquet(file) if _suffix(file) == ".parquet" else _csv(file, str(file), numbers) for file in paths]
    frame = parts[0] if len(parts) == 1 else _joined(paths, parts)
    return frame if device == "cpu" else on_device(frame, device)


def parse(text: bytes, numbers: Collection[str] = (), *, file: str = "the text", line: int = 2) -> pl.DataFrame:
    """Return the table in a chunk of a CSV: its header, then records of which the first begins on `line` of `file`."""
    return _csv(text, file, numbers, line - 2)


def place(path: Path, row: int) -> str:
    """Return where row `row` (from 0) of `read(path)` begins: `FILE, line N`, or `FILE, row N` in Parquet."""
    for file in files(path):
        if _suffix(file) == ".parquet":
            rows = pl.scan_parquet(file).select(pl.len()).collect().item()
            if row < rows:
                return f"{file}, row {row + 1}"
        else:
            for rows, record in enumerate(_data(file, str(file)), 1):
                if rows == row + 1:
                    return f"{file}, line {record.line}"
        row -= rows
    raise IndexError(f"{path} has no row {row}: this is a bug")


def line(text: bytes, row: int, first: int = 2) -> int:
    """Return the line on which row `row` (from 0) of a chunk begins, whose first record begins on line `first`."""
    for number, record in enumerate(_data(text, "the text")):
        if number == row:
            return record.line + first - 2
    raise IndexError(f"the text has no row {row}: this is a bug")


def files(path: Path) -> list[Path]:
    """Return the file, or the folder's files of one kind by name. Raises TableError when there is none, or more than one kind."""
    if not path.exists():
        raise TableError(f"{path}: no such file or folder")
    found = sorted(p for p in path.iterdir() if p.is_file() and p.name[0] not in "._") if path.is_dir() else [path]
    known = [file for file in found if _suffix(file)]
    if not known:
        raise TableError(
            f"{path}: {'the folder holds no table' if path.is_dir() else 'the suffix says nothing'}; use {', '.join(SUFFIXES)}"
        )
    if len({_suffix(file) == ".parquet" for file in known}) > 1:
        raise TableError(f"{path}: the folder holds CSV and Parquet ({', '.join(file.name for file in known[:5])}); name one file")
    return known


def on_device(frame: pl.DataFrame, device: str) -> Any:
    """Return the table as a cudf.DataFrame. One grammar of CSV for both devices: Polars has read it, Arrow carries it over.

    Not run where there is no GPU: the test that does is marked `gpu`.
    """
    if device != "cuda":
        raise TableError(f"device {device!r} is not known; use cpu or cuda")
    try:
        import cudf
    except ImportError as error:
        raise TableError("device cuda needs cuDF; install it with: pip install 'revenue-engine[gpu]', or use device cpu") from error
    return cudf.DataFrame.from_arrow(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def _joined(paths: Sequence[Path], parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    first = parts[0]
    for path, part in zip(paths, parts, strict=True):
        if odd := sorted(set(part.columns) ^ set(first.columns)):
            raise TableError(f"{path}: column {odd[0]!r} is not in every file of the folder ({paths[0].name} and {path.name} differ)")
    try:
        return pl.concat([part.select(first.columns) for part in parts], how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise TableError(f"{paths[0].parent}: the files do not fit together: {_first_line(error)}; give a column one type") from error


def _parquet(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{path}: cannot be read as Parquet: {_first_line(error)}; is it whole?") from error
    if not frame.columns:
        raise TableError(f"{path}: has no column")
    return frame


def _csv(source: Source, file: str, numbers: Collection[str], shift: int = 0) -> pl.DataFrame:
    names = _header(source, file)
    floats = {name: pl.Float64 for name in names if name in numbers}
    try:
        frame = pl.read_csv(source, infer_schema=False, schema_overrides=floats)
    except (pl.exceptions.PolarsError, OSError):
        frame = _slowly(source, file, names, floats, shift)
    if frame.height and frame[names[-1]].has_nulls():  # a short line reads as one with blank cells, and so does an empty one
        kept = _checked(source, file, names, shift)
        frame = frame if len(kept) == frame.height else frame[kept]
    return frame


def _header(source: Source, file: str) -> list[str]:
    first = next(_records(source, file), None)
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
    return names


def _slowly(source: Source, file: str, names: list[str], floats: Collection[str], shift: int) -> pl.DataFrame:
    """Return the table of a CSV that did not read: spaces around numbers and words for blank are let be, anything else is named."""
    kept = _checked(source, file, names, shift)
    try:
        frame = pl.read_csv(source, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{file}: cannot be read as CSV: {_first_line(error)}; write it again with a CSV writer") from error
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
    """Return which records are not empty lines; raise TableError at the first with too few or too many cells."""
    kept = []
    records = _records(source, file, shift)
    next(records)
    for number, record in enumerate(records):
        if len(record.cells) not in (0, len(names)):
            raise TableError(
                f"{file}, line {record.line + shift}: has {len(record.cells)} cells, the first line names {len(names)} columns "
                f"({names[0]} ... {names[-1]}); quote cells that hold commas, fill in those that are lacking"
            )
        if record.cells:
            kept.append(number)
    return kept


def _data(source: Source, file: str) -> Iterator[Record]:
    """Yield the records that become rows."""
    records = _records(source, file)
    next(records, None)
    return (record for record in records if record.cells)


def _records(source: Source, file: str, shift: int = 0) -> Iterator[Record]:
    """Yield every record with its line in the source, the header first. Raises TableError for what is no CSV at all."""
    limit = csv.field_size_limit(MAX_CELL)
    begins = 1
    try:
        with _opened(source) as text:
            reader = csv.reader(text, strict=True)
            for cells in reader:
                yield Record(begins, cells)
                begins = reader.line_num + 1
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
    return cast(BinaryIO, gzip.open(source)) if _suffix(source) == ".csv.gz" else source.open("rb")


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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
