"""What else the journey model says where its table told of it: what a purchase is worth, and whether the customer stays away afterwards.

amount.ubj  trees of the logarithm of an order's value, over what the trees of a purchase see
churn.ubj   trees of not coming back, over the same
heads.json  the spread of that logarithm, the currency, and the line from the margin of churn to log-odds

With the probability of a purchase the first make a zero-inflated log-normal prediction (Wang, Liu & Miao 2019).
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


class Heads(NamedTuple):
    """The heads that a bundle has, each None where it has none. spread: of the logarithm of an order's value."""

    amount: Forest | None
    churn: Forest | None
    spread: float
    line: Platt | None
    currency: str | None

    def order_value(self, X: F32) -> F64 | None:
        """Return what an order is worth if there is one, float64 [rows], in the table's currency; X: as the trees of a purchase see it."""
        if self.amount is None:
            return None
        return np.asarray(np.exp(self.amount.margin(X).astype(np.float64) + 0.5 * self.spread**2))

    def churn_risk(self, X: F32) -> F64 | None:
        """Return the calibrated probability that the customer does not come back, float64 [rows]."""
        if self.churn is None or self.line is None:
            return None
        return probability(self.line.apply(self.churn.margin(X).astype(np.float64)))


def prepare(bundle: Bundle, columns: int) -> Arrays:
    """Return the heads' trees laid out. Raises BundleError as `boosted.forest` does."""
    found: dict[str, NDArray[Any]] = {}
    for file in _FORESTS:
        if file in bundle.manifest["files"]:
            found |= boosted.named(f"{file}/", boosted.forest(bundle, file, columns))
    return found


def load(bundle: Bundle, parts: Arrays) -> Heads:
    """Return the heads of a bundle. Raises KeyError, TypeError or ValueError for one that is not whole."""
    said: dict[str, Any] = bundle.json(HEADS) if HEADS in bundle.manifest["files"] else {}
    amount, churn = (boosted.of_name(f"{file}/", parts) if file in bundle.manifest["files"] else None for file in _FORESTS)
    line = Platt.read(said["churn"]) if churn is not None else None
    return Heads(amount, churn, float(said["spread"]) if amount is not None else 0.0, line, said.get("currency"))
