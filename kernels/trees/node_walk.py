"""Margins of any forest, row by row, each tree from root to leaf: for CUDA, and for trees too deep for heaps."""

from typing import NamedTuple

import numpy as np

from kernels.compile import formula, on_cpu, on_cuda
from kernels.trees.ensemble import LEAF, Trees
from kernels.types import F32, I32, I64

# The parts of a link, from the lowest bit: whether a missing value goes left, the column, the left child.
COLUMN_BITS = 24
LEFT_SHIFT = COLUMN_BITS + 1
COLUMN_MASK = (1 << COLUMN_BITS) - 1


class Links(NamedTuple):
    """The nodes of `Trees` in two arrays, so that each step reads two places instead of five.

    split: float32 [nodes]   a split's threshold, a leaf's margin
    link:  int64 [nodes]     left child, column and direction of a missing value in one number; LEAF for a leaf
    roots: int32 [trees + 1], group: int32 [trees], base: float32 [groups] as in `Trees`
    """

    split: F32
    link: I64
    roots: I32
    group: I32
    base: F32


def links(trees: Trees) -> Links:
    """Return the trees as links. Raises ValueError for more columns than COLUMN_BITS can number."""
    if trees.columns > COLUMN_MASK:
        raise ValueError(f"{trees.columns:,} columns exceed {COLUMN_MASK:,}: train on fewer")
    leaf = trees.feature == LEAF
    link = trees.left.astype(np.int64) << LEFT_SHIFT | trees.feature.astype(np.int64) << 1 | trees.missing_left
    split = np.where(leaf, trees.value, trees.threshold)
    return Links(split, np.where(leaf, np.int64(LEAF), link), trees.roots, trees.group, trees.base)


@formula
def leaf_value(row: int, root: int, X: F32, split: F32, link: I64) -> float:
    """Return the margin of the leaf that row `row` reaches in the tree with root `root`."""
    node = root
    way = link[node]
    while way >= 0:
        x = X[row, (way >> 1) & COLUMN_MASK]
        goes_left = x < split[node] or (x != x and way & 1 == 1)
        node = (way >> LEFT_SHIFT) + (0 if goes_left else 1)
        way = link[node]
    margin: float = split[node]
    return margin


@formula
def margin_row(
    row: int,
    X: F32,
    split: F32,
    link: I64,
    roots: I32,
    group: I32,
    base: F32,
    out: F32,
) -> None:
    """Write the margins of row `row` into its part of `out`: the base, then tree by tree, in float32, as XGBoost adds.

    X: float32 [rows, columns], NaN missing; split to base: as in `Links`; out: float32 [rows * groups].
    """
    groups = base.size
    first = row * groups
    for one in range(groups):
        out[first + one] = base[one]
    for tree in range(group.size):
        out[first + group[tree]] += leaf_value(row, roots[tree], X, split, link)


@on_cpu
def margins(
    X: F32,
    split: F32,
    link: I64,
    roots: I32,
    group: I32,
    base: F32,
    out: F32,
) -> None:
    """Write the margins of every row into `out`; shapes and dtypes as in `margin_row`, each row on its own."""
    for row in range(X.shape[0]):
        margin_row(row, X, split, link, roots, group, base, out)


margins_cuda = on_cuda(margin_row)
