"""SHAP values of tree ensembles: exact path-dependent TreeSHAP (Lundberg et al. 2020), the `pred_contribs` of XGBoost.

Columns are the players of a game: a split on a known column sends the row one way, one on an unknown column both ways, in shares of cover.
A Shapley value is the integral over t from 0 to 1 of what a column adds when each other one is known with probability t (Owen 1972). Along
a path that is a polynomial in t, so a Gauss-Legendre sum over half as many points as the path has features is exact (compare Yu et al.
2022, who interpolate). The formulas below hold at each point; the lanes are four of them, and more than eight features take more passes.

The child that the row goes to is hot, the other cold, with shares z_hot + z_cold = 1 of the cover. Then, down from the root and back up,

    F = S z_cold                                the factor of the cold edge, 1 - F that of the hot one
    P_cold = P F,  P_hot = P - P_cold           the path weights: the product of the factors above
    U = U_hot - F (U_hot - U_cold)              the subtree sums: the leaves below, each times the factors between
    phi[column] += P M z_cold (U_hot - U_cold)

where S = 1 - t and M = 1 for a feature that is new on its path. For one that is not, let z be the product of the shares of its edges above:
if the row takes all of these, D = 1 / ((1 - t) z + t), S = (1 - t) z D and M = z D^2; if it does not, the feature is off the row's path, S
is 1 and M is 0. In the code, a step is z_cold (U_cold - U_hot) and phi has the opposite sign, so that either sum is one fused product.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Arrays, flatten, unflatten
from kernels.compile import formula, on_cpu
from kernels.simd import LANES, Lanes, beside, fma, load, splat, store
from kernels.trees.ensemble import Trees
from kernels.trees.shap_layout import NEW, OFF_PATH, Layout, layout_of
from kernels.types import F32, F64, I64, U8, U32

BLOCK = 8  # rows that are computed tree by tree, while the tree is in the first-level cache

# Rows are computed in pairs: a tree is read once for both, and the processor overlaps their independent operations. Numba compiles the
# formulas for one row and for two: numbers of each row are a tuple of that length, and computed values are side by side in lanes.
Rows = tuple[F32, ...]
Each = tuple[int, ...]
_ENDS = np.array([1.0, 0.0])  # of the left child of an inner split, by the row's side


@formula
def sides_of(rows: Rows, view: int, threshold: float) -> Each:
    """Return each row's side of a split: 0 left, 1 right."""
    if len(rows) == 1:
        return (int(rows[0][view] >= threshold),)
    return int(rows[0][view] >= threshold), int(rows[1][view] >= threshold)


@formula
def shape_of(side: int, edge: int, shape: int) -> int:
    """Return `shape` if a row that went to this side follows the edge, else OFF_PATH; by arithmetic, as a branch would be unpredictable."""
    apart = side ^ edge
    return shape & (((apart | apart >> 1) & 1) - 1)


@formula
def shapes_of(sides: U8, ancestor: int, shape: int, rows: Rows) -> Each:
    """Return `shape` for each row that follows the edge `ancestor`, else OFF_PATH."""
    place, edge = ancestor >> 1, ancestor & 1
    if len(rows) == 1:
        return (shape_of(int(sides[place]), edge, shape),)
    return shape_of(int(sides[2 * place]), edge, shape), shape_of(int(sides[2 * place + 1]), edge, shape)


@formula
def store_sides(sides: U8, place: int, right: Each) -> None:
    """Write each row's side of a split."""
    sides[len(right) * place] = right[0]
    if len(right) == 2:
        sides[2 * place + 1] = right[1]


@formula
def store_off_path(sides: U8, place: int, shapes: Each) -> None:
    """Add 2 to the side of each row for which the feature is off the path."""
    sides[len(shapes) * place] += 2 * (shapes[0] == OFF_PATH)
    if len(shapes) == 2:
        sides[2 * place + 1] += 2 * (shapes[1] == OFF_PATH)


@formula
def sides_and_shapes(sides: U8, place: int, shape: int, rows: Rows) -> tuple[Each, Each]:
    """Return each row's side of a split, and `shape`, or OFF_PATH where the feature is off the row's path."""
    if len(rows) == 1:
        side = int(sides[place])
        return (side & 1,), (shape & ((side >> 1) - 1),)
    side, other = int(sides[2 * place]), int(sides[2 * place + 1])
    return (side & 1, other & 1), (shape & ((side >> 1) - 1), shape & ((other >> 1) - 1))


@formula
def broadcast(lanes: Lanes, rows: Rows) -> Lanes:
    """Return the same lanes for each row."""
    return lanes if len(rows) == 1 else beside(lanes, lanes)


@formula
def by_side(values: F64, sides: Each) -> Lanes:
    """Return the entry of `values` for each row's side."""
    if len(sides) == 1:
        return splat(values[sides[0]])
    return beside(splat(values[sides[0]]), splat(values[sides[1]]))


@formula
def by_shape(table: Lanes, shapes: Each, part: int) -> Lanes:
    """Return S (`part` 0) or M (`part` LANES) for each row's shape."""
    if len(shapes) == 1:
        return load(table, shapes[0] + part)
    return beside(load(table, shapes[0] + part), load(table, shapes[1] + part))


@formula
def load_rows(work: Lanes, at: int, rows: Rows) -> Lanes:
    """Return the lanes of all rows at one place."""
    if len(rows) == 1:
        return load(work, at)
    return beside(load(work, 2 * at), load(work, 2 * at + LANES))


@formula
def store_rows(work: Lanes, at: int, lanes: Lanes, rows: Rows) -> None:
    """Write the lanes of all rows to one place."""
    store(work, len(rows) * at, lanes)


@formula
def load_hot(work: Lanes, children: U32, sides: Each) -> Lanes:
    """Return the lanes of each row's hot child."""
    if len(sides) == 1:
        return load(work, children[sides[0]])
    return beside(load(work, 2 * children[sides[0]]), load(work, 2 * children[sides[1]] + LANES))


@formula
def path_weights(first: int, last: int, inner_splits: NDArray[np.void], table: Lanes, rows: Rows, sides: U8, work: Lanes) -> None:
    """Write P of both children of a tree's inner splits, and the rows' sides: 0 left, 1 right, plus 2 where the feature is off the path."""
    shrink = broadcast(load(table, NEW), rows)
    for i in range(first, last):
        split = inner_splits[i]
        right = sides_of(rows, split["view"], split["threshold"])
        store_sides(sides, i - first + 1, right)
        here = load_rows(work, LANES * (i - first), rows)
        step, ends = by_side(split["step"], right), by_side(_ENDS, right)  # 1 or 0 from a table: a choice would become a branch
        if split["shape"] == NEW:  # most are, and for every row, so this branch is predictable
            left = here * fma(shrink, step, ends)
        else:
            shapes = shapes_of(sides, int(split["ancestor"]), int(split["shape"]), rows)
            store_off_path(sides, i - first + 1, shapes)
            left = here * fma(by_shape(table, shapes, 0), step, ends)
        store_rows(work, split["children"][0], left, rows)
        store_rows(work, split["children"][1], here - left, rows)


@formula
def add_leaf_parents(
    first: int, last: int, place: int, leaf_parents: NDArray[np.void], table: Lanes, rows: Rows, work: Lanes, phi: Lanes
) -> None:
    """Replace P of a tree's leaf parents by U, and subtract from phi; their features are new on their paths."""
    shrink = broadcast(load(table, NEW), rows)
    for i in range(first, last):
        leaf_parent = leaf_parents[i]
        view = LANES * leaf_parent["view"]
        right = sides_of(rows, leaf_parent["view"], leaf_parent["threshold"])
        step, at = by_side(leaf_parent["step"], right), place + LANES * (i - first)
        here, before = load_rows(work, at, rows), load_rows(phi, view, rows)
        store_rows(work, at, fma(shrink, step, by_side(leaf_parent["value"], right)), rows)
        store_rows(phi, view, fma(here, step, before), rows)


@formula
def add_repeated_leaf_parents(
    first: int,
    last: int,
    place: int,
    leaf_parents: NDArray[np.void],
    table: Lanes,
    rows: Rows,
    sides: U8,
    work: Lanes,
    phi: Lanes,
) -> None:
    """Replace P of a tree's repeated leaf parents by U, and subtract from phi."""
    for i in range(first, last):
        leaf_parent = leaf_parents[i]
        view = LANES * leaf_parent["view"]
        right = sides_of(rows, leaf_parent["view"], leaf_parent["threshold"])
        shapes = shapes_of(sides, int(leaf_parent["ancestor"]), int(leaf_parent["shape"]), rows)
        step, at = by_side(leaf_parent["step"], right), place + LANES * (i - first)
        here, before = load_rows(work, at, rows), load_rows(phi, view, rows)
        store_rows(work, at, fma(by_shape(table, shapes, 0), step, by_side(leaf_parent["value"], right)), rows)
        store_rows(phi, view, fma(here, by_shape(table, shapes, LANES) * step, before), rows)


@formula
def subtree_sums(
    first: int, last: int, inner_splits: NDArray[np.void], table: Lanes, rows: Rows, sides: U8, work: Lanes, phi: Lanes
) -> None:
    """Replace P of a tree's inner splits by U, the last first, and subtract from phi."""
    shrink = broadcast(load(table, NEW), rows)
    for back in range(last - first):
        place = last - first - 1 - back
        split = inner_splits[first + place]
        view, children = LANES * split["view"], split["children"]
        right, shapes = sides_and_shapes(sides, place + 1, int(split["shape"]), rows)
        here, before = load_rows(work, LANES * place, rows), load_rows(phi, view, rows)
        step = (load_rows(work, children[0], rows) - load_rows(work, children[1], rows)) * by_side(split["step"], right)
        ahead = load_hot(work, children, right)
        if split["shape"] == NEW:
            store_rows(work, LANES * place, fma(shrink, step, ahead), rows)
        else:
            store_rows(work, LANES * place, fma(by_shape(table, shapes, 0), step, ahead), rows)
            step = by_shape(table, shapes, LANES) * step
        store_rows(phi, view, fma(here, step, before), rows)


@formula
def add_tree(
    bounds: U32,
    following: U32,
    inner_splits: NDArray[np.void],
    leaf_parents: NDArray[np.void],
    lone_leaves: F64,
    table: Lanes,
    weights: Lanes,
    rows: Rows,
    sides: U8,
    work: Lanes,
    phi: Lanes,
) -> None:
    """Subtract a tree's part from phi for four points t; `bounds`: where its nodes begin, by kind; `following`: the next tree's."""
    first, last = int(bounds[0]), int(following[0])
    start, middle, end = int(bounds[1]), int(bounds[2]), int(following[1])
    store_rows(work, 0, broadcast(weights, rows), rows)
    path_weights(first, last, inner_splits, table, rows, sides, work)
    place = LANES * (last - first)
    add_leaf_parents(start, middle, place, leaf_parents, table, rows, work, phi)
    add_repeated_leaf_parents(middle, end, place + LANES * (middle - start), leaf_parents, table, rows, sides, work, phi)
    place += LANES * (end - start)
    for i in range(int(bounds[3]), int(following[3])):
        store_rows(work, place, broadcast(splat(lone_leaves[i]), rows), rows)
        place += LANES
    subtree_sums(first, last, inner_splits, table, rows, sides, work, phi)


@formula
def sum_lanes(phi: Lanes, column: int, columns: int, row: int, rows: int) -> float:
    """Return phi of a column, from both of its views and all points, of row `row` of the `rows` that were computed together."""
    found = 0.0
    for lane in range(LANES):
        for view in (column, columns + column):
            found += phi[LANES * (rows * view + row) + lane]
    return found


@on_cpu
def shap_values(
    slots: int,
    groups: I64,
    bounds: U32,
    inner_splits: NDArray[np.void],
    leaf_parents: NDArray[np.void],
    lone_leaves: F64,
    tables: Lanes,
    weights: Lanes,
    X: F32,
    out: F64,
) -> None:
    """Write the SHAP values of each row into `out`, float64 [n, groups, columns]; the arrays are those of `Layout`.

    X: float32 [n, columns], NaN is missing.
    """
    columns = X.shape[1]
    work = np.empty(2 * LANES * slots)
    sides = np.zeros(2 * (slots + 1), np.uint8)
    phi = np.empty((BLOCK // 2, 2 * 2 * LANES * columns))
    views = np.empty((BLOCK, 2 * columns), np.float32)
    for first in range(0, X.shape[0], BLOCK):
        rows = min(BLOCK, X.shape[0] - first)
        for row in range(rows):
            for column in range(columns):
                value = X[first + row, column]
                views[row, column] = value
                views[row, columns + column] = np.float32(np.inf) if np.isnan(value) else value
        for group in range(len(groups) - 1):
            phi[: (rows + 1) // 2] = 0.0
            for points in range(len(tables)):
                lanes = load(weights, LANES * points)
                for tree in range(groups[group], groups[group + 1]):
                    here, following, table = bounds[tree], bounds[tree + 1], tables[points]
                    for row in range(0, rows - 1, 2):
                        pair = (views[row], views[row + 1])
                        add_tree(here, following, inner_splits, leaf_parents, lone_leaves, table, lanes, pair, sides, work, phi[row // 2])
                    if rows % 2:
                        one = (views[rows - 1],)
                        add_tree(here, following, inner_splits, leaf_parents, lone_leaves, table, lanes, one, sides, work, phi[rows // 2])
            for row in range(rows):
                rows_together = 1 if row == rows - 1 and rows % 2 else 2
                for column in range(columns):
                    out[first + row, group, column] = 0.0 - sum_lanes(phi[row // 2], column, columns, row % 2, rows_together)


class TreeShap:
    """SHAP values of a tree ensemble: `TreeShap(trees).values(X)`.

    bias: float64 [groups], the mean margin over the cover: `bias + values(X).sum(-1)` is the margin
    """

    def __init__(self, trees: Trees, layout: tuple[Layout, F64] | None = None) -> None:
        """`layout`: the result of `layout_of(trees)`, where it is there already."""
        self.columns = trees.columns
        self._layout, self._means = layout or layout_of(trees)
        self.bias: F64 = trees.base.astype(np.float64)
        np.add.at(self.bias, trees.group, self._means)

    def parts(self) -> Arrays:
        """Return the layout as arrays, for `of_parts`."""
        return {**flatten("layout", self._layout), "means": self._means}

    @classmethod
    def of_parts(cls, trees: Trees, parts: Arrays) -> "TreeShap":
        """Return the explainer of these trees, whose layout is in `parts`."""
        return cls(trees, (unflatten("layout", Layout, parts), parts["means"]))

    def values(self, X: F32) -> F64:
        """Return the SHAP values of each row, in margin units: float64 [n, columns], with several groups [n, groups, columns].

        X: float32 [n, columns], NaN is missing. Raises ValueError for another shape or dtype.
        """
        if X.ndim != 2 or X.shape[1] != self.columns or X.dtype != np.float32:
            raise ValueError(f"rows are {X.dtype} {X.shape}: pass float32 [n, {self.columns}]")
        out = np.empty((len(X), len(self.bias), self.columns))
        # The kernel is compiled for contiguous writeable arrays; others would be compiled for during a request.
        shap_values(*self._layout, X if X.flags.carray else X.copy(), out)
        return out[:, 0] if len(self.bias) == 1 else out
