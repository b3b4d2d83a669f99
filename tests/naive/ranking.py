"""Twins of the statistics of rankings in `training.evaluation`: plain loops over ties, largest score first."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise


def ties(score: Sequence[float]) -> list[list[int]]:
    """Return the rows of each tie, largest score first."""
    return [[row for row, one in enumerate(score) if one == value] for value in sorted(set(score), reverse=True)]


def qini(effect: Sequence[float], treated: Sequence[bool], outcome: Sequence[float]) -> float:
    """Return the Qini coefficient: the curve has a point after each tie, and straight lines between the points."""
    n, counts, sums, curve, before = len(effect), [0, 0], [0.0, 0.0], list[float](), 0.0
    for tie in ties(effect):
        for row in tie:
            counts[treated[row]] += 1
            sums[treated[row]] += outcome[row]
        after = sums[1] - (sums[0] * counts[1] / counts[0] if counts[0] else 0.0)
        curve += [before + (after - before) * place / len(tie) for place in range(1, len(tie) + 1)]
        before = after
    return sum(point - curve[-1] * place / n for place, point in enumerate(curve, 1)) / n / n


def gini(ranked_by: Sequence[float], spend: Sequence[float]) -> float:
    """Return the normalised Gini coefficient: the mean over all orders of each tie, which gives each of its rows the tie's mean."""

    def area(score: Sequence[float]) -> Fraction:
        total, shares = Fraction(0), list[Fraction]()
        for tie in ties(score):
            mean = sum((Fraction(spend[row]) for row in tie), Fraction(0)) / len(tie)
            for _ in tie:
                total += mean
                shares.append(total)
        n = len(shares)
        return sum((share / total - Fraction(place, n) for place, share in enumerate(shares, 1)), Fraction(0)) / n

    return float(area(ranked_by) / area(spend))


def top_share(ranked_by: Sequence[float], spend: Sequence[float], number: int) -> float:
    """Return the share of the spend of the first `number` rows; of a tie that is divided, the same share of each row."""
    left, found = number, 0.0
    for tie in ties(ranked_by):
        taken = min(left, len(tie))
        found += sum(spend[row] for row in tie) * taken / len(tie)
        left -= taken
    return found / sum(spend)


def reliability(y: Sequence[float], p: Sequence[float], bins: int) -> list[tuple[int, float, float]]:
    """Return rows, mean p and mean y of bins by p: each boundary of bins of equal size is moved to the nearest end of a tie."""
    groups = ties(p)[::-1]
    ends = [0]
    for tie in groups:
        ends.append(ends[-1] + len(tie))
    n, order = len(p), [row for tie in groups for row in tie]
    wanted = [sum(n // bins + (one < n % bins) for one in range(place)) for place in range(1, bins)]
    edges = sorted({0, n, *(min(ends, key=lambda end, at=at: (abs(end - at), end)) for at in wanted)})
    parts = [order[start:end] for start, end in pairwise(edges)]
    return [(len(part), sum(p[row] for row in part) / len(part), sum(y[row] for row in part) / len(part)) for part in parts]
