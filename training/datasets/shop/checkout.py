"""The end of buying sessions in the simulated shop: after browsing, through cart and checkout to the purchase."""

import numpy as np

from kernels.types import Bool
from training.datasets.shop.audience import Audience
from training.datasets.shop.browsing import SCREENS, WITH_PRODUCT, places, waiting_ms
from training.datasets.shop.stream import TYPES, Part, Stream, ordered
from training.datasets.shop.visits import Visits
from training.features import PAGE_CODES

# Event, page kind, share of the buying sessions with it; None: only with an empty cart.
STEPS: tuple[tuple[str, str, float | None], ...] = (
    ("product_view", "product", None),
    ("add_to_cart", "product", None),
    ("page_view", "cart", 0.8),
    ("page_view", "checkout", 1),
    ("checkout", "checkout", 1),
    ("input", "checkout", 1),
    ("input", "checkout", 0.6),
    ("scroll", "checkout", 0.3),
    ("click", "checkout", 0.7),
    ("wait", "checkout", 0.4),
    ("purchase", "checkout", 1),
)
KINDS = np.array([TYPES.index(step[0]) for step in STEPS], np.int8)
PAGES = np.array([PAGE_CODES[step[1]] for step in STEPS], np.int8)


def close(rng: np.random.Generator, browsing: Stream, visits: Visits, audience: Audience, bought: Bool) -> Stream:
    """Return the complete sessions: `browsing`, followed by the checkout in those that bought; their last event is the purchase."""
    buyers = np.flatnonzero(bought)
    occurs = _occurring(rng, visits.filled[buyers])
    gap_ms = np.exp(rng.normal(np.log(6000), 0.8, occurs.shape)).clip(300, 300_000).astype(np.int64)
    after_ms = (browsing.end_ms - audience.start_ms)[buyers] + np.cumsum(gap_ms * occurs, axis=0)
    step, column = np.nonzero(occurs)
    kind, session = KINDS[step], buyers[column]
    x, y = (np.where(kind == TYPES.index("click"), place, np.nan) for place in places(rng, SCREENS[audience.device[session]]))
    wait_ms = np.where(kind == TYPES.index("wait"), waiting_ms(rng, audience.friction[session]), np.nan)
    product = np.where(np.isin(kind, WITH_PRODUCT), visits.product_if_bought[session], -1).astype(np.int16)
    checkout = Part(
        session=session,
        kind=kind,
        page=PAGES[step],
        product=product,
        after_ms=after_ms[step, column],
        x=x.astype(np.float32),
        y=y.astype(np.float32),
        wait_ms=wait_ms.astype(np.float32),
    )
    return ordered([browsing.part(audience.start_ms), checkout], audience.start_ms)


def _occurring(rng: np.random.Generator, filled: Bool) -> Bool:
    """Return whether each of STEPS occurs in each session, bool [steps, sessions]."""
    chance = rng.random((len(STEPS), filled.size))
    return np.array([~filled if share is None else drawn < share for (_, _, share), drawn in zip(STEPS, chance, strict=True)])
