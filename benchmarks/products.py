"""Products to be priced, and the ladder of prices that they share."""

import numpy as np
from numpy.typing import NDArray

from kernels import pricing

RUNGS = 64
RATIOS = np.geomspace(0.5, 2.0, RUNGS)

Vector = NDArray[np.float64]


def products(number: int) -> Vector:
    """Return products to be priced, without rails: [number, pricing.ASKED]."""
    random = np.random.default_rng(0)
    asked = np.zeros((number, pricing.ASKED))
    asked[:, pricing.PRICE] = random.uniform(5, 200, number)
    asked[:, pricing.QUANTITY] = random.uniform(1, 100, number)
    asked[:, pricing.ELASTICITY] = random.uniform(-4, -1.2, number)
    asked[:, pricing.SD] = random.uniform(0.05, 0.4, number)
    asked[:, pricing.COST] = asked[:, pricing.PRICE] * random.uniform(0.4, 0.8, number)
    asked[:, pricing.HIGH] = asked[:, pricing.STOCK] = np.inf
    asked[:, pricing.PROFIT_WEIGHT] = 1.0
    return asked
