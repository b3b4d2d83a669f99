"""Gradient boosting for sessions, for requests with many features and with few.

The trees are fitted to three copies of each session: as it is, without its page value, and with more features masked at random
(`missingness.masked`). The target of the two masked copies is not the label but the out-of-fold probability of a teacher with all features.
It has the same mean as the label and far less noise, so the model is better without page values than one fitted to such sessions alone
(generalised distillation: Lopez-Paz et al. 2016; `metrics.json`, `specialists`).

Rows are neither resampled nor weighted by class: the result is a probability.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost as xgb

from kernels.types import F32, F64
from training.features import CATEGORIES, INDEX, Vocabulary
from training.models.shared import missingness
from training.models.shared.calibration import probability
from training.models.shared.folds import stratified

# Chosen by 10-fold cross-validation on online_shoppers with several seeds. Deeper or more trees gain up to .002 of AUC and
# cost two to three times the SHAP time; fewer columns per node and heavy leaves prevent overfitting to 1,500 buyers.
ROUNDS = 180
PARAMETERS: Mapping[str, Any] = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "eta": 0.05,
    "max_depth": 5,
    "min_child_weight": 15,
    "subsample": 0.8,
    "colsample_bynode": 0.5,
}
TEACHER_FOLDS = 5
NO_PAGE_VALUE_WEIGHT, MASKED_WEIGHT = 1.5, 0.5  # of the copy without page value, and of the masked one; the session as it is has 1

MIN_VALUE_ROWS = 5  # rows of a category value; a rarer one counts as missing
SHRINKAGE = 20.0  # weight of the base rate in a category value's rate, in rows


@dataclass(frozen=True, slots=True)
class Ranks:
    """The order of each category's values by purchase rate: `of[feature][id]` float32 is the rank, NaN for a rare value."""

    of: Mapping[str, F32]

    @classmethod
    def fit(cls, X: F32, y: F64) -> "Ranks":
        """Return the ranks of the values in X, whose category columns hold ids."""
        return cls({name: places(X[:, INDEX[name]], y) for name in CATEGORIES})

    def apply(self, X: F32) -> F32:
        """Return X with ranks instead of ids in the category columns."""
        out = X.copy()
        for name, ranks in self.of.items():
            out[:, INDEX[name]] = placed(X[:, INDEX[name]], ranks)
        return out

    def vocabulary(self, keys: Mapping[str, Sequence[str]]) -> Vocabulary:
        """Return the codes of the values for a model trained on ranks; keys[feature][id] is the value's key."""
        codes = {name: zip(keys.get(name, ()), ranks.tolist(), strict=False) for name, ranks in self.of.items()}
        return Vocabulary({name: dict(sorted(((k, r) for k, r in pairs if r == r), key=lambda p: p[1])) for name, pairs in codes.items()})


@dataclass(frozen=True, slots=True)
class FittedTrees:
    """Fitted trees with the order of their categories; their teachers, and the out-of-fold probabilities of these: float64 [n]."""

    booster: xgb.Booster
    ranks: Ranks
    teachers: tuple[xgb.Booster, ...]
    taught: F64

    def margin(self, X: F32) -> F64:
        """Return the raw margin float64 [n] of X float32 [n, features], category columns as ids."""
        return margin(self.booster, self.ranks.apply(X))

    def reference(self, X: F32) -> F64:
        """Return the probability float64 [n] by the first teacher, for rows that no teacher was fitted on."""
        return probability(margin(self.teachers[0], self.ranks.apply(X)))


def fit(X: F32, y: F64, seed: int, threads: int = 1, teacher_folds: int = TEACHER_FOLDS) -> FittedTrees:
    """Return trees fitted on X float32 [n, features], category columns as ids, and y [n] in {0, 1}."""
    ranks = Ranks.fit(X, y)
    X = ranks.apply(X)
    teachers, taught = _teach(X, y, seed, threads, teacher_folds)
    copies = [(X, y, 1.0), (missingness.masked(X, seed), taught, MASKED_WEIGHT)]
    less = missingness.without(X, ["pageValue"])
    if not np.array_equal(less, X, equal_nan=True):
        copies.append((less, taught, NO_PAGE_VALUE_WEIGHT))
    rows, target, weight = zip(*copies, strict=True)
    booster = _boost(np.concatenate(rows), np.concatenate(target), seed, threads, np.repeat(weight, len(y)))
    return FittedTrees(booster, ranks, teachers, taught)


def specialist(X: F32, y: F64, seed: int, threads: int = 1) -> tuple[Ranks, xgb.Booster]:
    """Return a specialist: trees of the same size, fitted once to the rows as they are."""
    ranks = Ranks.fit(X, y)
    return ranks, _boost(ranks.apply(X), y, seed, threads)


def margin(booster: xgb.Booster, X: F32) -> F64:
    """Return the raw margin float64 [n] of X float32 [n, features]; row i depends on row i alone, to the bit."""
    return np.asarray(booster.inplace_predict(X, predict_type="margin", validate_features=False), np.float64)


def places(ids: F32, y: F64) -> F32:
    """Return the rank of each value by its rate of positive rows, float32 [values], NaN for a rare one.

    ids: float32 [n], a category column, NaN where missing; y: [n] in {0, 1}. Rates are shrunk to the overall one (SHRINKAGE).
    """
    known = ~np.isnan(ids)
    number = ids[known].astype(np.intp)
    counts, positives = np.bincount(number), np.bincount(number, weights=y[known])
    rate = (positives + SHRINKAGE * y.mean()) / (counts + SHRINKAGE)
    common = np.flatnonzero(counts >= MIN_VALUE_ROWS)
    out = np.full(len(counts), np.nan, np.float32)
    out[common[np.argsort(rate[common], kind="stable")]] = np.arange(len(common))
    return out


def placed(ids: F32, places: F32) -> F32:
    """Return the places float32 [n] of a category column's ids, NaN where an id is missing or has none."""
    out = np.full(len(ids), np.nan, np.float32)
    known = ~np.isnan(ids) & (ids < len(places))
    out[known] = places[ids[known].astype(np.intp)]
    return out


def _teach(X: F32, y: F64, seed: int, threads: int, number: int) -> tuple[tuple[xgb.Booster, ...], F64]:
    taught = np.empty(len(y))
    teachers = list[xgb.Booster]()
    for learn, judge in stratified(y, number, seed):
        teachers.append(_boost(X[learn], y[learn], seed, threads))
        taught[judge] = probability(margin(teachers[-1], X[judge]))
    return tuple(teachers), taught


def _boost(X: F32, target: F64, seed: int, threads: int, weight: F64 | None = None) -> xgb.Booster:
    data = xgb.QuantileDMatrix(X, target, weight=weight, nthread=threads)
    return xgb.train({**PARAMETERS, "seed": seed, "nthread": threads}, data, ROUNDS)
