"""The prediction for a session without a known step: shares among such sessions, and of first steps."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.types import I64

UNSEEN = "unseen"
SHRINKAGE = 20.0  # weight of the overall purchase rate, in sessions


class JourneyPrior(NamedTuple):
    """Shares of sessions. running, ended: with a purchase; exit: without a step; steps: with each first step."""

    running: float
    ended: float
    exit: float
    steps: tuple[float, ...]

    @classmethod
    def fit(cls, first: I64, y: NDArray[Any], pages: int) -> "JourneyPrior":
        """Return the shares among sessions. first: int64 [sessions], the number of the first step, -1 for none; y: [sessions], 0 or 1."""
        none = first < 0
        rate = float(y.mean())
        ended = (float(y[none].sum()) + SHRINKAGE * rate) / (float(none.sum()) + SHRINKAGE)
        steps = np.bincount(first[~none], minlength=pages) + 1.0
        return cls(rate, ended, float(none.sum() + 1) / (len(first) + 2), tuple((steps / steps.sum()).tolist()))

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "JourneyPrior":
        """Return the prior in the JSON that `content` returned. Raises KeyError where a field is missing."""
        return cls(content["running"], content["ended"], content["exit"], tuple(content["steps"]))

    def content(self) -> dict[str, Any]:
        """Return the prior as JSON for a bundle."""
        return self._asdict()
