"""Least squares within groups: coefficients, with errors that are robust to heteroscedasticity and to clusters."""

from dataclasses import dataclass

import numpy as np

from kernels.types import F64, I64

MIN_CLUSTERS = 10  # with fewer, a clustered error is unreliable
_COLLINEAR = 1e-9  # share of a column's variation, independent of those before it, below which it is left out


@dataclass(frozen=True, slots=True)
class RegressionFit:
    """coefficients: float64 [columns], NaN for a column that is collinear with those before it; errors: their standard errors.

    residuals: [rows]; freedom: rows less everything that was fitted.
    """

    coefficients: F64
    errors: F64
    residuals: F64
    freedom: float


def within(values: F64, groups: I64) -> F64:
    """Return values [rows, columns] less the mean of their group (the within transformation: Frisch, Waugh and Lovell)."""
    sizes = np.maximum(np.bincount(groups), 1)
    out = np.empty_like(values)
    for column in range(values.shape[1]):
        out[:, column] = values[:, column] - (np.bincount(groups, values[:, column]) / sizes)[groups]
    return out


def basis(X: F64, scale: F64) -> tuple[list[int], F64, F64]:
    """Return the linearly independent columns, in order, and Q [rows, kept] and R [kept, kept] with X[:, kept] = Q R.

    scale: [columns] the variation of each column before groups were taken out, the measure of what is negligible.
    """
    kept = list[int]()
    Q, R = np.empty((len(X), 0)), np.zeros((0, 0))
    for column in range(X.shape[1]):
        rest, parts = X[:, column], np.zeros(len(kept))
        for _ in range(2):  # the second pass removes rounding errors
            part = Q.T @ rest
            rest, parts = rest - Q @ part, parts + part
        size = float(np.linalg.norm(rest))
        if size**2 <= _COLLINEAR * max(float(scale[column]), 1e-30):
            continue
        kept.append(column)
        Q = np.column_stack([Q, rest / size])
        R = np.block([[R, parts[:, None]], [np.zeros((1, len(parts))), np.array([[size]])]])
    return kept, Q, R


def variation(X: F64) -> F64:
    """Return the sum of squares about the mean of each column, plus a small share of its size, so that rounding is not counted."""
    return np.asarray(((X - X.mean(axis=0)) ** 2).sum(axis=0) + 1e-6 * (X**2).mean(axis=0))


def regress(X: F64, y: F64, groups: I64, clusters: I64 | None = None, spent: float = 0.0) -> RegressionFit:
    """Return the least squares of y [rows] on X [rows, columns] with an effect for each of `groups` [rows].

    clusters: [rows], of dependent rows, for cluster-robust errors (CR1, Liang and Zeger 1986) with at least MIN_CLUSTERS of them; else
    errors are HC3 (MacKinnon and White 1985), the most reliable ones with few rows (Long and Ervin 2000). spent: degrees of freedom of
    parameters that were fitted before.
    """
    scale = variation(X)
    inner = within(np.column_stack([X, y]), groups)
    X, y = inner[:, :-1], inner[:, -1]
    kept, Q, R = basis(X, scale)
    sizes = np.bincount(groups)
    number = int((sizes > 0).sum())
    projected = Q.T @ y
    residuals = y - Q @ projected
    freedom = len(y) - number - len(kept) - spent
    coefficients, errors = np.full(X.shape[1], np.nan), np.full(X.shape[1], np.nan)
    if kept and freedom > 0:
        inverse = np.linalg.inv(R)
        coefficients[kept] = inverse @ projected
        meat = _meat(Q, residuals, sizes[groups], clusters, freedom, spent)
        errors[kept] = np.sqrt(np.maximum(np.diag(inverse @ meat @ inverse.T), 0.0))
    return RegressionFit(coefficients, errors, residuals, freedom)


def _meat(Q: F64, residuals: F64, sizes: I64, clusters: I64 | None, freedom: float, spent: float) -> F64:
    """Return the middle matrix of the sandwich estimator, in the coordinates of Q."""
    if clusters is not None:
        _, where = np.unique(clusters, return_inverse=True)
        number = int(where.max()) + 1
        if number >= MIN_CLUSTERS:
            scores = np.stack([np.bincount(where, Q[:, column] * residuals) for column in range(Q.shape[1])])
            return np.asarray(number / (number - 1) * (len(Q) - 1) / freedom * (scores @ scores.T))
    leverage = np.minimum((Q**2).sum(axis=1) + 1 / sizes + spent / len(Q), 0.99)
    weighted = Q * (residuals / (1 - leverage))[:, None]
    return np.asarray(weighted.T @ weighted)
