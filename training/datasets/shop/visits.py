"""Page visits of the simulated shop: a Markov chain per session, with the products viewed and the cart.

The chain depends on the session's latents and its own past, not on the purchase. It advances all sessions at once: the loop is over the
number of the visit, never over sessions.
"""

from dataclasses import dataclass

import numpy as np

from kernels.types import F64, I8, I16, I64, Bool
from training.datasets.shop import calendar
from training.datasets.shop.audience import Audience
from training.datasets.shop.catalog import Catalog
from training.features import PAGE_CODES, PAGE_KINDS

MAX_VISITS = 60
PRODUCT, CART, CHECKOUT = PAGE_CODES["product"], PAGE_CODES["cart"], PAGE_CODES["checkout"]

# Transition probabilities between page kinds; the columns are: administrative, informational, product, home, category, search, cart,
# checkout, account, other. The row "unknown" is the distribution of landing pages.
_NEXT: dict[str, tuple[float, ...]] = {
    "unknown": (0.01, 0.05, 0.38, 0.27, 0.18, 0.04, 0.01, 0, 0.03, 0.03),
    "administrative": (0.2, 0.1, 0.2, 0.15, 0.15, 0.05, 0.05, 0.02, 0.08, 0),
    "informational": (0.03, 0.3, 0.25, 0.15, 0.15, 0.05, 0.03, 0, 0.02, 0.02),
    "product": (0.02, 0.04, 0.46, 0.05, 0.2, 0.07, 0.12, 0.02, 0.01, 0.01),
    "home": (0.02, 0.06, 0.25, 0.05, 0.38, 0.15, 0.03, 0, 0.04, 0.02),
    "category": (0.01, 0.02, 0.62, 0.04, 0.2, 0.07, 0.02, 0, 0.01, 0.01),
    "search": (0.01, 0.02, 0.62, 0.03, 0.09, 0.19, 0.02, 0, 0.01, 0.01),
    "cart": (0.04, 0.06, 0.28, 0.04, 0.1, 0.03, 0.1, 0.32, 0.03, 0),
    "checkout": (0.1, 0.08, 0.14, 0.04, 0.05, 0.02, 0.22, 0.3, 0.05, 0),
    "account": (0.22, 0.05, 0.2, 0.12, 0.15, 0.05, 0.1, 0.02, 0.09, 0),
    "other": (0.03, 0.12, 0.25, 0.22, 0.25, 0.08, 0.02, 0, 0.02, 0.01),
}
NEXT = np.array([(0.0, *_NEXT[kind]) for kind in PAGE_KINDS])
# Effect of intent on the share of a page kind, which is multiplied by exp(pull * intent).
PULL = np.array([{"product": 0.15, "cart": 0.25, "checkout": 0.35, "informational": -0.2, "other": -0.3}.get(k, 0.0) for k in PAGE_KINDS])

# Median seconds on a page, by kind.
DWELL_S = np.array([20, 30, 45, 38, 18, 28, 16, 25, 40, 30, 30], np.float64)
MIN_DWELL_MS, MAX_DWELL_MS = 2_000, 1_200_000


@dataclass(frozen=True, slots=True)
class Visits:
    """Page visits in flat columns, sorted by session, [visits]; the basket that each session would buy, [sessions]."""

    offsets: I64  # [sessions + 1]
    page: I8
    product: I16  # the product viewed, added or removed; -1 for none
    cart: I8  # 1 added to the cart, -1 removed from it, else 0
    dwell_ms: I64
    filled: Bool  # [sessions] whether the cart is not empty at the end
    product_if_bought: I16  # [sessions] the product bought when the cart is empty
    order_value: F64  # [sessions] EUR, if it buys

    @property
    def session(self) -> I64:
        """Return the session of each visit."""
        return np.repeat(np.arange(self.offsets.size - 1), np.diff(self.offsets))


@dataclass(slots=True)
class _Walk:
    """The state of the chain, longest session first, so that the active sessions are always the first ones."""

    page: I8
    product: I16  # the last one viewed
    added: I16  # the last one added and not removed since
    items: I16
    total: F64


def walk(rng: np.random.Generator, audience: Audience, catalog: Catalog) -> Visits:
    """Return the visits of every session, and the basket that it would buy."""
    length = _lengths(rng, audience)
    order = np.argsort(-length, kind="stable")
    sessions = length.size
    offsets = np.concatenate(([0], np.cumsum(length)))
    page, cart = np.empty(offsets[-1], np.int8), np.empty(offsets[-1], np.int8)
    product = np.empty(offsets[-1], np.int16)
    state = _Walk(
        np.zeros(sessions, np.int8),
        np.full(sessions, -1, np.int16),
        np.full(sessions, -1, np.int16),
        np.zeros(sessions, np.int16),
        np.zeros(sessions),
    )
    pull = np.exp(PULL * audience.intent[order, None])
    for number in range(int(length.max())):
        active = order[: np.searchsorted(-length[order], -number)]
        visit = offsets[active] + number
        page[visit], product[visit], cart[visit] = _step(rng, state, pull, active, audience, catalog)
    filled, wanted, value = np.empty(sessions, np.bool_), np.empty(sessions, np.int16), np.empty(sessions)
    filled[order], wanted[order], value[order] = _basket(rng, state, order, audience, catalog)
    dwell = _dwell(rng, page, np.repeat(audience.intent, length))
    return Visits(offsets, page, product, cart, dwell, filled, wanted, value)


def _lengths(rng: np.random.Generator, audience: Audience) -> I64:
    """Return the number of visits of each session: some bounce, intent lengthens a session, friction shortens it."""
    bounce = 1 / (1 + np.exp(2.1 + 0.7 * audience.intent - 2 * audience.friction))
    more = rng.poisson(np.exp(2.25 + 0.3 * audience.intent - 0.6 * audience.friction) * rng.gamma(1.8, 1 / 1.8, bounce.size))
    return np.where(rng.random(bounce.size) < bounce, 1, 1 + more).clip(1, MAX_VISITS)


def _step(rng: np.random.Generator, state: _Walk, pull: F64, who: I64, audience: Audience, catalog: Catalog) -> tuple[I8, I16, I8]:
    """Advance the first `who.size` sessions of `state` by one visit; return its page, product and change of the cart."""
    count = who.size
    items = state.items[:count]
    page = state.page[:count] = _page(rng, state.page[:count], pull[:count], items)
    shown = page == PRODUCT
    again = (rng.random(count) < 0.2) & (state.product[:count] >= 0)
    fresh = _choose(rng, catalog, audience.spend[who])
    state.product[:count] = np.where(shown & ~again, fresh, state.product[:count])
    seen, added = state.product[:count], state.added[:count]
    week = calendar.week(audience.start_ms[who])

    keen = -2.7 + 0.9 * audience.intent[who] + 0.6 * catalog.appeal[seen]
    keen -= 4 * audience.sensitivity[who] * catalog.pressure[seen, week]
    add = shown & (rng.random(count) < 1 / (1 + np.exp(-keen)))
    remove = (page == CART) & (added >= 0) & (rng.random(count) < 0.15 + 0.2 * audience.sensitivity[who])
    product = np.where(shown, seen, np.where(remove, added, -1)).astype(np.int16)
    change = add.astype(np.int8) - remove.astype(np.int8)

    state.items[:count] += change
    state.total[:count] += change * catalog.price[product, week]
    state.added[:count] = np.where(add, seen, np.where(remove, -1, added))
    return page, product, change


def _page(rng: np.random.Generator, page: I8, pull: F64, items: I16) -> I8:
    """Return the kind of the next page; with an empty cart the cart page is rare and the checkout impossible."""
    shares = NEXT[page] * pull
    empty = items == 0
    shares[:, CART] *= np.where(empty, 0.25, 1.6)
    shares[:, CHECKOUT] *= ~empty
    total = np.cumsum(shares, axis=1)
    return np.asarray((rng.random(page.size)[:, None] * total[:, -1:] >= total).sum(axis=1), np.int8)


def _choose(rng: np.random.Generator, catalog: Catalog, spend: F64) -> I16:
    """Return products by popularity; customers with a higher spend choose more expensive ones."""
    return np.asarray(np.searchsorted(catalog.popularity, rng.random(spend.size) ** (1 / spend)), np.int16)


def _basket(rng: np.random.Generator, state: _Walk, who: I64, audience: Audience, catalog: Catalog) -> tuple[Bool, I16, F64]:
    """Return the basket of each session: the cart, or the last viewed product when it is empty, or a random one."""
    wanted = np.where(state.product >= 0, state.product, _choose(rng, catalog, audience.spend[who])).astype(np.int16)
    filled = state.items > 0
    value = np.where(filled, state.total, catalog.price[wanted, calendar.week(audience.start_ms[who])])
    return filled, wanted, value.round(2)


def _dwell(rng: np.random.Generator, page: I8, intent: F64) -> I64:
    """Return milliseconds on each page: log-normal around DWELL_S, longer with intent."""
    seconds = DWELL_S[page] * np.exp(rng.normal(0, 0.9, page.size) + 0.12 * intent)
    return np.asarray((seconds * 1000).clip(MIN_DWELL_MS, MAX_DWELL_MS), np.int64)
