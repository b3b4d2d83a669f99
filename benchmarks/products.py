"""Products to be priced, and the ladder of prices that they share."""

import numpy as np

from kernels.pricing import ladder
from kernels.types import F64

RUNGS = 64
RATIOS = np.geomspace(0.5, 2.0, RUNGS)


def products(number: int) -> F64:
    """Return products to be priced, without rails: [number, ladder.INPUTS]."""
    random = np.random.default_rng(0)
    asked = np.zeros((number, ladder.INPUTS))
    asked[:, ladder.PRICE] = random.uniform(5, 200, number)
    asked[:, ladder.QUANTITY] = random.uniform(1, 100, number)
    asked[:, ladder.ELASTICITY] = random.uniform(-4, -1.2, number)
    asked[:, ladder.SD] = random.uniform(0.05, 0.4, number)
    asked[:, ladder.COST] = asked[:, ladder.PRICE] * random.uniform(0.4, 0.8, number)
    asked[:, ladder.HIGH] = asked[:, ladder.STOCK] = np.inf
    asked[:, ladder.PROFIT_WEIGHT] = 1.0
    return asked
