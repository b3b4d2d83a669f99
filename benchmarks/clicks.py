"""Sessions of random events, for the kernels that count friction."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def random_sessions(number: int, seed: int = 0) -> tuple[NDArray[Any], ...]:
    """Return sessions of about 20 events as the arrays of `friction`."""
    random = np.random.default_rng(seed)
    sizes = random.poisson(20, number)
    events = int(sizes.sum())
    offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    time_ms = np.cumsum(random.exponential(700, events)).astype(np.int64)
    x, y = (random.integers(0, 8, events).astype(np.float32) * 10 for _ in range(2))
    target, shown = random.integers(0, 4, events), random.integers(0, 5, events)
    return offsets, random.integers(0, 12, events).astype(np.int8), time_ms, x, y, target, shown, (x * 60).astype(np.float32)
