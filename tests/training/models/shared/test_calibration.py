"""A line in log-odds makes probabilities true on average."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize

from training.models.shared.calibration import Platt, probability


def drawn(rows, seed, slope=0.5, intercept=-1.0):
    random = np.random.default_rng(seed)
    margin = random.normal(-1, 3, rows)
    return margin, (random.random(rows) < probability(slope * margin + intercept)).astype(float)


def test_the_line_that_made_the_outcomes_is_found():
    platt = Platt.fit(*drawn(200_000, 0))
    assert platt.slope == pytest.approx(0.5, abs=0.01)
    assert platt.intercept == pytest.approx(-1.0, abs=0.03)


def test_no_line_is_more_likely():
    margin, y = drawn(500, 1)

    def loss(line):
        p = probability(line[0] * margin + line[1])
        return -np.sum(y * np.log(p) + (1 - y) * np.log1p(-p))

    best = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).x
    platt = Platt.fit(margin, y)
    assert [platt.slope, platt.intercept] == pytest.approx(best, abs=1e-4)


def test_the_mean_probability_is_the_base_rate():
    margin, y = drawn(1000, 2)
    assert probability(Platt.fit(margin, y).apply(margin)).mean() == pytest.approx(y.mean(), abs=1e-6)


@pytest.mark.parametrize("margin", [np.array([-2.0, -1.0, 1.0, 2.0]), np.array([2.0, 1.0, -1.0, -2.0]), np.zeros(4)], ids=str)
def test_margins_that_separate_mislead_or_say_nothing_still_give_a_rising_finite_line(margin):
    platt = Platt.fit(margin, np.array([0.0, 0.0, 1.0, 1.0]))
    assert platt.slope > 0
    assert np.isfinite([platt.slope, platt.intercept]).all()


def test_what_is_written_is_what_is_read():
    platt = Platt(0.9, -0.1)
    assert Platt.read(platt.content()) == platt


@settings(deadline=None)
@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e6, 1e6)))
def test_a_probability_alone_is_the_same_to_the_bit_as_among_others(margin):
    among = probability(margin)
    assert [probability(margin[i : i + 1])[0] for i in range(len(margin))] == among.tolist()
    assert np.all((among >= 0) & (among <= 1))
