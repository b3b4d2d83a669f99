"""The customers of the simulated shop: their observed and latent attributes."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from kernels.types import F64, I8, I64, Bool
from training.datasets.shop.calendar import DAY_MS, EPOCH_MS
from training.datasets.shop.catalog import CURRENCY

KNOWN_SHARE = 0.35  # of the sessions, with a known customer
SESSIONS_PER_CUSTOMER = 4
FRESH_SHARE = 0.3  # of the customers, who joined with their first session of the year

# region: hours from UTC, share of visitors
REGIONS: dict[str, tuple[int, float]] = {
    "AT-9": (1, 0.06),
    "CH-ZH": (1, 0.05),
    "DE-BE": (1, 0.13),
    "DE-BY": (1, 0.15),
    "DE-HH": (1, 0.07),
    "DE-NW": (1, 0.16),
    "ES-MD": (1, 0.06),
    "FI-18": (2, 0.04),
    "FR-IDF": (1, 0.11),
    "GB-LND": (0, 0.07),
    "GR-I": (2, 0.03),
    "NL-NH": (1, 0.07),
}


@dataclass(frozen=True, slots=True)
class Customers:
    """Known customers, [customers]. sensitivity, loyalty in [0, 1]; spend around 1, higher for more expensive products."""

    sensitivity: F64
    loyalty: F64
    spend: F64
    region: I8
    fresh: Bool
    days_before: F64  # days from joining to the first day of the year; unused for fresh customers, who joined later


def draw(rng: np.random.Generator, sessions: int) -> Customers:
    """Return customers, in the number that gives each SESSIONS_PER_CUSTOMER of the known sessions on average."""
    count = max(1, round(sessions * KNOWN_SHARE / SESSIONS_PER_CUSTOMER))
    return Customers(
        sensitivity=rng.beta(2, 2.5, count),
        loyalty=rng.beta(2, 3, count),
        spend=np.exp(rng.normal(0, 0.4, count)),
        region=regions(rng, count),
        fresh=rng.random(count) < FRESH_SHARE,
        days_before=rng.exponential(400, count),
    )


def regions(rng: np.random.Generator, count: int) -> I8:
    """Return a region for each of `count` visitors: its number in REGIONS."""
    return pick(rng, np.tile([share for _, share in REGIONS.values()], (count, 1)))


def pick(rng: np.random.Generator, shares: F64) -> I8:
    """Return one column number for each row of `shares` [rows, columns], drawn in proportion to them; below 128 columns."""
    total = np.cumsum(shares, axis=1)
    return np.asarray((rng.random(len(shares))[:, None] * total[:, -1:] >= total).sum(axis=1), np.int8)


def ids(customer: I64) -> pl.Series:
    """Return the ids of customers by number, null for -1."""
    number = pl.Series("customerId", customer)
    return pl.select(pl.when(number >= 0).then(pl.format("C{}", number.cast(pl.String).str.zfill(7)))).to_series()


def times(epoch_ms: I64) -> pl.Series:
    """Return UTC times of epoch milliseconds."""
    return pl.Series(epoch_ms).cast(pl.Datetime("ms", "UTC"))


def frame(customers: Customers, customer: I64, start_ms: I64, spent: F64) -> pl.DataFrame:
    """Return one row per customer with their observed attributes at the end of the year.

    customerId, region, country, joinedAt, sessions and orders and spent (EUR) of the year, lastSeenAt (null without a session), currency.
    customer (-1 anonymous), start_ms, spent (0: bought nothing): [sessions].
    """
    count = customers.loyalty.size
    known = customer >= 0
    owner, starts, money = customer[known], start_ms[known], spent[known]
    first, last = np.full(count, np.iinfo(np.int64).max), np.full(count, -1)
    np.minimum.at(first, owner, starts)
    np.maximum.at(last, owner, starts)
    sessions = np.bincount(owner, minlength=count)
    before = (EPOCH_MS - customers.days_before * DAY_MS).astype(np.int64)
    region = pl.Series(list(REGIONS)).gather(customers.region)
    return pl.DataFrame(
        {
            "customerId": ids(np.arange(count)),
            "region": region,
            "country": region.str.head(2),
            "joinedAt": times(np.where(customers.fresh & (sessions > 0), first, before)),
            "sessions": sessions,
            "orders": np.bincount(owner[money > 0], minlength=count),
            "spent": np.bincount(owner, money, minlength=count).round(2),
            "lastSeenAt": times(last),
        }
    ).with_columns(pl.when(pl.col("sessions") > 0).then("lastSeenAt"), currency=pl.lit(CURRENCY))


def truth(customers: Customers, customer: I64, expected: F64) -> pl.DataFrame:
    """Return one row per customer: customerId, priceSensitivity, loyalty, spend and value.

    value is the expected spend (EUR) of the customer's sessions of the year: the sum of `expected` [sessions], the purchase probability
    times the order value if bought.
    """
    known = customer >= 0
    return pl.DataFrame(
        {
            "customerId": ids(np.arange(customers.loyalty.size)),
            "priceSensitivity": customers.sensitivity,
            "loyalty": customers.loyalty,
            "spend": customers.spend,
            "value": np.bincount(customer[known], expected[known], minlength=customers.loyalty.size),
        }
    )
