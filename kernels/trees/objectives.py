"""XGBoost's predictions from margins, by objective: its own formulas in its own precision (src/common/math.h, src/objective)."""

import math
from collections.abc import Callable

import numpy as np

from kernels.compile import formula, on_cpu
from kernels.types import F32, Intp

ONE = np.float32(1)
MAX_EXPONENT = np.float32(88.7)
MIN_DENOMINATOR = 1e-16  # float64, which makes the division one of float64


@formula
def logistic(margin: np.float32) -> float:
    """Return the probability of a margin."""
    return 1.0 / (np.float64(np.float32(math.exp(min(-margin, MAX_EXPONENT))) + ONE) + MIN_DENOMINATOR)


@on_cpu
def sigmoid(margins: F32) -> F32:
    """Return the probabilities of margins, float32 [rows]."""
    out = np.empty_like(margins)
    for row in range(margins.size):
        out[row] = logistic(margins[row])
    return out


@on_cpu
def exponential(margins: F32) -> F32:
    """Return the exponentials of margins, float32 [rows]."""
    out = np.empty_like(margins)
    for row in range(margins.size):
        out[row] = math.exp(margins[row])
    return out


@on_cpu
def softmax(margins: F32) -> F32:
    """Return the probabilities of margins, float32 [rows, classes]; the sum is one of float64."""
    out = np.empty_like(margins)
    rows, classes = margins.shape
    for row in range(rows):
        largest = margins[row, 0]
        for one in range(1, classes):
            largest = max(largest, margins[row, one])
        total = 0.0
        for one in range(classes):
            out[row, one] = math.exp(margins[row, one] - largest)
            total += np.float64(out[row, one])
        for one in range(classes):
            out[row, one] /= np.float32(total)
    return out


def identity(margins: F32) -> F32:
    """Return the margins: for these objectives they are the predictions."""
    return margins


def positive(margins: F32) -> F32:
    """Return 1 for margins above 0, else 0, float32 [rows]."""
    return (margins > 0).astype(np.float32)


def likeliest(margins: F32) -> F32:
    """Return the class of the largest margin, the first of equals, float32 [rows]."""
    classes: Intp = margins.argmax(axis=1)
    return classes.astype(np.float32)


RESPONSES: dict[str, Callable[[F32], F32]] = {
    "binary:hinge": positive,
    "binary:logistic": sigmoid,
    "binary:logitraw": identity,
    "count:poisson": exponential,
    "multi:softmax": likeliest,
    "multi:softprob": softmax,
    "rank:map": identity,
    "rank:ndcg": identity,
    "rank:pairwise": identity,
    "reg:absoluteerror": identity,
    "reg:gamma": exponential,
    "reg:logistic": sigmoid,
    "reg:pseudohubererror": identity,
    "reg:quantileerror": identity,
    "reg:squarederror": identity,
    "reg:squaredlogerror": identity,
    "reg:tweedie": exponential,
    "survival:aft": exponential,
    "survival:cox": exponential,
}
