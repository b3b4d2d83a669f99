"""The model of what customers are worth: how often they will buy, whether they still do, and for how much, in a bundle without pickles.

value.json    the counting model that is served and Gamma-Gamma, each with its parameters and how sure they are; fifths of the customers
metrics.json  every model that was fitted, and how their predictions compare with what came after
card.md       the same for people
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels import lifetime as kernel
from training.bundle import Bundle
from training.errors import BundleError
from training.histories import DAYS_A_WEEK
from training.models.lifetime import MODELS, SPEND_PARAMETERS
from training.models.rfm import Edges

TASK = "value"
VALUE, METRICS, CARD = "value.json", "metrics.json", "card.md"
HORIZON_DAYS, DISCOUNT = 365.0, 0.1  # where nobody says otherwise: a year, 10 % a year
PERIOD_WEEKS = 1.0  # that value is discounted by

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


class Outlook(NamedTuple):
    """What is to be expected of customers, float64 [customers] each.

    alive: the probability that they still buy; purchases: how many within the horizon; spend: money at each; value: the present value of
    all of these.
    """

    alive: Vector
    purchases: Vector
    spend: Vector
    value: Vector


class ValueModel:
    """A loaded value model."""

    def __init__(self, content: Mapping[str, Any], meta: Mapping[str, Any], version: str) -> None:
        self.version = version
        self.currency: str | None = meta["currency"]
        counting = content["counting"]
        model = MODELS[counting["model"]]
        self._number = model.number
        self._parameters = np.array([counting["parameters"][name] for name in model.parameters], np.float64)
        spend = content["spend"]
        self._spend = None if spend is None else np.array([spend["parameters"][name] for name in SPEND_PARAMETERS], np.float64)
        self._mean_spend = float(content["meanSpend"])
        self.edges = Edges.load(content["edges"])

    @classmethod
    def load(cls, bundle: Bundle) -> "ValueModel":
        """Return the model in a verified bundle. Raises BundleError when it is another task's, or is not whole."""
        bundle.require(TASK)
        try:
            return cls(bundle.json(VALUE), bundle.manifest, bundle.version)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"bundle {bundle.path} cannot be loaded ({error}): train it again") from error

    def futures(self, seen: Matrix, weeks: float) -> tuple[Vector, Vector]:
        """Return P(alive) and the expected purchases within `weeks`; seen: float64 [customers, 3], x, t_x and T in weeks."""
        return futures(self._number, self._parameters, seen, weeks)

    def spends(self, repeats: Vector, mean_spend: Vector) -> Vector:
        """Return the expected spend at a purchase; of customers without repeats, whose mean may be NaN, that of all."""
        if self._spend is None:
            return np.full(len(repeats), self._mean_spend)
        return spends(self._spend, repeats, mean_spend, self._mean_spend)

    def outlook(self, seen: Matrix, repeats: Vector, mean_spend: Vector, days: float = HORIZON_DAYS, rate: float = DISCOUNT) -> Outlook:
        """Return what is to be expected of customers within `days`, discounted at a yearly `rate`, by weeks."""
        alive, purchases = self.futures(seen, days / DAYS_A_WEEK)
        spend, worth = self.spends(repeats, mean_spend), np.empty(len(seen))
        kernel.discounted(self._number, self._parameters, seen, days / DAYS_A_WEEK, rate, PERIOD_WEEKS, worth)
        return Outlook(alive, purchases, spend, worth * spend)


def futures(model: int, parameters: Vector, seen: Matrix, weeks: float) -> tuple[Vector, Vector]:
    """Return P(alive) and the expected purchases within `weeks` by a counting model of `kernels.lifetime`."""
    out = np.empty((len(seen), 2))
    kernel.futures(model, parameters, seen, np.array([weeks]), out)
    return out[:, kernel.ALIVE].copy(), out[:, kernel.EXPECTED].copy()


def spends(parameters: Vector, repeats: Vector, mean_spend: Vector, otherwise: float) -> Vector:
    """Return the expected spend at a purchase by Gamma-Gamma; `otherwise` where that has no mean."""
    spent = np.stack([repeats, np.where(repeats > 0, mean_spend, 0.0)], axis=1)
    out = np.empty(len(spent))
    kernel.mean_spends(parameters, spent, out)
    return np.where(np.isfinite(out), out, otherwise)
