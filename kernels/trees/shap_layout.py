"""The trees in the layout of `kernels.trees.shap`: only what it reads, in the order in which it reads it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.simd import LANES
from kernels.trees.ensemble import LEAF, Trees
from kernels.trees.shap_paths import NONE, Paths, paths_of
from kernels.types import F64, I32, I64, U32

# The kinds of nodes. An inner split has a split below it, a leaf parent has two leaves; the feature of a repeated leaf parent is split on
# above it too. A lone leaf is next to a split. The leaves of a leaf parent, and a leaf that is a whole tree, have no place of their own.
INNER_SPLIT, LEAF_PARENT, REPEATED_LEAF_PARENT, LONE_LEAF, OMITTED = range(5)

# view: the column, plus `columns` where a missing value goes right; ancestor: 2 x (1 + place of the split) + its side, for the nearest edge
# above with the same feature, 0 where the feature is new; shape: the index of its S and M in the table; children: the index of their lanes;
# step, by the row's side: the factor that turns right - left into z_cold (hot - cold).
INNER_SPLITS = np.dtype(
    [("view", "u4"), ("threshold", "f4"), ("ancestor", "u4"), ("shape", "u4"), ("children", "u4", 2), ("step", "f8", 2)]
)
# step, by the row's side: z_cold (cold - hot); value, by the row's side: hot.
LEAF_PARENTS = np.dtype([("view", "u4"), ("threshold", "f4"), ("ancestor", "u4"), ("shape", "u4"), ("step", "f8", 2), ("value", "f8", 2)])

# A row of the table is S and M at four points: first for a feature off the row's path (1, 0), then for a new one (1 - t, 1), then by edge.
ROW = 2 * LANES
OFF_PATH, NEW = 0, ROW


class Layout(NamedTuple):
    """The nodes by group, by tree, by kind, from the root down; a node's place is its number within its tree.

    slots:        the largest number of places of a tree
    groups:       int64 [groups + 1]            the trees of group g are groups[g] to groups[g + 1]
    bounds:       uint32 [trees + 1, 4]         where a tree's inner splits, leaf parents, repeated leaf parents and lone leaves begin
    inner_splits: INNER_SPLITS [inner splits]
    leaf_parents: LEAF_PARENTS [leaf parents]   the repeated ones of a tree after the others
    lone_leaves:  float64 [lone leaves]         their values
    tables:       float64 [passes, ROW x rows]
    weights:      float64 [passes x LANES]      of the points
    """

    slots: int
    groups: I64
    bounds: U32
    inner_splits: NDArray[np.void]
    leaf_parents: NDArray[np.void]
    lone_leaves: F64
    tables: F64
    weights: F64


def layout_of(trees: Trees) -> tuple[Layout, F64]:
    """Return the layout of trees, and the mean of each tree over its cover, float64 [trees]."""
    paths = paths_of(trees)
    kind = _kind(trees, paths)
    tree = _rank(trees.group)[np.repeat(np.arange(len(trees.group)), np.diff(trees.roots))]
    order = np.lexsort((kind, tree))
    order = order[kind[order] != OMITTED]
    counts = np.zeros((len(trees.group), OMITTED), np.int64)
    np.add.at(counts, (tree[order], kind[order]), 1)
    places = counts.sum(axis=1)
    place = np.zeros(len(kind), np.int64)
    place[order] = np.arange(len(order)) - np.repeat(np.cumsum(places) - places, places)
    edges = np.unique(paths.ancestor[paths.ancestor != NONE])
    points, weights = _quadrature(int(paths.features.max(initial=1)))
    made = Layout(
        slots=int(places.max(initial=1)),
        groups=np.cumsum([0, *np.bincount(trees.group, minlength=len(trees.base))]),
        bounds=_bounds(counts),
        inner_splits=_inner_splits(trees, paths, order[kind[order] == INNER_SPLIT], place, edges),
        leaf_parents=_leaf_parents(trees, paths, order[np.isin(kind[order], (LEAF_PARENT, REPEATED_LEAF_PARENT))], place, edges),
        lone_leaves=trees.value[order[kind[order] == LONE_LEAF]].astype(np.float64),
        tables=_tables(paths.merged[edges], points),
        weights=weights,
    )
    return made, paths.mean[trees.roots[:-1]]


def _kind(trees: Trees, paths: Paths) -> I64:
    split = trees.feature != LEAF
    leaf_parent = split.copy()
    leaf_parent[split] = ~(split[trees.left[split]] | split[trees.left[split] + 1])
    leaf = np.where((paths.parent == NONE) | leaf_parent[paths.parent], OMITTED, LONE_LEAF)
    return np.where(leaf_parent, np.where(paths.ancestor == NONE, LEAF_PARENT, REPEATED_LEAF_PARENT), np.where(split, INNER_SPLIT, leaf))


def _rank(group: I32) -> I64:
    """Return each tree's number when they are ordered by group."""
    rank = np.empty(len(group), np.int64)
    rank[np.argsort(group, kind="stable")] = np.arange(len(group))
    return rank


def _bounds(counts: I64) -> U32:
    leaf_parents = counts[:, LEAF_PARENT] + counts[:, REPEATED_LEAF_PARENT]
    inner_splits, leaf_parents, lone_leaves = (
        np.cumsum([0, *sizes]) for sizes in (counts[:, INNER_SPLIT], leaf_parents, counts[:, LONE_LEAF])
    )
    again = leaf_parents + np.append(counts[:, LEAF_PARENT], 0)
    return np.stack([inner_splits, leaf_parents, again, lone_leaves], axis=1).astype(np.uint32)


def _test(trees: Trees, paths: Paths, nodes: I64, place: I64, edges: I64, kind: np.dtype[np.void]) -> NDArray[np.void]:
    """Return the nodes as `kind`, with the fields that inner splits and leaf parents have in common."""
    made = np.zeros(len(nodes), kind)
    made["view"] = trees.feature[nodes] + np.where(trees.missing_left[nodes], 0, trees.columns)
    made["threshold"] = trees.threshold[nodes]
    edge = paths.ancestor[nodes]
    split_above = paths.parent[edge]
    made["ancestor"] = np.where(edge == NONE, 0, 2 * (1 + place[split_above]) + (edge != trees.left[split_above]))
    made["shape"] = np.where(edge == NONE, NEW, NEW + ROW * (1 + np.searchsorted(edges, edge)))
    return made


def _inner_splits(trees: Trees, paths: Paths, nodes: I64, place: I64, edges: I64) -> NDArray[np.void]:
    left, right = trees.left[nodes], trees.left[nodes] + 1
    made = _test(trees, paths, nodes, place, edges, INNER_SPLITS)
    made["children"] = LANES * np.stack([place[left], place[right]], axis=1)
    made["step"] = np.stack([-paths.share[right], paths.share[left]], axis=1)
    return made


def _leaf_parents(trees: Trees, paths: Paths, nodes: I64, place: I64, edges: I64) -> NDArray[np.void]:
    left, right = trees.left[nodes], trees.left[nodes] + 1
    made = _test(trees, paths, nodes, place, edges, LEAF_PARENTS)
    made["value"] = np.stack([trees.value[left], trees.value[right]], axis=1)
    more = made["value"][:, 1] - made["value"][:, 0]
    made["step"] = np.stack([paths.share[right] * more, -paths.share[left] * more], axis=1)
    return made


def _quadrature(features: int) -> tuple[F64, F64]:
    """Return the points t in (0, 1) and their weights, a multiple of LANES of them, that are exact for paths of so many features.

    The integrand's degree is one less than there are features; a Gauss-Legendre sum is exact up to one less than twice its points.
    """
    points, weights = np.polynomial.legendre.leggauss(LANES * -(-features // (2 * LANES)))
    return (points + 1) / 2, weights / 2


def _tables(merged: F64, points: F64) -> F64:
    """Return S and M (see `kernels.trees.shap`): off the path, new, and below each of the edges, whose merged shares are `merged`."""
    t = points.reshape(-1, 1, LANES)
    above = merged[:, np.newaxis]
    inverse = 1 / ((1 - t) * above + t)
    ones = np.ones_like(t)
    s = np.concatenate([ones, 1 - t, (1 - t) * above * inverse], axis=1)
    m = np.concatenate([0 * ones, ones, above * inverse**2], axis=1)
    return np.concatenate([s, m], axis=2).reshape(len(t), -1)
