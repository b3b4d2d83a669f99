"""Products of a catalogue whose prices must agree: a group has one price, and a pack costs no more than its content."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from kernels.pricing import ladder as kernel
from kernels.types import F64
from serving.engines.pricing.guard_rails import ANY, Band
from serving.engines.pricing.table import column, texts
from training.errors import CellError
from training.tables.sales import ITEM_GROUP, LINKED_FIELDS, ONE, PACK_OF, PACK_SIZE, PRODUCT, STORE

GroupRule = Literal["", "item_group", "pack"]


class Pack(NamedTuple):
    """The content of a pack: `size` units of the product in the rows `parts`."""

    parts: tuple[int, ...]
    size: float


class PriceGroups(NamedTuple):
    """units: rows that share one price, the content of a pack before the pack; packs: the packs by row."""

    units: tuple[tuple[int, ...], ...]
    packs: dict[int, Pack]


def read(frame: Any) -> PriceGroups | None:
    """Return the groups and packs of a catalogue (polars or pandas), None where it has no such columns.

    They are within a store where the table has stores. Raises CellError for a pack of an unknown product, or of itself.
    """
    if not any(name in frame.columns for name in LINKED_FIELDS):
        return None
    stores, groups = texts(frame, STORE, ""), texts(frame, ITEM_GROUP, "")
    packs = _packs(frame, stores)
    depth = _depths(frame, packs)
    units = defaultdict[tuple[str, str, int], list[int]](list)
    for row, (store, group) in enumerate(zip(stores, groups, strict=True)):
        if group or row in packs:
            units[store, group, -1 if group else row].append(row)
    ordered = sorted(units.values(), key=lambda rows: max(depth[row] for row in rows))
    return PriceGroups(tuple(tuple(rows) for rows in ordered if len(rows) > 1 or rows[0] in packs), packs)


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
            raise CellError(row, PACK_SIZE, None, f"is empty: give the number of {part} in the pack")
        packs[row] = Pack(tuple(rows[store, part]), size)
    return packs


def _depths(frame: Any, packs: dict[int, Pack]) -> list[int]:
    """Return the nesting depth of each row, 0 for what is no pack. Raises CellError for a pack that contains itself."""
    depth = [0] * len(frame)
    waiting, reached = dict(packs), 0
    while waiting:
        reached += 1
        ready = [row for row, pack in waiting.items() if not any(part in waiting for part in pack.parts)]
        if not ready:
            row = next(iter(waiting))
            raise CellError(
                row,
                PACK_OF,
                texts(frame, PACK_OF, "")[row],
                "is a pack of this one, or of one that contains it; give the product that it contains",
            )
        for row in ready:
            depth[row] = reached
            del waiting[row]
    return depth


def align(
    groups: PriceGroups, ladder: F64, inputs: F64, allowed: Sequence[Sequence[Band]], ticks: Sequence[float], price: F64
) -> list[GroupRule]:
    """Make prices agree, in place, and return for each row the rule that moved it.

    ladder: [rows, rungs]; inputs: [rows, kernels.pricing.ladder.INPUTS]; allowed: the bands of each row's guard rails; ticks: the smallest
    price step of each row; price: [rows], the best one of each row alone.

    A group gets the rung, of all its products' ladders, at which its products in stock earn most together. Where the guard rails of its
    products contradict each other the group takes precedence; the margin floors hold.
    """
    moved: list[GroupRule] = [""] * len(price)
    for unit in groups.units:
        selling = [row for row in unit if inputs[row, kernel.STOCK] > 0]
        if not selling:
            continue
        caps = [pack.size * min(price[part] for part in pack.parts) for row in unit if (pack := groups.packs.get(row)) is not None]
        cap = min(caps, default=math.inf)
        if len(unit) == 1 and price[unit[0]] <= cap:
            continue
        tick, bands = max(ticks[row] for row in unit), [allowed[row] for row in unit]
        common = best_rung(ladder[list(unit)], inputs[selling], _bands(bands, math.inf, tick), tick)
        rule: GroupRule = "item_group"
        if common > cap or len(unit) == 1:
            capped = _bands(bands, cap, tick)  # the cap may be far from the ladder, and so may the margin floor, which takes precedence
            common = best_rung(np.append(ladder[list(unit)], [capped[-2][1], capped[-1][0]]), inputs[selling], capped, tick)
            rule = "pack"
        for row in unit:
            if price[row] != common:
                moved[row], price[row] = rule, common
    return moved


def _bands(allowed: Sequence[Sequence[Band]], cap: float, tick: float) -> list[Band]:
    """Return the bands of all products together; a guard rail that allows no common price is dropped.

    The band of the pack comes before the last one, the margin floor. The bounds of these two are rounded to the tick so that they hold.
    """
    common = list[Band]()
    for rail in zip(*allowed, strict=True):
        low, high = max(low for low, _ in rail), min(high for _, high in rail)
        common.append((low, high) if low <= high else ANY)
    floor = common[-1][0]
    return [
        *common[:-1],
        (0.0, rounded_down(cap, tick) if cap < math.inf else cap),
        (rounded_up(floor, tick) if floor > 0 else 0.0, math.inf),
    ]


def best_rung(ladder: F64, inputs: F64, bands: Sequence[Band], tick: float) -> float:
    """Return the rung, of all in `ladder`, at which the products `inputs` earn most together, within all bands.

    A band that no rung keeps together with those after it is kept as nearly as possible. Where none keeps the last, its lower bound is
    returned, rounded up to the tick.
    """
    rungs, (floor, _) = np.unique(ladder[~np.isnan(ladder)]), bands[-1]
    for low, high in reversed(bands):
        beyond = np.maximum(np.maximum(low - rungs, rungs - high), 0.0)
        rungs = rungs[beyond <= beyond.min()]
    if rungs[0] < floor:
        return rounded_up(floor, tick)
    earned = np.empty(len(rungs))
    kernel.joint_values(rungs, inputs, earned)
    return float(rungs[earned.argmax()])


def rounded_up(price: float, tick: float) -> float:
    """Return the lowest multiple of the tick that is no lower than a price, and at least the tick."""
    return _multiple(math.ceil(price / tick - kernel.EDGE_TOLERANCE), tick)


def rounded_down(price: float, tick: float) -> float:
    """Return the highest multiple of the tick that is no higher than a price, and at least the tick."""
    return _multiple(math.floor(price / tick + kernel.EDGE_TOLERANCE), tick)


def _multiple(number: int, tick: float) -> float:
    return float(kernel.ticked(max(number, 1) * tick, tick))
