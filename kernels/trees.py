"""A tree ensemble as flat arrays: what XGBoost has learned, without XGBoost."""

import json
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels import ubjson

LEAF = -1


class Trees(NamedTuple):
    """Nodes of all trees, one tree after the other, each breadth first, so that siblings are neighbours and parents come before children.

    roots:        int32 [trees + 1]   tree t's nodes are roots[t] to roots[t + 1]; the first is its root
    feature:      int32 [nodes]       the split's column, LEAF for a leaf
    threshold:    float32 [nodes]     a row goes left when its value is less; 0 for a leaf
    missing_left: bool [nodes]        whether a missing value goes left
    left:         int32 [nodes]       the left child, the right one is left + 1; a leaf's own index
    value:        float32 [nodes]     a leaf's margin, 0 for a split
    cover:        float32 [nodes]     the sum of second derivatives of the training rows that came here
    group:        int32 [trees]       the class that a tree adds to, 0 where there is one margin
    base:         float32 [groups]    the margin before the first tree
    columns:      the number of columns of a row
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int32]
    value: NDArray[np.float32]
    cover: NDArray[np.float32]
    group: NDArray[np.int32]
    base: NDArray[np.float32]
    columns: int


def read(booster: Any) -> Trees:
    """Return the trees of an `xgboost.Booster`: gbtree or dart, whose weights are multiplied into the leaves.

    Raises ValueError, with the fix, for what flat arrays do not hold: linear boosters, no trees, splits by category, vectors in leaves.
    """
    if not hasattr(booster, "save_raw"):
        raise ValueError(f"{type(booster).__name__} is not an xgboost.Booster: pass model.get_booster()")
    document = ubjson.read(bytes(booster.save_raw("ubj")))
    learner = document["learner"]
    boosted = learner["gradient_booster"]
    if boosted["name"] not in ("gbtree", "dart"):
        raise ValueError(f"booster {boosted['name']!r} has no trees: train with booster='gbtree' or 'dart'")
    model = _model(boosted)
    _refuse(model["trees"])
    weights = np.array(boosted.get("weight_drop", np.ones(len(model["trees"]))), np.float32)
    trees = [_tree(tree, weight) for tree, weight in zip(model["trees"], weights, strict=True)]
    roots = np.cumsum([0, *(len(tree["feature"]) for tree in trees)]).astype(np.int32)
    for tree, root in zip(trees, roots, strict=False):
        tree["left"] += root
    joined = {name: np.concatenate([tree[name] for tree in trees]) for name in trees[0]}
    group = np.array(model["tree_info"], np.int32)
    columns = int(learner["learner_model_param"]["num_feature"])
    return Trees(roots=roots, **joined, group=group, base=_base(booster, document, columns), columns=columns)


def objective(booster: Any) -> str:
    """Return the name of the booster's objective, as `reg:squarederror`."""
    return str(json.loads(booster.save_config())["learner"]["objective"]["name"])


def is_dart(booster: Any) -> bool:
    """Return whether the booster drops trees."""
    return bool(json.loads(booster.save_config())["learner"]["gradient_booster"]["name"] == "dart")


def _model(boosted: dict[str, Any]) -> dict[str, Any]:
    """Return the trees' part of a gradient booster: dart wraps a gbtree."""
    model: dict[str, Any] = boosted.get("gbtree", boosted)["model"]
    return model


def _refuse(trees: list[dict[str, Any]]) -> None:
    if not trees:
        raise ValueError("the booster has no trees: train it for at least one round")
    for number, tree in enumerate(trees):
        if np.any(tree.get("split_type", ())):
            raise ValueError(f"tree {number} splits by category: train on numbers, without enable_categorical")
        if int(tree["tree_param"]["size_leaf_vector"]) > 1:
            raise ValueError(f"tree {number} has vectors in its leaves: train with multi_strategy='one_output_per_tree'")
        if np.isnan(_conditions(tree)).any():
            raise ValueError(f"tree {number} has a threshold or a leaf that is not a number: train again on data without infinities")


def _conditions(tree: dict[str, Any]) -> NDArray[np.float32]:
    """Return, for each node, a split's threshold or a leaf's margin."""
    return np.array(tree["split_conditions"], np.float32)


def _tree(tree: dict[str, Any], weight: np.float32) -> dict[str, NDArray[Any]]:
    """Return one tree's arrays, breadth first, `left` from 0."""
    lefts, rights = tree["left_children"].tolist(), tree["right_children"].tolist()
    order = [0]
    for node in order:  # grows while it is walked
        if lefts[node] != LEAF:
            order += lefts[node], rights[node]
    place = {node: number for number, node in enumerate(order)}
    leaf = np.array([lefts[node] == LEAF for node in order])
    condition = _conditions(tree)[order]
    return {
        "feature": np.where(leaf, LEAF, np.array(tree["split_indices"], np.int32)[order]).astype(np.int32),
        "threshold": np.where(leaf, np.float32(0), condition),
        "missing_left": np.array(tree["default_left"], np.bool_)[order],
        "left": np.array([number if leaf[number] else place[lefts[node]] for number, node in enumerate(order)], np.int32),
        "value": np.where(leaf, condition * weight, np.float32(0)),
        "cover": np.array(tree["sum_hessian"], np.float32)[order],
    }


def _base(booster: Any, document: dict[str, Any], columns: int) -> NDArray[np.float32]:
    """Return the margin before the first tree: what the same booster answers with one tree, of one leaf, of 0.

    The document states it in the space of predictions; how that becomes a margin is each objective's and each version's own affair.
    """
    boosted = document["learner"]["gradient_booster"]
    model = _model(boosted)
    first = model["trees"][0]
    stump = {name: field[:1] if isinstance(field, list | np.ndarray) else field for name, field in first.items()}
    stump |= {"left_children": [LEAF], "right_children": [LEAF], "split_conditions": [0.0]}
    stump["tree_param"] = first["tree_param"] | {"num_nodes": "1", "num_deleted": "0"}
    model |= {"trees": [stump], "tree_info": [0], "iteration_indptr": [0, 1]}
    model["gbtree_model_param"] |= {"num_trees": "1", "num_parallel_tree": "1"}
    if "weight_drop" in boosted:
        boosted["weight_drop"] = [1.0]
    bare = type(booster)({"nthread": 1})
    bare.load_model(bytearray(json.dumps(document, default=np.ndarray.tolist).encode()))
    margins = bare.inplace_predict(np.zeros((1, columns), np.float32), predict_type="margin", validate_features=False)
    return np.asarray(margins, np.float32).reshape(-1)
