"""The Retry-After header: the seconds after which a refused caller should try again.

The batcher estimates them from what a batch costs and how many requests wait (`serving.scoring.batcher`).
"""

import math

MAX_RETRY_S = 600
RETRY_S = 1.0  # while a server starts or drains, which nothing estimates


def whole_seconds(retry_after_s: float) -> int:
    """Return an estimate in seconds as the header and the problem state it: rounded up, from 1 to MAX_RETRY_S."""
    return math.ceil(min(max(retry_after_s, 1.0), MAX_RETRY_S))
