"""Score a table or requests in bulk with the engines that answer requests: the same numbers, to the last bit, in order.

Small inputs are scored in this process, since Ray takes longer to start than they take; larger ones as a Ray Data job
(`serving.batch.ray_job`). Either way the input streams through in chunks: memory does not grow with it. Only a table whose rows depend on
each other, such as a catalogue with groups of one price, is held and scored as a whole.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from serving.batch import completeness, sinks, sources
from serving.batch.scorer import NONE_UNKNOWN, ChunkScorer, ScoredChunk, UnknownRows
from serving.batch.sources import Source
from serving.batch.task import Task
from serving.errors import OutputError
from serving.progress import Progress, silent
from training.errors import TableError

OnAnswers = Callable[[pl.DataFrame], None]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a batch job did.

    rows: of the output. read: records of the input; left_out: numbers of them that are part of no answer, by reason. ignored: columns of
    the input that the model does not use, the label among them; unknown: rows about something that it does not have; by: how it was scored.
    lacking: features that the model was trained with and the input has no column for.
    """

    rows: int
    read: int
    files: int
    ignored: tuple[str, ...]
    by: str
    unknown: UnknownRows = NONE_UNKNOWN
    left_out: Mapping[str, int] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()


def run(
    task: Task,
    source: Source | Path,
    output: Path,
    progress: Progress = silent,
    *,
    overwrite: bool = False,
    ray_address: str | None = None,
    on_answers: OnAnswers = lambda answers: None,
) -> Summary:
    """Score every row of `source`, a file or a folder of files of one kind, in order into `output`, and return what was done.

    Every row of a table whose rows have one answer each, and every request, has one row of the output: a job that would write another
    number of rows writes nothing and raises OutputError.

    source: .csv, .csv.gz, .parquet with columns as trained on, .tsv without a header, or .ndjson, .jsonl (.gz) with requests. Raises
    TableError for a wrong input, naming file, line and column, OutputError for an output that cannot be written, RayError when Ray fails;
    `output` is then unchanged.
    overwrite: whether `output` may exist. on_answers: called with all answers, in order, before the output is there.
    """
    source = source if isinstance(source, Source) else Source(source)
    _require_other(output, source.path)
    sinks.accepted(output, overwrite)
    write = _Writer(output, overwrite, progress, on_answers)
    return _joined(task, source.path, write) if task.table.joins(source.path) else _chunked(task, source, write, ray_address)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Write answers to the output, and pass them on."""

    output: Path
    overwrite: bool
    progress: Progress
    on_answers: OnAnswers

    def __call__(self, scored: Iterable[ScoredChunk], *, one_each: bool) -> "_Totals":
        """Write all answers and return the totals. one_each: every record has one. Raises OutputError where one is missing."""
        totals = _Totals()
        with sinks.opened(self.output, self.overwrite) as write:
            for part in scored:
                write(part.answers)
                self.on_answers(part.answers)
                totals.add(part)
                self.progress(f"{totals.rows:,} rows scored", part.share)
            if one_each:
                completeness.require(totals.rows, totals.read, "rows were answered", str(self.output))
        return totals


@dataclass(slots=True)
class _Totals:
    """What a job has written so far; see Summary."""

    rows: int = 0
    read: int = 0
    unknown: UnknownRows = NONE_UNKNOWN
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, part: ScoredChunk) -> None:
        """Add a chunk."""
        self.rows += part.answers.height
        self.read += part.rows
        self.unknown += part.unknown
        self.left_out.update(part.left_out)

    def summary(self, files: int, ignored: tuple[str, ...], by: str) -> Summary:
        """Return the totals as a summary."""
        left_out = {reason: number for reason, number in self.left_out.items() if number}
        return Summary(self.rows, self.read, files, ignored, by, self.unknown, left_out)


def _chunked(task: Task, source: Source, write: _Writer, ray_address: str | None) -> Summary:
    """Score files chunk by chunk, or all chunks at once where rows depend on each other."""
    if task.options:
        flags = ", ".join(f"--{name}" for name in task.options)
        raise TableError(f"{source.path}: {flags} selects events of a table, and requests have their own; leave it out")
    task = task.of_input(source)
    score = ChunkScorer(task)  # before anything is started for a model that cannot be loaded
    chunks, complete = source.head
    if task.plan is not None and task.plan.whole:
        by, scored = "as a whole", score.whole(chunks if complete else sources.read(source.files))
    elif complete and ray_address is None:
        by, scored = "in process", (score(chunk) for chunk in chunks)
    else:
        from serving.batch import ray_job

        by, scored = "with Ray Data", ray_job.scored(task, source.files, ray_address)
    with closing(scored):
        write.progress(f"scoring {by}", 0.0)
        totals = write(scored, one_each=task.plan.per_row if task.plan is not None else True)
    return replace(totals.summary(len(source.files), task.ignored, by), lacking=task.lacking)


def _joined(task: Task, path: Path, write: _Writer) -> Summary:
    """Score the one table that the files of a folder make together."""
    files = list(path.iterdir()) if path.is_dir() else [path]
    task.require_no_columns()
    write.progress("reading", 0.0)
    frame = task.table.join(path, task.mapping, cells=task.cells, **task.options)
    try:
        totals = write([ChunkScorer(task).joined(frame)], one_each=False)
    except TableError as error:
        raise TableError(f"{path}: {error}") from None
    return totals.summary(len(files), task.table.plan(frame.columns).ignored, "as a whole")


def _require_other(output: Path, source: Path) -> None:
    """Raise OutputError where the output is the input, or one of its files."""
    if output.resolve() in {path.resolve() for path in (source, *(source.iterdir() if source.is_dir() else ()))}:
        raise OutputError(f"{output} is the input; name another output")
