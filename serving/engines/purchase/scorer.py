"""Will this session buy? Sessions in, calibrated purchase probabilities out, with their factors and recommended actions."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Arrays
from kernels.types import F32, F64, Bool
from serving.engines import actions
from serving.engines.actions import ActionRules
from serving.engines.details import ActionDetails, BatchDetails, FactorDetails
from serving.engines.engine import Engine, Scorer
from serving.engines.purchase.ignored import IgnoredInputs
from serving.engines.purchase.model import PurchaseModelProtocol, PurchaseScoresProtocol
from serving.engines.purchase.session import FeatureMatrixBuilder, problems
from serving.engines.purchase.types import DEFAULT_FACTORS, PurchasePredictionRequest, PurchasePredictionResponse
from serving.engines.shap import OTHER, FactorList
from serving.engines.types import Degradation, PredictionFactor, RecommendedAction, epoch_ms, from_epoch_ms
from serving.errors import InvalidRequestError
from serving.settings import CONFIGS, Settings
from training import features

if TYPE_CHECKING:
    from training.registry.bundle import Bundle

_OF_A_BASE_RATE = ("deviceType", "timeOfDay")


class PurchaseColumns(NamedTuple):
    """Requests as columns: X float32 [n, features]; as_of_ms, NaN where unknown; max_factors[i]: the most factors that row i lists."""

    X: F32
    as_of_ms: Sequence[float]
    max_factors: Sequence[int]
    degradation: Degradation = "none"


class PurchasePredictions(NamedTuple):
    """Predictions as columns. shap: SHAP values float64 [n, features], zero in rows that list no factors; fired: bool [n, rules]."""

    columns: PurchaseColumns
    scores: PurchaseScoresProtocol
    shap: F64
    fired: Bool


class PurchaseScorer:
    """The purchase question's Scorer. `clock` returns seconds since 1970."""

    def __init__(self, model: PurchaseModelProtocol, rules: ActionRules, clock: Callable[[], float] = time.time) -> None:
        self._model, self._rules, self._clock = model, rules, clock
        self._session = FeatureMatrixBuilder(model.vocabulary)
        self._ignored = IgnoredInputs(model.used)
        labels = {name: {code: key for key, code in codes.items()} for name, codes in model.vocabulary.codes.items()}
        self._factors = FactorList(features.NAMES, [feature.unit for feature in features.FEATURES], labels)
        # The bias is the same for every row, so one row of missing values gives it, and rows without factors need no SHAP values.
        _, self._bias = model.shap(np.full((1, len(features.NAMES)), np.nan, np.float32))

    @property
    def version(self) -> str:
        """Return the version of the model."""
        return self._model.version

    def tune(self, live: Scorer | None = None) -> Sequence[str]:
        """Choose the fastest implementation, by measuring or as `live` did, and return what was chosen and why."""
        return self._model.tune(live._model if isinstance(live, PurchaseScorer) else None)

    def refusal(self, request: PurchasePredictionRequest) -> None:
        """Return None: whatever is not known of a session is a missing feature."""

    def columns(self, requests: Sequence[PurchasePredictionRequest]) -> PurchaseColumns:
        """Return the requests' features as columns."""
        X, as_of_ms = self._session.matrix(requests)
        return PurchaseColumns(X, as_of_ms, [DEFAULT_FACTORS if r.max_factors is None else r.max_factors for r in requests])

    def without_explanations(self, columns: PurchaseColumns) -> PurchaseColumns:
        """Return the columns of answers that list no factors."""
        return columns._replace(max_factors=[0] * len(columns.max_factors), degradation="no-explanation")

    def base_rate(self, request: PurchasePredictionRequest) -> PurchasePredictionResponse:
        """Return the share of sessions on this device at this hour that buy, as a response without recommendations."""
        model, context = self._model, request.context_data
        probability, confidence = model.base_rate(context.device_type, context.time_of_day)
        margin = math.log(probability / (1 - probability))
        now = datetime.fromtimestamp(self._clock(), UTC)
        return PurchasePredictionResponse(
            customer_id=request.customer_id,
            session_id=request.session_id,
            purchase_probability=probability,
            confidence_score=confidence,
            recommended_actions=[],
            predicted_value=probability * model.order_value,
            currency=model.currency,
            factors=[],
            bias=margin,
            margin=margin,
            degradation="base-rate",
            horizon="session",
            as_of=now if request.as_of is None else from_epoch_ms(epoch_ms(request.as_of)),
            model_version=model.version,
            missing_features=[name for name in features.NAMES if name not in _OF_A_BASE_RATE],
            ignored=[],
            more_ignored=0,
            timestamp=now,
        )

    def run(self, columns: PurchaseColumns) -> PurchasePredictions:
        """Return scores, SHAP values and fired rules as columns."""
        scores = self._model.score(columns.X)
        return PurchasePredictions(columns, scores, self._shap(columns), self._rules.fired(columns.X, scores.probability))

    def rows(self, requests: Sequence[PurchasePredictionRequest], predictions: PurchasePredictions) -> list[PurchasePredictionResponse]:
        """Return one response for each request, in order."""
        columns, scores, model = predictions.columns, predictions.scores, self._model
        now = datetime.fromtimestamp(self._clock(), UTC)
        missing_features = self._factors.missing_features(columns.X)
        table = zip(
            requests,
            scores.probability.tolist(),
            scores.confidence.tolist(),
            scores.margin.tolist(),
            self._factors.rows(columns.X, predictions.shap, columns.max_factors, scores.margin - self._bias),
            self._rules.rows(predictions.fired),
            missing_features,
            map(self._ignored.of, requests, missing_features),
            columns.as_of_ms,
            strict=True,
        )
        return [
            PurchasePredictionResponse(
                customer_id=request.customer_id,
                session_id=request.session_id,
                purchase_probability=probability,
                confidence_score=confidence,
                recommended_actions=recommended,
                predicted_value=probability * model.order_value,
                currency=model.currency,
                factors=factors,
                bias=self._bias,
                margin=margin,
                degradation=columns.degradation,
                horizon="session",
                as_of=now if as_of_ms != as_of_ms else from_epoch_ms(as_of_ms),
                model_version=model.version,
                missing_features=missing,
                ignored=ignored.paths,
                more_ignored=ignored.more,
                timestamp=now,
            )
            for request, probability, confidence, margin, factors, recommended, missing, ignored, as_of_ms in table
        ]

    def table(self, frame: Any) -> PurchaseColumns:
        """Return a table's rows as columns; they list no factors."""
        from training.models.purchase.model import table_matrix

        X = table_matrix(frame, self._model.vocabulary)
        return PurchaseColumns(X, [math.nan] * len(X), [0] * len(X))

    def output_columns(self, predictions: PurchasePredictions) -> dict[str, NDArray[Any] | list[Any]]:
        """Return the output columns of a batch job."""
        scores = predictions.scores
        return {
            "purchaseProbability": scores.probability,
            "confidenceScore": scores.confidence,
            "modelVersion": [self.version] * len(scores.probability),
        }

    def factors(self, predictions: PurchasePredictions) -> list[list[PredictionFactor]]:
        """Return the factors of each row, as its answer lists them."""
        columns, scores = predictions.columns, predictions.scores
        return self._factors.rows(columns.X, predictions.shap, columns.max_factors, scores.margin - self._bias)

    def actions(self, predictions: PurchasePredictions) -> list[list[RecommendedAction]]:
        """Return the recommended actions of each row, as its answer lists them."""
        return self._rules.rows(predictions.fired)

    def _shap(self, columns: PurchaseColumns) -> F64:
        """Return the SHAP values of the rows that list factors; they are computed for no others."""
        if all(columns.max_factors):
            return self._model.shap(columns.X)[0]
        shap = np.zeros(columns.X.shape)
        if any(columns.max_factors):
            wanted = np.array(columns.max_factors) > 0
            shap[wanted] = self._model.shap(columns.X[wanted])[0]
        return shap


def check(request: PurchasePredictionRequest) -> None:
    """Raise TooLargeError or InvalidRequestError for what types cannot express."""
    wrong = problems(request)
    if wrong:
        raise InvalidRequestError(wrong)


def prepare(bundle: "Bundle") -> Arrays:
    """Return the trees of a bundle as arrays, checked against XGBoost. Raises BundleError."""
    from training.models.purchase.model import PurchaseModel

    return PurchaseModel.prepare(bundle)


def load(bundle: "Bundle", settings: Settings, arrays: Arrays | None = None) -> PurchaseScorer:
    """Return the scorer of a bundle. Raises BundleError for a bundle that does not fit, SettingsError for rules that do not."""
    from training.models.purchase.model import PurchaseModel

    return PurchaseScorer(PurchaseModel.load(bundle, arrays), actions.load(CONFIGS / "actions.yaml", PURCHASE.name, features.FEATURES))


EXAMPLE: Mapping[str, Any] = {
    "sessionId": "3f9c2b6e",
    "customerId": "c-1042",
    "behaviorData": {
        "pageViews": 6,
        "timeOnSite": 312,
        "currentPage": "/cart",
        "referrer": "https://www.google.com/",
        "interactions": [
            {"type": "page_view", "timestamp": "2026-11-20T19:02:11Z", "pageKind": "home"},
            {"type": "search", "timestamp": "2026-11-20T19:02:40Z", "pageKind": "search"},
            {"type": "product_view", "timestamp": "2026-11-20T19:03:25Z", "pageKind": "product", "productId": "p-77"},
            {"type": "click", "timestamp": "2026-11-20T19:04:02Z", "pageKind": "product", "elementId": "size", "x": 640, "y": 410},
            {"type": "product_view", "timestamp": "2026-11-20T19:05:10Z", "pageKind": "product", "productId": "p-81", "waitMs": 420},
            {"type": "add_to_cart", "timestamp": "2026-11-20T19:06:48Z", "pageKind": "product", "productId": "p-81", "value": 59.9},
            {"type": "page_view", "timestamp": "2026-11-20T19:07:23Z", "pageKind": "cart"},
        ],
    },
    "contextData": {
        "deviceType": "mobile",
        "timeOfDay": 20.1,
        "dayOfWeek": 5,
        "location": {"country": "DE", "region": "DE-BE"},
        "visitorType": "returning",
    },
}

PURCHASE = Engine(
    name="purchase",
    route="/v1/purchase-prediction",
    summary="Will this session buy? A calibrated probability, its factors, and recommended actions.",
    request=PurchasePredictionRequest,
    response=PurchasePredictionResponse,
    example=EXAMPLE,
    check=check,
    prepare=prepare,
    load=load,
    details=BatchDetails(
        factors=FactorDetails(PurchaseScorer.factors, OTHER, "max_factors"),
        actions=ActionDetails("recommendedActions", PurchaseScorer.actions),
    ),
)
