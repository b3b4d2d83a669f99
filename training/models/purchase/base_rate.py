"""How often sessions buy, by device and hour of day: what can be said of a session without looking at it.

A cell's rate is the share that bought, mixed with SHRINK sessions of the device's rate, and that with SHRINK sessions of everybody's
(empirical Bayes: Robbins 1956), so that a cell of three sessions says little of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kernels.types import F32, F64
from training.features import INDEX, category_key

HOURS = 24
SHRINK = 20.0  # sessions of the rate above that a cell's own rate is mixed with
ANY = ""  # every device


@dataclass(frozen=True, slots=True)
class BaseRate:
    """`hourly[device][hour]`: the share of sessions that buy, by the key of the device, ANY for one that is not known."""

    hourly: Mapping[str, Sequence[float]]

    @classmethod
    def learn(cls, X: F32, y: F64, devices: Sequence[str]) -> "BaseRate":
        """Return the rates of X float32 [n, features], whose device column holds places in `devices`, and y [n] in {0, 1}."""
        hour, device = X[:, INDEX["timeOfDay"]], X[:, INDEX["deviceType"]]
        overall = float(y.mean())
        hourly = {ANY: _by_hour(hour, y, overall)}
        for number, key in enumerate(devices):
            rows = device == number
            hourly[key] = _by_hour(hour[rows], y[rows], _mixed(y[rows], overall))
        return cls(hourly)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "BaseRate":
        """Return what base_rate.json says. Raises ValueError when its shape is not this code's."""
        hourly = {str(key): [float(rate) for rate in rates] for key, rates in content["hourly"].items()}
        if ANY not in hourly or any(len(rates) != HOURS or not all(0 <= rate <= 1 for rate in rates) for rates in hourly.values()):
            raise ValueError("the table of base rates has another shape")
        return cls(hourly)

    def content(self) -> dict[str, Any]:
        """Return what base_rate.json says."""
        return asdict(self)

    def of(self, device: str | None, hour: float) -> float:
        """Return the rate of a device (as a caller spells it) at an hour of the day, 0 to below 24."""
        rates = self.hourly.get(category_key(device)) if device is not None else None
        return (self.hourly[ANY] if rates is None else rates)[int(hour)]


def _by_hour(hour: F32, y: F64, above: float) -> list[float]:
    return [_mixed(y[np.floor(hour) == number], above) for number in range(HOURS)]


def _mixed(y: F64, above: float) -> float:
    return float((y.sum() + SHRINK * above) / (len(y) + SHRINK))
