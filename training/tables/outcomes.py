"""Outcomes of steps taken in sessions, with their propensities: the training data of a bandit."""

from pathlib import Path
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np

from kernels.types import F64, I64
from training.errors import CellError, TableError
from training.tables import frames
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


def read(path: Path) -> Outcomes:
    """Return the outcomes in a table with the columns step, propensity and converted. Raises TableError naming file, line and column."""
    table = nw.from_native(frames.read(path, numbers=(PROPENSITY, CONVERTED)), eager_only=True)
    if missing := [name for name in (STEP, PROPENSITY, CONVERTED) if name not in table.columns]:
        raise TableError(f"{path}: there is no column {listed(missing)}; it has {listed(table.columns)}")
    try:
        propensity = _numbers(table, PROPENSITY, "give the probability with which the step was drawn, above 0 and at most 1", minimum=1e-9)
        converted = _numbers(table, CONVERTED, "give 1 where the session bought, else 0", minimum=0.0)
    except CellError as error:
        raise error.at(frames.place(path, error.row)) from None
    shown = [str(name) for name in table[STEP].cast(nw.String).to_list()]
    others = sorted(set(shown) - {NOTHING})
    steps = (NOTHING, *others)
    place = {name: number for number, name in enumerate(steps)}
    return Outcomes(steps, np.array([place[name] for name in shown], np.int64), propensity, converted)


def _numbers(table: Any, column: str, fix: str, minimum: float) -> F64:
    values = table[column].to_list()
    out = np.empty(len(values))
    for row, value in enumerate(values):
        try:
            out[row] = float(value)
        except (TypeError, ValueError):
            raise CellError(row, column, value, fix) from None
        if not minimum <= out[row] <= 1:
            raise CellError(row, column, value, fix)
    return out
