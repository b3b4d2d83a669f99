"""A simulated shop with known ground truth: a year of sessions as event streams, with customers, products and sales.

Use it for default models, realistic load, and tests of estimators against the truth. All data are simulated.

How a session is generated (each step in a module of its own, all vectorised):

1. `audience`  customer, start, region, device and traffic; 65 % are anonymous. Latent: price sensitivity, loyalty, spend, intent, friction.
2. `visits`    a Markov chain of page visits, longer with intent and shorter with friction, with the products viewed and the cart.
3. `browsing`  each visit becomes events: a view with its loading time, scrolls, clicks with positions, rage clicks, cart, checkout.
4. the scored moment: one event, drawn uniformly from the session's browsing. The events up to and including it are *seen*.
5. `truth`     the purchase probability from the latents and the seen events, by a documented formula; one Bernoulli draw with it.
6. `checkout`  a buying session completes its browsing, then goes through cart and checkout to the `purchase`, its last event.
7. `pages`     page statistics from sessions that ended before the day of this one.
8. `table`     the training table: the seen events through `training.features.matrix`, the function that serving uses.

Browsing is independent of the purchase given the latents, so the number of seen events does not leak the outcome: a model trained on the
table cannot learn that a session has ended, and `purchaseProbability` is exact (see `truth`).

Results of `simulate` and files of `write` (times are UTC, money is EUR, an unknown value is null, sessions are in random order of time):

| file | a row is | columns |
|---|---|---|
| events | an event, by session, then time | sessionId, timestamp, type, pageKind, productId, x, y, waitMs, amount (of a purchase) |
| sessions | a session as of its scored moment | sessionId, customerId, startedAt, asOf, the features, purchased, orderValue, currency |
| customers | a known customer at the end of the year | see `customers.frame` |
| products | a product | product, category, listPrice, currency |
| sales | a product in a week | product, period, price, quantity, promotion, competitorPrice, cost, stock, category, currency |
| truth | a session, in the order of `sessions` | sessionId, purchaseProbability, orderValueIfBought, the latents of the formula |
| truth_customers | a customer | customerId, priceSensitivity, loyalty, spend, value |
| truth_products | a product | product, elasticity, competitorElasticity, appeal |
| requests.ndjson | row i: a request for row i of `sessions`, the first 1,000 | the body of a PurchasePredictionRequest |

Every part has its own random number generator, derived from the seed: the same seed gives a bit-identical shop.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import polars as pl

from kernels.types import F32, F64, I8, Bool
from training.datasets.shop import audience as shop_audience
from training.datasets.shop import browsing as shop_browsing
from training.datasets.shop import calendar, checkout, pages
from training.datasets.shop import catalog as shop_catalog
from training.datasets.shop import customers as shop_customers
from training.datasets.shop import requests as shop_requests
from training.datasets.shop import table as shop_table
from training.datasets.shop import truth as shop_truth
from training.datasets.shop import visits as shop_visits
from training.datasets.shop.audience import Audience
from training.datasets.shop.catalog import Catalog
from training.datasets.shop.customers import Customers
from training.datasets.shop.mark import MARK
from training.datasets.shop.stream import PURCHASE, TYPES, Stream
from training.datasets.shop.truth import LastProduct
from training.errors import TableError
from training.features import PAGE_KINDS, PAGE_STATISTICS

REQUESTS = 1000
NO_STATISTICS = 0.25  # share of sessions without page statistics

# One random number generator each: a change in one part does not change the others.
PARTS = ("catalog", "customers", "audience", "visits", "browsing", "moment", "purchase", "checkout", "statistics", "sales")

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Shop:
    """A year of a simulated shop; the frames are described in the module's docstring."""

    events: pl.DataFrame
    sessions: pl.DataFrame
    customers: pl.DataFrame
    products: pl.DataFrame
    sales: pl.DataFrame
    truth: pl.DataFrame
    truth_customers: pl.DataFrame
    truth_products: pl.DataFrame
    requests: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Year:
    """The simulated year as arrays, [sessions] unless noted."""

    catalog: Catalog
    customers: Customers
    audience: Audience
    seen: Stream  # up to the scored moments
    whole: Stream
    last_seen: LastProduct
    probability: F64
    bought: Bool
    order_value: F64  # if bought
    numbers: F32  # [sessions, features]

    @property
    def spent(self) -> F64:
        """Return the spend of each session (EUR), 0 without a purchase."""
        return np.where(self.bought, self.order_value, 0)

    def table(self) -> pl.DataFrame:
        """Return the training table."""
        return shop_table.frame(self.numbers, self.seen, self.audience, self.bought, self.order_value)


def simulate(sessions: int, seed: int, progress: Progress | None = None) -> Shop:
    """Return a shop with `sessions` sessions; `progress` gets the stage and the completed share."""
    report = progress or (lambda stage, share: None)
    year = _simulate_year(sessions, seed, report)
    report("tables", 0.7)
    table, events = year.table(), _events(year)
    report("requests", 0.9)
    first = table.head(REQUESTS)
    requests = shop_requests.bodies(first, events.head(int(year.whole.offsets[first.height])))
    customer, catalog = year.audience.customer, year.catalog
    shop = Shop(
        events=events,
        sessions=table,
        customers=shop_customers.frame(year.customers, customer, year.audience.start_ms, year.spent),
        products=shop_catalog.products(catalog),
        sales=shop_catalog.sales(catalog, _random(seed)["sales"]),
        truth=shop_truth.frame(table["sessionId"], year.probability, year.order_value, year.audience, year.last_seen),
        truth_customers=shop_customers.truth(year.customers, customer, year.probability * year.order_value),
        truth_products=shop_catalog.truth(catalog),
        requests=requests,
    )
    report("done", 1.0)
    return shop


def training_table(sessions: int, seed: int) -> pl.DataFrame:
    """Return the table `simulate(sessions, seed).sessions` alone, which is faster."""
    return _simulate_year(sessions, seed, lambda stage, share: None).table()


def write(shop: Shop, folder: Path) -> None:
    """Write every frame as Parquet and the requests as NDJSON into `folder`, atomically. Raises TableError when it is not empty."""
    folder = folder.resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise TableError(f"{folder} exists and is not an empty folder; name one that is empty or does not exist")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            staged = Path(temporary) / folder.name
            staged.mkdir()
            _write(shop, staged)
            staged.replace(folder)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise TableError(f"cannot write the shop to {folder}: {error}; check space and permissions") from error


def _write(shop: Shop, folder: Path) -> None:
    for field in fields(shop):
        content = getattr(shop, field.name)
        if isinstance(content, pl.DataFrame):
            content.write_parquet(folder / f"{field.name}.parquet", metadata=MARK)
    (folder / "requests.ndjson").write_bytes(msgspec.json.Encoder().encode_lines(shop.requests))


def _random(seed: int) -> dict[str, np.random.Generator]:
    return {name: np.random.default_rng([seed, number]) for number, name in enumerate(PARTS)}


def _simulate_year(sessions: int, seed: int, report: Progress) -> _Year:
    """Return the year, by the steps of the module's docstring."""
    if sessions < 1 or seed < 0:
        raise TableError(f"cannot simulate sessions={sessions}, seed={seed}; give at least 1 session and a seed of at least 0")
    random = _random(seed)
    report("visitors", 0.0)
    catalog = shop_catalog.draw(random["catalog"])
    customers = shop_customers.draw(random["customers"], sessions)
    audience = shop_audience.draw(random["audience"], sessions, customers)
    report("visits", 0.05)
    visits = shop_visits.walk(random["visits"], audience, catalog)
    report("browsing", 0.2)
    browsing = shop_browsing.browse(random["browsing"], visits, audience)
    moment = 1 + (random["moment"].random(sessions) * np.diff(browsing.offsets)).astype(np.int64)
    seen = browsing.head(moment)
    report("purchases", 0.5)
    last_seen = _last_seen(seen, audience, catalog)
    without = shop_table.matrix(seen, audience, np.full((sessions, len(PAGE_STATISTICS)), np.nan))
    probability = shop_truth.probability(shop_truth.terms(without, audience, last_seen))
    bought = random["purchase"].random(sessions) < probability
    whole = checkout.close(random["checkout"], browsing, visits, audience, bought)
    report("features", 0.6)
    statistics = pages.statistics(seen, audience.start_ms, whole, np.where(bought, visits.order_value, 0))
    statistics[random["statistics"].random(sessions) < NO_STATISTICS] = np.nan
    numbers = shop_table.matrix(seen, audience, statistics)
    return _Year(catalog, customers, audience, seen, whole, last_seen, probability, bought, visits.order_value, numbers)


def _last_seen(seen: Stream, audience: Audience, catalog: Catalog) -> LastProduct:
    product = seen.last_product()
    pressure = catalog.pressure[product, calendar.week(audience.start_ms)]
    return LastProduct(np.where(product >= 0, catalog.appeal[product], 0), np.where(product >= 0, pressure, 0))


def _events(year: _Year) -> pl.DataFrame:
    whole = year.whole
    session, product = whole.session, pl.Series(whole.product).cast(pl.Int64)
    return pl.DataFrame(
        {
            "sessionId": shop_table.session_ids(year.bought.size).gather(session),
            "timestamp": shop_customers.times(whole.time_ms),
            "type": _named(TYPES, whole.kind),
            "pageKind": _named(PAGE_KINDS, whole.page),
            "productId": shop_catalog.names().gather(product.set(product < 0, None)),
            "x": whole.x,
            "y": whole.y,
            "waitMs": whole.wait_ms,
            "amount": np.where(whole.kind == PURCHASE, year.order_value[session], np.nan),
        }
    ).with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None))


def _named(names: tuple[str, ...], codes: I8) -> pl.Series:
    return pl.Series(names, dtype=pl.Enum(names)).gather(codes)
