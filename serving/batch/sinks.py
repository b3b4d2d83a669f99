"""Write a batch job's answers: one file or a folder of parts, written beside the output and moved there when it is complete."""

import gzip
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, cast

import polars as pl

from serving.errors import OutputError

Write = Callable[[pl.DataFrame], None]

PART_ROWS = 1_000_000
_GZIP_LEVEL = 6
_PART = re.compile(r"part-\d{5,}\.parquet")  # of a folder


@contextmanager
def opened(path: Path, overwrite: bool = False) -> Iterator[Write]:
    """Return a function that writes frames of the same columns, in order, within a `with`; after it the complete output is there.

    A name with a suffix is one file; one without is a folder of Parquet parts. overwrite: whether an existing output is replaced, which
    happens only when the new one is complete. After an error nothing is left of it. Raises OutputError for a suffix that is not known, an
    output that exists, a cell that the format cannot hold, and a disk that is full.
    """
    suffix = accepted(path, overwrite)
    part = path.parent / f".{path.name}.{secrets.token_hex(4)}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _SINKS[suffix](part) as write:
            yield write
        _flush(part)
        _move(part, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}; nothing is left of it") from error
    except (pl.exceptions.ComputeError, pl.exceptions.InvalidOperationError) as error:
        reason = str(error).partition("\n")[0]
        raise OutputError(f"{path} cannot be written: {reason}; keep other columns, or write .parquet; nothing is left of it") from error
    finally:
        _remove(part)


def accepted(path: Path, overwrite: bool = False) -> str:
    """Return the output's suffix, "" for a folder. Raises OutputError if nothing can be written there, or something exists."""
    suffix = known_suffix(path)
    if suffix is None:
        raise OutputError(f"{path}: the suffix {path.suffix} is not known; use {', '.join(filter(None, _SINKS))}, or none for a folder")
    if path.is_dir():
        others = sorted(one.name for one in path.iterdir() if not _PART.fullmatch(one.name))
        if suffix or others:
            raise OutputError(f"{path} is a folder{'' if suffix else f' with other files ({others[0]})'}; name another output")
        if not overwrite and any(path.iterdir()):
            raise OutputError(f"{path} exists and is not empty; name another output, or replace it with --overwrite")
    elif path.exists() and not overwrite:
        raise OutputError(f"{path} exists; name another output, or replace it with --overwrite")
    elif path.exists() and not suffix:
        raise OutputError(f"{path} is a file, and without a suffix the output is a folder; name another output")
    return suffix


def known_suffix(path: Path) -> str | None:
    """Return the known suffix of an output, "" for a folder, None for an unknown one."""
    found = max((suffix for suffix in _SINKS if path.name.lower().endswith(suffix)), key=len)
    return None if path.suffix and not found else found


@contextmanager
def _csv(part: Path, unzipped: bool = True) -> Iterator[Write]:
    with _stream(part, unzipped) as file:
        header = True

        def write(frame: pl.DataFrame) -> None:
            nonlocal header
            frame.write_csv(file, include_header=header)
            header = False

        yield write


@contextmanager
def _ndjson(part: Path) -> Iterator[Write]:
    with part.open("xb") as file:
        yield lambda frame: frame.write_ndjson(file) if frame.height else None


@contextmanager
def _parquet(part: Path) -> Iterator[Write]:
    import pyarrow.parquet as pq

    writer: Any = None

    def write(frame: pl.DataFrame) -> None:
        nonlocal writer
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        writer = writer or pq.ParquetWriter(part, table.schema, compression="zstd")
        writer.write_table(table)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


@contextmanager
def _folder(part: Path) -> Iterator[Write]:
    part.mkdir()
    number, rows, waiting = 0, 0, list[pl.DataFrame]()

    def flush() -> None:
        nonlocal number, rows
        with _parquet(part / f"part-{number:05}.parquet") as write:
            for frame in waiting:
                write(frame)
        number, rows = number + 1, 0
        waiting.clear()

    def take(frame: pl.DataFrame) -> None:
        nonlocal rows
        waiting.append(frame)
        rows += frame.height
        if rows >= PART_ROWS:
            flush()

    yield take
    if waiting:
        flush()


@contextmanager
def _stream(part: Path, unzipped: bool) -> Iterator[IO[bytes]]:
    with part.open("xb") as file:
        if unzipped:
            yield file
        else:  # without name and time in the header, so that equal answers are equal files
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as zipped:
                yield cast(IO[bytes], zipped)


_SINKS: dict[str, Callable[[Path], AbstractContextManager[Write]]] = {
    ".csv": _csv,
    ".csv.gz": lambda part: _csv(part, unzipped=False),
    ".parquet": _parquet,
    ".ndjson": _ndjson,
    ".jsonl": _ndjson,
    "": _folder,
}


def _flush(part: Path) -> None:
    """Flush the files to disk before the output gets its name."""
    for path in sorted(part.iterdir()) if part.is_dir() else [part]:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _move(part: Path, path: Path) -> None:
    """Give the complete output its name; a folder of parts that is there is removed after that."""
    if not path.is_dir():
        os.replace(part, path)
        return
    before = part.with_suffix(".before")
    os.rename(path, before)
    try:
        os.rename(part, path)
    except OSError:
        os.rename(before, path)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)
