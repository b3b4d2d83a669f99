"""Measured latencies, eight bytes each, with exact quantiles and a histogram."""

import math
from array import array
from collections import Counter
from collections.abc import Sequence

STEPS = 24  # of the histogram, for each factor of ten: 10 % wide


def quantile(ascending: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def milliseconds(seconds: float) -> float:
    """Return seconds as milliseconds, to a tenth of a microsecond."""
    return round(seconds * 1000, 4)


class Latencies:
    """A growing list of seconds. `append` is an attribute, since it is called for every answer."""

    def __init__(self) -> None:
        self.seconds = array("d")
        self.append = self.seconds.append

    def __len__(self) -> int:
        return len(self.seconds)

    def summary(self) -> dict[str, float]:
        """Return mean, quantiles and maximum in milliseconds, nothing at all where nothing was measured."""
        if not self.seconds:
            return {}
        ascending = sorted(self.seconds)
        shares = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
        quantiles = {name: milliseconds(quantile(ascending, share)) for name, share in shares.items()}
        return {"mean_ms": milliseconds(math.fsum(ascending) / len(ascending)), **quantiles}

    def histogram(self) -> list[tuple[float, int]]:
        """Return (upper bound in ms, how many) of every bucket that holds something, ascending; each bucket is 10 % wide."""
        slots = Counter(math.ceil(math.log10(max(value, 1e-9) * 1000) * STEPS) for value in self.seconds)
        return [(float(f"{10 ** (slot / STEPS):.4g}"), slots[slot]) for slot in sorted(slots)]
