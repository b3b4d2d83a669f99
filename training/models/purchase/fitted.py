"""The purchase model while it is learned: trees, calibrated and judged by folds of their own training rows, never by rows they saw."""

from dataclasses import dataclass

import numpy as np

from kernels.types import F32, F64
from training.models.purchase.confidence import Confidence
from training.models.shared import missingness, trees
from training.models.shared.calibration import Platt, probability
from training.models.shared.trees import Trees

FOLDS = 3
TEACHER_FOLDS = 2  # of the trees of a fold, which only calibrate

ALL = missingness.LEVELS - 1
# What a caller may know that the line must fit: everything, no page value, no page statistics.
CALIBRATED = tuple(ALL & ~missingness.bits(blocks) for blocks in ((), ("pageValue",), missingness.NO_STATISTICS))


@dataclass(frozen=True, slots=True)
class Fitted:
    """Trees, their calibration line and their table of confidences."""

    trees: Trees
    platt: Platt
    confidence: Confidence

    def stated(self, X: F32) -> F64:
        """Return the probability float64 [levels, n] of X [n, features], category columns as ids, as each level would know it."""
        return probability(self.platt.apply(margins(self.trees, X)))


def fit(X: F32, y: F64, seed: int, threads: int = 1) -> Fitted:
    """Return the model fitted on X float32 [n, features], category columns as ids, and y [n] in {0, 1}."""
    whole = trees.fit(X, y, seed, threads)
    held_out = np.empty((missingness.LEVELS, len(y)))
    for learn, judge in trees.folds(y, FOLDS, seed):
        part = trees.fit(X[learn], y[learn], seed, threads, TEACHER_FOLDS)
        held_out[:, judge] = margins(part, X[judge])
    platt = Platt.fit(held_out[CALIBRATED, :].ravel(), np.tile(y, len(CALIBRATED)))
    stated = probability(platt.apply(held_out))
    return Fitted(whole, platt, Confidence.learn(whole.ranks.apply(X), stated, y, whole.taught))


def margins(fitted: Trees, X: F32) -> F64:
    """Return the raw margin float64 [levels, n] of X [n, features] as each level of knowledge would know it."""
    X = fitted.ranks.apply(X)
    out = np.empty((missingness.LEVELS, len(X)))
    for level in range(missingness.LEVELS):
        gone = [block for block in missingness.BLOCKS if block not in missingness.blocks_of(level)]
        out[level] = trees.margin(fitted.booster, missingness.without(X, gone))
    return out
