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
    """Return the probabilities of margins, float32 [margins]."""
    out = np.empty_like(margins)
    for row in range(margins.size):
        out[row] = logistic(margins[row])
    return out


@on_cpu
def exponential(margins: F32) -> F32:
    """Return the exponentials of margins, float32 [margins]."""
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


def each(of_flat: Callable[[F32], F32]) -> Callable[[F32], F32]:
    """Return a function that applies `of_flat`, a function of float32 [margins], to margins, float32 [rows] or [rows, targets]."""

    def response(margins: F32) -> F32:
        return of_flat(margins.ravel()).reshape(margins.shape)  # a view for one target: the kernel is compiled for flat arrays alone

    return response


def identity(margins: F32) -> F32:
    """Return the margins: for these objectives they are the predictions."""
    return margins


def positive(margins: F32) -> F32:
    """Return 1 for margins above 0, else 0, float32 [rows] or [rows, targets]."""
    return (margins > 0).astype(np.float32)


def likeliest(margins: F32) -> F32:
    """Return the class of the largest margin, the first of equals, float32 [rows]."""
    classes: Intp = margins.argmax(axis=1)
    return classes.astype(np.float32)


RESPONSES: dict[str, Callable[[F32], F32]] = {
    "binary:hinge": positive,
    "binary:logistic": each(sigmoid),
    "binary:logitraw": identity,
    "count:poisson": each(exponential),
    "multi:softmax": likeliest,
    "multi:softprob": softmax,
    "rank:map": identity,
    "rank:ndcg": identity,
    "rank:pairwise": identity,
    "reg:absoluteerror": identity,
    "reg:gamma": each(exponential),
    "reg:logistic": each(sigmoid),
    "reg:pseudohubererror": identity,
    "reg:quantileerror": identity,
    "reg:squarederror": identity,
    "reg:squaredlogerror": identity,
    "reg:tweedie": each(exponential),
    "survival:aft": each(exponential),
    "survival:cox": each(exponential),
}
