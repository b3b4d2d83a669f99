"""How much each column adds to a margin: exact path-dependent TreeSHAP (Lundberg et al. 2020), the `pred_contribs` of XGBoost.

Columns are the players of a game: a split of a known column sends the row one way, one of an unknown column both ways, in shares of cover.
A Shapley value is the integral over t from 0 to 1 of what a column adds when each other one is known with probability t (Owen 1972). Along
a path that is a polynomial in t, so a Gauss-Legendre sum over half as many points as the path has features is exact (compare Yu et al.
2022, who interpolate). The formulas below hold at each point; the lanes are four of them, and more than eight features take more passes.

The child where the row goes is hot, the other cold, with shares z_hot + z_cold = 1 of the cover. Then, down from the root and back up,

    F = S z_cold                                the factor of the cold edge, 1 - F that of the hot one
    P_cold = P F,  P_hot = P - P_cold           the product of the factors above
    U = U_hot - F (U_hot - U_cold)              the sum of the leaves below, each times the factors between
    phi[column] += P M z_cold (U_hot - U_cold)

where S = 1 - t and M = 1 for a feature that is new on its path. For one that is not, let z be the product of the shares of its edges above:
if the row takes all of these, D = 1 / ((1 - t) z + t), S = (1 - t) z D and M = z D^2; if it does not, the feature is lost, S = 1 and M = 0.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.compile import formula, on_cpu
from kernels.lanes import LANES, Lanes, load, splat, store
from kernels.parts import Parts, put_together, taken_apart
from kernels.plan import LOST, NEW, ROW, Plan, plan
from kernels.trees import Trees

BLOCK = 8  # rows for which a tree is gone through while it is in the first-level cache


@formula
def shape_of(ancestor: int, shape: int, sides: NDArray[np.uint8]) -> int:
    """Return `shape` if the row follows the edge `ancestor`, else LOST. Reckoned, as no branch can be foretold here."""
    apart = int(sides[ancestor >> 1]) ^ (ancestor & 1)
    return shape & (((apart | apart >> 1) & 1) - 1)


@formula
def descend(
    first: int, last: int, forks: NDArray[np.void], table: Lanes, row: NDArray[np.float32], sides: NDArray[np.uint8], work: Lanes
) -> None:
    """Write P of every child of a tree's forks, and the row's sides: 0 left, 1 right, plus 2 where the feature is lost."""
    shrink = load(table, NEW)
    for i in range(first, last):
        fork = forks[i]
        right = int(row[fork["view"]] >= fork["threshold"])
        here = load(work, LANES * (i - first))
        ends = load(table, NEW + LANES - ROW * right)  # 1 or 0, looked up: a choice would become a branch
        if fork["shape"] == NEW:  # most are: the same for every row, so this branch can be foretold
            sides[i - first + 1] = right
            left = here * (ends + shrink * fork["step"][right])
        else:
            shape = shape_of(int(fork["ancestor"]), int(fork["shape"]), sides)
            sides[i - first + 1] = right + 2 * (shape == LOST)
            left = here * (ends + load(table, shape) * fork["step"][right])
        store(work, fork["kids"][0], left)
        store(work, fork["kids"][1], here - left)


@formula
def turn(
    first: int, last: int, place: int, twigs: NDArray[np.void], table: Lanes, row: NDArray[np.float32], work: Lanes, phi: Lanes
) -> None:
    """Replace P of a tree's twigs by U, and add to phi; their features are new."""
    shrink = load(table, NEW)
    for i in range(first, last):
        twig = twigs[i]
        view = twig["view"]
        right = int(row[view] >= twig["threshold"])
        step = twig["step"][right]
        at = place + LANES * (i - first)
        here = load(work, at)
        store(work, at, twig["value"][right] - shrink * step)
        store(phi, LANES * view, load(phi, LANES * view) + here * step)


@formula
def turn_again(
    first: int,
    last: int,
    place: int,
    twigs: NDArray[np.void],
    table: Lanes,
    row: NDArray[np.float32],
    sides: NDArray[np.uint8],
    work: Lanes,
    phi: Lanes,
) -> None:
    """Replace P of a tree's twigs by U, and add to phi; their features are not new."""
    for i in range(first, last):
        twig = twigs[i]
        view = twig["view"]
        right = int(row[view] >= twig["threshold"])
        shape = shape_of(int(twig["ancestor"]), int(twig["shape"]), sides)
        step = twig["step"][right]
        at = place + LANES * (i - first)
        here = load(work, at)
        store(work, at, twig["value"][right] - load(table, shape) * step)
        store(phi, LANES * view, load(phi, LANES * view) + here * (load(table, shape + LANES) * step))


@formula
def ascend(first: int, last: int, forks: NDArray[np.void], table: Lanes, sides: NDArray[np.uint8], work: Lanes, phi: Lanes) -> None:
    """Replace P of a tree's forks by U, the last first, and add to phi."""
    shrink = load(table, NEW)
    for back in range(last - first):
        place = last - first - 1 - back
        fork = forks[first + place]
        side = int(sides[place + 1])
        right = side & 1
        view = LANES * fork["view"]
        here = load(work, LANES * place)
        step = (load(work, fork["kids"][1]) - load(work, fork["kids"][0])) * fork["step"][right]
        if fork["shape"] == NEW:
            store(work, LANES * place, load(work, fork["kids"][right]) - shrink * step)
        else:
            shape = int(fork["shape"]) & ((side >> 1) - 1)
            store(work, LANES * place, load(work, fork["kids"][right]) - load(table, shape) * step)
            step = load(table, shape + LANES) * step
        store(phi, view, load(phi, view) + here * step)


@formula
def add_tree(
    bounds: NDArray[np.uint32],
    following: NDArray[np.uint32],
    forks: NDArray[np.void],
    twigs: NDArray[np.void],
    strays: NDArray[np.float64],
    table: Lanes,
    weights: Lanes,
    row: NDArray[np.float32],
    sides: NDArray[np.uint8],
    work: Lanes,
    phi: Lanes,
) -> None:
    """Add a tree's part of phi for four points t; `bounds` are where its forks, twigs, twigs again and strays begin."""
    first, last = int(bounds[0]), int(following[0])
    start, middle, end = int(bounds[1]), int(bounds[2]), int(following[1])
    store(work, 0, weights)
    descend(first, last, forks, table, row, sides, work)
    place = LANES * (last - first)
    turn(start, middle, place, twigs, table, row, work, phi)
    turn_again(middle, end, place + LANES * (middle - start), twigs, table, row, sides, work, phi)
    place += LANES * (end - start)
    for i in range(int(bounds[3]), int(following[3])):
        store(work, place, splat(strays[i]))
        place += LANES
    ascend(first, last, forks, table, sides, work, phi)


@on_cpu
def factors(
    slots: int,
    groups: NDArray[np.int64],
    bounds: NDArray[np.uint32],
    forks: NDArray[np.void],
    twigs: NDArray[np.void],
    strays: NDArray[np.float64],
    tables: Lanes,
    weights: Lanes,
    X: NDArray[np.float32],
    out: NDArray[np.float64],
) -> None:
    """Write the part of each column in the margins of each row, without the bias, into `out`; the arrays are those of `Plan`.

    X: float32 [n, columns], NaN is missing; out: float64 [n, groups, columns].
    """
    columns = X.shape[1]
    work = np.empty(LANES * slots)
    sides = np.zeros(slots + 1, np.uint8)
    phi = np.empty((BLOCK, 2 * LANES * columns))
    seen = np.empty((BLOCK, 2 * columns), np.float32)
    for first in range(0, X.shape[0], BLOCK):
        rows = min(BLOCK, X.shape[0] - first)
        for row in range(rows):
            for column in range(columns):
                value = X[first + row, column]
                seen[row, column] = value
                seen[row, columns + column] = np.float32(np.inf) if np.isnan(value) else value
        for group in range(len(groups) - 1):
            phi[:rows] = 0.0
            for points in range(len(tables)):
                lanes = load(weights, LANES * points)
                for tree in range(groups[group], groups[group + 1]):
                    here, following, table = bounds[tree], bounds[tree + 1], tables[points]
                    for row in range(rows):
                        add_tree(here, following, forks, twigs, strays, table, lanes, seen[row], sides, work, phi[row])
            for row in range(rows):
                for column in range(columns):
                    total = 0.0
                    for lane in range(LANES):
                        total += phi[row, LANES * column + lane] + phi[row, LANES * (columns + column) + lane]
                    out[first + row, group, column] = total


class Factors:
    """What each column adds to the margins of an ensemble: `Factors(trees).of(X)`.

    bias: float64 [groups], the margin of a row of which nothing is known: `bias + of(X).sum(-1)` is the margin
    """

    def __init__(self, trees: Trees, planned: tuple[Plan, NDArray[np.float64]] | None = None) -> None:
        """`planned`: what `plan(trees)` has returned, where it is there already."""
        self.columns = trees.columns
        self._plan, self._means = planned or plan(trees)
        self.bias: NDArray[np.float64] = trees.base.astype(np.float64)
        np.add.at(self.bias, trees.group, self._means)

    def parts(self) -> Parts:
        """Return the plan as arrays, for `of_parts`."""
        return {**taken_apart("plan", self._plan), "means": self._means}

    @classmethod
    def of_parts(cls, trees: Trees, parts: Parts) -> "Factors":
        """Return the factors of these trees, whose plan `parts` are."""
        return cls(trees, (put_together("plan", Plan, parts), parts["means"]))

    def of(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what each column adds to the margin of each row: [n, columns], or [n, groups, columns] where there are several groups.

        X: float32 [n, columns], NaN is missing. Raises ValueError for another shape or dtype.
        """
        if X.ndim != 2 or X.shape[1] != self.columns or X.dtype != np.float32:
            raise ValueError(f"rows are {X.dtype} {X.shape}: pass float32 [n, {self.columns}]")
        out = np.empty((len(X), len(self.bias), self.columns))
        # The compiled kernel is that of arrays in order that may be written to; for others there would be another one.
        factors(*self._plan, X if X.flags.carray else X.copy(), out)
        return out[:, 0] if len(self.bias) == 1 else out
