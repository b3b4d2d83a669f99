"""Margins of a forest of complete trees with thresholds as ranks: bytes are compared without a branch, by row or by block of rows.

A value's rank in its column is the number of the column's thresholds that are not above it; it goes right at the k-th threshold (from 0)
when its rank exceeds k. So a float is searched for once per row, and every split compares small integers. A missing value has two ranks,
one for each direction that a split may send it, below and above all others: each column has two *views*, and a split names the one it
reads.

- A single row walks down tree after tree. No branch depends on the data, so the processor overlaps several trees.
- A block of rows evaluates every split of a tree, for 32 rows in one instruction, and selects each row's leaf from the leaves up to the
  root. It takes ten times the comparisons and a tenth of the instructions.

Both add as XGBoost does, the base first and then tree by tree, in float32: the same bits either way, whatever rows are beside a row.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compile import formula, on_cpu
from kernels.trees.ensemble import LEAF, Trees
from kernels.types import F32, I32, U8

MIN_DEPTH = 3  # the depth of a tile
MAX_DEPTH = 8  # a block stores the number of a leaf in one byte
BLOCK = 256  # rows whose views and leaves stay in the first-level cache
LANES = 32  # rows in a vector register

ZERO, ONE = np.uint64(0), np.uint64(1)  # Numba tests signed indices for being negative, unsigned ones not


class Heap(NamedTuple):
    """Trees padded to complete ones of one depth.

    banks:      int32 [2, used columns]             a column that splits read, and the bits of its ranks
    thresholds: float32 [used columns, 2 ** bits]   ascending, then NaN
    nodes:      uint8 or uint16 [2, trees, 2 ** depth]  a split's view (2 * bank, + 1 if a missing value goes right) and its threshold's
                                                    rank; the root is node 1, node i's children are 2 i and 2 i + 1
    leaves:     float32 [trees, 2 ** depth]         from left to right
    group:      int32 [trees], base: float32 [groups] as in `Trees`
    """

    banks: I32
    thresholds: F32
    nodes: U8
    leaves: F32
    group: I32
    base: F32


def heap(trees: Trees) -> Heap | None:
    """Return the trees as a heap, or None where one is too deep, or columns or thresholds are too many for 16 bits."""
    used = np.unique(trees.feature[trees.feature != LEAF])
    known = [np.unique(trees.threshold[trees.feature == column]) for column in used]
    max_rank = max([len(used) * 2, *(len(ascending) for ascending in known)])
    if max_rank > np.iinfo(np.uint16).max:
        return None
    ranks: type[np.unsignedinteger[Any]] = np.uint8 if max_rank <= np.iinfo(np.uint8).max else np.uint16
    bits = [len(ascending).bit_length() for ascending in known]
    thresholds = np.full((len(used), 1 << max(bits, default=0)), np.nan, np.float32)
    view = np.zeros(len(trees.feature), ranks)
    rank = np.full(len(trees.feature), np.iinfo(ranks).max, ranks)  # of a leaf: no rank exceeds it
    for bank, (column, ascending) in enumerate(zip(used, known, strict=True)):
        thresholds[bank, : len(ascending)] = ascending
        here = trees.feature == column
        view[here] = 2 * bank + ~trees.missing_left[here]
        rank[here] = np.searchsorted(ascending, trees.threshold[here])
    padded = _complete(trees, view, rank)
    return padded and Heap(np.array([used, bits], np.int32), thresholds, *padded, trees.group, trees.base)


def _complete(trees: Trees, view: NDArray[Any], rank: NDArray[Any]) -> tuple[NDArray[Any], F32] | None:
    """Return nodes and leaves of the padded trees, level by level; a leaf above the last level is a split whose children are itself."""
    at = trees.roots[:-1, np.newaxis]
    levels: list[NDArray[Any]] = []
    while len(levels) < MIN_DEPTH or (trees.feature[at] != LEAF).any():
        if len(levels) == MAX_DEPTH:
            return None
        levels.append(np.stack([view[at], rank[at]]))
        right = trees.left[at] + (trees.feature[at] != LEAF)
        at = np.stack([trees.left[at], right], axis=-1).reshape(len(at), -1)
    unused = np.zeros((2, len(at), 1), view.dtype)
    return np.concatenate([unused, *levels], axis=-1), trees.value[at]


@formula
def rank_of(x: float, ascending: F32, bits: int) -> int:
    """Return how many of the thresholds are not above x, 0 for NaN: a binary search of `bits` steps without a branch."""
    rank = ZERO
    shift = np.uint64(bits)
    while shift > ZERO:
        shift -= ONE
        rank |= np.uint64(ascending[rank + (ONE << shift) - ONE] <= x) << shift
    return int(rank)


@formula
def margins_of_row(
    row: int,
    X: F32,
    banks: I32,
    thresholds: F32,
    nodes: U8,
    leaves: F32,
    group: I32,
    base: F32,
    ranks: U8,
    out: F32,
) -> None:
    """Write the margins of row `row`. X, out: as in `margins`; banks to base: as in `Heap`; ranks: [views], workspace."""
    missing_right = (1 << 8 * nodes.itemsize) - 1
    for bank in range(banks.shape[1]):
        x = X[row, banks[0, bank]]
        rank = rank_of(x, thresholds[bank], banks[1, bank])
        ranks[2 * bank] = rank
        ranks[2 * bank + 1] = rank if x == x else missing_right
    groups = base.size
    margin = base[0]
    for one in range(1, groups):
        out[row * groups + one] = base[one]
    first_leaf = np.uint64(leaves.shape[1])
    for tree in range(leaves.shape[0]):
        view, cut = nodes[0, tree], nodes[1, tree]
        node = ONE
        while node < first_leaf:
            node = node + node + np.uint64(cut[node] < ranks[view[node]])
        value = leaves[tree, node - first_leaf]
        if group[tree] == 0:
            margin += value  # in a register, as most forests have one group
        else:
            out[row * groups + group[tree]] += value
    out[row * groups] = margin


@formula
def choose_tile(tree: int, top: int, views: U8, nodes: U8, names: U8, width: int, chosen: U8) -> None:
    """Write each row's leaf into chosen [:width], of the eight leaves three levels below the split `top`, numbered names [:8]."""
    view, cut = nodes[0, tree], nodes[1, tree]
    low, lowest = 2 * top, 4 * top
    x0, x1, x2 = views[view[top]], views[view[low]], views[view[low + 1]]
    x3, x4, x5, x6 = views[view[lowest]], views[view[lowest + 1]], views[view[lowest + 2]], views[view[lowest + 3]]
    c0, c1, c2 = cut[top], cut[low], cut[low + 1]
    c3, c4, c5, c6 = cut[lowest], cut[lowest + 1], cut[lowest + 2], cut[lowest + 3]
    n0, n1, n2, n3, n4, n5, n6, n7 = names[0], names[1], names[2], names[3], names[4], names[5], names[6], names[7]
    for i in range(width):
        # All values are loaded before one is selected: otherwise the compiler makes branches instead of vectors.
        right, right_1, right_2 = c0 < x0[i], c1 < x1[i], c2 < x2[i]
        right_3, right_4, right_5, right_6 = c3 < x3[i], c4 < x4[i], c5 < x5[i], c6 < x6[i]
        a = n1 if right_3 else n0
        b = n3 if right_4 else n2
        c = n5 if right_5 else n4
        d = n7 if right_6 else n6
        ab = b if right_1 else a
        cd = d if right_2 else c
        chosen[i] = cd if right else ab


@formula
def choose_leaves(tree: int, views: U8, nodes: U8, names: U8, width: int, chosen: U8) -> None:
    """Write the number of each row's leaf into chosen [0, :width], from the last three levels up.

    views: [views, BLOCK]; names: uint8 0, 1, 2... [256]; chosen: uint8 [tiles, BLOCK], workspace.
    """
    tiles = nodes.shape[2] >> 3
    for tile in range(tiles):
        choose_tile(tree, tiles + tile, views, nodes, names[8 * tile :], width, chosen[tile])
    apart = 1
    while apart < tiles:
        above = tiles // (2 * apart)
        for k in range(above):
            x, cut = views[nodes[0, tree, above + k]], nodes[1, tree, above + k]
            left, right = chosen[2 * apart * k], chosen[2 * apart * k + apart]
            for i in range(width):
                goes_right, a, b = cut < x[i], left[i], right[i]
                left[i] = b if goes_right else a
        apart *= 2


@formula
def margins_of_block(
    first: int,
    last: int,
    X: F32,
    banks: I32,
    thresholds: F32,
    nodes: U8,
    leaves: F32,
    group: I32,
    base: F32,
    views: U8,
    names: U8,
    chosen: U8,
    sums: F32,
    out: F32,
) -> None:
    """Write the margins of the rows first:last, at most BLOCK.

    X, out: as in `margins`; banks to base: as in `Heap`; workspace: views [views, BLOCK], names and chosen as in `choose_leaves`, sums
    float32 [groups, BLOCK].
    """
    missing_right = (1 << 8 * nodes.itemsize) - 1
    rows = last - first
    for bank in range(banks.shape[1]):
        column, bits, ascending = banks[0, bank], banks[1, bank], thresholds[bank]
        for i in range(rows):
            x = X[first + i, column]
            rank = rank_of(x, ascending, bits)
            views[2 * bank, i] = rank
            views[2 * bank + 1, i] = rank if x == x else missing_right
    for one in range(base.size):
        sums[one] = base[one]
    width = (rows + LANES - 1) // LANES * LANES
    for tree in range(leaves.shape[0]):
        choose_leaves(tree, views, nodes, names, width, chosen)
        leaf, values, total = chosen[0], leaves[tree], sums[group[tree]]
        for i in range(rows):
            total[i] += values[leaf[i]]
    for i in range(rows):
        for one in range(base.size):
            out[(first + i) * base.size + one] = sums[one, i]


@on_cpu
def margins(
    X: F32,
    banks: I32,
    thresholds: F32,
    nodes: U8,
    leaves: F32,
    group: I32,
    base: F32,
    min_block_rows: int,
    out: F32,
) -> None:
    """Write the margins of every row: in blocks, but single rows where a batch, or its last block, has fewer than `min_block_rows`.

    X: float32 [rows, columns], NaN missing; banks to base: as in `Heap`; out: float32 [rows * groups].
    """
    rows = X.shape[0]
    seen = max(2 * banks.shape[1], 1)  # a leaf reads view 0, even where no tree has a split
    rest = rows % BLOCK
    alone = rows if rows < min_block_rows else rest if rest < min_block_rows else 0
    if alone > 0:
        ranks = np.empty(seen, nodes.dtype)
        for row in range(rows - alone, rows):
            margins_of_row(row, X, banks, thresholds, nodes, leaves, group, base, ranks, out)
    if alone < rows:
        views = np.zeros((seen, BLOCK), nodes.dtype)
        names = np.arange(1 << MAX_DEPTH).astype(np.uint8)  # an argument: the compiler would widen constants
        chosen = np.zeros((nodes.shape[2] >> 3, BLOCK), np.uint8)
        sums = np.zeros((base.size, BLOCK), np.float32)
        for first in range(0, rows - alone, BLOCK):
            last = min(first + BLOCK, rows - alone)
            margins_of_block(first, last, X, banks, thresholds, nodes, leaves, group, base, views, names, chosen, sums, out)
