"""confidenceScore keeps its two promises on sessions that it was not learned from."""

import json

import numpy as np
import pytest

from training.features import INDEX, NAMES
from training.models.purchase.confidence import EDGES, MIN_SESSIONS, SHARE, Confidence
from training.models.purchase.validation import check
from training.models.shared import missingness
from training.models.shared.calibration import probability

ALL = missingness.LEVELS - 1


def world(rows, seed, offset=0.0):
    """Return sessions whose probability hangs on two features; a level states the mean over what it does not know."""
    random = np.random.default_rng(seed)
    X = np.full((rows, len(NAMES)), 1, np.float32)
    value, activity = random.normal(size=(2, rows))
    X[:, INDEX["pageValue"]], X[:, INDEX["productCount"]] = value, activity
    grid = np.linspace(-3, 3, 61)
    weight = np.exp(-(grid**2) / 2) / np.exp(-(grid**2) / 2).sum()
    truth = probability(1.5 * value + activity - 1.5)
    no_value = probability(1.5 * grid + activity[:, None] - 1.5) @ weight
    stated = np.tile(truth, (missingness.LEVELS, 1))
    for level in range(missingness.LEVELS):
        if not level & missingness.bits(["pageValue"]):
            stated[level] = no_value
    reference = probability(1.5 * value + activity - 1.5 + random.normal(0, 0.2, rows))
    y = (random.random(rows) < truth).astype(float)
    return X, np.clip(stated + offset, 0, 1), y, reference


def test_both_promises_hold_on_sessions_that_were_not_learned_from():
    confidence = Confidence.fit(*world(20_000, 0))
    _, stated, y, reference = world(20_000, 1)
    for level in (ALL, ALL & ~missingness.bits(["pageValue"])):
        held = check(stated[level], confidence.at(level, stated[level]), y, reference)
        assert held["rows_within"] >= SHARE - 0.02
        assert held["groups_within"] >= held["groups"] - 1


def test_knowing_less_is_never_more_confident_on_the_whole():
    X, stated, y, reference = world(20_000, 0)
    confidence = Confidence.fit(X, stated, y, reference)
    much = confidence.of(X, stated[ALL]).mean()
    less = missingness.without(X, ["pageValue"])
    assert confidence.of(less, stated[ALL & ~missingness.bits(["pageValue"])]).mean() < much - 0.1


def test_more_sessions_make_it_surer_and_a_wrong_level_of_probability_less_sure():
    few, many = (Confidence.fit(*world(rows, 2)).table[ALL].mean() for rows in (1_000, 30_000))
    assert few < many
    assert Confidence.fit(*world(30_000, 2, offset=0.2)).table[ALL].mean() < many - 0.1


def test_the_distance_covers_the_gap_between_stated_and_observed():
    """A model that is off by .2 everywhere, and agrees with its reference, is found out by outcomes."""
    X, stated, y, _ = world(20_000, 3, offset=0.2)
    confidence = Confidence.fit(X, stated, y, stated[ALL])
    assert (confidence.table[ALL][3:-1] < 0.9).all()


def test_a_band_with_few_sessions_shares_its_neighbours_distance():
    X, stated, y, reference = world(MIN_SESSIONS * 2 - 1, 4)
    assert len(set(Confidence.fit(X, stated, y, reference).table[ALL])) == 1


def test_a_level_that_training_never_saw_claims_no_more_than_the_least_that_it_did():
    X, stated, y, reference = world(3_000, 5)
    X = missingness.without(X, ["activity"])
    table = Confidence.fit(X, stated, y, reference).table
    seen = [level for level in range(missingness.LEVELS) if not level & missingness.bits(["activity"])]
    assert np.isfinite(table).all()
    assert (table[ALL] <= table[seen].min(axis=0)).all()


def test_what_is_written_is_what_is_read_and_another_shape_is_refused():
    confidence = Confidence.fit(*world(2_000, 6))
    content = json.loads(json.dumps(confidence.content()))
    again = Confidence.read(content)
    assert np.array_equal(again.table, confidence.table)
    assert np.array_equal(again.weights, confidence.weights)
    with pytest.raises(ValueError, match="another shape"):
        Confidence.read({**content, "edges": EDGES[:-1].tolist()})


def test_the_confidence_of_a_row_does_not_depend_on_the_rows_beside_it():
    X, stated, y, reference = world(500, 7)
    confidence = Confidence.fit(X, stated, y, reference)
    among = confidence.of(X, stated[ALL])
    assert [confidence.of(X[i : i + 1], stated[ALL, i : i + 1])[0] for i in range(len(X))] == among.tolist()
    assert np.all((among >= 0) & (among <= 1))
