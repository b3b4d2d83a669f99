"""Least squares within groups, against least squares with a column for each group."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.models.pricing.regression import MIN_CLUSTERS, regress


def drawn(seed, rows=80, columns=3, groups=5):
    random = np.random.default_rng(seed)
    X, group = random.normal(size=(rows, columns)), random.integers(0, groups, rows)
    y = X @ random.normal(size=columns) + random.normal(size=groups)[group] + random.normal(size=rows) * (1 + np.abs(X[:, 0]))
    return X, y, group


def with_dummies(X, group):
    return np.column_stack([X, (group[:, None] == np.unique(group)).astype(float)])


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_effects_that_are_taken_out_are_effects_that_are_fitted(seed, groups):
    X, y, group = drawn(seed, groups=groups)
    whole = with_dummies(X, group)
    expected = np.linalg.lstsq(whole, y, rcond=None)[0]
    fit = regress(X, y, group)
    np.testing.assert_allclose(fit.coefficients, expected[:3], atol=1e-9)
    np.testing.assert_allclose(fit.residuals, y - whole @ expected, atol=1e-9)
    assert fit.freedom == 80 - whole.shape[1]


def test_errors_are_those_of_hc3():
    X, y, group = drawn(1)
    whole = with_dummies(X, group)
    bread = np.linalg.inv(whole.T @ whole)
    hat = np.einsum("ij,jk,ik->i", whole, bread, whole)
    residuals = y - whole @ (bread @ whole.T @ y)
    sandwich = bread @ (whole.T * (residuals**2 / (1 - hat) ** 2)) @ whole @ bread
    np.testing.assert_allclose(regress(X, y, group).errors, np.sqrt(np.diag(sandwich))[:3], rtol=1e-9)


def test_errors_of_clusters_are_those_of_cr1():
    X, y, group = drawn(2, rows=200)
    clusters = np.arange(200) % (MIN_CLUSTERS + 2)
    whole = with_dummies(X, group)
    bread = np.linalg.inv(whole.T @ whole)
    residuals = y - whole @ (bread @ whole.T @ y)
    number = MIN_CLUSTERS + 2
    scores = [(whole[clusters == one].T @ residuals[clusters == one]) for one in range(number)]
    meat = sum(np.outer(score, score) for score in scores)
    factor = number / (number - 1) * 199 / (200 - whole.shape[1])
    expected = np.sqrt(factor * np.diag(bread @ meat @ bread))[:3]
    np.testing.assert_allclose(regress(X, y, group, clusters).errors, expected, rtol=1e-9)


def test_a_column_that_says_nothing_new_has_no_coefficient():
    X, y, group = drawn(3)
    X = np.column_stack([X[:, 0], 2 * X[:, 0] + 1, np.full(len(y), 7.0), group.astype(float), X[:, 1]])
    fit = regress(X, y, group)
    assert np.isnan(fit.coefficients).tolist() == [False, True, True, True, False]
    np.testing.assert_allclose(fit.coefficients[[0, 4]], regress(X[:, [0, 4]], y, group).coefficients)


@pytest.mark.parametrize("rows", [1, 2])
def test_too_few_rows_give_no_coefficients(rows):
    fit = regress(np.arange(rows, dtype=float)[:, None], np.ones(rows), np.zeros(rows, np.int64))
    assert np.isnan(fit.coefficients).all()
    assert np.isnan(fit.errors).all()
