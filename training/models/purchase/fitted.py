"""Fit the purchase model: trees, with calibration and confidence from out-of-fold scores of the training rows."""

from dataclasses import dataclass

import numpy as np

from kernels.types import F32, F64
from training.models.purchase.confidence import Confidence
from training.models.shared import missingness, trees
from training.models.shared.calibration import Platt, probability
from training.models.shared.folds import stratified
from training.models.shared.trees import FittedTrees

FOLDS = 3
TEACHER_FOLDS = 2  # of the trees of a fold, which are used for calibration alone

ALL = missingness.LEVELS - 1
# The levels of known features that the calibration is fitted on: everything, no page value, no page statistics.
CALIBRATED = tuple(ALL & ~missingness.bits(blocks) for blocks in ((), ("pageValue",), missingness.NO_STATISTICS))


@dataclass(frozen=True, slots=True)
class FittedPurchase:
    """Trees, their calibration line and their table of confidences."""

    trees: FittedTrees
    platt: Platt
    confidence: Confidence

    def stated(self, X: F32) -> F64:
        """Return the probability float64 [levels, n] of X [n, features], category columns as ids, with the features of each level alone."""
        return probability(self.platt.apply(margins(self.trees, X)))


def fit(X: F32, y: F64, seed: int, threads: int = 1) -> FittedPurchase:
    """Return the model fitted on X float32 [n, features], category columns as ids, and y [n] in {0, 1}."""
    whole = trees.fit(X, y, seed, threads)
    held_out = np.empty((missingness.LEVELS, len(y)))
    for learn, judge in stratified(y, FOLDS, seed):
        part = trees.fit(X[learn], y[learn], seed, threads, TEACHER_FOLDS)
        held_out[:, judge] = margins(part, X[judge])
    platt = Platt.fit(held_out[CALIBRATED, :].ravel(), np.tile(y, len(CALIBRATED)))
    stated = probability(platt.apply(held_out))
    return FittedPurchase(whole, platt, Confidence.fit(whole.ranks.apply(X), stated, y, whole.taught))


def margins(fitted: FittedTrees, X: F32) -> F64:
    """Return the raw margin float64 [levels, n] of X [n, features] with the features of each level alone."""
    X = fitted.ranks.apply(X)
    out = np.empty((missingness.LEVELS, len(X)))
    for level in range(missingness.LEVELS):
        removed = [block for block in missingness.BLOCKS if block not in missingness.blocks_of(level)]
        out[level] = trees.margin(fitted.booster, missingness.without(X, removed))
    return out
