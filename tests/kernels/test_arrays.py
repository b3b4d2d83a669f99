"""Flattened arrays restore the same objects, in another process too."""

import numpy as np
import pytest
import xgboost as xgb

from kernels.trees.forest import Forest
from kernels.trees.shap import TreeShap


@pytest.mark.parametrize("depth", [3, 12], ids=["with blocks", "too deep for blocks"])
def test_a_forest_of_flattened_parts_gives_the_same_bits(depth, tmp_path):
    random = np.random.default_rng(depth)
    X = random.normal(size=(3000, 5)).astype(np.float32)
    matrix = xgb.DMatrix(X, random.random(len(X)) > 0.5)  # noise takes deep trees
    booster = xgb.train({"max_depth": depth, "objective": "binary:logistic", "min_child_weight": 0}, matrix, 5)
    forest = Forest.from_booster(booster)
    factors = TreeShap(forest.trees)
    assert ("heap.nodes" in forest.parts()) is (depth == 3)
    np.savez(tmp_path / "parts.npz", **forest.parts(), **factors.parts())
    parts = dict(np.load(tmp_path / "parts.npz", allow_pickle=False))
    again = Forest.of_parts(parts)
    assert (again.objective, again.columns, again.groups) == ("binary:logistic", 5, 1)
    again.check(booster)
    np.testing.assert_array_equal(again.predict(X), forest.predict(X))
    np.testing.assert_array_equal(TreeShap.of_parts(again.trees, parts).values(X), factors.values(X))
