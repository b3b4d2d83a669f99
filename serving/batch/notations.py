"""The notation of numbers in a batch job's input, found before the first row is scored, so that all chunks are read alike."""

from collections.abc import Collection, Iterable, Mapping

import polars as pl

from serving.batch import sources
from serving.batch.frames import unpacked
from serving.batch.sources import Chunk, Source
from training.errors import TableError
from training.tables import frames
from training.tables.cells import CellOptions, NumberNotation
from training.tables.cells.options import DecimalMark


def decimals(source: Source, numbers: Collection[str], options: CellOptions, *, whole: bool) -> Mapping[str, DecimalMark | None]:
    """Return the decimal mark of each column of `numbers` that is text; None where the rows that were read do not show it.

    whole: whether all chunks are held anyway, so that all are read; else those of the head are. Raises TableError where every cell of a
    column that was read to its end fits two notations that differ, and for amounts in several currencies.
    """
    found = dict[str, NumberNotation]()
    chunks, complete = source.head
    for chunk in chunks if complete or not whole else _all(source, numbers):
        for column in _texts(chunk, numbers):
            if column.dtype in (pl.String, pl.Categorical, pl.Enum):
                found.setdefault(column.name, NumberNotation(column.name, options)).add(column)
    try:
        return {name: one.decimal if complete or whole or one.is_decided else None for name, one in found.items()}
    except TableError as error:
        raise TableError(f"{source.path}: {error}") from None


def _all(source: Source, numbers: Collection[str]) -> Iterable[Chunk]:
    """Return the chunks that may hold numbers as text; of Parquet, whose columns have types, none but for a file with such a column."""
    return sources.read([path for path in source.files if _may_be_text(path.name, numbers, path)])


def _may_be_text(name: str, numbers: Collection[str], path: object) -> bool:
    if not name.lower().endswith(".parquet"):
        return True
    try:
        schema = pl.read_parquet_schema(str(path))
    except (pl.exceptions.PolarsError, OSError):
        return False  # reported when the file is read
    return any(schema.get(column) in (pl.String, pl.Categorical) for column in numbers)


def _texts(chunk: Chunk, numbers: Collection[str]) -> list[pl.Series]:
    """Return the columns of `numbers` in a chunk; none of a chunk that cannot be read, which is reported when it is scored."""
    if chunk.kind == "parquet":
        frame = unpacked(chunk.payload)
        return [frame[name] for name in numbers if name in frame.columns]
    columns = [name for name in sources.columns_of(chunk) if name in numbers]
    if not columns:
        return []
    if chunk.kind == "tsv":
        return frames.parse_tsv(chunk.payload, chunk.file, chunk.line).select(columns).get_columns()
    try:
        return pl.read_csv(chunk.payload, columns=columns, infer_schema=False).get_columns()
    except pl.exceptions.PolarsError:  # such as quotation marks inside a cell
        return frames.parse(chunk.payload, file=chunk.file, line=chunk.line).select(columns).get_columns()
