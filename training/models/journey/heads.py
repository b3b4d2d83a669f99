"""Optional heads of the journey model, for tables with their labels: order value and churn.

amount.ubj  trees of the logarithm of order value, over the features of the purchase trees
churn.ubj   trees of churn, over the same features
heads.json  the standard deviation of that logarithm, the currency, and the calibration of churn

The probability of a purchase and amount.ubj together are a zero-inflated log-normal prediction (Wang, Liu & Miao 2019).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Arrays
from kernels.trees.forest import Forest
from kernels.types import F32, F64
from training.models.shared import boosted
from training.models.shared.calibration import Platt, probability
from training.registry.bundle import Bundle

AMOUNT, CHURN, HEADS = "amount.ubj", "churn.ubj", "heads.json"
_FORESTS = (AMOUNT, CHURN)


class JourneyHeads(NamedTuple):
    """The heads of a bundle, each None where it has none. spread: standard deviation of the logarithm of order value."""

    amount: Forest | None
    churn: Forest | None
    spread: float
    calibration: Platt | None
    currency: str | None

    def order_value(self, X: F32) -> F64 | None:
        """Return the expected value of an order, float64 [rows], in the table's currency; X: the features of the purchase trees."""
        if self.amount is None:
            return None
        return np.asarray(np.exp(self.amount.margin(X).astype(np.float64) + 0.5 * self.spread**2))

    def churn_risk(self, X: F32) -> F64 | None:
        """Return the calibrated probability of churn, float64 [rows]."""
        if self.churn is None or self.calibration is None:
            return None
        return probability(self.calibration.apply(self.churn.margin(X).astype(np.float64)))


def prepare(bundle: Bundle, columns: int) -> Arrays:
    """Return the flattened trees of the heads. Raises BundleError as `boosted.forest` does."""
    found: dict[str, NDArray[Any]] = {}
    for file in _FORESTS:
        if file in bundle.manifest["files"]:
            found |= boosted.named(f"{file}/", boosted.forest(bundle, file, columns))
    return found


def load(bundle: Bundle, parts: Arrays) -> JourneyHeads:
    """Return the heads of a bundle. Raises KeyError, TypeError or ValueError for an incomplete one."""
    content: dict[str, Any] = bundle.json(HEADS) if HEADS in bundle.manifest["files"] else {}
    amount, churn = (boosted.of_name(f"{file}/", parts) if file in bundle.manifest["files"] else None for file in _FORESTS)
    calibration = Platt.read(content["churn"]) if churn is not None else None
    return JourneyHeads(amount, churn, float(content["spread"]) if amount is not None else 0.0, calibration, content.get("currency"))
