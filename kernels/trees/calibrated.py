"""Calibrated scores from margins, in one call: log-odds, probability and confidence."""

import math

import numpy as np

from kernels.compile import formula, on_cpu
from kernels.types import F32, F64

MIN_KNOWN_WEIGHT = np.float32(0.999)  # of a block that counts as known: 1, less rounding


@formula
def probability_of(log_odds: float) -> float:
    """Return 1 / (1 + exp(-log_odds)), without overflow."""
    small = math.exp(-abs(log_odds))
    return (1.0 if log_odds >= 0 else small) / (1.0 + small)


@formula
def level_of(row: int, X: F32, weights: F32) -> int:
    """Return the blocks of features that are known in row `row`, as bits: those whose known features have enough weight."""
    level = 0
    for block in range(weights.shape[1]):
        known = np.float32(0)
        for column in range(weights.shape[0]):
            known += weights[column, block] if X[row, column] == X[row, column] else np.float32(0)
        level |= int(known >= MIN_KNOWN_WEIGHT) << block
    return level


@formula
def band_of(probability: float, edges: F64) -> int:
    """Return how many of the edges are not above the probability."""
    band = 0
    for edge in edges:
        band += probability >= edge
    return band


@on_cpu
def scores(
    margins: F32,
    X: F32,
    slope: float,
    intercept: float,
    weights: F32,
    edges: F64,
    table: F64,
    out: F64,
) -> None:
    """Write the log-odds, the probability and the confidence of each row into `out`, float64 [3, rows].

    margins: float32 [rows]; X: float32 [rows, features], NaN missing; log-odds are slope x margin + intercept; weights: float32 [features,
    blocks], edges: float64 [bands - 1], table: float64 [levels, bands], as in `training.models.purchase.confidence`.
    """
    for row in range(margins.size):
        log_odds = slope * float(margins[row]) + intercept
        probability = probability_of(log_odds)
        out[0, row] = log_odds
        out[1, row] = probability
        out[2, row] = table[level_of(row, X, weights), band_of(probability, edges)]
