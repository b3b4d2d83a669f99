"""Where the time of one request of ours goes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

REST = "HTTP, sockets and the client"


class Stage(NamedTuple):
    """One part of the cost of a request, microseconds; `p50_us` is None where only the mean is known."""

    name: str
    mean_us: float
    p50_us: float | None


def stages(comparison: Mapping[str, Any]) -> list[Stage]:
    """Return the cost of one request of ours by stage, as measured by Server-Timing, and last what is left of the round trip."""
    alone = comparison["peers"]["ours"]["one_connection"]
    found = [Stage(name, stage["mean_ms"] * 1000, stage["p50_ms"] * 1000) for name, stage in alone["stages"].items()]
    return [*found, Stage(REST, alone["mean_ms"] * 1000 - sum(stage.mean_us for stage in found), None)]
