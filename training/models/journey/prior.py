"""What is said of a session of which no step is known: nothing but how such sessions, and their first steps, have been."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.types import I64

UNSEEN = "unseen"
LIKE = 20.0  # sessions: so many of all stand beside those without a step


class Unseen(NamedTuple):
    """Shares of sessions: that buy, where they run on and where they have ended; that never have a step; and of their first steps."""

    running: float
    ended: float
    exit: float
    steps: tuple[float, ...]

    @classmethod
    def learn(cls, first: I64, y: NDArray[Any], pages: int) -> "Unseen":
        """Return the shares. first: int64 [sessions], the number of the first step, -1 for none; y: [sessions] in {0, 1}."""
        none = first < 0
        rate = float(y.mean())
        ended = (float(y[none].sum()) + LIKE * rate) / (float(none.sum()) + LIKE)
        steps = np.bincount(first[~none], minlength=pages) + 1.0
        return cls(rate, ended, float(none.sum() + 1) / (len(first) + 2), tuple((steps / steps.sum()).tolist()))

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "Unseen":
        """Return what `content` returned. Raises KeyError where something is missing."""
        return cls(content["running"], content["ended"], content["exit"], tuple(content["steps"]))

    def content(self) -> dict[str, Any]:
        """Return it for a bundle's JSON."""
        return self._asdict()
