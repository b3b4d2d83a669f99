"""The trees: one gradient boosting that serves callers who know much of a session and callers who know little.

They learn from each session three times: as it is, without its page value, and with more gone at random (`knowledge.forgetful`). The two
that know less are not told whether the session bought, but how probable that was to a teacher who knew everything: trees trained on other
folds. The teacher's probability says the same on average with far less noise than a yes or no, so that one model is better without page
values than one trained on exactly that (generalised distillation: Lopez-Paz et al. 2016; `metrics.json`, `specialists`).

No row is repeated by its class and none weighs more for it: the probability is the product.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost as xgb

from kernels.types import F32, F64, Intp
from training.features import CATEGORIES, INDEX, Vocabulary
from training.models.shared import missingness
from training.models.shared.calibration import probability

# Chosen on the published online_shoppers rows by 10-fold figures over several fold seeds. Deeper or more trees gain up to .002 of AUC and
# cost two to three times the SHAP time; fewer columns a node and heavy leaves are what keeps 1,500 buyers from being learned by heart.
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
LESS_WEIGHT, MIN_WEIGHT = 1.5, 0.5  # of the copy without page value, and of the forgetful one, beside 1 for the session as it is

RARE = 5  # a category value seen less often counts as missing
SHRINK = 20.0  # sessions of the base rate that a category value's own rate is mixed with


@dataclass(frozen=True, slots=True)
class Ranks:
    """The order of each category's values by how often they buy: `of[feature][id]` float32 is the place, NaN for a rare value."""

    of: Mapping[str, F32]

    @classmethod
    def learn(cls, X: F32, y: F64) -> "Ranks":
        """Return the ranks of the values in X, whose category columns hold ids."""
        return cls({name: places(X[:, INDEX[name]], y) for name in CATEGORIES})

    def apply(self, X: F32) -> F32:
        """Return X with places instead of ids in the category columns."""
        out = X.copy()
        for name, ranks in self.of.items():
            out[:, INDEX[name]] = placed(X[:, INDEX[name]], ranks)
        return out

    def vocabulary(self, keys: Mapping[str, Sequence[str]]) -> Vocabulary:
        """Return the codes by which a model trained on ranks knows the values; keys[feature][id] is the value's key."""
        codes = {name: zip(keys.get(name, ()), ranks.tolist(), strict=False) for name, ranks in self.of.items()}
        return Vocabulary({name: dict(sorted(((k, r) for k, r in pairs if r == r), key=lambda p: p[1])) for name, pairs in codes.items()})


@dataclass(frozen=True, slots=True)
class Trees:
    """Fitted trees and the order of categories they know; their teachers, and what these said of rows they had not seen: float64 [n]."""

    booster: xgb.Booster
    ranks: Ranks
    teachers: tuple[xgb.Booster, ...]
    taught: F64

    def margin(self, X: F32) -> F64:
        """Return the raw margin float64 [n] of X float32 [n, features], category columns as ids."""
        return margin(self.booster, self.ranks.apply(X))

    def reference(self, X: F32) -> F64:
        """Return the probability float64 [n] of rows that no teacher has seen, by the first of them."""
        return probability(margin(self.teachers[0], self.ranks.apply(X)))


def fit(X: F32, y: F64, seed: int, threads: int = 1, teacher_folds: int = TEACHER_FOLDS) -> Trees:
    """Return trees fitted on X float32 [n, features], category columns as ids, and y [n] in {0, 1}."""
    ranks = Ranks.learn(X, y)
    X = ranks.apply(X)
    teachers, taught = _teach(X, y, seed, threads, teacher_folds)
    copies = [(X, y, 1.0), (missingness.forgetful(X, seed), taught, MIN_WEIGHT)]
    less = missingness.without(X, ["pageValue"])
    if not np.array_equal(less, X, equal_nan=True):
        copies.append((less, taught, LESS_WEIGHT))
    rows, target, weight = zip(*copies, strict=True)
    booster = _boost(np.concatenate(rows), np.concatenate(target), seed, threads, np.repeat(weight, len(y)))
    return Trees(booster, ranks, teachers, taught)


def plain(X: F32, y: F64, seed: int, threads: int = 1) -> tuple[Ranks, xgb.Booster]:
    """Return trees of the same size that learn from the rows as they are, once: what a specialist is."""
    ranks = Ranks.learn(X, y)
    return ranks, _boost(ranks.apply(X), y, seed, threads)


def margin(booster: xgb.Booster, X: F32) -> F64:
    """Return the raw margin float64 [n] of X float32 [n, features]; row i depends on row i alone, to the bit."""
    return np.asarray(booster.inplace_predict(X, predict_type="margin", validate_features=False), np.float64)


def folds(y: F64, number: int, seed: int) -> list[tuple[Intp, Intp]]:
    """Return the rows to learn from and those to judge on, for each of `number` folds with the same share of buyers."""
    from sklearn.model_selection import StratifiedKFold

    return list(StratifiedKFold(number, shuffle=True, random_state=seed).split(np.zeros((len(y), 1)), y))


def places(ids: F32, y: F64) -> F32:
    """Return the place of each value by how often its rows are positive: float32 [values], NaN for a rare one.

    ids: float32 [n], a category column, NaN where missing; y: [n] in {0, 1}. A value's rate is mixed with SHRINK rows of all rows' rate.
    """
    known = ~np.isnan(ids)
    number = ids[known].astype(np.intp)
    seen, bought = np.bincount(number), np.bincount(number, weights=y[known])
    rate = (bought + SHRINK * y.mean()) / (seen + SHRINK)
    common = np.flatnonzero(seen >= RARE)
    out = np.full(len(seen), np.nan, np.float32)
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
    for learn, judge in folds(y, number, seed):
        teachers.append(_boost(X[learn], y[learn], seed, threads))
        taught[judge] = probability(margin(teachers[-1], X[judge]))
    return tuple(teachers), taught


def _boost(X: F32, target: F64, seed: int, threads: int, weight: F64 | None = None) -> xgb.Booster:
    data = xgb.QuantileDMatrix(X, target, weight=weight, nthread=threads)
    return xgb.train({**PARAMETERS, "seed": seed, "nthread": threads}, data, ROUNDS)
