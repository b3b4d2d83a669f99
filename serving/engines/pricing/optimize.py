"""The recommended prices of a batch, and what they change."""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import xxhash

from kernels.pricing import ladder as kernel
from kernels.types import F64
from serving.engines.pricing.columns import PriceColumns
from serving.engines.pricing.groups import GroupRule, align, best_rung
from serving.engines.types import from_epoch_ms

INTERVAL_ENDS = np.array([NormalDist().inv_cdf(share) for share in (0.1, 0.9)])  # standard deviations: the middle 80 %


class PricePredictions(NamedTuple):
    """Predictions as columns [n]; changes: [n, kernels.pricing.ladder.CHANGES].

    best: the rung that earns most within the guard rails, NaN where there is none.
    unconstrained: the best rung without any rule; with_stock: with no rule but the stock.
    shadow: what one more unit of stock would earn; propensity: the probability with which the price was drawn.
    aligned_by: the rule that made a price agree with others, of a catalogue with groups.
    """

    columns: PriceColumns
    price: F64
    best: F64
    unconstrained: F64
    with_stock: F64
    shadow: F64
    propensity: F64
    changes: F64
    aligned_by: list[GroupRule]


def optimize(columns: PriceColumns) -> PricePredictions:
    """Return the price of each row within its guard rails, and what it changes."""
    inputs, ladder, rows = columns.inputs, columns.ladder, len(columns.inputs)
    found, with_stock, unconstrained = np.empty((3, rows, kernel.OUTPUTS))
    kernel.prices(ladder, inputs, found)
    unbound = inputs.copy()
    unbound[:, kernel.LOW], unbound[:, kernel.HIGH] = 0.0, np.inf
    kernel.prices(ladder, unbound, with_stock)
    unbound[:, kernel.STOCK] = np.inf
    kernel.prices(ladder, unbound, unconstrained)
    price, shadow = found[:, kernel.BEST].copy(), found[:, kernel.SHADOW_PRICE].copy()
    for row in np.flatnonzero(np.isnan(price)).tolist():
        query = columns.queries[row]
        price[row] = best_rung(ladder[row : row + 1], inputs[row : row + 1], query.allowed, query.row[kernel.TICK])
    sold_out = inputs[:, kernel.STOCK] == 0
    price[sold_out], shadow[sold_out] = inputs[sold_out, kernel.PRICE], 0.0
    propensity = np.ones(rows)
    for row, query in enumerate(columns.queries):
        if query.exploration > 0 and not sold_out[row]:
            price[row], propensity[row] = _explore(columns, row, float(price[row]))
    aligned_by = list[GroupRule]()
    if columns.groups is not None:
        allowed, ticks = [query.allowed for query in columns.queries], [query.row[kernel.TICK] for query in columns.queries]
        aligned_by = align(columns.groups, ladder, inputs, allowed, ticks, price)
    changes = np.empty((rows, kernel.CHANGES))
    kernel.impacts(inputs, price, columns.has_demand, INTERVAL_ENDS, changes)
    best, free, stocked = (each[:, kernel.BEST] for each in (found, unconstrained, with_stock))
    return PricePredictions(columns, price, best, free, stocked, shadow, propensity, changes, aligned_by)


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
