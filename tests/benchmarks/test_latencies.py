"""Quantiles and histograms of measured times."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.latencies import Latencies, quantile

times = st.lists(st.floats(1e-7, 1e3), min_size=1)


@given(times, st.floats(0.01, 1))
def test_a_quantile_is_the_smallest_value_that_covers_the_share(values, share):
    # numpy's inverted_cdf is the same definition
    assert quantile(sorted(values), share) == pytest.approx(np.quantile(values, share, method="inverted_cdf"))


@given(times)
def test_each_time_is_in_the_bucket_of_the_histogram_that_covers_it(values):
    kept = Latencies()
    for value in values:
        kept.append(value)
    histogram = kept.histogram()
    bounds = [bound for bound, _ in histogram]
    assert sum(number for _, number in histogram) == len(values)
    assert bounds == sorted(bounds)
    assert bounds[-1] == pytest.approx(max(values) * 1000, rel=0.11)
    assert bounds[0] == pytest.approx(min(values) * 1000, rel=0.11)


def test_nothing_measured_is_nothing_said():
    assert (Latencies().summary(), Latencies().histogram()) == ({}, [])
