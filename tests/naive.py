"""Slow, obvious twins of the kernels: plain Python over one thing at a time, written from the definitions and not from the kernels."""

import math
import struct
from collections.abc import Mapping, Sequence, Set
from decimal import Decimal
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import quad
from scipy.special import beta as beta_function
from scipy.special import betaln, gammaln, hyp2f1
from scipy.stats import nbinom, norm

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


def earned_together(
    rungs: Sequence[float], products: Sequence[tuple[float, float, Sequence[float], float, float]], weights: tuple[float, float, float]
) -> list[float]:
    """Return what products earn together at each price that all of them have; each is price, quantity, elasticities, cost and stock."""
    anything = (0.0, math.inf)
    found = []
    for rung in rungs:
        each = [prices([rung], price, quantity, draws, cost, anything, stock, weights) for price, quantity, draws, cost, stock in products]
        found.append(math.fsum(one.worth for one in each if one is not None))
    return found


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


def log_likelihoods(model: int, params: Sequence[float], customer: tuple[float, float, float]) -> float:
    """Return a customer's log-likelihood, as published with Gauss's function.

    model: 0 BG/NBD, 1 MBG/NBD, 2 Pareto/NBD; customer: x, t_x, T.
    """
    r, alpha, third, fourth = params
    x, t_x, age = customer
    buys = gammaln(r + x) - gammaln(r) + r * math.log(alpha)
    stays = buys - (r + x) * math.log(alpha + age) + log_stayed(model, params, x, age)
    if model == 2:
        goes = buys + third * math.log(fourth) + math.log(third / (r + third + x)) + _log_lost(params, customer)
    elif x + model == 0:
        return float(stays)
    else:
        goes = buys - (r + x) * math.log(alpha + t_x) + betaln(third + 1, fourth + x + model - 1) - betaln(third, fourth)
    return float(np.logaddexp(stays, goes))


def log_stayed(model: int, params: Sequence[float], x: float, age: float) -> float:
    """Return the log of the chance that he has not stopped: at x or x + 1 purchases, or in all the time."""
    _, _, third, fourth = params
    return -third * math.log1p(age / fourth) if model == 2 else float(betaln(third, fourth + x + model) - betaln(third, fourth))


def _log_lost(params: Sequence[float], customer: tuple[float, float, float]) -> float:
    """Return ln A0 of Fader & Hardie's note on the Pareto/NBD, -inf where T is t_x."""
    r, alpha, s, beta = params
    x, t_x, age = customer
    every, most, power = r + s + x, max(alpha, beta), s + 1 if alpha >= beta else r + x
    terms = [hyp2f1(every, power, every + 1, abs(alpha - beta) / (most + t)) * ((most + age) / (most + t)) ** every for t in (t_x, age)]
    return math.log(terms[0] - terms[1]) - every * math.log(most + age) if terms[0] > terms[1] else -math.inf


def log_likelihood(model: int, params: Sequence[float], customers: Sequence[tuple[float, float, float]], counts: Sequence[float]) -> float:
    """Return the log-likelihood of customers, so many like each."""
    return math.fsum(count * log_likelihoods(model, params, one) for one, count in zip(customers, counts, strict=True))


def futures(model: int, params: Sequence[float], customer: tuple[float, float, float], horizon: float) -> tuple[float, float]:
    """Return P(alive) and the purchases expected within a horizon: of all the likelihood, the part in which he has not stopped."""
    r, alpha, third, fourth = params
    x, _, age = customer
    stays = gammaln(r + x) - gammaln(r) + r * math.log(alpha) - (r + x) * math.log(alpha + age) + log_stayed(model, params, x, age)
    alive = math.exp(stays - log_likelihoods(model, params, customer))
    later = (r + x, alpha + age, third, fourth + age if model == 2 else fourth + x + model)
    return alive, alive * bought_by_living(model, later, horizon)


def bought_by_living(model: int, params: Sequence[float], t: float) -> float:
    """Return what a living customer buys: the mean over how likely he is to stop, or the rate at each moment that he may live to see."""
    r, alpha, third, fourth = params
    if model == 2:
        return float(quad(lambda u: r / alpha * (1 + u / fourth) ** -third, 0, t, epsabs=0, epsrel=1e-9, limit=500)[0])

    def part(v: float) -> float:
        p = 1 / (1 + math.exp(-v))
        density = math.exp(-third * math.log1p(math.exp(-v)) - fourth * math.log1p(math.exp(v)) - betaln(third, fourth))
        return density * -math.expm1(-r * math.log1p(p * t / alpha)) / p

    edges = np.arange(-40 / min(third, 1.0) - 4, 40 / min(fourth, 1.0) + 8, 2.0)  # of logit p
    return math.fsum(quad(part, low, high, epsabs=1e-13 * r * t / alpha, limit=500)[0] for low, high in pairwise(edges))


def new_customers(model: int, params: Sequence[float], t: float) -> float:
    """Return the purchases expected of a new customer, who by the MBG/NBD may have stopped at once."""
    if model != 1:
        return bought_by_living(model, params, t)
    r, alpha, a, b = params
    return b / (a + b) * bought_by_living(model, (r, alpha, a, b + 1), t)


def discounted(
    model: int, params: Sequence[float], customer: tuple[float, float, float], weeks: float, rate: float, period: float
) -> float:
    """Return the expected purchases of each period, discounted from its end."""
    ends = [min((place + 1) * period, weeks) for place in range(math.ceil(weeks / period))]
    expected_by = [0.0, *(futures(model, params, customer, end)[1] for end in ends)]
    return math.fsum(
        (after - before) / (1 + rate) ** (end * 7 / 365.25) for before, after, end in zip(expected_by, expected_by[1:], ends, strict=False)
    )


def purchase_probabilities(model: int, params: Sequence[float], t: float, most: int) -> list[float]:
    """Return P(X(t) = x), x from 0: either he lives after x purchases, or the x-th was his last; the first may be that by the MBG/NBD."""
    r, alpha, a, b = params
    bought = [float(nbinom.pmf(x, r, alpha / (alpha + t))) for x in range(most)]
    return [
        bought[x] * math.exp(log_stayed(model, params, x, t))
        + (beta_function(a + 1, b + x + model - 1) / beta_function(a, b) * (1 - math.fsum(bought[:x])) if x + model else 0.0)
        for x in range(most)
    ]


def spend_log_likelihoods(params: Sequence[float], x: float, mean: float) -> float:
    """Return the log-likelihood of a mean spend over x purchases: a gamma distribution whose rate is gamma distributed."""
    p, q, v = params
    return float(
        -betaln(p * x, q) + q * math.log(v) + (p * x - 1) * math.log(mean) + p * x * math.log(x) - (p * x + q) * math.log(v + x * mean)
    )


def spend_log_likelihood(params: Sequence[float], customers: Sequence[tuple[float, float]], counts: Sequence[float]) -> float:
    """Return the log-likelihood of customers' mean spends, so many like each."""
    return math.fsum(count * spend_log_likelihoods(params, *one) for one, count in zip(customers, counts, strict=True))


def mean_spends(params: Sequence[float], x: float, mean: float) -> float:
    """Return a customer's expected spend: between his own mean and that of all, by how much he has bought."""
    p, q, v = params
    own = p * x / (p * x + q - 1)
    return (1 - own) * p * v / (q - 1) + own * mean


def lives(
    model: int, params: Sequence[float], customer: tuple[float, float, float], t: float, random: np.random.Generator, many: int
) -> np.ndarray:
    """Return how many purchases each of `many` customers who are alike makes within t weeks, by living their lives."""
    x, _, age = customer
    r, alpha, third, fourth = params
    rate = random.gamma(r + x, 1 / (alpha + age), many)
    if model == 2:
        lost_at = random.exponential(1 / random.gamma(third, 1 / (fourth + age), many))
        bought = random.poisson(rate * np.minimum(lost_at, t))
    else:
        stops = random.beta(third, fourth + x + model, many)
        bought = np.minimum(random.poisson(rate * t), random.geometric(np.maximum(stops, 1e-12)))
    alive, _ = futures(model, params, customer, t)
    return np.where(random.random(many) < alive, bought, 0)


def quiet(model: int, params: Sequence[float], customer: tuple[float, float, float], t: float) -> float:
    """Return the chance that a customer buys nothing: he is none any more, or buys nothing before he is lost or the time is over."""
    x, _, age = customer
    r, alpha, third, fourth = params
    alive, _ = futures(model, params, customer, t)

    def none_until(end: float) -> float:
        return float((1 + end / (alpha + age)) ** -(r + x))

    if model != 2:
        return 1 - alive * (1 - none_until(t))
    left = (1 + t / (fourth + age)) ** -third
    lost = quad(lambda end: none_until(end) * third / (fourth + age) * (1 + end / (fourth + age)) ** (-third - 1), 0, t, epsrel=1e-10)[0]
    return float(1 - alive * (1 - left * none_until(t) - lost))


def ranges(
    model: int,
    params: Sequence[float],
    customer: tuple[float, float, float],
    t: float,
    spend: Sequence[float],
    spent: tuple[float, float],
    levels: Sequence[float],
    many: int = 400_000,
) -> np.ndarray:
    """Return quantiles of what many customers who are alike spend: each has a rate of spending of his own."""
    random = np.random.default_rng(0)
    bought = lives(model, params, customer, t, random, many)
    p, q, v = spend
    x, mean = spent
    own = random.gamma(q + p * x, 1 / (v + x * mean), many)
    return np.quantile(np.where(bought > 0, random.gamma(p * np.maximum(bought, 1)) / own, 0.0), levels)


class Moved(NamedTuple):
    """One event of a session as `kernels.sessions.friction` has it; NaN and 0 are unknown."""

    kind: str
    time_ms: int
    x: float = math.nan
    y: float = math.nan
    target: int = 0
    page: int = 0
    wait_ms: float = math.nan


ANSWERS = ("page", "change", "input", "back")
ACTS = ("page", "click", "scroll", "back", "focus", "input", "hover")  # what a shopper does; a pointer moves by itself


def friction(events: Sequence[Moved], limits: Mapping[str, float]) -> dict[str, list[int]]:
    """Return at which events each thing is seen that is counted, by its name: every rule looks at the whole session by itself."""
    now, latest = [], -1
    for event in events:
        latest = max(latest, event.time_ms)
        now.append(latest)
    rules = {
        "rageClick": rages,
        "deadClick": dead_clicks,
        "errorClick": error_clicks,
        "uTurn": u_turns,
        "pageLoop": page_loops,
        "thrashedCursor": thrashed,
        "hesitation": hesitations,
        "refocus": refocuses,
        "longWait": long_waits,
        "scriptError": script_errors,
        "unknownKind": unknown_kinds,
        "unordered": unordered,
    }
    return {name: rule(events, now, limits) for name, rule in rules.items()}


def start() -> list[Moved]:
    """Return a session without an event."""
    return []


def update(events: Sequence[Moved], event: Moved) -> list[Moved]:
    """Return the session with one event more."""
    return [*events, event]


def friction_scores(counts: Mapping[str, int]) -> float:
    """Return the friction score of a session."""
    return 5 * counts["scriptError"] + 4 * counts["rageClick"] + 4 * counts["errorClick"] + 2 * counts["deadClick"]


def rages(events: Sequence[Moved], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the clicks that are the third of a run of near ones."""
    clicks = [place for place, event in enumerate(events) if event.kind == "click"]
    found, run = [], 0
    for number, place in enumerate(clicks):
        one, before = events[place], events[clicks[number - 1]]
        near = number > 0 and abs(one.x - before.x) + abs(one.y - before.y) < limits["ragePixels"]
        run = run + 1 if near and now[place] - now[clicks[number - 1]] < limits["rageMs"] else 1
        found += [place] if run == limits["rageClicks"] else []
    return found


def dead_clicks(events: Sequence[Moved], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the events by which a click has gone without an answer for too long; of more than 15 that wait the oldest is forgotten."""
    found, waiting, before = [], list[int](), None
    for place, event in enumerate(events):
        found += [place for since in waiting if now[place] - since >= limits["deadMs"]]
        waiting = [since for since in waiting if now[place] - since < limits["deadMs"]]
        if event.kind in ANSWERS:
            waiting = []
        if event.kind == "scroll":
            waiting = [since for since in waiting if now[place] - since >= limits["deadScrollMs"]]
        if event.kind == "focus":
            waiting = [since for since in waiting if now[place] - since >= limits["deadFocusMs"]]
        if event.kind == "click":
            focused = any(events[other].kind == "focus" and now[place] - now[other] < limits["deadFocusMs"] for other in range(place))
            same = before is not None and event.target == events[before].target != 0
            same = same and before is not None and now[place] - now[before] < limits["sameClickMs"]
            if not (same or focused):
                waiting = [*waiting[-14:], now[place]]
            before = place
    return found


def error_clicks(events: Sequence[Moved], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the errors that come right after a click, one for each click."""
    found = []
    for place, event in enumerate(events):
        if event.kind == "click":
            for later in range(place + 1, len(events)):
                if events[later].kind == "click":
                    break
                if events[later].kind == "error" and now[later] - now[place] <= limits["errorMs"]:
                    found.append(later)
                    break
    return found


def u_turns(events: Sequence[Moved], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the pages that are the one before the last, which was left in haste and untouched."""
    visits = [place for place, event in enumerate(events) if event.kind == "page" and event.page]
    found = []
    for before, last, place in zip(visits, visits[1:], visits[2:], strict=False):
        back = events[place].page == events[before].page != events[last].page
        touched = any(event.kind in ("click", "input") for event in events[last:place])
        found += [place] if back and not touched and now[place] - now[last] <= limits["turnMs"] else []
    return found


def page_loops(events: Sequence[Moved], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the visits by which a page has been shown three times in a short time, among the latest 16, and not by its visit before."""
    visits = [(place, event.page) for place, event in enumerate(events) if event.kind == "page" and event.page]
    return _often(visits, now, limits["loopVisits"], limits["loopMs"])


def _often(marks: Sequence[tuple[int, int]], now: Sequence[int], times: float, within_ms: float) -> list[int]:
    """Return where what came has come often by then, and had not when it came before; it and the 15 before it are looked at."""
    found, was_often = [], dict[int, bool]()
    for number, (place, mark) in enumerate(marks):
        late = [other for earlier, other in marks[max(0, number - 15) : number + 1] if now[place] - now[earlier] < within_ms]
        is_often = late.count(mark) >= times
        found += [place] if is_often and not was_often.get(mark, False) else []
        was_often[mark] = is_often
    return found


def thrashed(events: Sequence[Moved], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the moves at which the pointer has turned back so often, so fast and to so little that it is thrashed about."""
    found, turns, path, at, before = [], list[tuple[int, float, float, float]](), 0.0, None, None
    for place, event in enumerate(events):
        if event.kind != "move" or math.isnan(event.x) or math.isnan(event.y):
            continue
        if at is None:
            at = event.x, event.y
            continue
        way = event.x - at[0], event.y - at[1]
        length = math.sqrt(way[0] * way[0] + way[1] * way[1])
        if length == 0:
            continue
        if before is not None:
            along = way[0] * before[0] + way[1] * before[1]
            if along < limits["thrashCosine"] * length * math.sqrt(before[0] * before[0] + before[1] * before[1]):
                turns.append((now[place], at[0], at[1], path))
                first = turns[-int(limits["thrashTurns"])] if len(turns) >= limits["thrashTurns"] else None
                if first is not None and now[place] - first[0] < limits["thrashMs"]:
                    across = math.sqrt((at[0] - first[1]) ** 2 + (at[1] - first[2]) ** 2)
                    if path - first[3] > limits["thrashRatio"] * across:
                        found.append(place)
                        turns = []
        path, at, before = path + length, (event.x, event.y), way
    return found


def hesitations(events: Sequence[Moved], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the events at which it is clear that nothing was done for long after a focus or a hover: the first so late, up to the act."""
    acts = [place for place, event in enumerate(events) if event.kind in ACTS]
    found = []
    for place, act in pairwise([*acts, len(events) - 1]):
        if events[place].kind in ("focus", "hover"):
            found += [later for later in range(place + 1, act + 1) if now[later] - now[place] > limits["hesitationMs"]][:1]
    return found


def refocuses(events: Sequence[Moved], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the focuses by which a field was focused three times, among the latest 16, and not by its focus before."""
    focuses = [(place, event.target) for place, event in enumerate(events) if event.kind == "focus" and event.target]
    return _often(focuses, now, limits["refocuses"], math.inf)


def long_waits(events: Sequence[Moved], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the waits that are long."""
    return [place for place, event in enumerate(events) if event.kind == "wait" and event.wait_ms >= limits["waitMs"]]


def script_errors(events: Sequence[Moved], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the errors."""
    return [place for place, event in enumerate(events) if event.kind == "error"]


def unknown_kinds(events: Sequence[Moved], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the events of no known kind."""
    return [place for place, event in enumerate(events) if event.kind == "unknown"]


def unordered(events: Sequence[Moved], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the events that were before one that came earlier."""
    return [place for place in range(1, len(events)) if events[place].time_ms < now[place - 1]]


def journey_features(page: Sequence[int], seconds: Sequence[float], ended: float, attributes: Sequence[float], pages: int) -> list[float]:
    """Return the features of one session after all of these events (`kernels.sessions.journey`)."""
    size = len(page)
    gaps = [later - earlier for earlier, later in pairwise(seconds)]
    count = [sum(one == kind for one in page) for kind in range(pages)]
    dwell = [sum(gap for gap, one in zip(gaps, page, strict=False) if one == kind) for kind in range(pages)]
    ago = [next((back + 1 for back, one in enumerate(reversed(page)) if one == kind), math.nan) for kind in range(pages)]
    if size:
        share = [number / size for number in count]
        last = [page[size - back] if size >= back else -1 for back in (1, 2, 3, 4)]
        latest = [gaps[-back] if len(gaps) >= back else math.nan for back in (1, 2, 3)]
        mean, longest = (sum(gaps) / len(gaps), max(gaps)) if gaps else (math.nan, math.nan)
        quick, slow = sum(gap < 2 for gap in gaps), sum(gap > 60 for gap in gaps)
        summary = [size, seconds[-1] - seconds[0], mean, longest, quick, slow, len(set(page)), page[0]]
    else:
        share, last, latest, summary = [0] * pages, [0] * 4, [0] * 3, [0] * 8
    between = [sum(pair == (one, other) for pair in pairwise(page)) for one in range(pages) for other in range(pages)]
    return [*count, *share, *dwell, *ago, *last, *latest, *summary, *attributes, ended, *between]


def journey_advance(state: Any, page: int, gap: float, elapsed: float, index: int, attributes: Any, net: Any) -> Any:
    """Return the state float64 [width] after one more event: a gated recurrent unit as PyTorch defines it."""
    times = np.array([math.log1p(gap) / 4, gap > 0, gap > 30, gap > 120, math.log1p(elapsed) / 6, math.log1p(index) / 3], float)
    x = _gelu(net.bias + net.pages[page] + times @ net.times + attributes @ net.given)
    given, kept = x @ net.input + net.input_bias, state @ net.recurrent + net.recurrent_bias
    width = len(state)
    reset, update = (1 / (1 + np.exp(-(given + kept)[part * width : (part + 1) * width])) for part in (0, 1))
    candidate = np.tanh(given[2 * width :] + reset * kept[2 * width :])
    return (1 - update) * candidate + update * state


def journey_margins(page: Sequence[int], seconds: Sequence[float], attributes: Any, net: Any) -> Any:
    """Return the network's outputs float64 [outputs] of one session after all of these events."""
    state = np.zeros(len(net.bias))
    for place, (one, at) in enumerate(zip(page, seconds, strict=True)):
        gap = at - seconds[place - 1] if place else 0.0
        state = journey_advance(state, one, gap, at - seconds[0], place, attributes, net)
    return journey_said(state, attributes, net)


def journey_said(state: Any, attributes: Any, net: Any) -> Any:
    """Return the network's outputs float64 [outputs] of a state."""
    return _gelu(np.concatenate([state, attributes]) @ net.hidden + net.hidden_bias) @ net.out + net.out_bias


def _gelu(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def best_chances(mean: Sequence[float], spread: Sequence[float], allowed: Sequence[bool], floor: float) -> list[float]:
    """Return the chance of each arm to have the greatest draw: by SciPy's quadrature, arm by arm."""
    arms = [arm for arm in range(len(mean)) if allowed[arm]]
    drawn = [arm for arm in arms if spread[arm] > 0]
    best = max((arm for arm in arms if spread[arm] == 0), key=lambda arm: (mean[arm], -arm), default=None)
    least = -math.inf if best is None else mean[best]

    def below(at: float, but: int | None) -> float:
        return math.prod(norm.cdf(at, mean[arm], spread[arm]) for arm in drawn if arm != but)

    def greatest(arm: int) -> float:
        low, high = max(least, mean[arm] - 9 * spread[arm]), mean[arm] + 9 * spread[arm]
        cuts = sorted({low, high, *(mean[other] for other in arms if low < mean[other] < high)}) if low < high else []
        return sum(quad(lambda at: norm.pdf(at, mean[arm], spread[arm]) * below(at, arm), *ends, limit=200)[0] for ends in pairwise(cuts))

    chances = {arm: greatest(arm) for arm in drawn}
    if best is not None:
        chances[best] = below(mean[best], None)
    total = sum(chances.values())
    return [(1 - floor) * chances.get(arm, 0.0) / total + floor / len(arms) if arm in arms else 0.0 for arm in range(len(mean))]
