"""What a batch costs is learned as a line, from whatever sizes come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.scoring.cost import MAX_RATIO, Cost

seconds = st.floats(1e-6, 1.0)


def learned(fixed: float, row: float, sizes: list[int], times: int = 1) -> Cost:
    cost = Cost()
    for size in sizes * times:
        cost.learn(size, fixed + row * size)
    return cost


@given(fixed=seconds, row=seconds, sizes=st.sets(st.sampled_from([1, 2, 5, 8, 30, 64]), min_size=2))
def test_a_line_is_found_from_any_two_sizes(fixed, row, sizes):
    cost = learned(fixed, row, sorted(sizes))
    assert (cost.fixed_s, cost.row_s) == (pytest.approx(fixed, rel=1e-3, abs=1e-9), pytest.approx(row, rel=1e-3, abs=1e-9))
    assert cost.of(100) == pytest.approx(fixed + 100 * row, rel=1e-3)


def test_hours_of_single_rows_do_not_make_it_forget_what_many_take():
    cost = learned(1.0, 0.1, [1, 64])
    for _ in range(10_000):
        cost.learn(1, 1.1)
    assert cost.of(64) == pytest.approx(7.4, rel=0.01)


def test_a_machine_that_becomes_slower_is_noticed():
    cost = learned(0.0, 0.1, [1, 64])
    for _ in range(100):
        cost.learn(1, 0.3)
        cost.learn(64, 19.2)
    assert cost.of(10) == pytest.approx(3.0, rel=0.05)


@given(st.lists(st.tuples(st.integers(1, 5000), seconds), min_size=1, max_size=50), st.integers(1, 10_000))
def test_a_cost_is_never_negative_and_grows_with_the_rows(batches, rows):
    cost = Cost()
    for size, taken in batches:
        cost.learn(size, taken)
    assert cost.fixed_s >= -1e-12
    assert cost.row_s >= 0
    assert cost.of(rows) <= cost.of(rows + 1)


def test_one_stall_counts_as_a_few_batches_and_no_more():
    cost = learned(0.0, 0.001, [8], times=20)
    cost.learn(8, 60.0)
    assert cost.of(8) <= 0.008 * MAX_RATIO


def test_the_queue_drains_in_batches_of_the_largest_size():
    assert learned(1.0, 0.1, [1, 64]).drain(100, 64) == pytest.approx(2 * 1.0 + 100 * 0.1)


@given(fixed=seconds, row=seconds, limit=seconds)
def test_what_fits_into_a_time_fits_and_one_more_does_not(fixed, row, limit):
    cost = learned(fixed, row, [1, 64])
    most = cost.fitting(limit)
    assert most == 0 or cost.of(most) <= limit * (1 + 1e-6)
    assert cost.of(most + 1) >= limit * (1 - 1e-6)


def test_nothing_is_known_of_a_batch_before_the_first():
    cost = Cost()
    assert not cost.known
    assert cost.of(1000) == 0
    assert cost.fitting(1e-9) > 10**6
