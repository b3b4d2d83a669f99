"""The trees learn from sessions as they are and from copies that know less, the same way for the same seed."""

import numpy as np
import pytest

from training import features
from training.features import INDEX
from training.models.shared import trees
from training.models.shared.folds import stratified
from training.models.shared.trees import MIN_VALUE_ROWS, Ranks

REGION = INDEX["region"]


def table(rows=400, seed=0):
    """Return sessions that buy by region 2 and by page value; nothing else is known."""
    random = np.random.default_rng(seed)
    X = features.given(rows).astype(np.float32)
    X[:, REGION] = random.integers(0, 3, rows)
    X[:, INDEX["pageValue"]] = random.normal(size=rows)
    y = (random.random(rows) < 0.1 + 0.5 * (X[:, REGION] == 2) + 0.3 * (X[:, INDEX["pageValue"]] > 0)).astype(float)
    return X, y


@pytest.fixture(scope="module")
def fitted():
    return trees.fit(*table(), seed=3)


def test_the_same_seed_gives_the_same_trees_to_the_bit_and_another_seed_others(fitted):
    again, other = trees.fit(*table(), seed=3), trees.fit(*table(), seed=4)
    assert again.booster.save_raw("ubj") == fitted.booster.save_raw("ubj")
    assert other.booster.save_raw("ubj") != fitted.booster.save_raw("ubj")


def test_values_are_numbered_by_how_often_they_buy_and_rare_ones_are_missing():
    ids = np.repeat([0, 1, 2, 3], [100, 100, 100, MIN_VALUE_ROWS - 1]).astype(np.float32)
    X = features.given(len(ids)).astype(np.float32)
    X[:, REGION] = ids
    y = np.isin(np.arange(len(ids)), [*range(80), *range(100, 105), *range(200, 230)]).astype(float)
    ranks = Ranks.fit(X, y)
    assert np.array_equal(ranks.of["region"], [2, 0, 1, np.nan], equal_nan=True)
    assert ranks.vocabulary({"region": ["a", "b", "c", "d"]}).codes["region"] == {"b": 0.0, "c": 1.0, "a": 2.0}
    unseen = np.full((1, X.shape[1]), np.nan, np.float32)
    unseen[0, REGION] = 9
    assert np.isnan(ranks.apply(unseen)[0, REGION])


def test_a_feature_that_training_never_had_never_matters(fitted):
    X = fitted.ranks.apply(table(50, 1)[0])
    noise = X.copy()
    absent = np.isnan(X).all(axis=0)
    noise[:, absent] = np.random.default_rng(2).normal(0, 1e3, (50, absent.sum()))
    assert np.array_equal(trees.margin(fitted.booster, noise), trees.margin(fitted.booster, X))


def test_what_is_known_is_used_and_what_is_not_known_falls_back_on_the_average(fitted):
    X, _ = table(600, 5)
    high, low, unknown = (X.copy() for _ in range(3))
    high[:, INDEX["pageValue"]], low[:, INDEX["pageValue"]], unknown[:, INDEX["pageValue"]] = 1.5, -1.5, np.nan
    means = [fitted.margin(Z).mean() for Z in (low, unknown, high)]
    assert means[0] < means[1] < means[2]


def test_the_teachers_say_what_they_learned_on_other_rows():
    """Labels that follow nothing cannot be known from other rows: a teacher that had seen its own row would know them."""
    X, y = table()
    y = np.random.default_rng(8).permutation(y)
    taught = trees.fit(X, y, seed=0).taught
    assert abs(np.corrcoef(taught, y)[0, 1]) < 0.15
    assert taught.mean() == pytest.approx(y.mean(), abs=0.05)


def test_every_row_is_judged_once_by_folds_with_the_same_share_of_buyers():
    _, y = table()
    folds = stratified(y, 5, 0)
    assert sorted(np.concatenate([judge for _, judge in folds])) == list(range(len(y)))
    assert all(not set(learn) & set(judge) for learn, judge in folds)
    assert max(abs(y[judge].mean() - y.mean()) for _, judge in folds) < 0.02
