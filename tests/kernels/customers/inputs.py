"""Parameters, customers and calls that the tests of customer value share."""

import math

import numpy as np
from hypothesis import strategies as st

from kernels.customers import counting
from kernels.customers import expected_purchases as future

BG = np.array([0.243, 4.414, 0.793, 2.426])  # as printed; and with more digits
BG_FITTED = np.array([0.24259, 4.41353, 0.79289, 2.42575])
MBG = np.array([0.525, 6.183, 0.891, 1.614])
PARETO = np.array([0.5534, 10.5802, 0.6061, 11.6562])
SPEND = np.array([6.2488, 3.7446, 15.4477])
FITTED = ((counting.BG_NBD, BG), (counting.MBG_NBD, MBG), (counting.PARETO_NBD, PARETO))
NONE = np.zeros(0)
MODEL = st.sampled_from([counting.BG_NBD, counting.MBG_NBD, counting.PARETO_NBD])
STOPS = st.sampled_from([counting.BG_NBD, counting.MBG_NBD])


def size(least: float, most: float) -> st.SearchStrategy[float]:
    """Return numbers of all orders of magnitude."""
    return st.floats(math.log(least), math.log(most)).map(math.exp)


@st.composite
def customer(draw: st.DrawFn, most: int, longest: float) -> tuple[float, float, float]:
    x, age = draw(st.integers(0, most)), draw(st.floats(0, longest))
    return float(x), (draw(st.floats(0, 1)) * age if x else 0.0), age


USUAL = st.tuples(size(0.05, 20), size(0.5, 50), size(0.1, 20), size(0.5, 50))
ANY = st.tuples(*[size(1e-3, 1e3)] * 4)
CUSTOMER = customer(60, 100.0)
ANYONE = customer(1_000_000, 1e5)


def expected_purchases(model, params, customers, horizons) -> np.ndarray:
    seen = np.array(customers, np.float64).reshape(-1, 3)
    out = np.empty((len(seen), 1 + len(horizons)))
    future.expected_purchases(model, np.array(params, np.float64), seen, np.array(horizons, np.float64), out)
    return out


def discounted_purchases(model, params, customers, weeks, rate=0.1, period=1.0) -> np.ndarray:
    seen = np.array(customers, np.float64).reshape(-1, 3)
    out = np.empty(len(seen))
    future.discounted_purchases(model, np.array(params, np.float64), seen, weeks, rate, period, out)
    return out


def log_likelihoods(model, params, customers) -> np.ndarray:
    seen = np.array(customers, np.float64).reshape(-1, 3)
    out = np.empty((len(seen), 5))
    counting.log_likelihoods(model, np.array(params, np.float64), seen, out)
    return out


def new_customer_purchases(model, params, horizons) -> np.ndarray:
    out = np.empty(len(horizons))
    future.new_customer_purchases(model, np.array(params, np.float64), np.array(horizons, np.float64), out)
    return out


def probabilities(model, params, t, most) -> np.ndarray:
    out = np.empty(most)
    counting.purchase_probabilities(model, np.array(params, np.float64), t, out)
    return out
