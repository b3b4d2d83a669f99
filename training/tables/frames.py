"""Read a CSV or Parquet file, or a folder of them, as one table: Polars on the CPU or cuDF on the GPU."""

import csv
import io
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from training.errors import TableError
from training.tables import csv_text
from training.tables.csv_text import first_line

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".txt", ".tsv")


def read(path: Path, device: str = "cpu", *, numbers: Collection[str] = ()) -> Any:
    """Return the table in `path`: .csv, .csv.gz, .parquet, or a folder of files of one of these kinds, in the order of their names.

    A .txt has no header and blanks between its cells, as research data often have: its columns are column1, column2, ... A .tsv has no
    header and no quoting, and tabs between its cells.
    device: "cpu" for a polars.DataFrame, "cuda" for a cudf.DataFrame. numbers: the CSV columns to read as float64.
    Raises TableError naming the file, the line, the column and the fix.
    """
    paths = files(path)
    parts = [_READERS[_suffix(file)](file, numbers) for file in paths]
    frame = parts[0] if len(parts) == 1 else _joined(paths, parts)
    return frame if device == "cpu" else on_device(frame, device)


def parse(text: bytes, numbers: Collection[str] = (), *, file: str = "the text", line: int = 2) -> pl.DataFrame:
    """Return the table in a chunk of a CSV: its header, then records of which the first begins on `line` of `file`."""
    return csv_text.read(text, file, numbers, line)


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


def _csv(path: Path, numbers: Collection[str]) -> pl.DataFrame:
    return csv_text.read(path, str(path), numbers)


def _txt(path: Path, numbers: Collection[str]) -> pl.DataFrame:
    return csv_text.read(_with_header(path), str(path), numbers, 1)


def _tsv(path: Path, _numbers: Collection[str]) -> pl.DataFrame:
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
        raise TableError(f"{file}: cannot be read as text: {first_line(error)}; save it as UTF-8") from error
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
        rows = [line.split() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: cannot be read as text: {first_line(error)}; save it as UTF-8") from error
    width = max(map(len, rows), default=0)
    if not width:
        raise TableError(f"{path}: is empty")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[f"column{place}" for place in range(1, width + 1)], *rows])
    return text.getvalue().encode()


def _parquet(path: Path, _numbers: Collection[str]) -> pl.DataFrame:
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

_READERS: Mapping[str, Callable[[Path, Collection[str]], pl.DataFrame]] = {
    ".csv": _csv,
    ".csv.gz": _csv,
    ".parquet": _parquet,
    ".txt": _txt,
    ".tsv": _tsv,
}
