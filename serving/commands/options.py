"""The options that several commands share, and the report that a command returns."""

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from training.registry.registry import Registry
    from training.tables.cells import CellOptions

T = TypeVar("T")

_HEADLINE = 5  # metrics in a line

Seed = Annotated[int | None, typer.Option("--seed", min=0, help="The same seed gives the same result. [default: 0]")]
Config = Annotated[Path | None, typer.Option("--config", help="Settings that differ from configs/base.yaml.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no report: only results and errors.")]
PLAIN: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}  # of every Typer

Task = Annotated[str, typer.Argument(metavar="TASK", help="The question, such as purchase.", show_default=False)]
Maps = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN", help="A column that has another name in your table (repeatable; see --column-help)."),
]
Example = Annotated[
    Path | None,
    typer.Option("--example", metavar="FILE", help="Write a small valid table of TASK, simulated; do nothing else.", show_default=False),
]
ModelRef = Annotated[
    str, typer.Argument(metavar="MODEL", help="TASK/NAME, TASK@ALIAS, TASK@NAME, or a NAME that is unique.", show_default=False)
]
Blanks = Annotated[
    list[str] | None,
    typer.Option(
        "--blank",
        metavar="WORD",
        help="A word for a missing cell (repeatable); replaces the list: NULL, None, NaN, N/A, NA, (not set), (none).",
        show_default=False,
    ),
]
TimeFormat = Annotated[
    str | None,
    typer.Option(
        "--time-format",
        metavar="FORMAT",
        help="The format of times where more than one fits, such as %d/%m/%Y; or seconds, milliseconds, ... since 1970, or number.",
        show_default=False,
    ),
]
Decimal = Annotated[
    str | None,
    typer.Option("--decimal", metavar="MARK", help="The decimal mark of numbers, . or , where both fit.", show_default=False),
]
ColumnHelp = Annotated[bool, typer.Option("--column-help", help="Print the fields of TASK: unit, need, column; do nothing else.")]
RegistryUrl = Annotated[str | None, typer.Option("--registry", help="Folder or fsspec URL. [default: .revenue-engine/models]")]


@dataclass(slots=True)
class Choices:
    """The options of every command, given before its name or after it."""

    seed: int | None = None
    as_json: bool = False
    quiet: bool = False

    def add(self, seed: int | None, as_json: bool, quiet: bool) -> None:
        """Merge the options given at one more place of the command line."""
        self.seed = self.seed if seed is None else seed
        self.as_json |= as_json
        self.quiet |= quiet


def choices(ctx: typer.Context, seed: int | None, as_json: bool, quiet: bool) -> Choices:
    """Return the options given before the command's name and after it."""
    chosen = ctx.ensure_object(Choices)
    chosen.add(seed, as_json, quiet)
    return chosen


@dataclass(frozen=True, slots=True)
class Report:
    """What a command returns. did: what was done, in a line; notes: lines below it; lines: the result for people; data: for machines."""

    did: str = ""
    notes: Sequence[str] = ()
    lines: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    code: int = 0


Command = Callable[..., Report]


def like(name: str, known: Sequence[str]) -> str:
    """Return a suggestion to append to the message about an unknown name, "" when no known name is similar."""
    near = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def one_of(name: str, known: Sequence[str], what: str) -> str:
    """Return `name` if it is known. Raises BadParameter (exit code 2), listing the known names, if it is not."""
    if name not in known:
        raise typer.BadParameter(f"unknown {what} {name!r}{like(name, known)}; known: {', '.join(known)}")
    return name


def mapped(words: Sequence[str] | None, fields: Sequence[str], several: Collection[str] = ()) -> dict[str, Any]:
    """Return {field: column} of the --map words, {field: columns} of the fields in `several`.

    Raises BadParameter for a word that is not FIELD=COLUMN with a known field, and for two columns of a field that has one.
    """
    found: dict[str, Any] = {}
    for word in words or ():
        name, equals, column = word.partition("=")
        if not (name and equals and column):
            raise typer.BadParameter(f"--map {word!r} is not FIELD=COLUMN")
        if name not in fields:
            raise typer.BadParameter(f"--map {word!r}: there is no field {name!r}{like(name, fields)}; --column-help lists them")
        if name in several:
            found[name] = tuple(dict.fromkeys((*found.get(name, ()), column)))
        elif found.setdefault(name, column) != column:
            raise typer.BadParameter(f"--map gives {name} twice: {found[name]!r} and {column!r}; keep one")
    return found


def require(value: T | None, option: str) -> T:
    """Return `value`. Raises BadParameter (exit code 2) when the option was not given; only --column-help works without it."""
    if value is None:
        raise typer.BadParameter(f"missing option {option}")
    return value


def cell_options(blank: Sequence[str] | None, time_format: str | None, decimal: str | None) -> "CellOptions":
    """Return how cells are read, as the command line has it. Raises BadParameter for a decimal mark that is none, and an empty format."""
    from training.tables.cells import BLANK, CellOptions

    if decimal not in (None, ".", ","):
        raise typer.BadParameter(f"--decimal {decimal}: a decimal mark is . or ,")
    if time_format is not None and not time_format.strip():
        raise typer.BadParameter("--time-format is empty; write one such as %d/%m/%Y, or leave it out")
    return CellOptions(BLANK if blank is None else tuple(blank), time_format, decimal)  # type: ignore[arg-type]


def aligned(rows: Sequence[Sequence[object]]) -> list[str]:
    """Return rows as lines, in columns as wide as their widest cell."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def headline(metrics: Mapping[str, Any]) -> str:
    """Return the first few metrics that are numbers in a line."""
    numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
    return " ".join(f"{name}={value:.4g}" for name, value in list(numbers.items())[:_HEADLINE])


def registry(url: str | None) -> "Registry":
    """Return the registry at `url`, by default the one that the server reads."""
    from serving import settings
    from training.registry.registry import Registry

    current = settings.load()
    return Registry(url or current.models.registry, Path(current.home) / "fetched")
