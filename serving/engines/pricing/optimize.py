"""The recommended prices of a batch, and what they change."""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import xxhash

from kernels.pricing import ladder as kernel
from kernels.pricing import trail
from kernels.types import F64
from serving.engines.pricing.columns import PriceColumns
from serving.engines.pricing.groups import GroupRule, align, rounded_up
from serving.engines.types import from_epoch_ms

INTERVAL_ENDS = np.array([NormalDist().inv_cdf(share) for share in (0.1, 0.9)])  # standard deviations: the middle 80 %


class PricePredictions(NamedTuple):
    """Predictions as columns [n]; trail: [n, kernels.pricing.trail.width]; changes: [n, kernels.pricing.ladder.CHANGES].

    price: the recommended one. decided: the one before exploration and groups: the rung that earns most within the guard rails, or the
    margin floor where no rung meets it, or the current price of what is sold out.
    propensity: the probability with which the price was drawn.
    aligned_by: the rule that made a price agree with others, of a catalogue with groups.
    """

    columns: PriceColumns
    price: F64
    decided: F64
    trail: F64
    propensity: F64
    changes: F64
    aligned_by: list[GroupRule]


def optimize(columns: PriceColumns) -> PricePredictions:
    """Return the price of each row within its guard rails, and what it changes."""
    inputs, ladder, rows = columns.inputs, columns.ladder, len(columns.inputs)
    found = np.empty((rows, trail.width(columns.rails.shape[1])))
    trail.trails(ladder, inputs, columns.rails, found)
    price = found[:, trail.BEST].copy()
    for row in np.flatnonzero(np.isnan(price)).tolist():
        floor, _ = columns.queries[row].allowed[-1]
        price[row] = rounded_up(floor, columns.queries[row].row[kernel.TICK])
    sold_out = inputs[:, kernel.STOCK] == 0
    price[sold_out], found[sold_out, trail.SHADOW_PRICE] = inputs[sold_out, kernel.PRICE], 0.0
    decided, propensity = price.copy(), np.ones(rows)
    for row, query in enumerate(columns.queries):
        if query.exploration > 0 and not sold_out[row]:
            price[row], propensity[row] = _explore(columns, row, float(price[row]))
    aligned_by = list[GroupRule]()
    if columns.groups is not None:
        allowed, ticks = [query.allowed for query in columns.queries], [query.row[kernel.TICK] for query in columns.queries]
        aligned_by = align(columns.groups, ladder, inputs, allowed, ticks, price)
    changes = np.empty((rows, kernel.CHANGES))
    kernel.impacts(inputs, price, columns.has_demand, INTERVAL_ENDS, changes)
    return PricePredictions(columns, price, decided, found, propensity, changes, aligned_by)


def _explore(columns: PriceColumns, row: int, price: float) -> tuple[float, float]:
    """Return the price or a rung beside it, and its probability; the draw is the same for every request for the product on a day."""
    query = columns.queries[row]
    low, high = query.row[kernel.LOW], query.row[kernel.HIGH]
    rungs = np.unique(columns.ladder[row])
    rungs = rungs[(rungs >= low) & (rungs <= high)].tolist()
    if price not in rungs or len(rungs) == 1:
        return price, 1.0
    at = rungs.index(price)
    beside = [rungs[place] for place in (at - 1, at + 1) if 0 <= place < len(rungs)]
    drawn = xxhash.xxh64_intdigest(f"{query.product}|{from_epoch_ms(query.as_of_ms).date()}".encode()) / 2**64
    if drawn >= query.exploration:
        return price, 1 - query.exploration
    return beside[int(drawn / query.exploration * len(beside))], query.exploration / len(beside)
