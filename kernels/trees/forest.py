"""XGBoost models evaluated without XGBoost: the same margins, bit for bit, in microseconds."""

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kernels.arrays import Arrays, flatten, unflatten
from kernels.trees import heap_walk, node_walk
from kernels.trees.ensemble import LEAF, Trees, booster_of, is_dart, objective, read
from kernels.trees.heap_walk import Heap
from kernels.trees.node_walk import Links
from kernels.trees.objectives import RESPONSES
from kernels.types import F32

FLOAT32 = np.dtype(np.float32)
MIN_BLOCK_ROWS = 16  # fewer rows are computed one at a time, until `tune` has measured
WAYS = {"row": 1 << 40, "block": 1}  # the min_block_rows that forces each way
CHECKED_VALUES = 1 << 20
SPECIAL = np.array([np.nan, np.nan, np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -3e38, 3e38], np.float32)


class Timing(NamedTuple):
    """The time of a call with so many rows, the faster of `row` (one at a time) and `block`; `walk` for deep trees."""

    rows: int
    way: str
    us_per_row: float


class Layouts(NamedTuple):
    """The trees in the layout that is walked node by node, and in the one for blocks of rows, None where they are too deep for it."""

    links: Links
    heap: Heap | None


class Forest:
    """The trees of a booster in fast layouts: for single rows, blocks of rows, CUDA. Margins are XGBoost's own, bit for bit.

    A row's result does not depend on the rows beside it. Threads may share a forest: it changes in `tune` and `tune_like` alone.
    """

    def __init__(self, trees: Trees, objective: str = "reg:squarederror", layouts: Layouts | None = None) -> None:
        """`layouts`: those of these trees, where they exist already."""
        if objective not in RESPONSES:
            raise ValueError(f"objective {objective!r} is not supported: train with one of {', '.join(RESPONSES)}")
        self.trees = trees
        self.objective = objective
        self.columns = trees.columns
        self.groups = len(trees.base)
        self.min_block_rows = MIN_BLOCK_ROWS
        self._links, self._heap = layouts or Layouts(node_walk.links(trees), heap_walk.heap(trees))
        self._response = RESPONSES[objective]

    @classmethod
    def from_booster(cls, model: Any) -> "Forest":
        """Return the forest of an XGBoost model, gbtree or dart, after comparing it with the model on generated rows.

        model: an `xgboost.Booster`, of which all rounds count, as in its `predict`, or a fitted XGBRegressor, XGBClassifier or XGBRanker:
        the rounds of its own `predict` count, up to the best one if it stopped early. For the same of a Booster, pass
        `booster[: booster.best_iteration + 1]`. Raises ValueError, with the fix, for unsupported models (see `ensemble.booster_of`,
        `ensemble.read` and RESPONSES) and for margins that differ.
        """
        booster = booster_of(model)
        forest = cls(read(booster), objective(booster))
        forest.check(booster)
        return forest

    def parts(self) -> Arrays:
        """Return the forest as arrays, for `of_parts`."""
        wholes = {"trees": self.trees, "links": self._links, **({} if self._heap is None else {"heap": self._heap})}
        arrays = {name: array for key, whole in wholes.items() for name, array in flatten(key, whole).items()}
        return {**arrays, "objective": np.frombuffer(self.objective.encode(), np.uint8)}

    @classmethod
    def of_parts(cls, parts: Arrays) -> "Forest":
        """Return the forest whose `parts` these are, without laying it out or checking it again."""
        heap = unflatten("heap", Heap, parts) if "heap.nodes" in parts else None
        layouts = Layouts(unflatten("links", Links, parts), heap)
        return cls(unflatten("trees", Trees, parts), parts["objective"].tobytes().decode(), layouts)

    def margin(self, X: ArrayLike) -> F32:
        """Return the margins, float32 [rows] or [rows, groups], of X, float32 [rows, columns], NaN missing.

        Other dtypes and layouts are converted first. Raises ValueError unless X is rows of `columns` numbers.
        """
        flat = self._flat(self._rows(X), self.min_block_rows)
        return flat if self.groups == 1 else flat.reshape(-1, self.groups)

    def predict(self, X: ArrayLike) -> F32:
        """Return `Booster.predict`, within 1 ulp: probabilities, expected values, classes; float32 [rows] or [rows, groups].

        Of a classifier's wrapper these are the probabilities too, not its labels. X and errors as in `margin`.
        """
        return self._response(self.margin(X))

    def margin_cuda(self, X: Any) -> Any:
        """Return the margins as `margin` does, computed on CUDA: a host array for a host array, a device array for a device array.

        The forest is copied to the device at the first call and stays there. A device array must be float32 [rows, columns].
        """
        from kernels import cuda

        rows = self._rows(X) if isinstance(X, np.ndarray) else X
        if rows.dtype != FLOAT32 or len(rows.shape) != 2 or rows.shape[1] != self.columns:
            raise ValueError(f"X is {rows.dtype} {tuple(rows.shape)} on the device: pass float32 [rows, {self.columns}]")
        out = cuda.empty_beside(rows, rows.shape[0] * self.groups)
        node_walk.margins_cuda(rows.shape[0], rows, *self._on_device, out)
        return out if self.groups == 1 else out.reshape(rows.shape[0], self.groups)

    def tune(self, sizes: Sequence[int] = (1, 4, 8, 12, 16, 24, 32, 64, 128, 256), repeats: int = 20) -> list[Timing]:
        """Measure each batch size on this machine and set `min_block_rows` by it; return the timings. Takes some tens of milliseconds."""
        if self._heap is None:
            return [Timing(size, "walk", self._us(size, MIN_BLOCK_ROWS, repeats) / size) for size in sizes]
        timings = [self._fastest(size, repeats) for size in sizes]
        self.min_block_rows = max((timing.rows + 1 for timing in timings if timing.way == "row"), default=1)
        return timings

    def tune_like(self, other: "Forest") -> bool:
        """Copy the setting that `other` has measured if it has the same shape; return whether it has."""
        alike = self._shape == other._shape
        if alike:
            self.min_block_rows = other.min_block_rows
        return alike

    @property
    def _shape(self) -> tuple[Any, ...]:
        """The numbers that the time of a row depends on: columns, groups, trees, and nodes with padding."""
        return self.columns, self.groups, len(self.trees.roots), None if self._heap is None else self._heap.nodes.shape

    def check(self, booster: Any) -> None:
        """Raise ValueError unless every layout gives the booster's margins on generated rows, and `predict` its own within 1 ulp."""
        rows = probes(self.trees, 1 + min(1000, CHECKED_VALUES // self.columns), infinite=not is_dart(booster))
        margins, answers = _expected(booster, rows)
        for way, min_block_rows in WAYS.items():
            _require_equal(f"margin ({way})", self._flat(rows, min_block_rows), margins, ulps=0)
        walked = np.empty(margins.size, FLOAT32)
        node_walk.margins(rows, *self._links, walked)
        _require_equal("margin (walk)", walked, margins, ulps=0)
        _require_equal("prediction", self.predict(rows), answers, ulps=1)

    @cached_property
    def _on_device(self) -> tuple[Any, ...]:
        from kernels import cuda

        return cuda.on_device(self._links)

    def _rows(self, X: ArrayLike) -> F32:
        """Return X in the layout that the kernels are compiled for: another one would be compiled for during a request."""
        rows = X if isinstance(X, np.ndarray) and X.dtype == FLOAT32 and X.flags.carray else _converted(X)
        if rows.ndim != 2 or rows.shape[1] != self.columns:
            raise ValueError(f"X has shape {rows.shape}: pass [rows, {self.columns}], one column for each of the model's")
        return rows

    def _flat(self, rows: F32, min_block_rows: int) -> F32:
        """Return the margins of rows, float32 [rows * groups]; fewer than `min_block_rows` rows one at a time."""
        out = np.empty(rows.shape[0] * self.groups, FLOAT32)
        if self._heap is None:
            node_walk.margins(rows, *self._links, out)
        else:
            heap_walk.margins(rows, *self._heap, min_block_rows, out)
        return out

    def _fastest(self, size: int, repeats: int) -> Timing:
        us, way = min((self._us(size, min_block_rows, repeats), way) for way, min_block_rows in WAYS.items())
        return Timing(size, way, us / size)

    def _us(self, size: int, min_block_rows: int, repeats: int) -> float:
        """Return the minimum time of a call with `size` rows, in microseconds."""
        rows = probes(self.trees, size)
        times = []
        for _ in range(repeats):
            start = time.perf_counter_ns()
            self._flat(rows, min_block_rows)
            times.append(time.perf_counter_ns() - start)
        return min(times) / 1000


def probes(trees: Trees, rows: int, infinite: bool = True) -> F32:
    """Return generated rows, float32 [rows, columns], always the same: thresholds, their neighbours, missing, huge and infinite values."""
    random = np.random.default_rng(rows)
    special = random.choice(SPECIAL if infinite else SPECIAL[np.isfinite(SPECIAL) | np.isnan(SPECIAL)], (rows, trees.columns))
    for column in np.unique(trees.feature[trees.feature != LEAF]):
        at = random.choice(trees.threshold[trees.feature == column], rows)
        with np.errstate(over="ignore"):
            near = np.choose(random.integers(0, 3, rows), [at, np.nextafter(at, -np.inf), np.nextafter(at, np.inf)])
        special[:, column] = np.where(random.random(rows) < 0.7, near, special[:, column])
    if not infinite:
        special[np.isinf(special)] = np.nan
    return special


def _converted(X: ArrayLike) -> F32:
    """Return X as float32, in rows, writeable."""
    try:
        with np.errstate(over="ignore"):
            return np.require(X, FLOAT32, ["C", "A", "W"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"X is not an array of numbers ({error}): pass float32 [rows, columns], NaN where a value is missing") from None


def _expected(booster: Any, rows: F32) -> tuple[F32, F32]:
    """Return the booster's own margins and predictions, flat; dart's from `predict`: its `inplace_predict` rounds in another order."""
    if not is_dart(booster):
        margins, answers = (booster.inplace_predict(rows, predict_type=kind, validate_features=False) for kind in ("margin", "value"))
    else:
        from xgboost import DMatrix

        matrix = DMatrix(rows)
        margins, answers = (booster.predict(matrix, output_margin=bare, validate_features=False) for bare in (True, False))
    return margins.astype(FLOAT32).ravel(), answers.astype(FLOAT32).ravel()


def _require_equal(what: str, ours: F32, theirs: F32, ulps: int) -> None:
    ours = ours.ravel()
    with np.errstate(invalid="ignore"):
        near = np.abs(ours - theirs) <= ulps * np.spacing(np.abs(theirs))
    if (wrong := np.flatnonzero(~(near | (ours == theirs)))).size:
        one = wrong[0]
        raise ValueError(
            f"{what} of generated row {one} is {ours[one]!r}, XGBoost's is {theirs[one]!r}, {wrong.size} of {ours.size} differ: "
            "serve this model with XGBoost itself, and report it"
        )
