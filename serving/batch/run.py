"""A table or requests scored in bulk by the very engines that answer requests: the same numbers, to the last bit, in order.

Small inputs are scored in this process, since Ray takes longer to start than they take; larger ones as a Ray Data job
(`serving.batch.ray_job`). Either way the input streams through in chunks: what is held does not grow with it. Only a table that says what
ties its rows together, such as a catalogue with groups of one price, is held and scored as a whole.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from serving.batch import sinks, sources
from serving.batch.sources import Chunk
from serving.batch.task import Scored, Scoring, Task
from serving.errors import OutputError
from serving.progress import Progress, silent
from training.errors import TableError
from training.models import MODELS

RAY_ROWS = 20_000  # more rows than this are worth a Ray


@dataclass(frozen=True, slots=True)
class Summary:
    """What a batch job did. `ignored`: columns of the input that the model does not use, the label among them; `by`: who scored."""

    rows: int
    files: int
    ignored: tuple[str, ...]
    by: str


def run(
    task: Task,
    source: Path,
    output: Path,
    progress: Progress = silent,
    *,
    ray_address: str | None = None,
    on_answers: Callable[[pl.DataFrame], None] = lambda answers: None,
) -> Summary:
    """Score every row of `source`, a file or a folder of files of one kind, in order into `output`, and return what was done.

    source: .csv, .csv.gz, .parquet with columns as trained on, .tsv without a header, or .ndjson, .jsonl (.gz) with requests. Raises
    TableError for a wrong input, naming file, line and column, OutputError for an output that cannot be written, RayError when Ray fails;
    `output` is then untouched.
    `on_answers` hears of all answers, in order, before the output is there.
    """
    sinks.accepted(output)
    table = MODELS[task.name].table
    if hasattr(table, "gathers") and table.gathers(source):
        return _gathered(task, source, output, progress, on_answers)
    if task.options:
        said = ", ".join(f"--{name}" for name in task.options)
        raise TableError(f"{source}: {said} says which events of a table count; requests hold their own: leave it out")
    paths = sources.files(source)
    _require_other(output, paths)
    beginning, whole = _peek(sources.read(paths))
    task = task.of_input(beginning[0])
    score = Scoring(task)  # before anything is started for a model that cannot be loaded
    if task.whole:
        by, scored = "as a whole", score.together(beginning if whole else sources.read(paths))
    elif whole and ray_address is None:
        by, scored = "in process", (score(chunk) for chunk in beginning)
    else:
        from serving.batch import ray_job

        by, scored = "with Ray Data", ray_job.scored(task, paths, ray_address)
    with closing(scored):
        progress(f"scoring {by}", 0.0)
        rows = _write(scored, output, progress, on_answers)
    return Summary(rows, len(paths), task.ignored, by)


def _gathered(task: Task, source: Path, output: Path, progress: Progress, on_answers: Callable[[pl.DataFrame], None]) -> Summary:
    """Score a table that its module puts together of a folder's files, whose rows are tied together."""
    table = MODELS[task.name].table
    paths = list(source.iterdir()) if source.is_dir() else [source]
    _require_other(output, paths)
    progress("reading", 0.0)
    frame = table.gather(source, task.mapping, **task.options)
    try:
        rows = _write([Scoring(task).gathered(frame)], output, progress, on_answers)
    except TableError as error:
        raise TableError(f"{source}: {error}") from None
    return Summary(rows, len(paths), table.resolve(frame.columns).ignored, "as a whole")


def _require_other(output: Path, paths: Iterable[Path]) -> None:
    """Raise OutputError where the output is one of the inputs."""
    if output.resolve() in {path.resolve() for path in paths}:
        raise OutputError(f"{output} is the input; name another output")


def _peek(read: Generator[Chunk, None, None]) -> tuple[list[Chunk], bool]:
    """Return the first chunks, up to more than RAY_ROWS rows, and whether they are all there are."""
    first, rows = list[Chunk](), 0
    with closing(read):
        for chunk in read:
            first.append(chunk)
            rows += chunk.rows
            if rows > RAY_ROWS:
                return first, False
    return first, True


def _write(scored: Iterable[Scored], output: Path, progress: Progress, on_answers: Callable[[pl.DataFrame], None]) -> int:
    """Write all answers and return how many there were."""
    rows = 0
    with sinks.opened(output) as write:
        for part in scored:
            write(part.answers)
            on_answers(part.answers)
            rows += part.answers.height
            progress(f"{rows:,} rows scored", part.share)
    return rows
