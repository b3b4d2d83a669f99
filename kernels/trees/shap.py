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
Below, a step is z_cold (U_cold - U_hot) and phi has its sign turned, so that either sum is one with a product and fused.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Arrays, flatten, unflatten
from kernels.compile import formula, on_cpu
from kernels.simd import LANES, Lanes, beside, fma, load, splat, store
from kernels.trees.ensemble import Trees
from kernels.trees.shap_plan import LOST, NEW, Plan, plan
from kernels.types import F32, F64, I64, U8, U32

BLOCK = 8  # rows for which a tree is gone through while it is in the first-level cache

# Two rows go through a tree together where there are two: what is read of it is read once for both, and neither waits for the other's
# results. Numba compiles the formulas for one row and for two: what each row has of its own is a tuple of as many numbers, what is reckoned
# lies side by side in lanes.
Rows = tuple[F32, ...]
Each = tuple[int, ...]
_ENDS = np.array([1.0, 0.0])  # of a fork's left child, by the row's side


@formula
def sides_of(rows: Rows, view: int, threshold: float) -> Each:
    """Return each row's side of a split: 0 left, 1 right."""
    if len(rows) == 1:
        return (int(rows[0][view] >= threshold),)
    return int(rows[0][view] >= threshold), int(rows[1][view] >= threshold)


@formula
def shape_of(side: int, edge: int, shape: int) -> int:
    """Return `shape` if a row that went to this side follows the edge, else LOST. Reckoned, as no branch can be foretold here."""
    apart = side ^ edge
    return shape & (((apart | apart >> 1) & 1) - 1)


@formula
def shapes_of(sides: U8, ancestor: int, shape: int, rows: Rows) -> Each:
    """Return `shape` for each row that follows the edge `ancestor`, else LOST."""
    place, edge = ancestor >> 1, ancestor & 1
    if len(rows) == 1:
        return (shape_of(int(sides[place]), edge, shape),)
    return shape_of(int(sides[2 * place]), edge, shape), shape_of(int(sides[2 * place + 1]), edge, shape)


@formula
def note(sides: U8, place: int, right: Each) -> None:
    """Write each row's side of a fork."""
    sides[len(right) * place] = right[0]
    if len(right) == 2:
        sides[2 * place + 1] = right[1]


@formula
def note_lost(sides: U8, place: int, shapes: Each) -> None:
    """Add 2 to the side of each row for which the feature is lost."""
    sides[len(shapes) * place] += 2 * (shapes[0] == LOST)
    if len(shapes) == 2:
        sides[2 * place + 1] += 2 * (shapes[1] == LOST)


@formula
def noted(sides: U8, place: int, shape: int, rows: Rows) -> tuple[Each, Each]:
    """Return each row's side of a fork, and `shape`, or LOST where the feature is lost."""
    if len(rows) == 1:
        side = int(sides[place])
        return (side & 1,), (shape & ((side >> 1) - 1),)
    side, other = int(sides[2 * place]), int(sides[2 * place + 1])
    return (side & 1, other & 1), (shape & ((side >> 1) - 1), shape & ((other >> 1) - 1))


@formula
def same(lanes: Lanes, rows: Rows) -> Lanes:
    """Return the same lanes for each row."""
    return lanes if len(rows) == 1 else beside(lanes, lanes)


@formula
def of_side(values: F64, sides: Each) -> Lanes:
    """Return what `values` has for each row's side."""
    if len(sides) == 1:
        return splat(values[sides[0]])
    return beside(splat(values[sides[0]]), splat(values[sides[1]]))


@formula
def of_shape(table: Lanes, shapes: Each, part: int) -> Lanes:
    """Return S (`part` 0) or M (`part` LANES) for each row's shape."""
    if len(shapes) == 1:
        return load(table, shapes[0] + part)
    return beside(load(table, shapes[0] + part), load(table, shapes[1] + part))


@formula
def get(work: Lanes, at: int, rows: Rows) -> Lanes:
    """Return the lanes of all rows at one place."""
    if len(rows) == 1:
        return load(work, at)
    return beside(load(work, 2 * at), load(work, 2 * at + LANES))


@formula
def put(work: Lanes, at: int, lanes: Lanes, rows: Rows) -> None:
    """Write the lanes of all rows to one place."""
    store(work, len(rows) * at, lanes)


@formula
def hot(work: Lanes, children: U32, sides: Each) -> Lanes:
    """Return the lanes of the child where each row goes."""
    if len(sides) == 1:
        return load(work, children[sides[0]])
    return beside(load(work, 2 * children[sides[0]]), load(work, 2 * children[sides[1]] + LANES))


@formula
def descend(first: int, last: int, forks: NDArray[np.void], table: Lanes, rows: Rows, sides: U8, work: Lanes) -> None:
    """Write P of every child of a tree's forks, and the rows' sides: 0 left, 1 right, plus 2 where the feature is lost."""
    shrink = same(load(table, NEW), rows)
    for i in range(first, last):
        fork = forks[i]
        right = sides_of(rows, fork["view"], fork["threshold"])
        note(sides, i - first + 1, right)
        here = get(work, LANES * (i - first), rows)
        step, ends = of_side(fork["step"], right), of_side(_ENDS, right)  # 1 or 0 looked up: a choice would become a branch
        if fork["shape"] == NEW:  # most are: the same for every row, so this branch can be foretold
            left = here * fma(shrink, step, ends)
        else:
            shapes = shapes_of(sides, int(fork["ancestor"]), int(fork["shape"]), rows)
            note_lost(sides, i - first + 1, shapes)
            left = here * fma(of_shape(table, shapes, 0), step, ends)
        put(work, fork["children"][0], left, rows)
        put(work, fork["children"][1], here - left, rows)


@formula
def turn(first: int, last: int, place: int, twigs: NDArray[np.void], table: Lanes, rows: Rows, work: Lanes, phi: Lanes) -> None:
    """Replace P of a tree's twigs by U, and take from phi; their features are new."""
    shrink = same(load(table, NEW), rows)
    for i in range(first, last):
        twig = twigs[i]
        view = LANES * twig["view"]
        right = sides_of(rows, twig["view"], twig["threshold"])
        step, at = of_side(twig["step"], right), place + LANES * (i - first)
        here, before = get(work, at, rows), get(phi, view, rows)
        put(work, at, fma(shrink, step, of_side(twig["value"], right)), rows)
        put(phi, view, fma(here, step, before), rows)


@formula
def turn_again(
    first: int,
    last: int,
    place: int,
    twigs: NDArray[np.void],
    table: Lanes,
    rows: Rows,
    sides: U8,
    work: Lanes,
    phi: Lanes,
) -> None:
    """Replace P of a tree's twigs by U, and take from phi; their features are not new."""
    for i in range(first, last):
        twig = twigs[i]
        view = LANES * twig["view"]
        right = sides_of(rows, twig["view"], twig["threshold"])
        shapes = shapes_of(sides, int(twig["ancestor"]), int(twig["shape"]), rows)
        step, at = of_side(twig["step"], right), place + LANES * (i - first)
        here, before = get(work, at, rows), get(phi, view, rows)
        put(work, at, fma(of_shape(table, shapes, 0), step, of_side(twig["value"], right)), rows)
        put(phi, view, fma(here, of_shape(table, shapes, LANES) * step, before), rows)


@formula
def ascend(first: int, last: int, forks: NDArray[np.void], table: Lanes, rows: Rows, sides: U8, work: Lanes, phi: Lanes) -> None:
    """Replace P of a tree's forks by U, the last first, and take from phi."""
    shrink = same(load(table, NEW), rows)
    for back in range(last - first):
        place = last - first - 1 - back
        fork = forks[first + place]
        view, children = LANES * fork["view"], fork["children"]
        right, shapes = noted(sides, place + 1, int(fork["shape"]), rows)
        here, before = get(work, LANES * place, rows), get(phi, view, rows)
        step = (get(work, children[0], rows) - get(work, children[1], rows)) * of_side(fork["step"], right)
        ahead = hot(work, children, right)
        if fork["shape"] == NEW:
            put(work, LANES * place, fma(shrink, step, ahead), rows)
        else:
            put(work, LANES * place, fma(of_shape(table, shapes, 0), step, ahead), rows)
            step = of_shape(table, shapes, LANES) * step
        put(phi, view, fma(here, step, before), rows)


@formula
def add_tree(
    bounds: U32,
    following: U32,
    forks: NDArray[np.void],
    twigs: NDArray[np.void],
    strays: F64,
    table: Lanes,
    weights: Lanes,
    rows: Rows,
    sides: U8,
    work: Lanes,
    phi: Lanes,
) -> None:
    """Take a tree's part from phi for four points t; `bounds` are where its forks, twigs, twigs again and strays begin."""
    first, last = int(bounds[0]), int(following[0])
    start, middle, end = int(bounds[1]), int(bounds[2]), int(following[1])
    put(work, 0, same(weights, rows), rows)
    descend(first, last, forks, table, rows, sides, work)
    place = LANES * (last - first)
    turn(start, middle, place, twigs, table, rows, work, phi)
    turn_again(middle, end, place + LANES * (middle - start), twigs, table, rows, sides, work, phi)
    place += LANES * (end - start)
    for i in range(int(bounds[3]), int(following[3])):
        put(work, place, same(splat(strays[i]), rows), rows)
        place += LANES
    ascend(first, last, forks, table, rows, sides, work, phi)


@formula
def total(phi: Lanes, column: int, columns: int, row: int, rows: int) -> float:
    """Return phi of a column, from both of its views and all points, of one row of so many that went through the trees together."""
    found = 0.0
    for lane in range(LANES):
        for view in (column, columns + column):
            found += phi[LANES * (rows * view + row) + lane]
    return found


@on_cpu
def factors(
    slots: int,
    groups: I64,
    bounds: U32,
    forks: NDArray[np.void],
    twigs: NDArray[np.void],
    strays: F64,
    tables: Lanes,
    weights: Lanes,
    X: F32,
    out: F64,
) -> None:
    """Write the part of each column in the margins of each row, without the bias, into `out`; the arrays are those of `Plan`.

    X: float32 [n, columns], NaN is missing; out: float64 [n, groups, columns].
    """
    columns = X.shape[1]
    work = np.empty(2 * LANES * slots)
    sides = np.zeros(2 * (slots + 1), np.uint8)
    phi = np.empty((BLOCK // 2, 2 * 2 * LANES * columns))
    seen = np.empty((BLOCK, 2 * columns), np.float32)
    for first in range(0, X.shape[0], BLOCK):
        rows = min(BLOCK, X.shape[0] - first)
        for row in range(rows):
            for column in range(columns):
                value = X[first + row, column]
                seen[row, column] = value
                seen[row, columns + column] = np.float32(np.inf) if np.isnan(value) else value
        for group in range(len(groups) - 1):
            phi[: (rows + 1) // 2] = 0.0
            for points in range(len(tables)):
                lanes = load(weights, LANES * points)
                for tree in range(groups[group], groups[group + 1]):
                    here, following, table = bounds[tree], bounds[tree + 1], tables[points]
                    for row in range(0, rows - 1, 2):
                        pair = (seen[row], seen[row + 1])
                        add_tree(here, following, forks, twigs, strays, table, lanes, pair, sides, work, phi[row // 2])
                    if rows % 2:
                        one = (seen[rows - 1],)
                        add_tree(here, following, forks, twigs, strays, table, lanes, one, sides, work, phi[rows // 2])
            for row in range(rows):
                together = 1 if row == rows - 1 and rows % 2 else 2
                for column in range(columns):
                    out[first + row, group, column] = 0.0 - total(phi[row // 2], column, columns, row % 2, together)


class Factors:
    """What each column adds to the margins of an ensemble: `Factors(trees).of(X)`.

    bias: float64 [groups], the margin of a row of which nothing is known: `bias + of(X).sum(-1)` is the margin
    """

    def __init__(self, trees: Trees, planned: tuple[Plan, F64] | None = None) -> None:
        """`planned`: what `plan(trees)` has returned, where it is there already."""
        self.columns = trees.columns
        self._plan, self._means = planned or plan(trees)
        self.bias: F64 = trees.base.astype(np.float64)
        np.add.at(self.bias, trees.group, self._means)

    def parts(self) -> Arrays:
        """Return the plan as arrays, for `of_parts`."""
        return {**flatten("plan", self._plan), "means": self._means}

    @classmethod
    def of_parts(cls, trees: Trees, parts: Arrays) -> "Factors":
        """Return the factors of these trees, whose plan `parts` are."""
        return cls(trees, (unflatten("plan", Plan, parts), parts["means"]))

    def of(self, X: F32) -> F64:
        """Return what each column adds to the margin of each row: [n, columns], or [n, groups, columns] where there are several groups.

        X: float32 [n, columns], NaN is missing. Raises ValueError for another shape or dtype.
        """
        if X.ndim != 2 or X.shape[1] != self.columns or X.dtype != np.float32:
            raise ValueError(f"rows are {X.dtype} {X.shape}: pass float32 [n, {self.columns}]")
        out = np.empty((len(X), len(self.bias), self.columns))
        # The compiled kernel is that of arrays in order that may be written to; for others there would be another one.
        factors(*self._plan, X if X.flags.carray else X.copy(), out)
        return out[:, 0] if len(self.bias) == 1 else out
