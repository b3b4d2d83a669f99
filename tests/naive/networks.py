"""Twins of `kernels.networks`."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def journey_advance(state: Any, page: int, gap: float, elapsed: float, index: int, attributes: Any, net: Any) -> Any:
    """Return the state float64 [width] after one more event: a gated recurrent unit as PyTorch defines it."""
    times = np.array([math.log1p(gap) / 4, gap > 0, gap > 30, gap > 120, math.log1p(elapsed) / 6, math.log1p(index) / 3], float)
    x = _gelu(net.bias + net.pages[page] + times @ net.times + attributes @ net.given)
    given, kept = x @ net.input + net.input_bias, state @ net.recurrent + net.recurrent_bias
    width = len(state)
    reset, update = (1 / (1 + np.exp(-(given + kept)[part * width : (part + 1) * width])) for part in (0, 1))
    candidate = np.tanh(given[2 * width :] + reset * kept[2 * width :])
    return (1 - update) * candidate + update * state


def journey_margins(page: Sequence[int], seconds: Sequence[float], attributes: Any, net: Any) -> Any:
    """Return the network's outputs float64 [outputs] of one session after all of these events."""
    state = np.zeros(len(net.bias))
    for place, (one, at) in enumerate(zip(page, seconds, strict=True)):
        gap = at - seconds[place - 1] if place else 0.0
        state = journey_advance(state, one, gap, at - seconds[0], place, attributes, net)
    return journey_outputs(state, attributes, net)


def journey_outputs(state: Any, attributes: Any, net: Any) -> Any:
    """Return the network's outputs float64 [outputs] of a state."""
    return _gelu(np.concatenate([state, attributes]) @ net.hidden + net.hidden_bias) @ net.out + net.out_bias


def _gelu(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
