"""Products whose prices must agree: those of a group have one price, and a pack costs no more than what is in it."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from kernels.pricing import ladder as kernel
from kernels.types import F64
from serving.engines.pricing.guard_rails import ANY, Band, together
from serving.engines.pricing.table import column, texts
from training.errors import CellError
from training.tables.sales import ITEM_GROUP, ONE, PACK_OF, PACK_SIZE, PRODUCT, STORE, TOGETHER

Tie = Literal["", "item_group", "pack"]

ROUNDING = 1e-9  # of a tick, that a bound may be off by the way in which numbers are written


class Pack(NamedTuple):
    """What a pack holds: so many of the product that stands in these rows."""

    parts: tuple[int, ...]
    size: float


class Ties(NamedTuple):
    """units: rows that share one price, what is in a pack before the pack; packs: of the rows that are one."""

    units: tuple[tuple[int, ...], ...]
    packs: dict[int, Pack]


def read(frame: Any) -> Ties | None:
    """Return what ties the rows of a catalogue (polars or pandas) together, None where nothing does.

    Groups and packs keep within a store where the table names stores. Raises CellError for a pack of what is not there, or of itself.
    """
    if not any(name in frame.columns for name in TOGETHER):
        return None
    stores, groups = texts(frame, STORE, ""), texts(frame, ITEM_GROUP, "")
    packs = _packs(frame, stores)
    depth = _depths(frame, packs)
    units = defaultdict[tuple[str, str, int], list[int]](list)
    for row, (store, group) in enumerate(zip(stores, groups, strict=True)):
        if group or row in packs:
            units[store, group, -1 if group else row].append(row)
    ordered = sorted(units.values(), key=lambda rows: max(depth[row] for row in rows))
    return Ties(tuple(tuple(rows) for rows in ordered if len(rows) > 1 or rows[0] in packs), packs)


def _packs(frame: Any, stores: Sequence[str]) -> dict[int, Pack]:
    products, parts, sizes = texts(frame, PRODUCT, ONE), texts(frame, PACK_OF, ""), column(frame, PACK_SIZE, 1.0)
    rows = defaultdict[tuple[str, str], list[int]](list)
    for row, key in enumerate(zip(stores, products, strict=True)):
        rows[key].append(row)
    packs = {}
    for row, (store, part, size) in enumerate(zip(stores, parts, sizes, strict=True)):
        if not part:
            continue
        if (store, part) not in rows:
            raise CellError(row, PACK_OF, part, "is no product of this table" + (f" in store {store}" if store else "") + "; add its row")
        if size is None:
            raise CellError(row, PACK_SIZE, None, f"is empty: say how many of {part} are in the pack")
        packs[row] = Pack(tuple(rows[store, part]), size)
    return packs


def _depths(frame: Any, packs: dict[int, Pack]) -> list[int]:
    """Return of each row how many packs are within one another there. Raises CellError for a pack that holds itself."""
    depth = [0] * len(frame)
    waiting, reached = dict(packs), 0
    while waiting:
        reached += 1
        ready = [row for row, pack in waiting.items() if not any(part in waiting for part in pack.parts)]
        if not ready:
            row = next(iter(waiting))
            raise CellError(
                row, PACK_OF, texts(frame, PACK_OF, "")[row], "is a pack of this one, or of one that holds it; name what is in it"
            )
        for row in ready:
            depth[row] = reached
            del waiting[row]
    return depth


def tied(ties: Ties, ladder: F64, asked: F64, allowed: Sequence[Sequence[Band]], ticks: Sequence[float], price: F64) -> list[Tie]:
    """Make prices agree, in place, and return for each row what moved it.

    ladder: [rows, rungs]; asked: [rows, kernels.pricing.ladder.ASKED]; allowed: of each row the bands of the rails; ticks: of each the coin
    price: [rows], the best for each row alone

    A group has the rung, of any of its ladders, at which its products in stock earn most together. Where the rails of its products
    contradict each other the group goes before them; the margin floors hold.
    """
    moved: list[Tie] = [""] * len(price)
    for unit in ties.units:
        selling = [row for row in unit if asked[row, kernel.STOCK] > 0]
        if not selling:
            continue
        caps = [pack.size * min(price[part] for part in pack.parts) for row in unit if (pack := ties.packs.get(row)) is not None]
        cap = min(caps, default=math.inf)
        if len(unit) == 1 and price[unit[0]] <= cap:
            continue
        tick, rungs = max(ticks[row] for row in unit), ladder[list(unit)]
        bands = _bands([allowed[row] for row in unit], cap, tick)
        if cap < math.inf:  # which may be far from the ladder, and so may the margin that goes before it
            rungs = np.append(rungs, [bands[-2][1], bands[-1][0]])
        common = best(rungs, asked[selling], bands, tick)
        for row in unit:
            if price[row] != common:
                moved[row] = "item_group" if len(unit) > 1 else "pack"
                price[row] = common
    return moved


def _bands(allowed: Sequence[Sequence[Band]], cap: float, tick: float) -> list[Band]:
    """Return the bands that hold for all: of a rail that allows no price for all of them none, the pack's before the last, the margin.

    The bounds of these two are multiples of the tick, to the side on which they hold.
    """
    common = list[Band]()
    for rail in zip(*allowed, strict=True):
        low, high = max(low for low, _ in rail), min(high for _, high in rail)
        common.append((low, high) if low <= high else ANY)
    floor = common[-1][0]
    return [*common[:-1], (0.0, _down(cap, tick) if cap < math.inf else cap), (_up(floor, tick) if floor > 0 else 0.0, math.inf)]


def best(ladder: F64, asked: F64, bands: Sequence[Band], tick: float) -> float:
    """Return the rung, of all in `ladder`, at which the products `asked` earn most together, within the bands of all rails.

    Where no rung is, the rails give way, the first first; where none meets the last, its bound, rounded up to the tick.
    """
    rungs = np.unique(ladder[~np.isnan(ladder)])
    low = 0.0
    for first in range(len(bands)):
        low, high = together(bands[first:])
        within = rungs[(rungs >= low) & (rungs <= high)]
        if len(within):
            earned = np.empty(len(within))
            kernel.earned_together(within, asked, earned)
            return float(within[earned.argmax()])
    return _up(low, tick)


def _up(price: float, tick: float) -> float:
    parts = 1 / tick
    return max(math.ceil(price * parts - ROUNDING), 1) / parts


def _down(price: float, tick: float) -> float:
    parts = 1 / tick
    return max(math.floor(price * parts + ROUNDING), 1) / parts
