"""Tracker events of browsing in the simulated shop: each page visit becomes a view, scrolls, clicks, waits and other events.

They are independent of the purchase, given the latents. Friction causes slow pages, `wait` events and bursts of rage clicks.
"""

from dataclasses import dataclass

import numpy as np

from kernels.types import F64, I8, I64
from training.datasets.shop.audience import Audience
from training.datasets.shop.stream import PAGE_VIEW, PRODUCT_VIEW, Part, Stream, ordered
from training.datasets.shop.visits import CHECKOUT, MIN_DWELL_MS, PRODUCT, Visits
from training.features import EVENT_CODES, PAGE_CODES, PAGE_KINDS

# Mean number of events of a kind on one visit, by kind of page; "other" is the default.
RATES: dict[str, dict[str, float]] = {
    "scroll": {"product": 0.8, "category": 0.8, "search": 0.6, "informational": 1.0, "cart": 0.2, "checkout": 0.2, "other": 0.5},
    "click": {"product": 0.6, "category": 0.4, "cart": 0.5, "checkout": 0.6, "other": 0.4},
    "input": {"checkout": 2.0, "account": 1.2, "administrative": 0.6, "other": 0.0},
}
BEGIN_CHECKOUT = 0.75  # share of visits to the checkout page on which the checkout begins
LOAD_KNOWN = 0.75  # share of views with a known loading time
FIRST_LOAD_MS = 800.0  # from the start of the session to its first view where that is unknown
SCREENS = np.array([1440, 390, 820])  # pixels across, by device
PAGE_HEIGHT = 2400
BURST = (3, 6)  # rage clicks in a burst
BURST_GAP_MS = (90, 395)  # between two clicks: the longest burst fits into the shortest visit
BURST_PIXELS = 4  # maximum distance from the centre

WITH_PRODUCT = (PRODUCT_VIEW, EVENT_CODES["add_to_cart"], EVENT_CODES["remove_from_cart"])


@dataclass(frozen=True, slots=True)
class _Acts:
    """Events with their visits, in any order: [events]."""

    visit: I64
    kind: I8
    within_ms: I64  # since the start of the visit
    x: F64
    y: F64
    wait_ms: F64


def browse(rng: np.random.Generator, visits: Visits, audience: Audience) -> Stream:
    """Return all events of the visits; the first of every session is a view."""
    session = visits.session
    friction, screen = audience.friction[session], SCREENS[audience.device[session]]
    load_ms = _loads(rng, friction)
    acts = _joined(
        [
            _views(visits, load_ms),
            *_single_events(rng, visits),
            *(_repeated_events(rng, kind, visits, screen) for kind in RATES),
            _waits(rng, visits, friction),
            _bursts(rng, visits, friction, screen),
        ]
    )
    product = np.where(np.isin(acts.kind, WITH_PRODUCT), visits.product[acts.visit], -1).astype(np.int16)
    part = Part(
        session=session[acts.visit],
        kind=acts.kind,
        page=visits.page[acts.visit],
        product=product,
        after_ms=_begin_ms(visits, load_ms)[acts.visit] + acts.within_ms,
        x=acts.x.astype(np.float32),
        y=acts.y.astype(np.float32),
        wait_ms=acts.wait_ms.astype(np.float32),
    )
    return ordered([part], audience.start_ms)


def places(rng: np.random.Generator, screen: I64) -> tuple[F64, F64]:
    """Return x and y of one click per screen, float64 [screens], whole pixels."""
    return np.floor(rng.random(screen.size) * screen), np.floor(rng.random(screen.size) * PAGE_HEIGHT)


def waiting_ms(rng: np.random.Generator, friction: F64) -> F64:
    """Return the duration of each `wait` event in whole milliseconds."""
    return np.asarray((np.exp(rng.normal(np.log(1500), 0.6, friction.size)) * (1 + 3 * friction)).clip(200, 60_000).round())


def _loads(rng: np.random.Generator, friction: F64) -> F64:
    """Return the loading time of each view in milliseconds, NaN where it was not measured."""
    load = (np.exp(rng.normal(np.log(700), 0.5, friction.size)) * (1 + 4 * friction)).clip(80, 30_000).round()
    return np.where(rng.random(friction.size) < LOAD_KNOWN, load, np.nan)


def _begin_ms(visits: Visits, load_ms: F64) -> I64:
    """Return the start of each visit in milliseconds since its session started; the first begins when its page has loaded."""
    first = visits.offsets[:-1]
    begin = np.cumsum(visits.dwell_ms) - visits.dwell_ms
    shift = np.nan_to_num(load_ms[first], nan=FIRST_LOAD_MS).astype(np.int64) - begin[first]
    return np.asarray(begin + np.repeat(shift, np.diff(visits.offsets)))


def _acts(visit: I64, kind: I8 | int, within_ms: I64, place: tuple[F64, F64] | None = None) -> _Acts:
    unknown = np.full(visit.size, np.nan)
    x, y = place or (unknown, unknown)
    return _Acts(visit, np.broadcast_to(np.asarray(kind, np.int8), visit.shape), within_ms, x, y, unknown)


def _joined(groups: list[_Acts]) -> _Acts:
    columns = ("visit", "kind", "within_ms", "x", "y", "wait_ms")
    return _Acts(*(np.concatenate([getattr(group, column) for group in groups]) for column in columns))


def _random_ms(rng: np.random.Generator, visits: Visits, visit: I64) -> I64:
    return np.asarray(visits.dwell_ms[visit] * rng.uniform(0.02, 0.98, visit.size), np.int64)


def _views(visits: Visits, load_ms: F64) -> _Acts:
    """Return the view that opens each visit."""
    kind = np.where(visits.page == PRODUCT, PRODUCT_VIEW, PAGE_VIEW).astype(np.int8)
    no_position = np.full(kind.size, np.nan)
    return _Acts(np.arange(kind.size), kind, np.zeros(kind.size, np.int64), no_position, no_position, load_ms)


def _single_events(rng: np.random.Generator, visits: Visits) -> list[_Acts]:
    """Return events that occur at most once per visit: a search, a change of the cart, the start of a checkout."""
    begun = (visits.page == CHECKOUT) & (rng.random(visits.page.size) < BEGIN_CHECKOUT)
    occurs = {
        "search": visits.page == PAGE_CODES["search"],
        "add_to_cart": visits.cart > 0,
        "remove_from_cart": visits.cart < 0,
        "checkout": begun,
    }
    on = {kind: np.flatnonzero(where) for kind, where in occurs.items()}
    return [_acts(visit, EVENT_CODES[kind], _random_ms(rng, visits, visit)) for kind, visit in on.items()]


def _repeated_events(rng: np.random.Generator, kind: str, visits: Visits, screen: I64) -> _Acts:
    """Return events of a kind that may occur several times per visit."""
    rate = np.array([RATES[kind].get(page, RATES[kind]["other"]) for page in PAGE_KINDS])
    visit = np.repeat(np.arange(visits.page.size), rng.poisson(rate[visits.page]))
    place = places(rng, screen[visit]) if kind == "click" else None
    return _acts(visit, EVENT_CODES[kind], _random_ms(rng, visits, visit), place)


def _waits(rng: np.random.Generator, visits: Visits, friction: F64) -> _Acts:
    """Return the `wait` events: delays after the page has loaded."""
    visit = np.flatnonzero(rng.random(friction.size) < 0.04 + 0.45 * friction)
    no_position = np.full(visit.size, np.nan)
    kind = np.full(visit.size, EVENT_CODES["wait"], np.int8)
    return _Acts(visit, kind, _random_ms(rng, visits, visit), no_position, no_position, waiting_ms(rng, friction[visit]))


def _bursts(rng: np.random.Generator, visits: Visits, friction: F64, screen: I64) -> _Acts:
    """Return bursts of rage clicks, each around one position on the page."""
    burst = np.flatnonzero(rng.random(friction.size) < 0.5 * friction**2)
    clicks = rng.integers(BURST[0], BURST[1] + 1, burst.size)
    visit = np.repeat(burst, clicks)
    gaps = np.cumsum(rng.integers(*BURST_GAP_MS, visit.size))
    since_first = gaps - np.repeat(gaps[np.cumsum(clicks) - clicks], clicks)
    begin = (rng.random(burst.size) * (visits.dwell_ms[burst] - MIN_DWELL_MS)).astype(np.int64)
    x, y = (
        (np.repeat(centre, clicks) + rng.integers(-BURST_PIXELS, BURST_PIXELS + 1, visit.size)).clip(0)
        for centre in places(rng, screen[burst])
    )
    return _acts(visit, EVENT_CODES["click"], np.repeat(begin, clicks) + since_first, (x, y))
