"""Tree ensembles as flat arrays: an XGBoost model without XGBoost."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compile import on_cpu
from kernels.trees import ubjson
from kernels.types import F32, I32, I64, Bool

LEAF = -1

_FIELDS = {
    "left_children": np.int32,
    "right_children": np.int32,
    "split_indices": np.int32,
    "split_conditions": np.float32,  # a split's threshold, a leaf's margin
    "default_left": np.uint8,
    "sum_hessian": np.float32,
    "split_type": np.uint8,
}
_REFUSED: Mapping[str, tuple[Callable[[NDArray[Any]], NDArray[Any]], str]] = {
    "split_type": (np.asarray, "splits by category: train on numbers, without enable_categorical"),
    "split_conditions": (np.isnan, "has a threshold or a leaf that is not a number: train again on data without infinities"),
}


class Trees(NamedTuple):
    """Nodes of all trees, one tree after the other, each breadth first, so that siblings are neighbours and parents come before children.

    roots:        int32 [trees + 1]   tree t's nodes are roots[t] to roots[t + 1]; the first is its root
    feature:      int32 [nodes]       the split's column, LEAF for a leaf
    threshold:    float32 [nodes]     a row goes left when its value is less; 0 for a leaf
    missing_left: bool [nodes]        whether a missing value goes left
    left:         int32 [nodes]       the left child, the right one is left + 1; a leaf's own index
    value:        float32 [nodes]     a leaf's margin, 0 for a split
    cover:        float32 [nodes]     the sum of second derivatives of the training rows that reached the node
    group:        int32 [trees]       the class that a tree adds to, 0 where there is one margin
    base:         float32 [groups]    the margin before the first tree
    columns:      the number of columns of a row
    """

    roots: I32
    feature: I32
    threshold: F32
    missing_left: Bool
    left: I32
    value: F32
    cover: F32
    group: I32
    base: F32
    columns: int


def booster_of(model: Any) -> Any:
    """Return the `xgboost.Booster` with the trees that count: of a Booster all; of an XGBRegressor and its kin those of its `predict`.

    Such a wrapper that stopped early predicts with the rounds up to its best one, while its `get_booster().predict` takes all. Raises
    ValueError for other types, for a wrapper that is not fitted, and for one whose missing values are not NaN, with what to pass instead.
    """
    name = type(model).__name__
    if hasattr(model, "save_raw"):
        return model
    if not hasattr(model, "get_booster"):
        raise ValueError(f"{name} is not an XGBoost model: pass an xgboost.Booster or a fitted XGBRegressor, XGBClassifier or XGBRanker")
    try:
        booster = model.get_booster()
    except AttributeError:  # scikit-learn's NotFittedError is one
        raise ValueError(f"this {name} is not fitted: call fit or load_model first") from None
    best = getattr(model, "best_iteration", None)
    rounds = "" if best is None else f"[: {best + 1}]"
    if (missing := getattr(model, "missing", None)) is not None and not np.isnan(missing):
        raise ValueError(
            f"this {name} counts {missing:g} as a missing value, and a forest NaN alone: pass model.get_booster(){rounds}, and replace "
            f"{missing:g} by NaN in each row before it is scored"
        )
    return booster if best is None or _name(booster) == "gblinear" else booster[: best + 1]


def read(model: Any) -> Trees:
    """Return the trees of an `xgboost.Booster` or its scikit-learn wrapper (see `booster_of`): gbtree, or dart with weighted leaves.

    Raises ValueError for linear boosters, boosters without trees, splits by category and vectors in leaves, with what to train instead.
    """
    booster = booster_of(model)
    document = ubjson.read(bytes(booster.save_raw("ubj")), tables=("trees",))
    learner = document["learner"]
    boosted = learner["gradient_booster"]
    if boosted["name"] not in ("gbtree", "dart"):
        raise ValueError(f"booster {boosted['name']!r} has no trees: train with booster='gbtree' or 'dart'")
    model = _model(boosted)
    nodes = _nodes(model["trees"])
    roots, order, left = _breadth_first(nodes)
    nodes = {name: column[order] for name, column in nodes.items()}
    leaf = nodes["left_children"] == LEAF
    weights = np.repeat(np.array(boosted.get("weight_drop", np.ones(len(roots) - 1)), np.float32), np.diff(roots))
    columns = int(learner["learner_model_param"]["num_feature"])
    return Trees(
        roots=roots,
        feature=np.where(leaf, np.int32(LEAF), nodes["split_indices"]),
        threshold=np.where(leaf, np.float32(0), nodes["split_conditions"]),
        missing_left=nodes["default_left"].astype(np.bool_),
        left=left,
        value=np.where(leaf, nodes["split_conditions"] * weights, np.float32(0)),
        cover=nodes["sum_hessian"],
        group=np.array(model["tree_info"], np.int32),
        base=_base(booster, document, columns),
        columns=columns,
    )


def objective(booster: Any) -> str:
    """Return the name of the booster's objective, as `reg:squarederror`."""
    return str(json.loads(booster.save_config())["learner"]["objective"]["name"])


def is_dart(booster: Any) -> bool:
    """Return whether the booster drops trees."""
    return _name(booster) == "dart"


def _name(booster: Any) -> str:
    """Return the kind of a booster: gbtree, dart or gblinear."""
    return str(json.loads(booster.save_config())["learner"]["gradient_booster"]["name"])


def _model(boosted: dict[str, Any]) -> dict[str, Any]:
    """Return the trees' part of a gradient booster: dart wraps a gbtree."""
    model: dict[str, Any] = boosted.get("gbtree", boosted)["model"]
    return model


def _nodes(trees: ubjson.ColumnTable) -> dict[str, NDArray[Any]]:
    """Return the fields of all nodes, one tree after the other in the booster's own order, and `root`: the index of each node's root.

    Raises ValueError as `read` does.
    """
    if not len(trees):
        raise ValueError("the booster has no trees: train it for at least one round")
    if int(trees.row(0)["tree_param"]["size_leaf_vector"]) > 1:  # all trees of a booster have them, or none
        raise ValueError("the trees have vectors in their leaves: train with multi_strategy='one_output_per_tree'")
    nodes: dict[str, NDArray[Any]] = {}
    sizes = np.zeros(0, np.int64)
    for name, dtype in _FIELDS.items():
        column, lengths = trees.column(name)
        if sizes.size and not np.array_equal(sizes, lengths):
            raise ValueError(f"{name} has another number of nodes than {', '.join(nodes)}: the booster is corrupt, train it again")
        nodes[name], sizes = column.astype(dtype, copy=False), lengths
    nodes["root"] = np.repeat(np.cumsum(sizes) - sizes, sizes)
    for name, (wrong, why) in _REFUSED.items():
        if (at := wrong(nodes[name])).any():
            raise ValueError(f"tree {np.searchsorted(np.cumsum(sizes), at.argmax(), side='right')} {why}")
    return nodes


def _breadth_first(nodes: Mapping[str, NDArray[Any]]) -> tuple[I32, I64, I32]:
    """Return `roots` of `Trees`, the order of the nodes that are reachable from a root, and `left` of `Trees`; pruned nodes are dropped."""
    root = nodes["root"]
    first = np.append(np.flatnonzero(np.diff(root, prepend=-1)), len(root))
    roots, order, left = np.zeros(len(first), np.int32), np.zeros(len(root), np.int64), np.zeros(len(root), np.int32)
    if not _order_nodes(first, nodes["left_children"], nodes["right_children"], roots, order, left):
        raise ValueError("the trees have a cycle, or children outside their tree: the booster is corrupt, train it again")
    return roots, order[: roots[-1]], left[: roots[-1]]


@on_cpu
def _order_nodes(
    first: I64,
    lefts: I32,
    rights: I32,
    roots: I32,
    order: I64,
    left: I32,
) -> bool:
    """Write roots, order and left; return False where a tree has a cycle, a shared node, or a child outside it."""
    end = 0
    for tree in range(len(first) - 1):
        size, begin = first[tree + 1] - first[tree], end
        roots[tree] = begin
        order[begin] = first[tree]
        at, end = begin, begin + 1
        while at < end:
            node = order[at]
            left[at] = at
            if lefts[node] != LEAF:
                children = lefts[node], rights[node]
                if end + 2 > begin + size or min(children) < 0 or max(children) >= size:
                    return False
                left[at] = end
                for child in children:
                    order[end] = first[tree] + child
                    end += 1
            at += 1
    roots[-1] = end
    return True


def _base(booster: Any, document: dict[str, Any], columns: int) -> F32:
    """Return the margin before the first tree: the answer of the same booster with one tree, of one leaf, of 0.

    The document has it in the space of predictions; its conversion to a margin differs by objective and by version of XGBoost.
    """
    boosted = document["learner"]["gradient_booster"]
    model = _model(boosted)
    first = model["trees"].row(0)
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
