"""Runs of clicks near each other, which are rage if nothing answers them: one rule for friction and for session features.

A run grows while each click is near the one before it in place and time. A response between two clicks ends it: the shopper presses `+`
again because the first press has worked. A run of enough clicks is rage. If as many responses follow it as it has clicks, each click was
answered, only late, and the rage is taken back.
"""

import math

import numpy as np

from kernels.compile import formula


@formula
def is_near(
    x: np.float32, y: np.float32, x_before: float, y_before: float, same: bool, since_ms: int, pixels: float, within_ms: float
) -> bool:
    """Return whether a click is near the one `since_ms` before it: by |dx| + |dy|; where a place is unknown, by the same element."""
    apart = abs(x - x_before) + abs(y - y_before)
    return bool(since_ms < within_ms and (same if math.isnan(apart) else apart < pixels))


@formula
def after_response(run: int, responses: int, clicks: float) -> tuple[int, int, bool]:
    """Return a run after a response: its clicks, its responses since it became rage, and whether its rage is taken back.

    run: its clicks; responses: those since it has `clicks` clicks, of which it is rage.
    """
    if run < clicks:
        return 0, 0, False
    responses += 1
    if responses < run:
        return run, responses, False
    return 0, 0, True
