"""Twins of `kernels.trees`."""

import math
import struct
from collections.abc import Sequence, Set
from itertools import combinations
from typing import NamedTuple


class Leaf(NamedTuple):
    """A leaf: its margin, and its cover."""

    value: float
    cover: float


class Split(NamedTuple):
    """A test of a column: a row goes left when its value is less than the threshold."""

    column: int
    threshold: float
    missing_left: bool
    left: "Split | Leaf"
    right: "Split | Leaf"


def margins(base: Sequence[float], trees: Sequence[tuple[int, Split | Leaf]], row: Sequence[float]) -> list[float]:
    """Return a row's margin of each group: its base, then tree by tree the value of the row's leaf, in single precision."""
    sums = list(base)
    for group, tree in trees:
        sums[group] = _single(sums[group] + reached(tree, row).value)
    return sums


def reached(tree: Split | Leaf, row: Sequence[float]) -> Leaf:
    """Return the leaf that a row reaches."""
    if isinstance(tree, Leaf):
        return tree
    value = row[tree.column]
    goes_left = tree.missing_left if math.isnan(value) else value < tree.threshold
    return reached(tree.left if goes_left else tree.right, row)


def sigmoid(margin: float) -> float:
    """Return the probability of a margin."""
    return 1 / (1 + math.exp(-margin))


def exponential(margin: float) -> float:
    """Return the exponential of a margin."""
    return math.exp(margin)


def softmax(margins: Sequence[float]) -> list[float]:
    """Return the probabilities of the margins of all classes."""
    parts = [math.exp(margin - max(margins)) for margin in margins]
    return [part / sum(parts) for part in parts]


def _single(value: float) -> float:
    """Return the nearest number of 32 bits."""
    (nearest,) = struct.unpack("f", struct.pack("f", value))
    return float(nearest)


def shap_values(tree: Split | Leaf, row: Sequence[float]) -> list[float]:
    """Return the Shapley value of each column: its mean addition to the expectation of a tree, over the sets of other known columns."""
    return [sum(_added(tree, row, column, before) for before in range(len(row))) for column in range(len(row))]


def expected(tree: Split | Leaf, row: Sequence[float], known: Set[int]) -> float:
    """Return the mean of a tree's leaves when only some columns are known (Lundberg et al. 2020, algorithm 1)."""
    if isinstance(tree, Leaf):
        return tree.value
    left, right = (expected(child, row, known) for child in (tree.left, tree.right))
    if tree.column in known:
        value = row[tree.column]
        return left if (tree.missing_left if math.isnan(value) else value < tree.threshold) else right
    covers = [cover(tree.left), cover(tree.right)]
    share = covers[0] / sum(covers) if sum(covers) > 0 else 0.5
    return share * left + (1 - share) * right


def cover(tree: Split | Leaf) -> float:
    """Return the cover of all leaves."""
    return tree.cover if isinstance(tree, Leaf) else cover(tree.left) + cover(tree.right)


def _added(tree: Split | Leaf, row: Sequence[float], column: int, before: int) -> float:
    """Return a column's additions to all sets of `before` other columns, weighted by the share of orders in which these come first."""
    others = [other for other in range(len(row)) if other != column]
    part = 1 / (len(row) * math.comb(len(row) - 1, before))
    sets = [set(known) for known in combinations(others, before)]
    return part * sum(expected(tree, row, {*known, column}) - expected(tree, row, known) for known in sets)


class Scores(NamedTuple):
    """The scores of a row: log-odds, probability, the known blocks as bits, and the band of the probability."""

    log_odds: float
    probability: float
    level: int
    band: int


def scores(
    margin: float, line: tuple[float, float], known: Sequence[bool], weights: Sequence[Sequence[float]], edges: Sequence[float]
) -> Scores:
    """Return the scores of a row; line: slope and intercept; known: which features are; weights[feature][block]; edges of bands."""
    log_odds = line[0] * margin + line[1]
    probability = 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0
    totals = [sum(weight for weight, here in zip(column, known, strict=True) if here) for column in zip(*weights, strict=True)]
    return Scores(
        log_odds, probability, sum((total >= 0.999) << bit for bit, total in enumerate(totals)), sum(probability >= e for e in edges)
    )


def by_weight(shares: Sequence[float]) -> list[int]:
    """Return the indices of the shares by absolute value, the largest first, equal ones in order."""
    return sorted(range(len(shares)), key=lambda place: -abs(shares[place]))


def shortlist(values: Sequence[float], shares: Sequence[float], max_factors: int, total: float) -> list[tuple[int, float, float]]:
    """Return (column, value in seven digits, share) of the largest shares, then (-1, NaN, sum of the others), without zeros."""
    order = by_weight(shares)
    listed = [(column, seven_digits(values[column]), shares[column]) for column in order[:max_factors] if shares[column]]
    rest = math.fsum(shares[column] for column in order[max_factors:]) if max_factors else total
    return [*listed, (-1, math.nan, rest)] if rest else listed


def seven_digits(value: float) -> float:
    """Return a float32 as a person would write it: whole numbers unchanged, others in seven digits."""
    return value if not math.isfinite(value) or value.is_integer() or abs(value) <= 1e-15 else float(f"{value:.7g}")
