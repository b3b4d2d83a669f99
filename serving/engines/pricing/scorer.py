"""At what price? Products in, prices out: the best one by the product's demand, within the bounds that the policy sets."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from kernels.arrays import Arrays
from kernels.pricing import ladder as kernel
from kernels.pricing.trail import FREE
from serving.engines.details import BatchDetails, UnknownDetails
from serving.engines.engine import Engine, Scorer
from serving.engines.pricing import groups, table
from serving.engines.pricing.answers import binding_rules, responses
from serving.engines.pricing.checks import check, refusal
from serving.engines.pricing.columns import PriceColumns, PriceColumnsBuilder
from serving.engines.pricing.optimize import PricePredictions, optimize
from serving.engines.pricing.types import DynamicPricingRequest, DynamicPricingResponse
from serving.errors import RevenueEngineError
from serving.settings import Settings

if TYPE_CHECKING:
    from training.models.pricing.model import PricingModel
    from training.registry.bundle import Bundle


class PricingScorer:
    """The pricing question's Scorer. `clock` returns seconds since 1970."""

    def __init__(self, model: "PricingModel", clock: Callable[[], float] = time.time) -> None:
        self._model, self._clock = model, clock
        self._builder = PriceColumnsBuilder(model)

    @property
    def version(self) -> str:
        """Return the version of the model."""
        return self._model.version

    def tune(self, live: Scorer | None = None) -> Sequence[str]:
        """Return nothing: there is only one implementation."""
        return ()

    def refusal(self, request: DynamicPricingRequest) -> RevenueEngineError | None:
        """Return an error for a product of unknown price and for amounts in different currencies, None where there is neither."""
        return refusal(self._model, request)

    def columns(self, requests: Sequence[DynamicPricingRequest]) -> PriceColumns:
        """Return the requests as columns."""
        return self._builder.columns(requests, self._clock() * 1000)

    def without_explanations(self, columns: PriceColumns) -> PriceColumns:
        """Return the columns unchanged: nothing can be left out."""
        return columns

    def base_rate(self, request: DynamicPricingRequest) -> None:
        """Return None: there is no useful price without the model."""

    def run(self, columns: PriceColumns) -> PricePredictions:
        """Return the prices, and what they change, as columns."""
        return optimize(columns)

    def rows(self, requests: Sequence[DynamicPricingRequest], predictions: PricePredictions) -> list[DynamicPricingResponse]:
        """Return one response for each request, in order."""
        return responses(self._model, requests, predictions, datetime.fromtimestamp(self._clock(), UTC))

    def table(self, frame: Any) -> PriceColumns:
        """Return a catalogue's rows as columns: today's prices and what was sold at them, named as for training."""
        return self.columns(table.requests(frame, self._model))._replace(groups=groups.read(frame))

    def output_columns(self, predictions: PricePredictions) -> dict[str, NDArray[Any] | list[Any]]:
        """Return the output columns of a batch job."""
        queries = predictions.columns.queries
        has_cost = [query.has_cost for query in queries]
        return {
            "recommendedPrice": predictions.price,
            "currentPrice": predictions.columns.inputs[:, kernel.PRICE],
            "currency": [query.currency for query in queries],
            "unconstrainedPrice": predictions.trail[:, FREE],
            "bindingRule": binding_rules(predictions),
            "objective": [query.objective for query in queries],
            "elasticitySource": [query.source for query in queries],
            "confidence": predictions.changes[:, kernel.CONFIDENCE],
            "profitChange": [
                change if known else None
                for change, known in zip(predictions.changes[:, kernel.PROFIT_CHANGE].tolist(), has_cost, strict=True)
            ],
            **({"alignedBy": predictions.aligned_by} if predictions.columns.groups is not None else {}),
            "modelVersion": [self.version] * len(predictions.price),
        }

    def unknown(self, predictions: PricePredictions) -> list[str]:
        """Return the products that the model does not have, a name for each such row."""
        place = len(self._model.places)
        return [query.product for query in predictions.columns.queries if query.place == place]


def load(bundle: "Bundle", settings: Settings, arrays: Arrays | None = None) -> PricingScorer:
    """Return the scorer of a bundle. Raises BundleError for a bundle that does not fit."""
    from training.models.pricing.model import PricingModel

    return PricingScorer(PricingModel.load(bundle))


EXAMPLE: Mapping[str, Any] = {
    "productId": "P0077",
    "contextData": {
        "currentDemand": 42,
        "competitorPrices": [{"competitor": "rival", "price": 31.5}, {"competitor": "other", "price": 29.9}],
        "inventoryLevel": 400,
        "currentPrice": 29.9,
        "priceAtDayStart": 29.9,
        "unitCost": 16.4,
        "previousUnitCost": 16.1,
        "currency": "EUR",
        "demandPeriodDays": 7,
        "lowestPrice30Days": 27.9,
    },
    "policy": {
        "objective": "mix",
        "revenueWeight": 0.2,
        "riskAversion": 0.1,
        "horizonDays": 14,
        "minMarginShare": 0.15,
        "maxChange": 0.2,
        "maxChangePerDay": 0.3,
        "competitorLow": 0.8,
        "competitorHigh": 1.2,
        "costPassThrough": 0.5,
        "validHours": 12,
    },
}

PRICING = Engine(
    name="pricing",
    route="/v1/dynamic-pricing",
    summary="Which price earns most? Demand learned from history, a price within guard rails, and every rule that moved it.",
    request=DynamicPricingRequest,
    response=DynamicPricingResponse,
    example=EXAMPLE,
    check=check,
    load=load,
    details=BatchDetails(unknown=UnknownDetails("product", "priced by the mean elasticity of all products", PricingScorer.unknown)),
)
