"""Blocks of features are known or not, row by row."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.features import INDEX, NAMES
from training.models.shared import missingness

ALL = missingness.LEVELS - 1


def known(rows=50, seed=0):
    return np.random.default_rng(seed).random((rows, len(NAMES))).astype(np.float32)


@settings(deadline=None)
@given(st.integers(0, ALL))
def test_a_row_without_blocks_is_at_the_level_that_lacks_them(level):
    X = known()
    gone = [block for block in missingness.BLOCKS if block not in missingness.blocks_of(level)]
    assert set(missingness.level(missingness.without(X, gone), missingness.weights(X))) == {level}
    assert missingness.bits(missingness.blocks_of(level)) == level


def test_half_of_a_block_is_enough_to_know_it_and_less_is_not():
    X = known(1)
    weights = missingness.weights(X)
    context = [INDEX[name] for name in missingness.BLOCKS["context"]]
    X[:, context[: len(context) // 2]] = np.nan
    assert missingness.level(X, weights)[0] & missingness.bits(["context"])
    X[:, context[len(context) // 2]] = np.nan
    assert not missingness.level(X, weights)[0] & missingness.bits(["context"])


def test_what_the_training_table_never_had_is_not_asked_for():
    X = known()
    X[:, [INDEX[name] for name in missingness.EVENTS_ONLY]] = np.nan
    X[:, INDEX["pageValue"]] = np.nan
    weights = missingness.weights(X)
    assert set(missingness.level(X, weights)) == {ALL & ~missingness.bits(["pageValue"])}
    assert set(missingness.level(known(), weights)) == {ALL & ~missingness.bits(["pageValue"])}, (
        "a value that the model never saw is no knowledge"
    )


def test_a_masked_copy_only_ever_forgets_and_forgets_as_often_as_it_says():
    X = known(20_000)
    copy = missingness.masked(X, 1)
    gone = np.isnan(copy)
    assert np.array_equal(copy[~gone], X[~gone])
    assert gone[:, [INDEX[name] for name in ("pageValue", "bounceRate", "exitRate")]].all()
    assert abs(gone[:, INDEX["productCount"]].mean() - missingness.DROP_ACTIVITY) < 0.01
    assert abs(gone[:, INDEX["region"]].mean() - missingness.DROP_CONTEXT) < 0.01
    either = 1 - (1 - missingness.DROP_ACTIVITY) * (1 - missingness.DROP_EVENTS)
    assert abs(gone[:, INDEX["clickCount"]].mean() - either) < 0.01
    assert not np.isnan(X).any(), "the original is left as it was"


def test_a_level_of_a_row_does_not_depend_on_the_rows_beside_it():
    X = known(300)
    X[np.random.default_rng(1).random(X.shape) < 0.5] = np.nan
    weights = missingness.weights(known())
    assert [missingness.level(X[i : i + 1], weights)[0] for i in range(len(X))] == missingness.level(X, weights).tolist()
