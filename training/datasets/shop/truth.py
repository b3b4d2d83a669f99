"""The purchase probability of a session of the simulated shop: its formula and terms.

`purchaseProbability` is the probability of a purchase in the rest of the session, given every latent and all events up to the scored
moment. It is exact, not an estimate: the moment is drawn from the browsing, which does not depend on a purchase; then the purchase is one
Bernoulli draw with this probability; only then is the end of the session generated. No predictor can do better than one that has all of
TERMS. A model has the features only: intent, friction, sensitivity, appeal and price pressure affect it through behaviour alone.

    log-odds = INTERCEPT + sum of weight * term
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from kernels.types import F32, F64
from training.datasets.shop.audience import DEVICES, Audience
from training.features import INDEX

INTERCEPT = -3.6
TERMS: dict[str, float] = {
    "intent": 1.2,  # latent
    "cartHeld": 1.2,  # 1 when cartAddCount > cartRemoveCount
    "keenCart": 0.3,  # intent * cartHeld
    "furtherItems": 0.25,  # cartAddCount - cartRemoveCount - 1, between 0 and 3
    "checkoutBegun": 1.4,  # 1 when checkoutCount > 0
    "productMinutes": 0.3,  # ln(1 + productSeconds / 60)
    "appeal": 0.7,  # latent, of the last viewed product; 0 without one
    "priceStrain": -8.0,  # latent price sensitivity * ln(price / competitor price) of the last viewed product
    "friction": -3.0,  # latent
    "rage": -0.2,  # rageClickCount, at most 3
    "mobile": -0.4,  # 1 on a mobile device
    "evening": 0.2,  # cos(2 pi (timeOfDay - 20.5) / 24)
    "returning": 0.3,  # 1 for a returning visitor
    "loyalty": 0.6,  # latent; 0 when anonymous
    "specialDay": 0.4,
    "weekend": 0.1,
}


@dataclass(frozen=True, slots=True)
class LastProduct:
    """The last viewed product at the scored moment, [sessions]; 0 without one."""

    appeal: F64
    pressure: F64


def terms(features: F32, audience: Audience, seen: LastProduct) -> dict[str, F64]:
    """Return each of TERMS for each session; features: float32 [sessions, features] as of the scored moment."""

    def feature(name: str) -> F64:
        return features[:, INDEX[name]].astype(np.float64)

    items = feature("cartAddCount") - feature("cartRemoveCount")
    held = (items > 0).astype(np.float64)
    return {
        "intent": audience.intent,
        "cartHeld": held,
        "keenCart": audience.intent * held,
        "furtherItems": (items - 1).clip(0, 3),
        "checkoutBegun": (feature("checkoutCount") > 0).astype(np.float64),
        "productMinutes": np.log1p(feature("productSeconds") / 60),
        "appeal": seen.appeal,
        "priceStrain": audience.sensitivity * seen.pressure,
        "friction": audience.friction,
        "rage": feature("rageClickCount").clip(max=3),
        "mobile": (audience.device == DEVICES.index("mobile")).astype(np.float64),
        "evening": np.cos(2 * np.pi * (feature("timeOfDay") - 20.5) / 24),
        "returning": audience.returning.astype(np.float64),
        "loyalty": audience.loyalty,
        "specialDay": feature("specialDay"),
        "weekend": feature("weekend"),
    }


def probability(values: dict[str, F64]) -> F64:
    """Return the purchase probability of sessions with these `terms`."""
    log_odds = INTERCEPT + sum(weight * values[name] for name, weight in TERMS.items())
    return np.asarray(1 / (1 + np.exp(-log_odds)))


def frame(session_id: pl.Series, probability: F64, order_value: F64, audience: Audience, seen: LastProduct) -> pl.DataFrame:
    """Return one row per session: sessionId, purchaseProbability, orderValueIfBought (EUR) and the latents of the formula."""
    return pl.DataFrame(
        {
            "sessionId": session_id,
            "purchaseProbability": probability,
            "orderValueIfBought": order_value,
            "intent": audience.intent,
            "friction": audience.friction,
            "priceSensitivity": audience.sensitivity,
            "loyalty": audience.loyalty,
            "appealSeen": seen.appeal,
            "pricePressureSeen": seen.pressure,
        }
    )
