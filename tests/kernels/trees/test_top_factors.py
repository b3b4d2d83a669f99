"""The largest shares of a row, against Python's sort, sum and formatting."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernels.trees.top_factors import rounded, shortlist
from tests.naive import trees as naive

WIDTH = 6
SHARE = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, -7.0])
VALUE = st.floats(width=32, allow_nan=True)
ROW = st.tuples(
    st.lists(VALUE, min_size=WIDTH, max_size=WIDTH),
    st.lists(SHARE, min_size=WIDTH, max_size=WIDTH),
    st.integers(0, WIDTH + 2),
    SHARE,
)


@given(st.lists(ROW, max_size=4))
@settings(deadline=None)
def test_the_largest_shares_come_first_equal_ones_in_order_and_the_rest_last(rows):
    X = np.array([row[0] for row in rows], np.float32).reshape(-1, WIDTH)
    shares = np.array([row[1] for row in rows], np.float64).reshape(-1, WIDTH)
    most, totals = np.array([row[2] for row in rows], np.int64), np.array([row[3] for row in rows], np.float64)
    ends, *entries = shortlist(X, shares, most, totals)
    bounds = list(pairwise([0, *ends.tolist()]))
    got = [list(zip(*(part[begin:end].tolist() for part in entries), strict=True)) for begin, end in bounds]
    assert len(entries[0]) == (ends[-1] if rows else 0)
    np.testing.assert_equal(got, [naive.shortlist(*row) for row in rows])


@given(st.floats(width=32, allow_nan=False, allow_infinity=False).filter(lambda value: abs(value) > 1e-15))
@example(float(np.float32(0.2)))
@example(123456.75)
@example(-9.9999999e-5)
@example(float(np.float32(0.1)))
@example(float(np.float32(1e-15) * 2))
@example(float(np.float32(9999999.0)))
@settings(deadline=None, max_examples=2000)
def test_values_are_rounded_to_the_seven_digits_of_a_float32(value):
    assert rounded(np.float32(value)) == naive.seven_digits(value)


@pytest.mark.parametrize("value", [math.inf, -math.inf, 0.0, -0.0, float(np.float32(1e-20))])
def test_other_values_stay_as_they_are(value):
    assert repr(rounded(np.float32(value))) == repr(value)
    assert math.isnan(rounded(np.float32(math.nan)))
