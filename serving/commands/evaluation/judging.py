"""What `evaluate`, `models compare` and `models promote` share: models judged on one table, and the files of their plots."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from serving.commands.options import Command, Report, aligned
from serving.commands.tasks import parameter
from training.models import MODELS
from training.models.options import Option

if TYPE_CHECKING:
    from training.evaluation.comparison import Comparison, Difference
    from training.evaluation.judged import Judged
    from training.registry.bundle import Bundle
    from training.tables.cells import CellOptions

OPTIONS: tuple[Option, ...] = tuple({option.name: option for model in MODELS.values() for option in model.evaluate_options}.values())
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="PATH", help="A table with labels, as `train` takes it: a file or a folder.", show_default=False),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="A new or empty folder for the figures as JSON and the plots as SVG.", show_default=False),
]
CALIBRATION, LIFT = "calibration.svg", "lift.svg"


def with_options(command: Command) -> Command:
    """Return a command with the options that tasks declare for an evaluation before `seed`; it gets them as the mapping `options`."""

    def run(**values: Any) -> Report:
        taken = {option.name: values.pop(option.name) for option in OPTIONS}
        return command(options={name: value for name, value in taken.items() if value is not None}, **values)

    signature = inspect.signature(command)
    own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in signature.parameters.values() if one.name != "options"]
    place = next(place for place, one in enumerate(own) if one.name == "seed")
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*own[:place], *(parameter(option) for option in OPTIONS), *own[place:]]
    )
    run.__doc__ = command.__doc__
    return run


def require_judged(task: str) -> None:
    """Raise BadParameter (exit code 2) for a task whose models are not evaluated on a table, with the reason."""
    if not MODELS[task].evaluation:
        raise typer.BadParameter(f"a model of {task} is not evaluated on a table: {MODELS[task].no_evaluation}")


class TableReading(NamedTuple):
    """How a table is read: its path, the words of --map, options of the task, and how cells are read."""

    data: Path
    maps: Sequence[str] | None
    options: Mapping[str, Any]
    cells: "CellOptions | None" = None


def judge(bundle: "Bundle", table: TableReading) -> "Judged":
    """Return the predictions of a bundle for a table with labels.

    Raises BadParameter (exit code 2) for an option of another task, and TableError for a table that cannot be judged on.
    """
    model = MODELS[bundle.task]
    known = {option.name for option in model.evaluate_options}
    for option in OPTIONS:
        if option.name in table.options and option.name not in known:
            raise typer.BadParameter(f"{option.flag} does not apply to {bundle.task}; leave it out")
    from serving.batch.sources import Source
    from serving.commands import columns

    mapping = columns.mapping(table.maps, bundle.task)
    columns.require_columns(mapping, bundle.task, Source(table.data))
    return model.judge(bundle, table.data, mapping=mapping, cells=table.cells, **table.options)


def seen(bundle: "Bundle", data: Path) -> list[str]:
    """Return a warning where a model was learned from the very table on which it is judged."""
    from training.errors import TableError
    from training.registry.provenance import fingerprint

    learned = bundle.manifest.get("trainingData")
    if not isinstance(learned, dict) or "sha256" not in learned:
        return []
    named = data / str(learned.get("name"))
    try:
        same = fingerprint(named if named.is_file() else data) == learned["sha256"]
    except TableError:  # a folder whose files are joined
        return []
    return [f"warning: {bundle.version} was learned from {data.name}: on rows that it has seen it looks better than it is"] if same else []


def require_free(out: Path | None) -> None:
    """Raise BundleError unless the folder is absent or empty, before the work."""
    if out is not None:
        from training.registry import bundle

        bundle.require_free(out)


def write(out: Path, name: str, content: Mapping[str, Any], models: Mapping[str, "Judged"], data: str) -> list[str]:
    """Write the figures and the plots of models judged on `data` into a folder, atomically, and return the names of the files."""
    from training.evaluation import plots
    from training.registry import bundle, disk

    files = {
        name: bundle.encoded(content),
        CALIBRATION: plots.calibration(models, data).encode(),
        LIFT: plots.lift(models, data).encode(),
    }
    require_free(out)
    disk.write_folder(out, files)
    return list(files)


def lines(found: "Comparison", one: str, other: str) -> list[str]:
    """Return the lines of a comparison: figures of both, differences with intervals, and which is better."""
    from training.evaluation.comparison import LEVEL

    head = ("FIGURE", one, other, "DIFFERENCE", f"{LEVEL:.0%} INTERVAL", "")
    return aligned([head, *(_row(difference) for difference in found.differences)])


def _row(one: "Difference") -> tuple[str, ...]:
    interval = "-" if one.low is None or one.high is None else f"{one.low:+.4f} to {one.high:+.4f}"
    return one.name, _number(one.one), _number(one.other), _number(one.difference, "+.4f"), interval, one.verdict


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def sentence(found: "Comparison", one: str, other: str) -> str:
    """Return in words by which figures `other` is better or worse than `one`."""
    said = [f"{verdict} by {', '.join(found.by(verdict))}" for verdict in ("worse", "better") if found.by(verdict)]
    return f"{other} is {' and '.join(said)} than {one}" if said else f"{other} and {one} do not differ by {' or '.join(found.decisive)}"


def comparison_data(found: "Comparison") -> dict[str, Any]:
    """Return a comparison for machines."""
    return {
        "rows": found.rows,
        "groups": found.groups,
        "decisive": list(found.decisive),
        "worseBy": found.by("worse"),
        "betterBy": found.by("better"),
        "figures": [{**one._asdict(), "verdict": one.verdict or None} for one in found.differences],
    }
