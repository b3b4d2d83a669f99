"""Products of the simulated shop, with weekly prices and quantities sold.

Prices are exogenous: each is the list price times a level redrawn every few weeks, less an occasional promotion. So a regression of log
quantity on log price, log competitor price and promotion, with product and week effects, estimates the elasticities of `truth_products`
consistently. Quantities cover all channels of the shop; they do not scale with the number of simulated sessions.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from kernels.types import F64, I8

PRODUCTS, WEEKS = 200, 52
FIRST_DAY = date(2025, 1, 6)  # a Monday
CATEGORIES = ("audio", "bags", "garden", "kitchen", "lighting", "outdoor", "sports", "toys")
CURRENCY = "EUR"

LEVEL_WEEKS = 4  # duration of a price level
PROMOTION_SHARE, PROMOTION_DISCOUNT, PROMOTION_LIFT = 0.1, 0.15, 1.25
SCARCE_SHARE = 0.02  # share of product weeks with low stock


@dataclass(frozen=True, slots=True)
class Catalog:
    """Products in order of list price (number 0 is the cheapest); arrays are [products] or [products, weeks], money in EUR."""

    category: I8
    list_price: F64
    appeal: F64  # about N(0, 1): attractiveness at a given price
    popularity: F64  # cumulative share of views
    elasticity: F64
    competitor_elasticity: F64
    price: F64  # [products, weeks]
    competitor_price: F64
    cost: F64
    promotion: I8

    @property
    def pressure(self) -> F64:
        """Return ln(price / competitor price) [products, weeks]: above 0 the competitor is cheaper."""
        return np.log(self.price / self.competitor_price)


def draw(rng: np.random.Generator) -> Catalog:
    """Return the catalogue of a shop, with weekly prices for a year."""
    category = rng.integers(0, len(CATEGORIES), PRODUCTS).astype(np.int8)
    list_price = np.sort(np.exp(rng.normal(3.6, 0.7, PRODUCTS)).clip(4, 400)).round(2)
    appeal = rng.normal(0, 1, PRODUCTS)
    elasticity = (rng.normal(-2.6, 0.4, len(CATEGORIES))[category] + rng.normal(0, 0.4, PRODUCTS)).clip(-5, -1.05)
    promotion = rng.random((PRODUCTS, WEEKS)) < PROMOTION_SHARE
    level = _levels(rng, 0.08)
    price = list_price[:, None] * level * np.where(promotion, 1 - PROMOTION_DISCOUNT, 1)
    return Catalog(
        category=category,
        list_price=list_price,
        appeal=appeal,
        popularity=_cumulative(np.exp(0.5 * appeal) * rng.gamma(2, 1, PRODUCTS)),
        elasticity=elasticity,
        competitor_elasticity=rng.normal(0.8, 0.2, PRODUCTS).clip(0),
        price=price.round(2),
        competitor_price=(list_price[:, None] * _levels(rng, 0.1)).round(2),
        cost=(list_price[:, None] * rng.uniform(0.45, 0.7, PRODUCTS)[:, None] * _levels(rng, 0.03)).round(2),
        promotion=promotion.astype(np.int8),
    )


def _levels(rng: np.random.Generator, spread: float) -> F64:
    """Return factors around 1 [products, weeks] that change every LEVEL_WEEKS weeks."""
    steps = np.exp(rng.normal(0, spread, (PRODUCTS, -(-WEEKS // LEVEL_WEEKS))))
    return np.repeat(steps, LEVEL_WEEKS, axis=1)[:, :WEEKS]


def _cumulative(weights: F64) -> F64:
    total = np.cumsum(weights)
    return np.asarray(total / total[-1])


def names() -> pl.Series:
    """Return the product ids in the order of the catalogue; P0000 is the cheapest."""
    return pl.Series("product", [f"P{number:04d}" for number in range(PRODUCTS)])


def products(catalog: Catalog) -> pl.DataFrame:
    """Return one row per product: product, category, listPrice, currency."""
    category = [CATEGORIES[code] for code in catalog.category]
    frame = pl.DataFrame({"product": names(), "category": category, "listPrice": catalog.list_price})
    return frame.with_columns(currency=pl.lit(CURRENCY))


def truth(catalog: Catalog) -> pl.DataFrame:
    """Return one row per product with its latent parameters: elasticity, competitorElasticity, appeal."""
    return pl.DataFrame(
        {
            "product": names(),
            "elasticity": catalog.elasticity,
            "competitorElasticity": catalog.competitor_elasticity,
            "appeal": catalog.appeal,
        }
    )


def sales(catalog: Catalog, rng: np.random.Generator) -> pl.DataFrame:
    """Return one row per product and week; period is its Monday.

    Demand is gamma-Poisson with mean base * season * (price / list)^elasticity * (competitor / list)^competitorElasticity * promotion
    lift; quantity is the demand up to the stock.
    """
    relative = catalog.list_price[:, None]
    usual = np.exp(rng.normal(3.7, 0.6, PRODUCTS))[:, None] * (1 + 0.2 * np.sin(2 * np.pi * (np.arange(WEEKS) - 35) / WEEKS))
    mean = usual * (catalog.price / relative) ** catalog.elasticity[:, None]
    mean *= (catalog.competitor_price / relative) ** catalog.competitor_elasticity[:, None]
    mean *= np.where(catalog.promotion, PROMOTION_LIFT, 1)
    demand = rng.poisson(mean * rng.gamma(25, 1 / 25, mean.shape))
    scarce = rng.random(mean.shape) < SCARCE_SHARE
    stock = np.ceil(usual * np.where(scarce, 0.6, 5)).astype(np.int64)
    mondays = [FIRST_DAY + timedelta(weeks=week) for week in range(WEEKS)]
    return pl.DataFrame(
        {
            "product": names().gather(np.repeat(np.arange(PRODUCTS), WEEKS)),
            "period": pl.Series(mondays * PRODUCTS, dtype=pl.Date),
            "price": catalog.price.ravel(),
            "quantity": np.minimum(demand, stock).ravel(),
            "promotion": catalog.promotion.ravel(),
            "competitorPrice": catalog.competitor_price.ravel(),
            "cost": catalog.cost.ravel(),
            "stock": stock.ravel(),
            "category": np.repeat(np.array(CATEGORIES)[catalog.category], WEEKS).tolist(),
            "currency": pl.repeat(CURRENCY, PRODUCTS * WEEKS, eager=True),
        }
    )
