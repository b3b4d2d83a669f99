"""Read a CSV or Parquet file, or a folder of them, as one table: Polars on the CPU or cuDF on the GPU."""

import csv
import io
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from training.errors import CellError, TableError
from training.tables import cells, csv_text
from training.tables.cells import DEFAULT, CellOptions, NumberNotation
from training.tables.cells.options import DecimalMark
from training.tables.csv_text import first_line

_POINTS: Mapping[str, DecimalMark | None] = {}  # every column has a decimal point
SUFFIXES = (".csv", ".csv.gz", ".parquet", ".txt", ".tsv")


def read(path: Path, device: str = "cpu", *, numbers: Collection[str] = (), options: CellOptions = DEFAULT) -> Any:
    """Return the table in `path`: .csv, .csv.gz, .parquet, or a folder of files of one of these kinds, in the order of their names.

    A .txt has no header and blanks between its cells, as research data often have: its columns are column1, column2, ... A .tsv has no
    header and no quoting, and tabs between its cells.
    device: "cpu" for a polars.DataFrame, "cuda" for a cudf.DataFrame. numbers: the columns to read as float64, in the notation that all
    of their cells show. Raises TableError naming the file, the line, the column and the fix.
    """
    paths = files(path)
    parts = [_READERS[_suffix(file)](file) for file in paths]
    frame = parts[0] if len(parts) == 1 else _joined(paths, parts)
    try:
        frame = with_numbers(frame, numbers, options)
    except CellError as error:
        raise error.at(place(path, error.row)) from None
    except TableError as error:
        raise TableError(f"{path}: {error}") from None
    return frame if device == "cpu" else on_device(frame, device)


def with_numbers(
    frame: pl.DataFrame, numbers: Collection[str], options: CellOptions = DEFAULT, decimals: Mapping[str, DecimalMark | None] | None = None
) -> pl.DataFrame:
    """Return the table with the columns in `numbers` as float64.

    decimals: {column: its decimal mark} of a table of which this is a chunk, a mark None where it is not known; None where the table is
    whole, and the marks are found. Raises
    CellError for the first text that is no number, TableError where a column fits two notations.
    """
    given = [name for name in frame.columns if name in numbers and frame.schema[name] not in (pl.Float64, pl.Date)]
    given = [name for name in given if not isinstance(frame.schema[name], pl.Datetime)]
    found = [
        cells.numbers(frame[name], options, decimal=None if decimals is None else _mark(frame[name], options, decimals)) for name in given
    ]
    return frame.with_columns(found) if found else frame


def _mark(column: pl.Series, options: CellOptions, decimals: Mapping[str, DecimalMark | None]) -> DecimalMark:
    """Return the decimal mark of a chunk's column.

    Raises TableError where no earlier chunk shows one, and this one has a comma: other chunks may have been read with a point.
    """
    mark = decimals.get(column.name, ".")
    if mark is not None or column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return mark or "."
    notation = NumberNotation(column.name, options)
    notation.add(column)
    if notation.decimal == ",":
        raise TableError(f"column {column.name} has decimal commas, and no cell before shows it; state the mark: --decimal ,")
    return "."


def parse(
    text: bytes,
    numbers: Collection[str] = (),
    *,
    file: str = "the text",
    line: int = 2,
    options: CellOptions = DEFAULT,
    decimals: Mapping[str, DecimalMark | None] = _POINTS,
) -> pl.DataFrame:
    """Return the table in a chunk of a CSV: its header, then records of which the first begins on `line` of `file`.

    numbers: the columns to read as float64; decimals: {column: its decimal mark} of those that have no point, as all chunks of the file
    have. Raises TableError naming the file, the line, the column and the fix.
    """
    plain = [name for name in numbers if decimals.get(name, ".") == "."]
    frame = csv_text.read(text, file, plain, line)
    try:
        return with_numbers(frame, numbers, options, decimals)
    except CellError as error:
        raise error.at(f"{file}, line {next(itertools.islice(csv_text.lines(text, line), error.row, None))}") from None
    except TableError as error:
        raise TableError(f"{file}, from line {line} on: {error}") from None


def place(path: Path, row: int) -> str:
    """Return where row `row` (from 0) of `read(path)` begins: `FILE, line N`, or `FILE, row N` in Parquet."""
    for file in files(path):
        if _suffix(file) == ".parquet":
            rows = pl.scan_parquet(file).select(pl.len()).collect().item()
            if row < rows:
                return f"{file}, row {row + 1}"
        else:
            lines = list(itertools.islice(_STARTS.get(_suffix(file), csv_text.lines)(file), row + 1))
            rows = len(lines)
            if row < rows:
                return f"{file}, line {lines[row]}"
        row -= rows
    raise IndexError(f"{path} has no row {row}: this is a bug")


def line(text: bytes, row: int, first: int = 2) -> int:
    """Return the line on which row `row` (from 0) of a chunk begins, whose first record begins on line `first`."""
    return next(itertools.islice(csv_text.lines(text, first), row, None))


def files(path: Path) -> list[Path]:
    """Return the file, or the folder's files of one kind by name. Raises TableError when there is none, or more than one kind."""
    if not path.exists():
        raise TableError(f"{path}: no such file or folder")
    found = sorted(p for p in path.iterdir() if p.is_file() and p.name[0] not in "._") if path.is_dir() else [path]
    known = [file for file in found if _suffix(file)]
    if not known:
        raise TableError(f"{path}: {'the folder holds no table' if path.is_dir() else 'the suffix is unknown'}; use {', '.join(SUFFIXES)}")
    if len({_suffix(file) == ".parquet" for file in known}) > 1:
        raise TableError(f"{path}: the folder holds CSV and Parquet ({', '.join(file.name for file in known[:5])}); name one file")
    return known


def on_device(frame: pl.DataFrame, device: str) -> Any:
    """Return the table as a cudf.DataFrame, through Arrow, so that both devices have one CSV reader.

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
        raise TableError(f"{paths[0].parent}: the files have different types: {first_line(error)}; give a column one type") from error


def _csv(path: Path) -> pl.DataFrame:
    return csv_text.read(path, str(path))


def _txt(path: Path) -> pl.DataFrame:
    return csv_text.read(_with_header(path), str(path), (), 1)


def _tsv(path: Path) -> pl.DataFrame:
    try:
        return parse_tsv(path.read_bytes(), str(path))
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {first_line(error)}") from error


def parse_tsv(content: bytes, file: str, line: int = 1) -> pl.DataFrame:
    """Return the cells of a .tsv, all text: column1, column2, ...; no header, no quoting, for texts hold quotation marks.

    Every line is a row, also an empty one; missing cells of a line are "". `line`: that of the first in `file`. Raises TableError
    for text that is not UTF-8 or is empty, and for a line with more cells than the first.
    """
    try:
        lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        at = line + content.count(b"\n", 0, error.start)
        raise TableError(f"{file}, line {at}: is not UTF-8 ({error.reason}); save it as UTF-8") from error
    if not content:
        raise TableError(f"{file}: is empty")
    rows = [one.removesuffix("\r").split("\t") for one in lines]
    width = len(rows[0])
    for number, row in enumerate(rows, line):
        if len(row) > width:
            raise TableError(f"{file}, line {number}: has {len(row)} cells, the first line {width}; take the tabs out of the text")
    filled = [[*row, *[""] * (width - len(row))] for row in rows]
    return pl.DataFrame({f"column{place}": list(cells) for place, cells in enumerate(zip(*filled, strict=True), 1)})


def _with_header(path: Path) -> bytes:
    """Return the cells of a .txt as a CSV with a header."""
    try:
        return csv_of_txt(path.read_bytes(), str(path))
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {first_line(error)}") from error


def csv_of_txt(content: bytes, file: str, columns: Sequence[str] = (), line: int = 1) -> bytes:
    """Return the cells of a .txt as a CSV, line by line below a header; columns: its names, by default one for each cell of the first row.

    Raises TableError for text that is empty or not UTF-8; `line`: that of the first in `file`.
    """
    try:
        rows = [one.split() for one in content.decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        at = line + content.count(b"\n", 0, error.start)
        raise TableError(f"{file}, line {at}: is not UTF-8 ({error.reason}); save it as UTF-8") from error
    names = list(columns) or [f"column{place}" for place in range(1, len(next((row for row in rows if row), [])) + 1)]
    if not names:
        raise TableError(f"{file}: is empty")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([names, *(rows if rows[-1] else rows[:-1])])
    return text.getvalue().encode()


def _parquet(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{path}: cannot be read as Parquet: {first_line(error)}; is it whole?") from error
    if not frame.columns:
        raise TableError(f"{path}: has no column")
    return frame


# The lines on which a file's rows begin, for formats other than CSV.
_STARTS: Mapping[str, Callable[[Path], Iterator[int]]] = {
    ".txt": lambda path: csv_text.lines(_with_header(path), 1),
    ".tsv": lambda path: iter(range(1, path.read_bytes().count(b"\n") + 2)),
}

_READERS: Mapping[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": _csv,
    ".csv.gz": _csv,
    ".parquet": _parquet,
    ".txt": _txt,
    ".tsv": _tsv,
}
