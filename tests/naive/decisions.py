"""Twins of `kernels.decisions`."""

import math
from collections.abc import Sequence
from itertools import pairwise

from scipy.integrate import quad
from scipy.stats import norm


def fired(facts: Sequence[float], rule: Sequence[tuple[int, float, float]]) -> bool:
    """Return whether a rule of (fact, low, high) fires: low <= fact < high for each of them."""
    return all(low <= facts[fact] < high for fact, low, high in rule)


def best_arm_probabilities(mean: Sequence[float], spread: Sequence[float], allowed: Sequence[bool], floor: float) -> list[float]:
    """Return the probability that each arm has the highest draw: by SciPy's quadrature, arm by arm."""
    arms = [arm for arm in range(len(mean)) if allowed[arm]]
    drawn = [arm for arm in arms if spread[arm] > 0]
    best = max((arm for arm in arms if spread[arm] == 0), key=lambda arm: (mean[arm], -arm), default=None)
    least = -math.inf if best is None else mean[best]

    def below(at: float, but: int | None) -> float:
        return math.prod(norm.cdf(at, mean[arm], spread[arm]) for arm in drawn if arm != but)

    def greatest(arm: int) -> float:
        low, high = max(least, mean[arm] - 9 * spread[arm]), mean[arm] + 9 * spread[arm]
        cuts = sorted({low, high, *(mean[other] for other in arms if low < mean[other] < high)}) if low < high else []
        return sum(quad(lambda at: norm.pdf(at, mean[arm], spread[arm]) * below(at, arm), *ends, limit=200)[0] for ends in pairwise(cuts))

    chances = {arm: greatest(arm) for arm in drawn}
    if best is not None:
        chances[best] = below(mean[best], None)
    total = sum(chances.values())
    return [(1 - floor) * chances.get(arm, 0.0) / total + floor / len(arms) if arm in arms else 0.0 for arm in range(len(mean))]
