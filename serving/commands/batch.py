"""`revenue-engine batch`: score a table or requests in bulk."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.commands.options import ColumnHelp, Json, Maps, Quiet, RegistryUrl, Report, Seed, Task, choices, one_of, registry, require
from serving.progress import shown

if TYPE_CHECKING:
    from training.registry.bundle import Bundle

_MODEL = "The folder of a bundle, or TASK@ALIAS in the registry, such as purchase@champion."
_INPUT = "Rows as trained on (.csv, .csv.gz, .parquet, .tsv) or requests (.ndjson, .jsonl, .gz): a file, or a folder of one kind."
_OUTPUT = "A file (.csv, .csv.gz, .parquet, .ndjson), or a new folder for Parquet parts."
_PUBLISH = "value: store what is known of each customer too, for the server to answer from (the feature store)."
_FIRST = "journey: score each session as of its K-th event; one with fewer has ended after its last."
_RAY = "A Ray cluster to use. [default: one of this job's own; RAY_ADDRESS]"


def batch(
    ctx: typer.Context,
    task: Task,
    model: Annotated[str | None, typer.Option("--model", metavar="DIR|NAME@ALIAS", help=_MODEL, show_default=False)] = None,
    source: Annotated[Path | None, typer.Option("--input", metavar="PATH", help=_INPUT, show_default=False)] = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="PATH", help=_OUTPUT, show_default=False)] = None,
    maps: Maps = None,
    column_help: ColumnHelp = False,
    url: RegistryUrl = None,
    ray_address: Annotated[str | None, typer.Option("--ray-address", envvar="RAY_ADDRESS", help=_RAY, show_envvar=False)] = None,
    first: Annotated[int | None, typer.Option("--first", metavar="K", min=1, help=_FIRST, show_default=False)] = None,
    publish: Annotated[bool, typer.Option("--publish", help=_PUBLISH)] = False,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Report:
    """Score a table, or a file of requests.

    One output row for each input row, in order: what the question answers, modelVersion, and sessionId, customerId or productId if given.
    Of a table of purchases it is one row for each customer.
    """
    chosen = choices(ctx, seed, as_json, quiet)
    from serving.engines import ENGINES, named

    one_of(task, tuple(engine.name for engine in ENGINES), "task")
    if publish and named(task).lookup is None:
        raise typer.BadParameter(f"--publish is nothing to {task}, which looks nothing up; leave it out")
    from serving.batch import sinks
    from serving.commands import columns as fields
    from training.models import MODELS

    if column_help:
        return fields.described(task)
    model, source, output = require(model, "--model"), require(source, "--input"), require(output, "--output")
    if sinks.known_suffix(output) is None:
        raise typer.BadParameter(f"--output {output}: the suffix {output.suffix} is not known. {_OUTPUT}")
    columns = fields.mapping(maps, task, source)
    if first is not None and not hasattr(MODELS[task].table, "gather"):
        raise typer.BadParameter(f"--first is nothing to {task}; leave it out")
    options = {} if first is None else {"first": first}
    return _run(
        task,
        model,
        source,
        output,
        columns,
        options,
        url,
        ray_address,
        publish,
        chosen.quiet or chosen.as_json,
    )


def _run(
    task: str,
    model: str,
    source: Path,
    output: Path,
    columns: dict[str, str],
    options: dict[str, int],
    url: str | None,
    ray_address: str | None,
    publish: bool,
    silent: bool,
) -> Report:
    from serving import settings
    from serving.batch import run as batch
    from serving.batch.publish import Publication
    from serving.batch.task import Task

    bundle = _bundle(model, url)
    job = Task(task, bundle.path.resolve(), columns, settings.load(), options)
    publication = Publication(job.engine, bundle.version) if publish else None
    on_answers = {} if publication is None else {"on_answers": publication.add}
    with shown(silent) as progress:
        done = batch.run(job, source, output, progress, ray_address=ray_address, **on_answers)
        published = 0 if publication is None else publication.store(job.settings, progress)
    return Report(
        f"scored {done.rows:,} rows of {source} into {output} with {bundle.version} ({done.by})",
        [
            *([f"ignored columns: {', '.join(done.ignored)}"] if done.ignored else []),
            *([f"published {published:,} customers: the server answers for them by name"] if publish else []),
        ],
        data={
            "task": task,
            "model": bundle.version,
            "input": str(source),
            "output": str(output),
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
