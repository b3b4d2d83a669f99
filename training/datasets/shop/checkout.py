"""How a session of the simulated shop that buys ends: after everything else it does, through cart and checkout to the purchase."""

import numpy as np

from kernels.types import Bool
from training.datasets.shop.audience import Audience
from training.datasets.shop.browsing import SCREENS, WITH_PRODUCT, places, waiting_ms
from training.datasets.shop.stream import TYPES, Part, Stream, ordered
from training.datasets.shop.visits import Visits
from training.features import PAGE_CODES

# Event, kind of page, share of the buying sessions in which it happens; None: where the cart is empty.
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
    """Return the whole sessions: `browsing`, and in those that bought the way out; their last event is the purchase."""
    who = np.flatnonzero(bought)
    happens = _happens(rng, visits.filled[who])
    gap_ms = np.exp(rng.normal(np.log(6000), 0.8, happens.shape)).clip(300, 300_000).astype(np.int64)
    after_ms = (browsing.end_ms - audience.start_ms)[who] + np.cumsum(gap_ms * happens, axis=0)
    step, column = np.nonzero(happens)
    kind, session = KINDS[step], who[column]
    x, y = (np.where(kind == TYPES.index("click"), place, np.nan) for place in places(rng, SCREENS[audience.device[session]]))
    wait_ms = np.where(kind == TYPES.index("wait"), waiting_ms(rng, audience.friction[session]), np.nan)
    product = np.where(np.isin(kind, WITH_PRODUCT), visits.product_if_bought[session], -1).astype(np.int16)
    way_out = Part(
        session=session,
        kind=kind,
        page=PAGES[step],
        product=product,
        after_ms=after_ms[step, column],
        x=x.astype(np.float32),
        y=y.astype(np.float32),
        wait_ms=wait_ms.astype(np.float32),
    )
    return ordered([browsing.part(audience.start_ms), way_out], audience.start_ms)


def _happens(rng: np.random.Generator, filled: Bool) -> Bool:
    """Return which of the STEPS happens in which session: [steps, sessions]."""
    chance = rng.random((len(STEPS), filled.size))
    return np.array([~filled if share is None else drawn < share for (_, _, share), drawn in zip(STEPS, chance, strict=True)])
