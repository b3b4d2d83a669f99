"""SHAP values equal those of XGBoost and of the definition, and add up to the margin."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.trees.ensemble import LEAF, Trees, read
from kernels.trees.shap import TreeShap
from kernels.trees.shap_paths import paths_of
from kernels.types import F32, F64
from tests.naive import trees as naive
from tests.simulator import simulate

objectives = st.sampled_from(["reg:squarederror", "binary:logistic", "multi:softprob"])
growths = st.one_of(
    st.builds(lambda depth: {"max_depth": depth}, st.integers(1, 8)),
    st.builds(lambda leaves: {"grow_policy": "lossguide", "max_depth": 0, "max_leaves": leaves}, st.integers(2, 60)),
)
boosters = st.sampled_from([{}, {"booster": "dart", "rate_drop": 0.5}])


def rows(count: int, columns: int, missing: float, seed: int) -> F32:
    """Return random rows, of few different values, so that some are those of thresholds."""
    rng = np.random.default_rng(seed)
    X = (rng.integers(-20, 21, (count, columns)) / 8).astype(np.float32)
    X[rng.random(X.shape) < missing] = np.nan
    return X


def trained(X: F32, trees: int = 5, **parameters: Any) -> xgboost.Booster:
    """Return a booster of a target in which the columns act on each other."""
    rng = np.random.default_rng(len(X))
    known = np.nan_to_num(X, nan=0.7)
    target = known[:, 0] * known[:, -1] + np.sin(2 * known.sum(axis=1)) + rng.normal(size=len(X)) / 2
    classes = parameters.get("num_class", 2 if str(parameters.get("objective")).startswith("binary") else 0)
    label = np.digitize(target, np.quantile(target, np.arange(1, classes) / classes)) if classes else target
    given_parameters = {"nthread": 1, "min_child_weight": 0, "reg_lambda": 1, "seed": 1, **parameters}
    return xgboost.train(given_parameters, xgboost.DMatrix(X, label, nthread=1), trees)


def theirs(booster: xgboost.Booster, X: F32) -> F64:
    return np.asarray(booster.predict(xgboost.DMatrix(X, nthread=1), pred_contribs=True), np.float64)


def margins(booster: xgboost.Booster, X: F32) -> F64:
    return np.asarray(booster.predict(xgboost.DMatrix(X, nthread=1), output_margin=True), np.float64)


def nested(trees: Trees, node: int) -> naive.Split | naive.Leaf:
    """Return the tree below a node for the twin."""
    if trees.feature[node] == LEAF:
        return naive.Leaf(float(trees.value[node]), float(trees.cover[node]))
    children = (nested(trees, trees.left[node] + side) for side in (0, 1))
    return naive.Split(int(trees.feature[node]), float(trees.threshold[node]), bool(trees.missing_left[node]), *children)


def by_leaves(tree: naive.Split | naive.Leaf, row: F32, path: dict[int, tuple[Fraction, bool]]) -> dict[int, float]:
    """Return the Shapley value of each column of a deep tree, leaf by leaf, from Owen's integral of an exact polynomial in t."""
    if isinstance(tree, naive.Leaf):
        return {column: tree.value * float((followed - share) * _integral(path, column)) for column, (share, followed) in path.items()}
    value = row[tree.column]
    left = tree.missing_left if np.isnan(value) else value < tree.threshold
    covers = [Fraction(naive.cover(child)) for child in (tree.left, tree.right)]
    total: dict[int, float] = {}
    share, followed = path.get(tree.column, (Fraction(1), True))
    for child, part, taken in ((tree.left, covers[0], left), (tree.right, covers[1], not left)):
        below = by_leaves(child, row, {**path, tree.column: (share * part / sum(covers), followed and bool(taken))})
        total = {column: total.get(column, 0) + below.get(column, 0) for column in {*total, *below}}
    return total


def _integral(path: dict[int, tuple[Fraction, bool]], left_out: int) -> Fraction:
    """Return the integral over t in [0, 1] of the product of (1 - t) share + t followed over the other columns of a path."""
    polynomial = [Fraction(1)]
    for column, (share, followed) in path.items():
        if column != left_out:
            slope = followed - share
            polynomial = [share * a + slope * b for a, b in zip([*polynomial, 0], [0, *polynomial], strict=True)]
    return sum((a / (power + 1) for power, a in enumerate(polynomial)), Fraction(0))


def decision_list(columns: int) -> xgboost.Booster:
    """Return a booster of one tree that asks one column after the other: the first of them that is high decides."""
    rng = np.random.default_rng(columns)
    X = (rng.random((3000, columns)) < 0.1) + rng.random((3000, columns)) / 2
    high = X > 0.9
    first = np.where(high.any(axis=1), high.argmax(axis=1), columns)
    growth = {"grow_policy": "lossguide", "max_depth": 0, "max_leaves": 2 * columns, "min_child_weight": 0, "reg_lambda": 0, "eta": 1}
    return xgboost.train({**growth, "nthread": 1}, xgboost.DMatrix(X.astype(np.float32), first / columns, nthread=1), 1)


@settings(deadline=None, max_examples=40)
@given(objectives, growths, boosters, st.integers(1, 9), st.sampled_from([0, 0.3]), st.integers(1, 12), st.integers(0, 99))
def test_shap_values_are_those_of_xgboost(
    objective: str, growth: dict[str, Any], booster: dict[str, Any], columns: int, missing: float, trees: int, seed: int
) -> None:
    """To 1e-5: regression, two classes and three, dart, deep, repeated columns, missing values, splits of single rows."""
    X = rows(300, columns, missing, seed)
    classes = {"num_class": 3} if objective == "multi:softprob" else {}
    model = trained(X, trees, objective=objective, **growth, **booster, **classes)
    ours, expected = TreeShap(read(model)), theirs(model, X)
    np.testing.assert_allclose(ours.values(X), expected[..., :-1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        np.broadcast_to(ours.bias, (len(X), len(ours.bias))), expected[..., -1].reshape(len(X), -1), rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(ours.values(X).sum(axis=-1) + ours.bias[() if classes else 0], margins(model, X), rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(growths, st.integers(1, 5), st.sampled_from([0, 0.3]), st.integers(0, 99), st.sampled_from([0.0, 0.5]))
def test_shap_values_are_those_of_the_naive_twin(growth: dict[str, Any], columns: int, missing: float, seed: int, empty: float) -> None:
    """To 1e-12, also where leaves have no cover."""
    X = rows(100, columns, missing, seed)
    trees = read(trained(X, 2, **growth))
    cover = np.where(np.random.default_rng(seed).random(len(trees.cover)) < empty, 0, trees.cover).astype(np.float32)
    trees = _covered(trees._replace(cover=cover))
    expected = np.zeros((5, columns))
    for root in trees.roots[:-1]:
        expected += [naive.shap_values(nested(trees, root), row) for row in X[:5].tolist()]
    np.testing.assert_allclose(TreeShap(trees).values(X[:5]), expected, rtol=0, atol=1e-12)


def _covered(trees: Trees) -> Trees:
    """Return the trees with the cover of each split that of its children."""
    cover = trees.cover.copy()
    for node in reversed(range(len(cover))):
        if trees.feature[node] != LEAF:
            cover[node] = cover[trees.left[node]] + cover[trees.left[node] + 1]
    return trees._replace(cover=cover)


@pytest.mark.parametrize("columns", [10, 17])
def test_long_paths_are_as_exact_as_short_ones(columns: int) -> None:
    """More than 8 and 16 features on a path, where the single precision of XGBoost's own recursion misses the margin by 1e-4 and more."""
    trees = read(decision_list(columns))
    assert paths_of(trees).features.max() == columns
    X = rows(3, columns, 0, 3) / 2
    expected = [by_leaves(nested(trees, 0), row, {}) for row in X]
    found = TreeShap(trees).values(X)
    for row, values in enumerate(expected):
        np.testing.assert_allclose(found[row], [values.get(column, 0) for column in range(columns)], rtol=0, atol=1e-9)


def test_a_row_is_the_same_alone_and_among_others() -> None:
    X = rows(60, 7, 0.2, 1)
    for parameters in ({}, {"objective": "multi:softprob", "num_class": 3}):
        ours = TreeShap(read(trained(X, 20, max_depth=6, **parameters)))
        together = ours.values(X)
        np.testing.assert_array_equal(np.concatenate([ours.values(X[i : i + 1]) for i in range(len(X))]), together)
        np.testing.assert_array_equal(ours.values(X[::-1])[::-1], together)


def test_trees_of_one_leaf_add_to_the_bias_alone() -> None:
    X = rows(50, 3, 0, 1)
    model = trained(X, 3, gamma=1e9)
    ours = TreeShap(read(model))
    np.testing.assert_array_equal(ours.values(X), np.zeros((50, 3)))
    np.testing.assert_allclose(ours.bias, margins(model, X)[:1], rtol=0, atol=1e-6)


def test_a_split_without_cover_is_halved() -> None:
    """XGBoost refuses to explain such a tree (0 / 0); here what is unknown goes both ways alike, and the sum is still the margin."""
    X = rows(100, 2, 0, 1)
    model = trained(X, 3, max_depth=3)
    document = json.loads(bytes(model.save_raw("json")))
    for tree in document["learner"]["gradient_booster"]["model"]["trees"]:
        tree["sum_hessian"] = [0.0] * len(tree["sum_hessian"])
    bare = xgboost.Booster(model_file=bytearray(json.dumps(document).encode()))
    ours = TreeShap(read(bare))
    np.testing.assert_allclose(ours.values(X).sum(axis=1) + ours.bias, margins(bare, X), rtol=0, atol=1e-6)


def test_no_rows_have_no_shap_values() -> None:
    X = rows(50, 3, 0, 1)
    assert TreeShap(read(trained(X))).values(X[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param(lambda X: X.T.copy().T, id="in order of columns"),
        pytest.param(lambda X: np.repeat(X, 2, axis=0)[::2], id="every other row"),
        pytest.param(lambda X: np.frombuffer(X.tobytes(), np.float32).reshape(X.shape), id="not to be written to"),
    ],
)
def test_any_memory_layout_of_the_rows_gives_the_same_values(strange: Callable[[F32], F32]) -> None:
    X = rows(50, 3, 0.1, 1)
    ours = TreeShap(read(trained(X)))
    np.testing.assert_array_equal(ours.values(strange(X)), ours.values(X))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        pytest.param(np.zeros((2, 3)), r"float64 \(2, 3\)", id="dtype"),
        pytest.param(np.zeros((2, 4), np.float32), r"float32 \(2, 4\)", id="columns"),
        pytest.param(np.zeros(3, np.float32), r"float32 \(3,\)", id="one row without its dimension"),
    ],
)
def test_other_rows_are_refused_with_what_to_pass(wrong: NDArray[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said + r": pass float32 \[n, 3\]"):
        TreeShap(read(trained(rows(50, 3, 0, 1)))).values(wrong)


SIMULATED = """
import sys
import numpy as np
from kernels import compile
from kernels.trees.shap import TreeShap
from kernels.trees.ensemble import Trees
assert compile.SIMULATED
with np.load(sys.argv[1]) as stored:
    trees = Trees(*(stored[name] for name in Trees._fields[:-1]), columns=stored["X"].shape[1])
    np.save(sys.argv[2], TreeShap(trees).values(stored["X"]))
"""


def test_the_compiled_kernel_gives_the_bits_of_plain_python(tmp_path: Path) -> None:
    """So that no operation of the lanes is fused or reordered; of two passes and of a repeated column."""
    trees, X = read(decision_list(10)), rows(4, 10, 0, 3) / 2
    np.savez(tmp_path / "inputs.npz", X=X, **{name: getattr(trees, name) for name in Trees._fields[:-1]})
    simulate(SIMULATED, tmp_path / "inputs.npz", tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), TreeShap(trees).values(X))


@pytest.mark.parametrize(
    "parameters", [{}, {"objective": "reg:logistic"}, {"num_parallel_tree": 2, "subsample": 0.5}, {"base_score": [0.2, 0.7]}]
)
def test_each_of_several_targets_has_xgboosts_contributions(parameters: dict[str, Any]):
    X = rows(200, 4, 0.1, 0)
    targets = np.stack([np.nan_to_num(X[:, 0]) > 0, np.nan_to_num(X[:, 1] * X[:, 2]) > 0], axis=1).astype(np.float32)
    booster = xgboost.train({"nthread": 1, "max_depth": 4, **parameters}, xgboost.DMatrix(X, targets, nthread=1), 5)
    explainer = TreeShap(read(booster))
    expected = theirs(booster, X)
    np.testing.assert_allclose(explainer.values(X), expected[..., :-1], atol=2e-5)
    np.testing.assert_allclose(explainer.bias, expected[0, :, -1], atol=2e-5)
