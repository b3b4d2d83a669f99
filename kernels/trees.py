"""A tree ensemble as flat arrays: what XGBoost has learned, without XGBoost."""

import json
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    """Return the trees of an `xgboost.Booster`: gbtree or dart. Raises ValueError for what flat arrays do not hold, naming it."""
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    boosted = learner["gradient_booster"]
    dropped = boosted.get("weight_drop")
    model = boosted.get("gbtree", boosted)["model"]
    weights = np.array(dropped if dropped else [1.0] * len(model["trees"]), np.float32)
    trees = [_tree(tree, weight) for tree, weight in zip(model["trees"], weights, strict=True)]
    roots = np.cumsum([0, *(len(tree["feature"]) for tree in trees)]).astype(np.int32)
    for tree, root in zip(trees, roots, strict=False):
        tree["left"] += root
    joined = {name: np.concatenate([tree[name] for tree in trees]) for name in trees[0]}
    parameters = learner["learner_model_param"]
    return Trees(
        roots=roots,
        **joined,
        group=np.array(model["tree_info"], np.int32),
        base=_base(learner),
        columns=int(parameters["num_feature"]),
    )


def _tree(tree: dict[str, Any], weight: np.float32) -> dict[str, NDArray[Any]]:
    """Return one tree's arrays, breadth first, `left` from 0."""
    lefts, rights = tree["left_children"], tree["right_children"]
    order = [0]
    for node in order:  # grows while it is walked
        if lefts[node] != LEAF:
            order += lefts[node], rights[node]
    place = {node: number for number, node in enumerate(order)}
    leaf = np.array([lefts[node] == LEAF for node in order])
    condition = np.array(tree["split_conditions"], np.float32)[order]
    return {
        "feature": np.where(leaf, LEAF, np.array(tree["split_indices"], np.int32)[order]).astype(np.int32),
        "threshold": np.where(leaf, np.float32(0), condition),
        "missing_left": np.array(tree["default_left"], np.bool_)[order],
        "left": np.array([number if leaf[number] else place[lefts[node]] for number, node in enumerate(order)], np.int32),
        "value": np.where(leaf, condition * weight, np.float32(0)),
        "cover": np.array(tree["sum_hessian"], np.float32)[order],
    }


def _base(learner: dict[str, Any]) -> NDArray[np.float32]:
    scores = np.array(json.loads(learner["learner_model_param"]["base_score"]), np.float32).reshape(-1)
    if learner["objective"]["name"] in ("binary:logistic", "reg:logistic", "binary:logitraw"):
        return -np.log(np.float32(1) / scores - np.float32(1))
    return scores
