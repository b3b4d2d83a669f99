"""`revenue-engine batch`: score a table or requests in bulk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.commands.options import (
    Blanks,
    ColumnHelp,
    Decimal,
    Example,
    Json,
    Maps,
    Quiet,
    RegistryUrl,
    Report,
    Seed,
    TimeFormat,
    cell_options,
    choices,
    require,
)
from serving.commands.tasks import TaskVerb
from serving.progress import Progress, shown
from training.models import MODELS
from training.models.options import Option

if TYPE_CHECKING:
    from serving.batch.run import Summary
    from serving.batch.sources import Source
    from serving.batch.task import Task
    from serving.engines import Engine
    from training.registry.bundle import Bundle

_MODEL = "The folder of a bundle, or TASK@ALIAS in the registry, such as purchase@champion."
_INPUT = "Rows as trained on (.csv, .csv.gz, .parquet, .tsv, .txt) or requests (.ndjson, .jsonl, .gz): a file, or a folder of one kind."
_OUTPUT = "A file (.csv, .csv.gz, .parquet, .ndjson), or a new folder for Parquet parts."
_OVERWRITE = "Replace the output if it exists, once the new one is complete."
_KEEP = "A column of the input to copy to the output (repeatable), or all."
_RAY = "The address of a Ray cluster. [default: a Ray started for this job; RAY_ADDRESS]"

MAX_FACTORS = 100

FACTORS = Option(
    "factors",
    "Also write the N largest factors of each row, and what they contribute.",
    kind=int,
    metavar="N",
    minimum=1,
    maximum=MAX_FACTORS,
)
ACTIONS = Option("actions", "Also write the recommended actions of each row.", kind=bool)
PUBLISH = Option("publish", "Also store the answers' facts in the feature store, from which the server answers by name.", kind=bool)


def batch(
    ctx: typer.Context,
    task: str,
    options: Mapping[str, Any],
    model: Annotated[str | None, typer.Option("--model", metavar="DIR|NAME@ALIAS", help=_MODEL, show_default=False)] = None,
    source: Annotated[Path | None, typer.Option("--input", metavar="PATH", help=_INPUT, show_default=False)] = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="PATH", help=_OUTPUT, show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help=_OVERWRITE)] = False,
    keep: Annotated[list[str] | None, typer.Option("--keep", metavar="COLUMN", help=_KEEP, show_default=False)] = None,
    maps: Maps = None,
    blank: Blanks = None,
    time_format: TimeFormat = None,
    decimal: Decimal = None,
    column_help: ColumnHelp = False,
    example: Example = None,
    url: RegistryUrl = None,
    ray_address: Annotated[str | None, typer.Option("--ray-address", envvar="RAY_ADDRESS", help=_RAY, show_envvar=False)] = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Report:
    """Score a table, or a file of requests.

    One output row for each input row, in order: the answer, modelVersion, and sessionId, customerId or productId if given. A table of
    purchases has one output row for each customer, a table of events one for each session.
    """
    chosen = choices(ctx, seed, as_json, quiet)
    from serving import settings
    from serving.batch import sinks
    from serving.batch.sources import Source
    from serving.batch.task import Task, Wanted
    from serving.commands import columns, examples, references

    if column_help:
        return columns.described(task, "batch")
    if example is not None:
        return examples.written(task, example, chosen.seed or 0, "batch")
    model, source, output = require(model, "--model"), require(source, "--input"), require(output, "--output")
    if sinks.known_suffix(output) is None:
        raise typer.BadParameter(f"--output {output}: the suffix {output.suffix} is not known. {_OUTPUT}")
    sinks.accepted(output, overwrite)
    records, known = Source(source), columns.ids(task)
    mapping = columns.mapping(maps, task, known)
    columns.require_columns(mapping, task, records)
    keys = {name: mapping.pop(name) for name in known if name in mapping}
    columns.require_kept(keep or (), task, records)
    current = settings.load()
    cells = cell_options(blank, time_format, decimal)
    of_table = {name: value for name, value in options.items() if name not in _OF_OUTPUT}
    wanted = Wanted(tuple(keep or ()), options.get(FACTORS.name, 0), options.get(ACTIONS.name, False))
    with shown(chosen.quiet or chosen.as_json) as progress:
        bundle = references.bundle(model, url, current, progress)
        job = Task(task, bundle.path.resolve(), mapping, current, of_table, keys, wanted, cells=cells)
        return _Job(job, bundle, records, output, overwrite, ray_address, PUBLISH.name in options).run(progress)


@dataclass(frozen=True, slots=True)
class _Job:
    """What one `batch` command scores, with which model, and what becomes of the answers."""

    task: "Task"
    bundle: "Bundle"
    source: "Source"
    output: Path
    overwrite: bool
    ray_address: str | None
    publish: bool

    def run(self, progress: Progress) -> Report:
        """Score the input, publish where that is wanted, and return the report."""
        from serving.batch import run as batch
        from serving.batch.publish import Publication

        publication = Publication(self.task.engine, self.bundle.version) if self.publish else None
        on_answers = {} if publication is None else {"on_answers": publication.add}
        done = batch.run(
            self.task, self.source, self.output, progress, overwrite=self.overwrite, ray_address=self.ray_address, **on_answers
        )
        published = 0 if publication is None else publication.store(self.task.settings, progress)
        return self._report(done, published)

    def _report(self, done: "Summary", published: int) -> Report:
        return Report(
            f"scored {done.rows:,} rows of {self.source.path} into {self.output} with {self.bundle.version} ({done.by})",
            [
                *([f"ignored columns: {', '.join(done.ignored)}"] if done.ignored else []),
                *([_lacking(done)] if done.lacking else []),
                *([_left_out(done)] if done.left_out else []),
                *([_unknown(self.task.engine, done)] if done.unknown.number else []),
                *([f"published {published:,} customers: the server answers for them by name"] if self.publish else []),
            ],
            data={
                "task": self.task.name,
                "model": self.bundle.version,
                "input": str(self.source.path),
                "output": str(self.output),
                "rows": done.rows,
                "read": done.read,
                "files": done.files,
                "ignored": list(done.ignored),
                "lacking": list(done.lacking),
                "leftOut": dict(done.left_out),
                "unknown": done.unknown._asdict(),
                "by": done.by,
                "published": published,
            },
        )


def _lacking(done: "Summary") -> str:
    """Return the line about features that the input does not have."""
    from training.tables.table import like, listed

    names = listed([f"{name}{like(name, done.ignored)}" for name in done.lacking])
    return f"warning: the model was trained with features that the input has no column for, and that count as missing: {names}"


def _left_out(done: "Summary") -> str:
    """Return the line about rows that are part of no answer."""
    return f"rows that are part of no answer: {', '.join(f'{number:,} {reason}' for reason, number in done.left_out.items())}"


def _unknown(engine: "Engine", done: "Summary") -> str:
    """Return the line about rows of what the model does not have."""
    details, rows = engine.details.unknown, done.unknown
    assert details is not None, f"{engine.name} has no ids: this is a bug"
    return f"warning: {rows.number:,} rows have a {details.what} that the model does not have ({details.then}), the first {rows.first!r}"


_OF_OUTPUT = frozenset(option.name for option in (FACTORS, ACTIONS, PUBLISH))  # options that are not of a table


def _options(task: str) -> tuple[Option, ...]:
    """Return the options of a task's table, and those of what its engine can add to the output or to the feature store."""
    from serving.engines import named

    engine = named(task)
    of_engine = {FACTORS: engine.details.factors, ACTIONS: engine.details.actions, PUBLISH: engine.lookup}
    return (*MODELS[task].batch_options, *(option for option, supported in of_engine.items() if supported is not None))


BATCH = TaskVerb(batch, _options)
