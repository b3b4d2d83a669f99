"""`revenue-engine batch`: score a table or requests in bulk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.commands.options import ColumnHelp, Json, Maps, Quiet, RegistryUrl, Report, Seed, choices, registry, require
from serving.commands.tasks import TaskVerb
from serving.progress import Progress, shown
from training.models import MODELS
from training.models.options import Option

if TYPE_CHECKING:
    from serving.batch.run import Summary
    from serving.batch.sources import Source
    from serving.batch.task import Task
    from training.registry.bundle import Bundle

_MODEL = "The folder of a bundle, or TASK@ALIAS in the registry, such as purchase@champion."
_INPUT = "Rows as trained on (.csv, .csv.gz, .parquet, .tsv) or requests (.ndjson, .jsonl, .gz): a file, or a folder of one kind."
_OUTPUT = "A file (.csv, .csv.gz, .parquet, .ndjson), or a new folder for Parquet parts."
_RAY = "The address of a Ray cluster. [default: a Ray started for this job; RAY_ADDRESS]"

PUBLISH = Option("publish", "Also store the answers' facts in the feature store, from which the server answers by name.", kind=bool)


def batch(
    ctx: typer.Context,
    task: str,
    options: Mapping[str, Any],
    model: Annotated[str | None, typer.Option("--model", metavar="DIR|NAME@ALIAS", help=_MODEL, show_default=False)] = None,
    source: Annotated[Path | None, typer.Option("--input", metavar="PATH", help=_INPUT, show_default=False)] = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="PATH", help=_OUTPUT, show_default=False)] = None,
    maps: Maps = None,
    column_help: ColumnHelp = False,
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
    from serving.batch.task import Task
    from serving.commands import columns

    if column_help:
        return columns.described(task)
    model, source, output = require(model, "--model"), require(source, "--input"), require(output, "--output")
    if sinks.known_suffix(output) is None:
        raise typer.BadParameter(f"--output {output}: the suffix {output.suffix} is not known. {_OUTPUT}")
    mapping, records = columns.mapping(maps, task), Source(source)
    columns.require_columns(mapping, task, records)
    of_table = {name: value for name, value in options.items() if name != PUBLISH.name}
    bundle = _bundle(model, url)
    job = Task(task, bundle.path.resolve(), mapping, settings.load(), of_table)
    with shown(chosen.quiet or chosen.as_json) as progress:
        return _Job(job, bundle, records, output, ray_address, PUBLISH.name in options).run(progress)


@dataclass(frozen=True, slots=True)
class _Job:
    """What one `batch` command scores, with which model, and what becomes of the answers."""

    task: "Task"
    bundle: "Bundle"
    source: "Source"
    output: Path
    ray_address: str | None
    publish: bool

    def run(self, progress: Progress) -> Report:
        """Score the input, publish where that is wanted, and return the report."""
        from serving.batch import run as batch
        from serving.batch.publish import Publication

        publication = Publication(self.task.engine, self.bundle.version) if self.publish else None
        on_answers = {} if publication is None else {"on_answers": publication.add}
        done = batch.run(self.task, self.source, self.output, progress, ray_address=self.ray_address, **on_answers)
        published = 0 if publication is None else publication.store(self.task.settings, progress)
        return self._report(done, published)

    def _report(self, done: "Summary", published: int) -> Report:
        return Report(
            f"scored {done.rows:,} rows of {self.source.path} into {self.output} with {self.bundle.version} ({done.by})",
            [
                *([f"ignored columns: {', '.join(done.ignored)}"] if done.ignored else []),
                *([f"published {published:,} customers: the server answers for them by name"] if self.publish else []),
            ],
            data={
                "task": self.task.name,
                "model": self.bundle.version,
                "input": str(self.source.path),
                "output": str(self.output),
                "rows": done.rows,
                "files": done.files,
                "ignored": list(done.ignored),
                "by": done.by,
                "published": published,
            },
        )


def _bundle(ref: str, url: str | None) -> "Bundle":
    """Return the bundle in the folder `ref`, or the one that `ref` names in the registry."""
    from training.registry import bundle

    if Path(ref).is_dir() or "@" not in ref:
        return bundle.load(Path(ref))
    models = registry(url)
    entry = models.show(ref)
    return models.fetch(entry.task, entry.name)


def _options(task: str) -> tuple[Option, ...]:
    """Return the options of a task's table, and --publish where its engine looks customers up."""
    from serving.engines import named

    return (*MODELS[task].batch_options, *((PUBLISH,) if named(task).lookup else ()))


BATCH = TaskVerb(batch, _options)
