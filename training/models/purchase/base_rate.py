"""The share of sessions that buy, by device and hour of day: an answer without the session's features.

A cell's rate is shrunk to the device's rate with the weight of SHRINKAGE sessions, and that to the overall rate (empirical Bayes: Robbins
1956), so that a cell of three sessions has little weight of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kernels.types import F32, F64
from training.features import INDEX, category_key

HOURS = 24
SHRINKAGE = 20.0  # weight of the parent's rate, in sessions
ANY = ""  # every device


@dataclass(frozen=True, slots=True)
class BaseRate:
    """`hourly[device][hour]`: the share of sessions that buy, by the key of the device, ANY for an unknown one."""

    hourly: Mapping[str, Sequence[float]]

    @classmethod
    def fit(cls, X: F32, y: F64, devices: Sequence[str]) -> "BaseRate":
        """Return the rates of X float32 [n, features], whose device column holds places in `devices`, and y [n] in {0, 1}."""
        hour, device = X[:, INDEX["timeOfDay"]], X[:, INDEX["deviceType"]]
        overall = float(y.mean())
        hourly = {ANY: _by_hour(hour, y, overall)}
        for number, key in enumerate(devices):
            rows = device == number
            hourly[key] = _by_hour(hour[rows], y[rows], _shrunk(y[rows], overall))
        return cls(hourly)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "BaseRate":
        """Return the rates in base_rate.json. Raises ValueError for a table of another shape."""
        hourly = {str(key): [float(rate) for rate in rates] for key, rates in content["hourly"].items()}
        if ANY not in hourly or any(len(rates) != HOURS or not all(0 <= rate <= 1 for rate in rates) for rates in hourly.values()):
            raise ValueError(f"wrong shape of the base rates: each device, and any device, needs {HOURS} rates from 0 to 1")
        return cls(hourly)

    def content(self) -> dict[str, Any]:
        """Return the content of base_rate.json."""
        return asdict(self)

    def of(self, device: str | None, hour: float) -> float:
        """Return the rate of a device (in any spelling of `category_key`) at an hour of the day, from 0 to below 24."""
        rates = self.hourly.get(category_key(device)) if device is not None else None
        return (self.hourly[ANY] if rates is None else rates)[int(hour)]


def _by_hour(hour: F32, y: F64, parent: float) -> list[float]:
    return [_shrunk(y[np.floor(hour) == number], parent) for number in range(HOURS)]


def _shrunk(y: F64, parent: float) -> float:
    return float((y.sum() + SHRINKAGE * parent) / (len(y) + SHRINKAGE))
