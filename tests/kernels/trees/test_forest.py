"""A forest gives the booster's margins bit for bit, and its predictions to 1 ulp, in every layout."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.trees import forest, heap_walk, node_walk, objectives
from kernels.trees.ensemble import LEAF, Trees, read
from kernels.trees.forest import Forest, probes
from kernels.types import F32
from tests.naive import trees as naive
from tests.simulator import simulate

COLUMNS = 5


def training_data(rows: int, columns: int = COLUMNS, seed: int = 0) -> F32:
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, columns)).astype(np.float32)
    X[random.random(X.shape) < 0.1] = np.nan
    return X


def label_of(objective: str, rows: int, seed: int) -> NDArray[Any]:
    random = np.random.default_rng(seed)
    if objective.startswith("multi:"):
        return random.integers(0, 3, rows)
    return (random.random(rows) < 0.4) + (0.5 if objective in ("reg:gamma", "reg:tweedie", "count:poisson") else 0.0)


def trained(
    objective: str = "binary:logistic", rounds: int = 6, rows: int = 300, seed: int = 0, targets: int = 1, **parameters: Any
) -> xgb.Booster:
    labels = [label_of(objective, rows, seed + one) for one in range(targets)]
    matrix = xgb.DMatrix(training_data(rows, seed=seed), np.stack(labels, axis=1) if targets > 1 else labels[0])
    if objective.startswith("rank:"):
        matrix.set_group([rows // 2, rows - rows // 2])
    if objective.startswith("multi:"):
        parameters["num_class"] = 3
    if objective == "reg:quantileerror":
        parameters["quantile_alpha"] = [0.2, 0.8]
    if objective == "survival:aft":
        matrix.set_float_info("label_lower_bound", matrix.get_label() + 0.5)
        matrix.set_float_info("label_upper_bound", matrix.get_label() + 1.0)
    return xgb.train({"objective": objective, "nthread": 1, "verbosity": 0, "seed": seed, **parameters}, matrix, rounds)


def margins_of(booster: xgb.Booster, X: F32) -> F32:
    """Return XGBoost's margins; dart's by `predict`, which takes no infinities."""
    if '"name":"dart"' in booster.save_config():
        return booster.predict(xgb.DMatrix(X), output_margin=True)
    return booster.inplace_predict(X, predict_type="margin")


def ulps(ours: F32, theirs: F32) -> int:
    return int(np.abs(ours.view(np.int32).astype(np.int64) - theirs.view(np.int32)).max(initial=0))


boosters = st.fixed_dictionaries(
    {
        "objective": st.sampled_from(list(objectives.RESPONSES)),
        "rounds": st.integers(1, 5),
        "rows": st.integers(20, 400),
        "seed": st.integers(0, 9),
        "eta": st.sampled_from([0.1, 1.0]),
        "gamma": st.sampled_from([0.0, 0.0, 0.3, 1e9]),
        "num_parallel_tree": st.sampled_from([1, 1, 3]),
        "min_child_weight": st.sampled_from([0, 1]),
        "subsample": st.sampled_from([0.5, 1.0]),
    }
)
shapes = st.sampled_from(
    [
        {"max_depth": 1},
        {"max_depth": 2},
        {"max_depth": 4},
        {"max_depth": 6},
        {"max_depth": 8},
        {"max_depth": 9},
        {"max_depth": 3, "tree_method": "exact"},
        {"grow_policy": "lossguide", "max_leaves": 60, "max_depth": 0},
    ]
)
kinds = st.sampled_from([{"booster": "gbtree"}, {"booster": "gbtree"}, {"booster": "dart", "rate_drop": 0.4}])


@settings(deadline=None, max_examples=40)
@given(boosters, shapes, kinds)
def test_margins_are_xgboosts_bit_for_bit(parameters: dict[str, Any], shape: dict[str, Any], kind: dict[str, Any]):
    """At thresholds, next to them, missing, huge and infinite; a row at a time, in blocks and by walking."""
    booster = trained(**parameters, **shape, **kind)
    made = Forest.from_booster(booster)
    X = probes(made.trees, 301, infinite=kind["booster"] == "gbtree")
    expected = margins_of(booster, X)
    walked = np.empty(expected.size, np.float32)
    node_walk.margins(X, *node_walk.links(made.trees), walked)
    np.testing.assert_array_equal(made.margin(X), expected)
    np.testing.assert_array_equal(np.concatenate([made.margin(X[i : i + 1]) for i in range(40)]), expected[:40])
    np.testing.assert_array_equal(walked, expected.ravel())


@pytest.mark.parametrize("objective", list(objectives.RESPONSES))
def test_predictions_are_xgboosts_to_one_ulp(objective: str):
    booster = trained(objective, rounds=8, max_depth=4)
    made = Forest.from_booster(booster)
    X = training_data(500, seed=1)
    assert made.margin(X).shape == booster.predict(xgb.DMatrix(X), output_margin=True).shape
    ours, theirs = made.predict(X), booster.predict(xgb.DMatrix(X))
    assert ours.shape == theirs.shape
    assert ours.dtype == np.float32
    assert ulps(ours, theirs) <= 1


ONE_TARGET = ("multi:", "rank:", "survival:", "reg:quantileerror")  # those for which XGBoost trains one target alone


@pytest.mark.parametrize("objective", [name for name in objectives.RESPONSES if not name.startswith(ONE_TARGET)])
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param({}, id="gbtree"),
        pytest.param({"num_parallel_tree": 3, "subsample": 0.5}, id="forests"),
        pytest.param({"booster": "dart", "rate_drop": 0.4}, id="dart"),
        pytest.param({"base_score": 0.3}, id="one base for all"),
        pytest.param({"max_depth": 11, "min_child_weight": 0}, id="deep"),
    ],
)
def test_each_of_several_targets_has_xgboosts_prediction(objective: str, kind: dict[str, Any]):
    booster = trained(objective, targets=3, **kind)
    made = Forest.from_booster(booster)
    X = training_data(90, seed=1)
    ours, theirs = made.predict(X), booster.predict(xgb.DMatrix(X))
    assert ours.shape == theirs.shape == (90, 3)
    assert ulps(ours, theirs) <= 1
    for rows in (0, 1):
        assert made.predict(X[:rows]).shape == (rows, 3)
    again = Forest.of_parts(made.parts())
    np.testing.assert_array_equal(again.predict(X), ours)


def test_several_targets_compile_nothing_that_one_target_does_not():
    """A layout of its own would be compiled for during a request."""
    one, three = (Forest.from_booster(trained(targets=targets)) for targets in (1, 3))
    one.predict(training_data(5))
    compiled = len(objectives.sigmoid.signatures)
    three.predict(training_data(5))
    assert len(objectives.sigmoid.signatures) == compiled == 1


def wrapped(kind: type[xgb.XGBModel], label: NDArray[Any], **parameters: Any) -> xgb.XGBModel:
    """Return a wrapper that has stopped early: half of the labels are noise, and of one's judges all."""
    X = training_data(400)
    judge = np.random.default_rng(9).permutation(label[300:])
    groups = {"group": [100, 200], "eval_group": [[100]]} if kind is xgb.XGBRanker else {}
    model = kind(n_estimators=60, early_stopping_rounds=3, learning_rate=0.5, max_depth=5, n_jobs=1, **parameters)
    return model.fit(X[:300], label[:300], eval_set=[(X[300:], judge)], verbose=False, **groups)


def labels_of(classes: int) -> NDArray[Any]:
    """Return labels, int64 [400], that the first column of the training data tells in part."""
    X = np.nan_to_num(training_data(400))
    return np.clip(np.round(X[:, 0] + np.random.default_rng(3).normal(size=400)) + classes // 2, 0, classes - 1).astype(np.int64)


@pytest.mark.parametrize(
    ("kind", "label", "parameters"),
    [
        pytest.param(xgb.XGBRegressor, labels_of(9), {}, id="regressor"),
        pytest.param(xgb.XGBRegressor, labels_of(9), {"booster": "dart", "rate_drop": 0.3}, id="dart"),
        pytest.param(xgb.XGBRegressor, labels_of(9), {"num_parallel_tree": 2, "subsample": 0.5}, id="forests"),
        pytest.param(xgb.XGBRegressor, np.stack([labels_of(9), -labels_of(9)], axis=1), {}, id="two targets"),
        pytest.param(xgb.XGBRegressor, labels_of(9), {"objective": "count:poisson"}, id="counts"),
        pytest.param(xgb.XGBRanker, labels_of(3), {}, id="ranker"),
    ],
)
def test_a_wrapper_that_stopped_early_has_its_own_predictions(kind: type[xgb.XGBModel], label: NDArray[Any], parameters: dict[str, Any]):
    model = wrapped(kind, label, **parameters)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    X = training_data(80, seed=5)
    np.testing.assert_allclose(Forest.from_booster(model).predict(X), model.predict(X), rtol=3e-7, atol=3e-7)
    assert np.abs(model.get_booster().predict(xgb.DMatrix(X)) - model.predict(X)).max() > 0.01


@pytest.mark.parametrize("classes", [2, 3])
def test_a_classifier_that_stopped_early_has_its_own_probabilities(classes: int):
    model = wrapped(xgb.XGBClassifier, labels_of(classes))
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    X = training_data(80, seed=5)
    expected = model.predict_proba(X)
    ours = Forest.from_booster(model).predict(X)
    assert ulps(ours, np.ascontiguousarray(expected[:, 1]) if classes == 2 else expected) <= 1


def test_a_wrapper_without_early_stopping_has_all_its_rounds():
    model = xgb.XGBRFRegressor(n_estimators=7, n_jobs=1).fit(training_data(400), labels_of(9))
    X = training_data(80, seed=5)
    np.testing.assert_array_equal(Forest.from_booster(model).predict(X), model.predict(X))


@pytest.mark.parametrize("depth", [2, 6, 8, 12])
def test_a_batch_gives_what_its_rows_give_alone(depth: int):
    """Whatever the size of the batch, around the sizes of blocks and registers, and wherever the choice between layouts falls."""
    made = Forest.from_booster(trained(rounds=4, rows=2000, max_depth=depth, min_child_weight=0))
    X = probes(made.trees, 2 * heap_walk.BLOCK + 40)
    alone = np.concatenate([made.margin(row[np.newaxis]) for row in X])
    for min_block_rows in (1, 3, 16, heap_walk.BLOCK, 10_000):
        made.min_block_rows = min_block_rows
        for rows in (0, 1, 2, 15, 16, 31, 33, 255, 256, 257, 2 * 256 + 16, len(X)):
            np.testing.assert_array_equal(made.margin(X[:rows]), alone[:rows])


def nested(trees: Trees, node: int) -> naive.Split | naive.Leaf:
    if trees.feature[node] == LEAF:
        return naive.Leaf(float(trees.value[node]), float(trees.cover[node]))
    left, right = (nested(trees, int(child)) for child in (trees.left[node], trees.left[node] + 1))
    return naive.Split(int(trees.feature[node]), float(trees.threshold[node]), bool(trees.missing_left[node]), left, right)


def naive_margins(trees: Trees, X: F32) -> F32:
    grown = [(int(group), nested(trees, int(root))) for group, root in zip(trees.group, trees.roots, strict=False)]
    return np.array([naive.margins(trees.base.tolist(), grown, row) for row in X.tolist()], np.float32).squeeze()


@pytest.mark.parametrize("threshold", [-math.inf, math.inf, -0.0, 0.0, 3.4028235e38, -3.4028235e38, 1e-45])
@pytest.mark.parametrize("missing_left", [False, True])
def test_any_threshold_sends_every_value_to_the_right_side(threshold: float, missing_left: bool):
    """Also the infinite ones, where no float is less or all are."""
    one = Trees(
        roots=np.array([0, 3], np.int32),
        feature=np.array([0, LEAF, LEAF], np.int32),
        threshold=np.array([threshold, 0, 0], np.float32),
        missing_left=np.array([missing_left, False, False]),
        left=np.array([1, 1, 2], np.int32),
        value=np.array([0, -1, 1], np.float32),
        cover=np.array([2, 1, 1], np.float32),
        group=np.zeros(1, np.int32),
        base=np.zeros(1, np.float32),
        columns=1,
    )
    made = Forest(one)
    X = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 3.4028235e38, -3.4028235e38] * 5, np.float32)[:, np.newaxis]
    walked = np.empty(len(X), np.float32)
    node_walk.margins(X, *node_walk.links(one), walked)
    for found in (made.margin(X), np.concatenate([made.margin(row[np.newaxis]) for row in X]), walked):
        np.testing.assert_array_equal(found, naive_margins(one, X))


@pytest.mark.parametrize("objective", ["reg:squarederror", "multi:softprob"])
def test_margins_are_those_of_the_naive_twin(objective: str):
    made = Forest.from_booster(trained(objective, max_depth=5, num_parallel_tree=2))
    X = probes(made.trees, 70)
    np.testing.assert_array_equal(made.margin(X), naive_margins(made.trees, X))


def test_predictions_are_those_of_the_naive_twins():
    margins = np.linspace(-20, 20, 300, dtype=np.float32)
    for name in ("sigmoid", "exponential"):
        expected = [getattr(naive, name)(margin) for margin in margins.tolist()]
        np.testing.assert_allclose(getattr(objectives, name)(margins), expected, rtol=3e-7)
    classes = margins.reshape(-1, 3)
    np.testing.assert_allclose(objectives.softmax(classes), [naive.softmax(row) for row in classes.tolist()], rtol=5e-7)


def test_more_than_255_thresholds_have_ranks_of_two_bytes():
    random = np.random.default_rng(0)
    X = random.normal(size=(3000, 2)).astype(np.float32)
    exact = {"nthread": 1, "tree_method": "exact", "max_depth": 8, "min_child_weight": 0}
    booster = xgb.train(exact, xgb.DMatrix(X, random.random(3000)), 15)
    laid = heap_walk.heap(read(booster))
    assert laid is not None
    assert laid.nodes.dtype == np.uint16
    made = Forest.from_booster(booster)
    rows = probes(made.trees, 700)
    np.testing.assert_array_equal(made.margin(rows), booster.inplace_predict(rows, predict_type="margin"))


def test_more_than_256_views_are_distinguished():
    X = np.random.default_rng(0).normal(size=(200, 300)).astype(np.float32)
    booster = xgb.train({"nthread": 1, "colsample_bynode": 0.05, "eta": 1.0}, xgb.DMatrix(X, X.sum(axis=1)), 40)
    made = Forest.from_booster(booster)
    assert len(np.unique(made.trees.feature)) > 129
    np.testing.assert_array_equal(made.margin(X), booster.inplace_predict(X, predict_type="margin"))


def test_all_rounds_count_whichever_was_best():
    matrix = xgb.DMatrix(training_data(300), label_of("binary:logistic", 300, 0))
    booster = xgb.train({"objective": "binary:logistic", "nthread": 1}, matrix, 8)
    booster.set_attr(best_iteration="2")
    X = training_data(50, seed=2)
    np.testing.assert_array_equal(Forest.from_booster(booster).margin(X), booster.predict(xgb.DMatrix(X), output_margin=True))


@pytest.mark.parametrize(
    "X",
    [
        pytest.param(training_data(60).astype(np.float64), id="float64"),
        pytest.param(np.asfortranarray(training_data(60)), id="columns first"),
        pytest.param(training_data(120)[::2], id="every second row"),
        pytest.param(training_data(60, 2 * COLUMNS)[:, ::2], id="every second column"),
        pytest.param(np.arange(60 * COLUMNS).reshape(60, COLUMNS) % 3, id="integers"),
        pytest.param(training_data(60).astype(">f4"), id="the other byte order"),
        pytest.param(np.frombuffer(training_data(60).tobytes(), np.float32).reshape(60, COLUMNS), id="read-only"),
    ],
)
def test_other_numbers_and_layouts_are_converted_not_compiled_for(X: NDArray[Any]):
    made = Forest.from_booster(trained())
    compiled = len(heap_walk.margins.signatures)
    np.testing.assert_array_equal(made.margin(X), made.margin(np.array(X, np.float32, order="C")))
    assert len(heap_walk.margins.signatures) == compiled


@pytest.mark.parametrize(
    ("X", "message"),
    [
        pytest.param(np.zeros((2, COLUMNS - 1), np.float32), rf"\(2, {COLUMNS - 1}\): pass \[rows, {COLUMNS}\]", id="a column too few"),
        pytest.param(np.zeros((2, COLUMNS + 1), np.float32), rf"pass \[rows, {COLUMNS}\]", id="a column too many"),
        pytest.param(np.zeros(COLUMNS, np.float32), rf"pass \[rows, {COLUMNS}\]", id="one row without its axis"),
        pytest.param([["a"] * COLUMNS], "not an array of numbers", id="words"),
        pytest.param([[1.0], [1.0, 2.0]], "not an array of numbers", id="ragged"),
    ],
)
def test_arrays_of_another_shape_are_refused(X: Any, message: str):
    with pytest.raises(ValueError, match=message):
        Forest.from_booster(trained()).margin(X)


def test_a_forest_that_is_not_the_boosters_is_refused():
    """Its margins, or only what it makes of them."""
    one, two = trained(seed=0), trained(seed=1)
    with pytest.raises(ValueError, match=r"margin \(row\) of generated row \d+ is .* serve this model with XGBoost itself"):
        Forest(read(two), "binary:logistic").check(one)
    with pytest.raises(ValueError, match=r"prediction of generated row"):
        Forest(read(one), "reg:squarederror").check(one)


def test_an_unsupported_objective_is_refused():
    with pytest.raises(ValueError, match=r"objective 'reg:unheard' is not supported: train with one of binary:hinge"):
        Forest(read(trained()), "reg:unheard")


def test_tuning_returns_its_timings_and_changes_no_margin():
    made = Forest.from_booster(trained(max_depth=6))
    X = training_data(100, seed=4)
    before = made.margin(X)
    timings = made.tune(sizes=(1, 40, 80), repeats=2)
    assert [timing.rows for timing in timings] == [1, 40, 80]
    assert all(timing.way in ("row", "block") and timing.us_per_row > 0 for timing in timings)
    assert made.min_block_rows == max([timing.rows + 1 for timing in timings if timing.way == "row"], default=1)
    np.testing.assert_array_equal(made.margin(X), before)
    assert {timing.way for timing in Forest.from_booster(trained(rows=3000, max_depth=14)).tune((1, 8), 1)} == {"walk"}


def test_timings_are_copied_to_forests_of_the_same_shape_only():
    measured, alike, other = (Forest.from_booster(trained(seed=seed, rounds=rounds, rows=900)) for seed, rounds in ((0, 6), (1, 6), (0, 7)))
    measured.min_block_rows = 5
    assert (alike.tune_like(measured), alike.min_block_rows) == (True, 5)
    before = other.min_block_rows
    assert (other.tune_like(measured), other.min_block_rows) == (False, before)


SIMULATED = """
import sys
import numpy as np
from kernels import compile
from kernels.trees.forest import Forest
from kernels.trees.ensemble import Trees
assert compile.SIMULATED
with np.load(sys.argv[1]) as stored:
    X, arrays = stored["X"], [stored[name] for name in Trees._fields]
forest = Forest(Trees(*arrays[:-1], int(arrays[-1])))
from kernels import cuda
on_device, = cuda.on_device([X])
np.savez(sys.argv[2], host=forest.margin_cuda(X), device=forest.margin_cuda(on_device).copy_to_host(), empty=forest.margin_cuda(X[:0]))
"""


@pytest.mark.parametrize("objective", ["binary:logistic", "multi:softprob"])
def test_the_simulated_cuda_launch_gives_the_bits_of_the_cpu(objective: str, tmp_path: Path):
    made = Forest.from_booster(trained(objective, rounds=3, max_depth=4))
    X = probes(made.trees, 50)
    np.savez(tmp_path / "in.npz", X=X, **made.trees._asdict())
    simulate(SIMULATED, tmp_path / "in.npz", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_array_equal(found["host"], made.margin(X))
        np.testing.assert_array_equal(found["device"], made.margin(X))
        assert found["empty"].shape == made.margin(X[:0]).shape


@pytest.mark.gpu
@pytest.mark.parametrize(("objective", "depth"), [("binary:logistic", 6), ("multi:softprob", 12)])
def test_cuda_gives_the_bits_of_the_cpu(objective: str, depth: int):
    """From the host's rows and from rows that are on the device already, in both cases with the forest copied once."""
    from numba import cuda

    if not cuda.is_available():
        pytest.skip("no CUDA device here")
    made = Forest.from_booster(trained(objective, rounds=20, max_depth=depth, rows=3000))
    X = probes(made.trees, 5000)
    expected = made.margin(X)
    np.testing.assert_array_equal(made.margin_cuda(X), expected)
    np.testing.assert_array_equal(made.margin_cuda(cuda.to_device(X)).copy_to_host(), expected)
    with pytest.raises(ValueError, match=r"on the device: pass float32"):
        made.margin_cuda(cuda.to_device(X.astype(np.float64)))


def test_the_checked_rows_have_every_kind_of_value():
    """At a threshold, just below and above, missing, both infinities, both zeros; without infinities where XGBoost takes none."""
    made = Forest.from_booster(trained())
    X = forest.probes(made.trees, 4000)
    thresholds = made.trees.threshold[made.trees.feature == 0]
    for value in (*thresholds, *np.nextafter(thresholds, np.float32(-np.inf)), np.inf, -np.inf, np.float32(3e38)):
        assert (X[:, 0] == value).any()
    assert np.isnan(X[:, 0]).any()
    assert np.signbit(X[X == 0]).any()
    assert not np.isinf(forest.probes(made.trees, 400, infinite=False)).any()
