"""Sessions of random events, for the kernels that count friction and for those of the journey."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.networks.gru import TIMES, Network


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


def random_journeys(number: int, pages: int, attributes: int, seed: int = 0) -> tuple[NDArray[Any], ...]:
    """Return sessions of about 20 events, some of none, as `journey_features` takes them: begins, ends, page, seconds, ended and so on."""
    random = np.random.default_rng(seed)
    sizes = random.poisson(random.exponential(20, number))
    ends = np.cumsum(sizes).astype(np.int64)
    elapsed = np.cumsum(random.exponential(20, int(sizes.sum())))
    seconds = elapsed - np.repeat(elapsed[np.minimum(ends - sizes, len(elapsed) - 1)], sizes)
    ended, given = (random.random(number) < 0.5).astype(np.float32), random.normal(size=(number, attributes)).astype(np.float32)
    return ends - sizes, ends, random.integers(0, pages, len(seconds)), seconds.astype(np.float32), ended, given


def random_network(pages: int, attributes: int, width: int, outputs: int) -> Network:
    """Return a network of random weights."""
    random = np.random.default_rng(0)
    given = ((pages, width), (TIMES, width), (attributes, width), (width,), *[(width, 3 * width)] * 2, *[(3 * width,)] * 2)
    shapes = (*given, (width + attributes, width), (width,), (width, outputs), (outputs,))
    return Network(*(random.normal(0, 1 / shape[0] ** 0.5, shape).astype(np.float32) for shape in shapes))
