"""The sessions of the simulated shop before their first event: customer, start, region, device, traffic source and intent.

Latent variables cannot be observed by the shop: price sensitivity, loyalty and spend of the visitor, intent and friction of the session.
Everything else is context that a request may carry.
"""

from dataclasses import dataclass

import numpy as np

from kernels.types import F64, I8, I64, Bool
from training.datasets.shop import calendar
from training.datasets.shop.customers import KNOWN_SHARE, REGIONS, Customers, pick, regions

DEVICES = ("desktop", "mobile", "tablet")
DEVICE_SHARES = (0.38, 0.54, 0.08)
SYSTEMS = ("windows", "macos", "linux", "android", "ios")
SYSTEM_SHARES = ((0.68, 0.26, 0.06, 0, 0), (0, 0, 0, 0.56, 0.44), (0, 0, 0, 0.35, 0.65))  # by device
BROWSERS = ("chrome", "edge", "firefox", "safari", "samsung internet")
BROWSER_SHARES = (  # by system
    (0.66, 0.22, 0.12, 0, 0),
    (0.38, 0.02, 0.06, 0.54, 0),
    (0.55, 0, 0.45, 0, 0),
    (0.72, 0.02, 0.04, 0, 0.22),
    (0.15, 0.01, 0.01, 0.83, 0),
)
TRAFFIC = ("affiliate", "direct", "email", "organic", "paid", "referral", "social")
TRAFFIC_SHARES = ((0.05, 0.15, 0.03, 0.36, 0.23, 0.06, 0.12), (0.03, 0.34, 0.22, 0.21, 0.12, 0.03, 0.05))  # anonymous, known
TRAFFIC_INTENT = np.array([0.1, 0.25, 0.45, 0.0, 0.05, -0.1, -0.7])

# Share of sessions for which the tracker does not record it.
UNKNOWN_SYSTEM, UNKNOWN_REGION, UNKNOWN_TRAFFIC = 0.05, 0.08, 0.04


@dataclass(frozen=True, slots=True)
class Audience:
    """Sessions before their first event, [sessions]. Codes index the tuples above; -1 is unknown to the shop."""

    customer: I64  # -1 anonymous
    start_ms: I64  # UTC
    offset_ms: I64  # local time minus UTC
    region: I8
    device: I8
    system: I8
    browser: I8
    traffic: I8
    returning: Bool
    sensitivity: F64
    loyalty: F64
    spend: F64
    friction: F64
    intent: F64


def draw(rng: np.random.Generator, sessions: int, customers: Customers) -> Audience:
    """Return `sessions` sessions in random order of time, so that the first n are a representative sample."""
    customer = _customer(rng, sessions, customers)
    known = customer >= 0
    region = np.where(known, customers.region[customer], regions(rng, sessions)).astype(np.int8)
    offset_ms = np.array([hours for hours, _ in REGIONS.values()])[region] * calendar.HOUR_MS
    local_ms = calendar.draw_starts(rng, sessions)
    start_ms = local_ms - offset_ms
    device = pick(rng, np.tile(DEVICE_SHARES, (sessions, 1)))
    system = pick(rng, np.array(SYSTEM_SHARES)[device])
    browser = pick(rng, np.array(BROWSER_SHARES)[system])
    traffic = pick(rng, np.array(TRAFFIC_SHARES)[known.astype(np.int8)])
    returning = np.where(known, ~_first(customer, start_ms, customers), rng.random(sessions) < 0.4)
    loyalty = np.where(known, customers.loyalty[customer], 0)
    return Audience(
        customer=customer,
        start_ms=start_ms,
        offset_ms=offset_ms,
        region=_mask(rng, region, UNKNOWN_REGION),
        device=device,
        system=_mask(rng, system, UNKNOWN_SYSTEM),
        browser=_mask(rng, browser, UNKNOWN_SYSTEM),
        traffic=_mask(rng, traffic, UNKNOWN_TRAFFIC),
        returning=returning,
        sensitivity=np.where(known, customers.sensitivity[customer], rng.beta(2, 2.5, sessions)),
        loyalty=loyalty,
        spend=np.where(known, customers.spend[customer], np.exp(rng.normal(0, 0.4, sessions))),
        friction=(rng.beta(1.2, 5.5, sessions) + 0.06 * (device == DEVICES.index("mobile"))).clip(0, 1),
        intent=_intent(rng, TRAFFIC_INTENT[traffic], returning, loyalty, calendar.moment(local_ms)),
    )


def _customer(rng: np.random.Generator, sessions: int, customers: Customers) -> I64:
    """Return the customer of each session, -1 for anonymous; loyal customers come more often."""
    weights = rng.gamma(1.5, 1, customers.loyalty.size) * (0.2 + customers.loyalty)
    customer = rng.choice(weights.size, sessions, p=weights / weights.sum())
    return np.where(rng.random(sessions) < KNOWN_SHARE, customer, -1)


def _intent(rng: np.random.Generator, traffic: F64, returning: Bool, loyalty: F64, start: calendar.Moment) -> F64:
    """Return the intent of each session: a mean given its context, plus normal noise."""
    evening = np.cos(2 * np.pi * (start.hour - 20.5) / 24)
    expected = traffic + 0.3 * returning + 0.6 * loyalty + 0.4 * start.special + 0.1 * evening - 0.2
    return np.asarray(expected + rng.normal(0, 0.9, traffic.size))


def _first(customer: I64, start_ms: I64, customers: Customers) -> Bool:
    """Return whether each session is the first of a customer who joined this year, bool [sessions]."""
    order = np.lexsort((start_ms, customer))
    ranked = customer[order]
    first = np.empty(customer.size, np.bool_)
    first[order] = np.concatenate(([True], ranked[1:] != ranked[:-1]))
    return np.asarray(first & customers.fresh[customer])


def _mask(rng: np.random.Generator, codes: I8, share: float) -> I8:
    return np.where(rng.random(codes.size) < share, -1, codes).astype(np.int8)
