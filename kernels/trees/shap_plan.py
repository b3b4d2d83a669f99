"""The trees as `kernels.trees.shap` walks them: only what it reads, in the order in which it reads it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.simd import LANES
from kernels.trees.ensemble import LEAF, Trees
from kernels.trees.shap_paths import NONE, Paths, walk
from kernels.types import F64, I32, I64, U32

# A split above another split, one between two leaves, one of these whose feature is not new on its path, a leaf next to a split; and a
# leaf of a twig, or one that is a whole tree.
FORK, TWIG, TWIG_AGAIN, STRAY, LEFT_OUT = range(5)

# view: the column, plus `columns` where a missing value goes right; ancestor: 2 x (1 + place of the fork) + its side for the nearest edge
# above of the same feature, 0 where the feature is new; shape: where in the table its S and M are; children: where their lanes are; step,
# by the row's side: what right - left is multiplied by to be z_cold (hot - cold).
FORKS = np.dtype([("view", "u4"), ("threshold", "f4"), ("ancestor", "u4"), ("shape", "u4"), ("children", "u4", 2), ("step", "f8", 2)])
# step, by the row's side: z_cold (cold - hot); value: hot.
TWIGS = np.dtype([("view", "u4"), ("threshold", "f4"), ("ancestor", "u4"), ("shape", "u4"), ("step", "f8", 2), ("value", "f8", 2)])

# A row of the table is S and M at four points: first those of a lost feature (1, 0), then of a new one (1 - t, 1), then one by edge.
# Numba freezes these into the kernel: a change here does not renew what it has cached of kernels/trees/shap.py.
ROW = 2 * LANES
LOST, NEW = 0, ROW


class Plan(NamedTuple):
    """The nodes by group, by tree, by kind, from the root down; a node's place is its number among its tree's.

    slots:   the most places that a tree has
    groups:  int64 [groups + 1]         the trees of group g are groups[g] to groups[g + 1]
    bounds:  uint32 [trees + 1, 4]      where a tree's forks, its twigs, its twigs that are not new and its strays begin
    forks:   FORKS [forks]
    twigs:   TWIGS [twigs]
    strays:  float64 [strays]           their values
    tables:  float64 [passes, ROW x rows]
    weights: float64 [passes x LANES]   of the points
    """

    slots: int
    groups: I64
    bounds: U32
    forks: NDArray[np.void]
    twigs: NDArray[np.void]
    strays: F64
    tables: F64
    weights: F64


def plan(trees: Trees) -> tuple[Plan, F64]:
    """Return the trees as `kernels.trees.shap` walks them, and the mean of each tree over its cover."""
    paths = walk(trees)
    kind = _kind(trees, paths)
    tree = _rank(trees.group)[np.repeat(np.arange(len(trees.group)), np.diff(trees.roots))]
    order = np.lexsort((kind, tree))
    order = order[kind[order] != LEFT_OUT]
    counts = np.zeros((len(trees.group), LEFT_OUT), np.int64)
    np.add.at(counts, (tree[order], kind[order]), 1)
    places = counts.sum(axis=1)
    place = np.zeros(len(kind), np.int64)
    place[order] = np.arange(len(order)) - np.repeat(np.cumsum(places) - places, places)
    edges = np.unique(paths.ancestor[paths.ancestor != NONE])
    points, weights = _quadrature(int(paths.features.max(initial=1)))
    made = Plan(
        slots=int(places.max(initial=1)),
        groups=np.cumsum([0, *np.bincount(trees.group, minlength=len(trees.base))]),
        bounds=_bounds(counts),
        forks=_forks(trees, paths, order[kind[order] == FORK], place, edges),
        twigs=_twigs(trees, paths, order[np.isin(kind[order], (TWIG, TWIG_AGAIN))], place, edges),
        strays=trees.value[order[kind[order] == STRAY]].astype(np.float64),
        tables=_tables(paths.merged[edges], points),
        weights=weights,
    )
    return made, paths.mean[trees.roots[:-1]]


def _kind(trees: Trees, paths: Paths) -> I64:
    split = trees.feature != LEAF
    twig = split.copy()
    twig[split] = ~(split[trees.left[split]] | split[trees.left[split] + 1])
    leaf = np.where((paths.parent == NONE) | twig[paths.parent], LEFT_OUT, STRAY)
    return np.where(twig, np.where(paths.ancestor == NONE, TWIG, TWIG_AGAIN), np.where(split, FORK, leaf))


def _rank(group: I32) -> I64:
    """Return each tree's number when they are ordered by group."""
    rank = np.empty(len(group), np.int64)
    rank[np.argsort(group, kind="stable")] = np.arange(len(group))
    return rank


def _bounds(counts: I64) -> U32:
    twigs = counts[:, TWIG] + counts[:, TWIG_AGAIN]
    forks, twigs, strays = (np.cumsum([0, *sizes]) for sizes in (counts[:, FORK], twigs, counts[:, STRAY]))
    again = twigs + np.append(counts[:, TWIG], 0)
    return np.stack([forks, twigs, again, strays], axis=1).astype(np.uint32)


def _test(trees: Trees, paths: Paths, nodes: I64, place: I64, edges: I64, kind: np.dtype[np.void]) -> NDArray[np.void]:
    """Return the nodes as `kind` with what forks and twigs have in common filled in."""
    made = np.zeros(len(nodes), kind)
    made["view"] = trees.feature[nodes] + np.where(trees.missing_left[nodes], 0, trees.columns)
    made["threshold"] = trees.threshold[nodes]
    edge = paths.ancestor[nodes]
    fork = paths.parent[edge]
    made["ancestor"] = np.where(edge == NONE, 0, 2 * (1 + place[fork]) + (edge != trees.left[fork]))
    made["shape"] = np.where(edge == NONE, NEW, NEW + ROW * (1 + np.searchsorted(edges, edge)))
    return made


def _forks(trees: Trees, paths: Paths, nodes: I64, place: I64, edges: I64) -> NDArray[np.void]:
    left, right = trees.left[nodes], trees.left[nodes] + 1
    made = _test(trees, paths, nodes, place, edges, FORKS)
    made["children"] = LANES * np.stack([place[left], place[right]], axis=1)
    made["step"] = np.stack([-paths.share[right], paths.share[left]], axis=1)
    return made


def _twigs(trees: Trees, paths: Paths, nodes: I64, place: I64, edges: I64) -> NDArray[np.void]:
    left, right = trees.left[nodes], trees.left[nodes] + 1
    made = _test(trees, paths, nodes, place, edges, TWIGS)
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
    """Return S and M (see `kernels.trees.shap`): lost, new, and below each of the edges, whose merged shares are `merged`."""
    t = points.reshape(-1, 1, LANES)
    above = merged[:, np.newaxis]
    inverse = 1 / ((1 - t) * above + t)
    ones = np.ones_like(t)
    s = np.concatenate([ones, 1 - t, (1 - t) * above * inverse], axis=1)
    m = np.concatenate([0 * ones, ones, above * inverse**2], axis=1)
    return np.concatenate([s, m], axis=2).reshape(len(t), -1)
