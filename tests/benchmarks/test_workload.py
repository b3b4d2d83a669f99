"""What the peers are asked."""

import numpy as np
import pytest

from benchmarks.comparison import batches, highest, holds
from benchmarks.workload import INTERACTIONS, grown, matrix, twenty
from kernels.trees import ensemble


def test_requests_have_exactly_twenty_interactions_and_short_sessions_are_left_out():
    requests = [{"sessionId": n, "behaviorData": {"interactions": list(range(n))}} for n in (0, 19, 20, 21, 300)]
    kept = twenty(requests)
    assert [request["sessionId"] for request in kept] == [20, 21, 300]
    assert all(request["behaviorData"]["interactions"] == list(range(INTERACTIONS)) for request in kept)


def test_the_bare_model_has_the_given_number_of_nearly_complete_trees():
    found = ensemble.read(grown(5, 4, 6))
    leaves = (found.feature < 0).sum()
    assert (len(found.roots) - 1, found.columns) == (5, 6)
    assert leaves >= 0.9 * 5 * 2**4


def test_rows_are_the_same_after_a_trip_through_json():
    rows = matrix(50, 3)
    assert np.array_equal(rows, np.array([[float(f"{value:.4f}") for value in row] for row in rows.tolist()], np.float32))


def test_batches_hold_every_request_and_what_its_answer_must_be():
    bodies, numbers = batches([b"0", b"1", b"2"], [0.0, 0.1, 0.2], 2)
    assert bodies[:3] == [b"[0,1]", b"[2,0]", b"[1,2]"]
    assert numbers[:3] == [(0.0, 0.1), (0.2, 0.0), (0.1, 0.2)]
    assert batches([b"0"], [0.5], 1) == ([b"0"], [(0.5,)])


def run(offered, p99_ms, errors=None):
    return {"offered": offered, "p99_ms": p99_ms, "errors": errors or {}, "requests": 10}


@pytest.mark.parametrize(
    ("swept", "rate"),
    [
        ([run(10, 1.0), run(20, 9.9), run(30, 10.1)], 20),
        ([run(10, 1.0), run(20, 11.0), run(30, 5.0)], 10),
        ([run(10, 1.0), run(20, 2.0, {"429": 1})], 10),
        ([run(10, 11.0)], 0),
        ([], 0),
    ],
)
def test_the_rate_that_holds_is_the_highest_below_which_nothing_failed(swept, rate):
    assert highest(swept) == rate
    assert [holds(each) for each in swept][: len([each for each in swept if each["offered"] <= rate])] == [True] * (rate // 10)
