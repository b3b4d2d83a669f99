"""Slow, obvious twins of the kernels: plain Python over one thing at a time, written from the definitions and not from the kernels."""

import math
import struct
from collections.abc import Mapping, Sequence, Set
from decimal import Decimal
from itertools import combinations
from typing import NamedTuple

GROUP_OF_PAGE = {
    "administrative": "administrative",
    "account": "administrative",
    "cart": "administrative",
    "checkout": "administrative",
    "informational": "informational",
    "product": "product",
    "category": "product",
    "search": "product",
}
COUNTED_ACTIONS = {
    "clickCount": "click",
    "productViewCount": "product_view",
    "searchCount": "search",
    "cartAddCount": "add_to_cart",
    "cartRemoveCount": "remove_from_cart",
    "checkoutCount": "checkout",
}


class Event(NamedTuple):
    """One interaction: its type, kind of page, epoch milliseconds, pixels and milliseconds waited; NaN is unknown."""

    kind: str
    page: str
    time_ms: int
    x: float
    y: float
    wait_ms: float


def session_features(events: Sequence[Event], given: Mapping[str, float]) -> dict[str, float]:
    """Return the features of one session by name: what is given, else what its events count; what neither says is left out."""
    return {**_counted(events), **given}


def rage_clicks(events: Sequence[Event]) -> int:
    """Return how many runs of three or more clicks there are in which each is near the one before in place and time."""
    clicks = [event for event in events if event.kind == "click"]
    runs: list[list[Event]] = []
    for click in clicks:
        if runs and _near(runs[-1][-1], click):
            runs[-1].append(click)
        else:
            runs.append([click])
    return sum(len(run) >= 3 for run in runs)


def _near(one: Event, two: Event) -> bool:
    return abs(one.x - two.x) + abs(one.y - two.y) < 30 and two.time_ms - one.time_ms < 1000


def _counted(events: Sequence[Event]) -> dict[str, float]:
    if not events:
        return {}
    start, end = events[0].time_ms, events[-1].time_ms
    counted: dict[str, float] = {
        "eventCount": len(events),
        "activeSeconds": (end - start) / 1000,
        "rageClickCount": rage_clicks(events),
        "waitSeconds": sum(event.wait_ms for event in events if not math.isnan(event.wait_ms)) / 1000,
        **_visited(events),
    }
    for feature, kind in COUNTED_ACTIONS.items():
        counted[feature] = sum(event.kind == kind for event in events)
    if len(events) > 1:
        counted["lastGapSeconds"] = (end - events[-2].time_ms) / 1000
    return counted


def _visited(events: Sequence[Event]) -> dict[str, float]:
    """Return count and seconds of the visits to each group of pages; a visit ends with the next one or with the session."""
    visits = [event for event in events if event.kind in ("page_view", "product_view")]
    ends = [visit.time_ms for visit in visits[1:]] + [events[-1].time_ms]
    features: dict[str, float] = {}
    for group in ("administrative", "informational", "product"):
        stays = [end - visit.time_ms for visit, end in zip(visits, ends, strict=False) if _group(visit) == group]
        features[f"{group}Count"] = len(stays)
        features[f"{group}Seconds"] = sum(stays) / 1000
    return features


def _group(visit: Event) -> str | None:
    if visit.page == "unknown" and visit.kind == "product_view":
        return "product"
    return GROUP_OF_PAGE.get(visit.page)


class Leaf(NamedTuple):
    """The end of a tree: what it adds to the margin, and its cover."""

    value: float
    cover: float


class Split(NamedTuple):
    """A test of a column: a row goes left when its value is less than the threshold."""

    column: int
    threshold: float
    missing_left: bool
    left: "Split | Leaf"
    right: "Split | Leaf"


def margins(base: Sequence[float], trees: Sequence[tuple[int, Split | Leaf]], row: Sequence[float]) -> list[float]:
    """Return a row's margin of each group: its base, then tree by tree what the row's leaf adds to the group, in single precision."""
    sums = list(base)
    for group, tree in trees:
        sums[group] = _single(sums[group] + reached(tree, row).value)
    return sums


def reached(tree: Split | Leaf, row: Sequence[float]) -> Leaf:
    """Return the leaf that a row comes to."""
    if isinstance(tree, Leaf):
        return tree
    value = row[tree.column]
    goes_left = tree.missing_left if math.isnan(value) else value < tree.threshold
    return reached(tree.left if goes_left else tree.right, row)


def sigmoid(margin: float) -> float:
    """Return the probability of a margin."""
    return 1 / (1 + math.exp(-margin))


def exponential(margin: float) -> float:
    """Return the exponential of a margin."""
    return math.exp(margin)


def softmax(margins: Sequence[float]) -> list[float]:
    """Return the probabilities of the margins of all classes."""
    parts = [math.exp(margin - max(margins)) for margin in margins]
    return [part / sum(parts) for part in parts]


def _single(value: float) -> float:
    """Return the nearest number of 32 bits."""
    (nearest,) = struct.unpack("f", struct.pack("f", value))
    return float(nearest)


def factors(tree: Split | Leaf, row: Sequence[float]) -> list[float]:
    """Return the Shapley value of each column of a row: what it adds to what is expected of a tree, over the others known before."""
    return [sum(_added(tree, row, column, before) for before in range(len(row))) for column in range(len(row))]


def expected(tree: Split | Leaf, row: Sequence[float], known: Set[int]) -> float:
    """Return the mean of a tree's leaves when only some columns are known (Lundberg et al. 2020, algorithm 1)."""
    if isinstance(tree, Leaf):
        return tree.value
    left, right = (expected(child, row, known) for child in (tree.left, tree.right))
    if tree.column in known:
        value = row[tree.column]
        return left if (tree.missing_left if math.isnan(value) else value < tree.threshold) else right
    covers = [cover(tree.left), cover(tree.right)]
    share = covers[0] / sum(covers) if sum(covers) > 0 else 0.5
    return share * left + (1 - share) * right


def cover(tree: Split | Leaf) -> float:
    """Return the cover of all leaves together."""
    return tree.cover if isinstance(tree, Leaf) else cover(tree.left) + cover(tree.right)


def _added(tree: Split | Leaf, row: Sequence[float], column: int, before: int) -> float:
    """Return what a column adds to all sets of so many others, each by the part of the orders of columns in which it comes before."""
    others = [other for other in range(len(row)) if other != column]
    part = 1 / (len(row) * math.comb(len(row) - 1, before))
    sets = [set(known) for known in combinations(others, before)]
    return part * sum(expected(tree, row, {*known, column}) - expected(tree, row, known) for known in sets)


def columns(events: Sequence[tuple[float, int]], until: float) -> list[tuple[int, float, int]]:
    """Return (number, moment, kind) of the events of a session that count as of `until` (NaN: all), in time order; kind -1 never does."""
    counting = [(number, moment, kind) for number, (moment, kind) in enumerate(events) if kind != -1 and not moment > until]
    return sorted(counting, key=lambda event: event[1])


class Said(NamedTuple):
    """What is said of a row: log-odds, probability, which blocks are known (bit by bit), and the band of the probability."""

    log_odds: float
    probability: float
    level: int
    band: int


def scores(
    margin: float, line: tuple[float, float], known: Sequence[bool], weights: Sequence[Sequence[float]], edges: Sequence[float]
) -> Said:
    """Return what is said of a row with this margin of which these features are known: weights[feature][block], edges of bands."""
    log_odds = line[0] * margin + line[1]
    probability = 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0
    totals = [sum(weight for weight, here in zip(column, known, strict=True) if here) for column in zip(*weights, strict=True)]
    return Said(
        log_odds, probability, sum((total >= 0.999) << bit for bit, total in enumerate(totals)), sum(probability >= e for e in edges)
    )


def fired(facts: Sequence[float], rule: Sequence[tuple[int, float, float]]) -> bool:
    """Return whether a rule of (fact, low, high) fires: low <= fact < high for each of them."""
    return all(low <= facts[fact] < high for fact, low, high in rule)


def by_weight(shares: Sequence[float]) -> list[int]:
    """Return the places of the shares by their size, the largest first, equal ones in order."""
    return sorted(range(len(shares)), key=lambda place: -abs(shares[place]))


def shortlist(values: Sequence[float], shares: Sequence[float], most: int, total: float) -> list[tuple[int, float, float]]:
    """Return (column, value in seven digits, share) of the `most` largest shares, then (-1, NaN, sum) of the others, but no zeros."""
    order = by_weight(shares)
    listed = [(column, seven_digits(values[column]), shares[column]) for column in order[:most] if shares[column]]
    rest = math.fsum(shares[column] for column in order[most:]) if most else total
    return [*listed, (-1, math.nan, rest)] if rest else listed


def seven_digits(value: float) -> float:
    """Return a float32 as a person would write it: whole numbers as they are, others in seven digits."""
    return value if not math.isfinite(value) or value.is_integer() or abs(value) <= 1e-15 else float(f"{value:.7g}")


class Priced(NamedTuple):
    """The best price, what it sells in the mean over the draws, the standard deviation of that, and what it earns."""

    price: float
    demand: float
    sd: float
    worth: float


def prices(
    ladder: Sequence[float],
    price: float,
    quantity: float,
    draws: Sequence[float],
    cost: float,
    bounds: tuple[float, float],
    stock: float,
    weights: tuple[float, float, float],
) -> Priced | None:
    """Return the price of the ladder that earns most, None where none is within the bounds.

    draws: elasticities; weights: of profit, of revenue, and of the risk.
    """
    best = None
    for rung in ladder:
        if not bounds[0] <= rung <= bounds[1]:
            continue
        sold = [quantity * (rung / price) ** elasticity for elasticity in draws]
        mean = math.fsum(sold) / len(sold)
        sd = math.sqrt(math.fsum((one - mean) ** 2 for one in sold) / len(sold))
        unit = weights[0] * (rung - cost) + weights[1] * rung
        worth = unit * min(mean, stock) - weights[2] * abs(unit) * sd
        if best is None or worth > best.worth:
            best = Priced(rung, mean, sd, worth)
    return best


def ladders(ratios: Sequence[float], price: float, tick: float) -> list[float]:
    """Return prices at these ratios to a price, each the multiple of the tick that is next to it, and at least the tick."""
    return [max(float(round(Decimal(ratio * price) / Decimal(str(tick))) * Decimal(str(tick))), tick) for ratio in ratios]


def impacts(
    price: float, base: float, quantity: float, draws: Sequence[float], cost: float, stock: float, weights: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Return by how much demand, revenue and profit change in the mean over the draws, and the share of them that are elastic and gain."""
    changes, sure, before = list[tuple[float, float, float]](), 0, min(quantity, stock)
    for elasticity in draws:
        after = min(quantity * (price / base) ** elasticity, stock)
        revenue, profit = price * after - base * before, (price - cost) * after - (base - cost) * before
        changes.append((after - before, revenue, profit))
        sure += weights[0] * profit + weights[1] * revenue >= 0 and elasticity < -1
    demand, revenue, profit = (math.fsum(column) / len(draws) for column in zip(*changes, strict=True))
    return demand, revenue, profit, sure / len(draws)
