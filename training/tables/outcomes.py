"""Outcomes of steps taken in sessions, with their propensities: the training data of a bandit."""

from pathlib import Path
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np

from kernels.types import F64, I64
from training.errors import CellError, TableError
from training.tables import cells, frames
from training.tables.cells import DEFAULT, EMPTY_ONLY, CellOptions
from training.tables.table import listed

STEP, PROPENSITY, CONVERTED = "step", "propensity", "converted"
NAME = "outcomes"
NOTHING = "none"


class Outcomes(NamedTuple):
    """Decisions in their order. steps: names, doing nothing first; step: int64 [n], which of them; propensity, converted: float64 [n]."""

    steps: tuple[str, ...]
    step: I64
    propensity: F64
    converted: F64


def find(folder: Path) -> Path | None:
    """Return the table of outcomes in a folder, None where there is none."""
    if not folder.is_dir():
        return None
    found = [path for path in sorted(folder.iterdir()) if path.name.split(".")[0] == NAME and path.name.endswith(frames.SUFFIXES)]
    return found[0] if found else None


def read(path: Path, *, options: CellOptions = DEFAULT) -> Outcomes:
    """Return the outcomes in a table with the columns step, propensity and converted. Raises TableError naming file, line and column."""
    table = nw.from_native(frames.read(path, numbers=(PROPENSITY, CONVERTED), options=options), eager_only=True)
    if missing := [name for name in (STEP, PROPENSITY, CONVERTED) if name not in table.columns]:
        raise TableError(f"{path}: there is no column {listed(missing)}; it has {listed(table.columns)}")
    try:
        propensity = _numbers(table, PROPENSITY, "give the probability with which the step was drawn, above 0 and at most 1", minimum=1e-9)
        converted = _numbers(table, CONVERTED, "give 1 where the session bought, else 0", minimum=0.0)
        shown = _steps(table)
    except CellError as error:
        raise error.at(frames.place(path, error.row)) from None
    others = sorted(set(shown) - {NOTHING})
    steps = (NOTHING, *others)
    place = {name: number for number, name in enumerate(steps)}
    return Outcomes(steps, np.array([place[name] for name in shown], np.int64), propensity, converted)


def _steps(table: Any) -> list[str]:
    """Return the step of each row. Raises CellError for a blank one; `none` is a step here, and no blank word."""
    steps = cells.ids(table[STEP], EMPTY_ONLY)
    if steps.has_nulls():
        raise CellError(int(steps.is_null().arg_true()[0]), STEP, None, f"is blank: name the step, {NOTHING} for none")
    return steps.to_list()


def _numbers(table: Any, column: str, fix: str, minimum: float) -> F64:
    values = cells.floats(table[column], fix=fix)
    wrong = np.flatnonzero(~((values >= minimum) & (values <= 1)))
    if len(wrong):
        row = int(wrong[0])
        raise CellError(row, column, table[column][row], fix)
    return values
