"""Paths from the root of a tree to its nodes: the shares of cover, and the features that are split on."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.trees.ensemble import LEAF, Trees
from kernels.types import F64, I64

NONE = -1


class Paths(NamedTuple):
    """By node, in the order of `Trees`. An edge has the index of the node that it leads to.

    parent:   int64    NONE for a root
    share:    float64  the part of the parent's cover at this node, 1 for a root; siblings add up to 1
    ancestor: int64    of a split, the nearest edge above it whose parent splits on the same feature, NONE where there is none
    merged:   float64  the product of the shares of this edge and of all above it whose parents split on the same feature as its parent
    features: int64    the number of different features that are split on between the root and this node
    mean:     float64  the mean of the leaves below, weighted by cover
    """

    parent: I64
    share: F64
    ancestor: I64
    merged: F64
    features: I64
    mean: F64


def paths_of(trees: Trees) -> Paths:
    """Return the paths from the roots to the nodes."""
    parent = _parent(trees)
    share = _share(trees)
    ancestor = _ancestor(trees, parent)
    merged = share.copy()
    features = np.zeros(len(parent), np.int64)
    levels = _levels(trees, parent)
    for splits in levels:
        for children in (trees.left[splits], trees.left[splits] + 1):
            again = ancestor[splits] != NONE
            merged[children] *= np.where(again, merged[ancestor[splits]], 1.0)
            features[children] = features[splits] + ~again
    mean = trees.value.astype(np.float64)
    for splits in reversed(levels):
        left, right = trees.left[splits], trees.left[splits] + 1
        mean[splits] = share[left] * mean[left] + share[right] * mean[right]
    return Paths(parent, share, ancestor, merged, features, mean)


def _splits(trees: Trees) -> I64:
    return np.flatnonzero(trees.feature != LEAF)


def _parent(trees: Trees) -> I64:
    splits = _splits(trees)
    parent = np.full(len(trees.feature), NONE)
    parent[trees.left[splits]] = splits
    parent[trees.left[splits] + 1] = splits
    return parent


def _share(trees: Trees) -> F64:
    """Return the shares. A split that no training row reached has none: XGBoost answers NaN or fails there, here it halves."""
    splits = _splits(trees)
    left = trees.left[splits]
    cover = trees.cover.astype(np.float64)
    both = cover[left] + cover[left + 1]
    share = np.ones(len(cover))
    share[left] = np.divide(cover[left], both, out=np.full(len(both), 0.5), where=both > 0)
    share[left + 1] = 1 - share[left]
    return share


def _ancestor(trees: Trees, parent: I64) -> I64:
    """Return the ancestors: all splits climb at once until each has reached its feature or the root."""
    ancestor = np.full(len(parent), NONE)
    climbing = edge = _splits(trees)
    while climbing.size:
        here = parent[edge] != NONE
        climbing, edge = climbing[here], edge[here]
        met = trees.feature[parent[edge]] == trees.feature[climbing]
        ancestor[climbing[met]] = edge[met]
        climbing, edge = climbing[~met], parent[edge[~met]]
    return ancestor


def _levels(trees: Trees, parent: I64) -> list[NDArray[Any]]:
    """Return the splits by distance from their root."""
    levels = []
    nodes = np.flatnonzero(parent == NONE)
    while (splits := nodes[trees.feature[nodes] != LEAF]).size:
        levels.append(splits)
        nodes = np.concatenate([trees.left[splits], trees.left[splits] + 1])
    return levels
