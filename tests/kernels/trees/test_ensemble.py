"""The arrays hold what the booster learned, and unsupported boosters are refused."""

import json
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from numpy.typing import NDArray

from kernels.trees import ensemble
from kernels.trees.ensemble import LEAF, Trees

X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
LABEL = (X[:, 0] * X[:, 1] > 0).astype(np.float32)


def booster(rounds: int = 3, label: NDArray[Any] = LABEL, **parameters: Any) -> xgb.Booster:
    return xgb.train({"nthread": 1, "verbosity": 0, "max_depth": 3, **parameters}, xgb.DMatrix(X, label), rounds)


def stopped_early(**parameters: Any) -> xgb.XGBRegressor:
    judge = np.random.default_rng(1).random(50)
    model = xgb.XGBRegressor(n_estimators=40, early_stopping_rounds=3, n_jobs=1, **parameters)
    return model.fit(X[50:], LABEL[50:], eval_set=[(X[:50], judge)], verbose=False)


def test_every_node_is_the_one_that_xgboost_dumps():
    """Depth first from the root, as `get_dump` writes: columns, thresholds, leaves, covers, and the way of a missing value."""
    learned = booster(objective="binary:logistic")
    read = ensemble.read(learned)
    dumped = learned.trees_to_dataframe().set_index("ID")
    for tree, root in enumerate(read.roots[:-1]):
        waiting = [(int(root), f"{tree}-0")]
        while waiting:
            node, name = waiting.pop()
            row = dumped.loc[name]
            assert read.cover[node] == np.float32(row.Cover)
            if row.Feature == "Leaf":
                assert (read.feature[node], read.left[node], read.value[node]) == (LEAF, node, np.float32(row.Gain))
            else:
                assert (f"f{read.feature[node]}", read.threshold[node]) == (row.Feature, np.float32(row.Split))
                assert read.missing_left[node] == (row.Missing == row.Yes)
                waiting += (int(read.left[node]), row.Yes), (int(read.left[node]) + 1, row.No)


def test_nodes_are_breadth_first_with_siblings_side_by_side():
    read = ensemble.read(booster(rounds=4, max_depth=5))
    split = np.flatnonzero(read.feature != LEAF)
    assert (read.left[split] > split).all()
    children = np.concatenate([read.left[split], read.left[split] + 1])
    assert sorted([*children, *read.roots[:-1]]) == list(range(read.roots[-1]))
    assert (np.diff(read.left[split]) == 2)[np.diff(split) == 1].all() or len(split) == 0


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        pytest.param({"objective": "binary:logistic", "base_score": 0.2}, [np.log(0.25)], id="a probability becomes its logit"),
        pytest.param({"objective": "binary:logitraw", "base_score": 0.2}, [0.2], id="a margin stays one"),
        pytest.param({"objective": "count:poisson", "base_score": 3}, [np.log(3)], id="a rate becomes its logarithm"),
        pytest.param({"objective": "reg:squarederror", "base_score": -7}, [-7], id="a mean stays one"),
        pytest.param({"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9], "base_score": 2}, [2, 2], id="one for each quantile"),
    ],
)
def test_the_base_is_in_the_space_of_margins(parameters: dict[str, Any], expected: list[float]):
    np.testing.assert_allclose(ensemble.read(booster(**parameters)).base, np.array(expected, np.float32), rtol=2e-7)


def test_pruned_trees_are_read_without_their_pruned_nodes():
    """The exact method grows a tree first and leaves the nodes that it cuts off in the model."""
    pruned = booster(tree_method="exact", gamma=1.0, base_score=2)
    assert any(int(tree["tree_param"]["num_deleted"]) > 0 for tree in _document(pruned)["gradient_booster"]["model"]["trees"])
    read = ensemble.read(pruned)
    assert read.base.tolist() == [2]
    assert read.roots[-1] == len(pruned.trees_to_dataframe())


def test_every_class_has_its_own_base_and_trees():
    label = np.random.default_rng(1).choice(3, 200, p=[0.6, 0.3, 0.1])
    read = ensemble.read(booster(rounds=2, label=label, objective="multi:softprob", num_class=3))
    assert len(set(read.base.tolist())) == 3
    assert read.group.tolist() == [0, 1, 2, 0, 1, 2]


def test_the_weights_of_dropped_trees_are_in_their_leaves():
    """What a dart booster gains by a tree is the tree's leaf times the tree's weight."""
    dart = booster(rounds=6, booster="dart", rate_drop=0.5, seed=3, base_score=0)
    read = ensemble.read(dart)
    weights = _document(dart)["gradient_booster"]["weight_drop"]
    assert min(weights) < 1
    for tree, (first, last) in enumerate(zip(read.roots, read.roots[1:], strict=False)):
        dumped = dart.trees_to_dataframe().query(f"Tree == {tree} and Feature == 'Leaf'").Gain.to_numpy(np.float32)
        values = read.value[first:last][read.feature[first:last] == LEAF]
        np.testing.assert_array_equal(np.sort(values), np.sort(dumped * np.float32(weights[tree])))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: booster(booster="gblinear"), "booster='gbtree'", id="linear"),
        pytest.param(lambda: booster(rounds=0), "at least one round", id="no trees"),
        pytest.param(lambda: xgb.XGBClassifier(), "this XGBClassifier is not fitted: call fit", id="a wrapper that is not fitted"),
        pytest.param(lambda: object(), "object is not an XGBoost model: pass an xgboost.Booster or a fitted", id="not a model"),
        pytest.param(
            lambda: xgb.XGBRegressor(n_estimators=2, missing=-999.0).fit(X, LABEL),
            r"counts -999 as a missing value.*pass model.get_booster\(\), and replace -999 by NaN",
            id="missing values that are not NaN",
        ),
        pytest.param(lambda: xgb.XGBRegressor(booster="gblinear").fit(X, LABEL), "booster='gbtree'", id="a linear wrapper"),
        pytest.param(lambda: stopped_early(missing=0.5), r"get_booster\(\)\[: \d+\]", id="stopped early, and missing values not NaN"),
        pytest.param(
            lambda: booster(label=X[:, :2], multi_strategy="multi_output_tree"), "one_output_per_tree", id="vectors in the leaves"
        ),
        pytest.param(lambda: _by_category(), "without enable_categorical", id="categories"),
    ],
)
def test_unsupported_boosters_are_refused_with_the_fix(make: Any, message: str):
    with pytest.raises(ValueError, match=message):
        ensemble.read(make())


def test_a_wrapper_has_the_trees_of_its_best_round_and_before():
    model = stopped_early()
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    assert len(ensemble.read(model).roots) - 1 == model.best_iteration + 1


def test_the_booster_is_left_as_it_was():
    learned = booster()
    before = learned.save_raw("json")
    assert isinstance(ensemble.read(learned), Trees)
    assert learned.save_raw("json") == before


def _by_category() -> xgb.Booster:
    codes = np.random.default_rng(0).integers(0, 5, (200, 1)).astype(np.float32)
    matrix = xgb.DMatrix(codes, codes[:, 0] % 2, feature_types=["c"], enable_categorical=True)
    return xgb.train({"nthread": 1, "max_cat_to_onehot": 1}, matrix, 2)


def _document(learned: xgb.Booster) -> dict[str, Any]:
    learner: dict[str, Any] = json.loads(bytes(learned.save_raw("json")))["learner"]
    return learner
