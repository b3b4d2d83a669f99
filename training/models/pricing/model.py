"""The pricing model: price elasticities of demand, product by product, in a bundle without pickles.

demand.json   columns by product: elasticity and its sd, cross elasticities, reference price, quantity per period, cost; season; the
              sd of the elasticity of a product that is not among them
metrics.json  the estimates before and after shrinkage, with their errors
card.md       the model card
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.pricing.demand import MAX_ABS_Z
from kernels.types import F64
from training.errors import BundleError
from training.models.pricing.shrinkage import OWN, sd_of_another
from training.registry.bundle import Bundle

TASK = "pricing"
DEMAND, METRICS, CARD = "demand.json", "metrics.json", "card.md"
MAX_ELASTICITY = -0.01  # of the draws of an elasticity


@dataclass(frozen=True, slots=True)
class Competitor:
    """The effect of a competitor's price on demand, [products]: cross elasticity, its posterior sd, the competitor's reference price."""

    elasticity: F64
    sd: F64
    price: F64


class PricingModel:
    """A loaded pricing model. Unknown products share the last place, with the mean of all products."""

    def __init__(self, content: Mapping[str, Any], meta: Mapping[str, Any], version: str) -> None:
        self.version = version
        self.currency: str | None = meta["currency"]
        self.places = {name: place for place, name in enumerate(content["products"])}
        mean, sd = np.array(content["elasticity"], np.float64), np.array(content["elasticitySd"], np.float64)
        self.elasticity = np.append(mean, float(mean.mean()) if len(mean) else OWN.mean)
        # In an older bundle the posteriors are the nearest to the estimates.
        unknown = content["unknownSd"] if "unknownSd" in content else sd_of_another(mean, sd, OWN)
        # Elasticities are negative. The draws are quantiles of a normal, whose width is therefore limited.
        self.sd = np.minimum(np.append(sd, unknown), (MAX_ELASTICITY - self.elasticity) / MAX_ABS_Z)
        self.price, self.quantity = _with_unknown(content["price"]), _with_unknown(content["quantity"])
        self.cost = _with_unknown(content["cost"])
        self.insufficient = np.append(np.array(content["insufficient"], bool), True)
        self.competitors = {name: _competitor(one) for name, one in content["competitors"].items()}
        self.season = {int(week): float(factor) for week, factor in content["season"].items()}

    @classmethod
    def load(cls, bundle: Bundle) -> "PricingModel":
        """Return the model in a verified bundle. Raises BundleError for a bundle of another task, and for an incomplete one."""
        bundle.require(TASK)
        try:
            return cls(bundle.json(DEMAND), bundle.manifest, bundle.version)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"bundle {bundle.path} cannot be loaded ({error}): train the model again") from error

    def place(self, product: str) -> int:
        """Return the place of a product in the arrays."""
        return self.places.get(product, len(self.places))


def _with_unknown(values: list[float | None]) -> F64:
    return np.array([*(np.nan if value is None else value for value in values), np.nan], np.float64)


def _competitor(content: Mapping[str, Any]) -> Competitor:
    elasticity, sd = np.array(content["elasticity"], np.float64), np.array(content["elasticitySd"], np.float64)
    return Competitor(np.append(elasticity, 0.0), np.append(sd, 0.0), _with_unknown(content["price"]))
