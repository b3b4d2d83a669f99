"""The Ray Data job of a batch: one reader streams chunks to a pool of actors that each hold the model; answers come back in order.

What goes wrong with a chunk travels as data in the chunk's place, so that the first wrong line of the input is the one that is named,
whichever actor meets its own first.
"""

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.batch import sources
from serving.batch.sources import Chunk
from serving.batch.task import Scored, Scoring, Task, packed, unpacked
from serving.errors import RayError
from serving.runtime import ray_cluster
from training.errors import TableError

if TYPE_CHECKING:
    import pyarrow as pa

_BROKEN = "broken"  # the kind of a chunk that could not be read; its payload says why


def scored(task: Task, paths: Sequence[Path], address: str | None) -> Generator[Scored, None, None]:
    """Return the answers to the files' records in order, scored by a Ray of its own, or by the one at `address`.

    Raises TableError for the first record that is wrong, RayError when Ray fails.
    """
    with ray_cluster.connected(Path(task.settings.home).resolve(), address) as cores:
        from ray.exceptions import RayError as Failed

        try:
            for table in _dataset(task, paths, cores).iter_batches(batch_size=None, batch_format="pyarrow"):
                yield from map(answer, table.to_pylist())
        except Failed as error:
            said = str(error).strip().splitlines()
            raise RayError(f"Ray failed while scoring: {said[-1] if said else type(error).__name__}") from error


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
    return records.map_batches(Worker, fn_constructor_args=(task,), batch_size=1, batch_format="pyarrow", concurrency=cores, num_cpus=1)


class Worker:
    """One actor of the pool: loads the model once, then scores chunk after chunk."""

    def __init__(self, task: Task) -> None:
        self._score = Scoring(task)

    def __call__(self, table: "pa.Table") -> "pa.Table":
        """Return the answers to the one chunk in `table`, or what is wrong with it."""
        chunk = Chunk(**{name: table[name][0].as_py() for name in Chunk._fields})
        try:
            if chunk.kind == _BROKEN:
                raise TableError(chunk.payload.decode())
            return _row(packed(self._score(chunk).answers), chunk.share, "")
        except TableError as error:
            return _row(b"", chunk.share, str(error))


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
        for chunk in sources.read([Path(path) for path in table["files"][0].as_py()]):
            yield pa.Table.from_pylist([chunk._asdict()], schema)
    except TableError as error:
        yield pa.Table.from_pylist([Chunk("", _BROKEN, 0, 0, 0.0, str(error).encode())._asdict()], schema)


def _row(answers: bytes, share: float, problem: str) -> "pa.Table":
    import pyarrow as pa

    schema = pa.schema({"answers": pa.large_binary(), "share": pa.float64(), "problem": pa.string()})
    return pa.Table.from_pylist([{"answers": answers, "share": share, "problem": problem}], schema)


def answer(row: dict[str, Any]) -> Scored:
    """Return what a worker's row says; raise TableError if that is what is wrong with its chunk."""
    if row["problem"]:
        raise TableError(row["problem"])
    return Scored(unpacked(row["answers"]), row["share"])
