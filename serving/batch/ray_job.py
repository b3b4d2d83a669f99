"""The Ray Data job of a batch: one reader streams chunks to a pool of actors that each hold the model; answers come back in order.

The error of a chunk is returned as data in the chunk's place, so that the error that is raised is that of the first wrong line of the
input, whichever actor finds an error first.
"""

import json
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.batch import completeness, sources
from serving.batch.frames import packed, unpacked
from serving.batch.scorer import ChunkScorer, ScoredChunk, UnknownRows
from serving.batch.sources import Chunk
from serving.batch.task import Task
from serving.errors import RayError
from serving.runtime import ray_cluster
from training.errors import TableError

if TYPE_CHECKING:
    import pyarrow as pa

_BROKEN = "broken"  # the kind of a chunk that could not be read; its payload is the message
_END = "end"  # the kind of the chunk after the last, with the number of all records


def scored(task: Task, paths: Sequence[Path], address: str | None) -> Generator[ScoredChunk, None, None]:
    """Return the answers to the files' records in order, scored by a Ray started for this job, or by the one at `address`.

    Raises TableError for the first wrong record, RayError when Ray fails, OutputError where a chunk is missing.
    """
    with ray_cluster.connected(Path(task.settings.home).resolve(), address) as cores:
        from ray.exceptions import RayError as Failed

        try:
            rows, total = 0, -1
            for table in _dataset(task, paths, cores).iter_batches(batch_size=None, batch_format="pyarrow"):
                for row in table.to_pylist():
                    if row["total"] is not None:
                        total = row["total"]
                    else:
                        yield (part := answer(row))
                        rows += part.rows
            completeness.require(rows, total, "rows came back from Ray", str(paths[0]))
        except Failed as error:
            message = str(error).strip().splitlines()
            raise RayError(f"Ray failed while scoring: {message[-1] if message else type(error).__name__}") from error


def _dataset(task: Task, paths: Sequence[Path], cores: int) -> Any:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = sources.CHUNK_BYTES  # a chunk is a block
    # The reader takes no core from the actors; other resources than theirs also keep Ray from making one task of both.
    inputs = ray.data.from_items([{"files": [str(path) for path in paths]}], override_num_blocks=1)
    records = inputs.map_batches(read, batch_format="pyarrow", num_cpus=0)
    return records.map_batches(
        ScoringActor, fn_constructor_args=(task,), batch_size=1, batch_format="pyarrow", concurrency=cores, num_cpus=1
    )


class ScoringActor:
    """One actor of the pool: loads the model once, then scores chunk after chunk."""

    def __init__(self, task: Task) -> None:
        self._score = ChunkScorer(task)

    def __call__(self, table: "pa.Table") -> "pa.Table":
        """Return the answers to the one chunk in `table`, or the message of its error."""
        chunk = Chunk(**{name: table[name][0].as_py() for name in Chunk._fields})
        try:
            if chunk.kind == _BROKEN:
                raise TableError(chunk.payload.decode())
            if chunk.kind == _END:
                return _row(total=chunk.rows)
            done = self._score(chunk)
            return _row(
                answers=packed(done.answers),
                share=done.share,
                rows=done.rows,
                unknown=json.dumps(done.unknown),
                left_out=json.dumps(dict(done.left_out)),
            )
        except TableError as error:
            return _row(problem=str(error))


def read(table: "pa.Table") -> "Iterator[pa.Table]":
    """Return each chunk of the files as a table of one row."""
    import pyarrow as pa

    schema = pa.schema(
        {
            "file": pa.string(),
            "kind": pa.string(),
            "line": pa.int64(),
            "rows": pa.int64(),
            "share": pa.float64(),
            "payload": pa.large_binary(),
        }
    )
    try:
        rows = 0
        for chunk in sources.read([Path(path) for path in table["files"][0].as_py()]):
            rows += chunk.rows
            yield pa.Table.from_pylist([chunk._asdict()], schema)
        yield pa.Table.from_pylist([Chunk("", _END, 0, rows, 1.0, b"")._asdict()], schema)
    except TableError as error:
        yield pa.Table.from_pylist([Chunk("", _BROKEN, 0, 0, 0.0, str(error).encode())._asdict()], schema)


def _row(**values: Any) -> "pa.Table":
    """Return a worker's row: the answers to a chunk, the message of its error in `problem`, or after the last one the `total` of rows."""
    import pyarrow as pa

    schema = pa.schema(
        {
            "answers": pa.large_binary(),
            "share": pa.float64(),
            "rows": pa.int64(),
            "unknown": pa.string(),
            "left_out": pa.string(),
            "problem": pa.string(),
            "total": pa.int64(),
        }
    )
    return pa.Table.from_pylist([dict.fromkeys(schema.names) | values], schema)


def answer(row: dict[str, Any]) -> ScoredChunk:
    """Return the answers in a worker's row. Raises TableError where it holds the error of its chunk."""
    if row["problem"]:
        raise TableError(row["problem"])
    unknown = UnknownRows(*json.loads(row["unknown"]))
    return ScoredChunk(unpacked(row["answers"]), row["share"], row["rows"], unknown, json.loads(row["left_out"]))
