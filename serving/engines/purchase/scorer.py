"""Will this session buy? Sessions in, calibrated purchase probabilities out, with what moved them and what to do about it."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from kernels.arrays import Arrays
from kernels.types import F32, F64, Bool
from serving.engines import actions
from serving.engines.actions import Rules
from serving.engines.engine import Engine, Scorer
from serving.engines.purchase.session import BehaviorData, ContextData, SessionColumns, problems
from serving.engines.shap import FactorList
from serving.engines.types import ApiModel, Degradation, Fraction, Id, Moment, PredictionFactor, RecommendedAction, epoch_ms, moment
from serving.errors import InvalidRequestError
from serving.settings import CONFIGS, Settings
from training import features

if TYPE_CHECKING:
    from training.registry.bundle import Bundle

DEFAULT_FACTORS = 5
_OF_A_BASE_RATE = ("deviceType", "timeOfDay")


class PurchasePredictionRequest(ApiModel, frozen=True, kw_only=True):
    """One session as of one moment."""

    session_id: Id
    behavior_data: BehaviorData
    context_data: ContextData
    customer_id: Id | None = None
    as_of: Annotated[
        Moment | None,
        Meta(description="The moment the score is for; later interactions are not counted. Absent: the latest interaction, else now."),
    ] = None
    max_factors: Annotated[
        Annotated[int, Meta(ge=0, le=len(features.FEATURES))] | None,
        Meta(description=f"How many factors to list at most; absent: {DEFAULT_FACTORS}. 0 saves their computation."),
    ] = None


class PurchasePredictionResponse(ApiModel, frozen=True, kw_only=True):
    """The score, how sure it is, what moved it, what to do, and which model said so. Times are ISO 8601 in UTC."""

    customer_id: str | None
    session_id: str
    purchase_probability: Annotated[Fraction, Meta(description="Calibrated probability that this session ends in a purchase.")]
    confidence_score: Annotated[
        Fraction, Meta(description="1 minus how far purchaseProbability may be off, at 90 %, with what is known of the session.")
    ]
    recommended_actions: Annotated[list[RecommendedAction], Meta(description="By priority; the rules are in configs/actions.yaml.")]
    predicted_value: Annotated[
        float, Meta(description="purchaseProbability times the average order of the training data, in currency: an expectation.")
    ]
    currency: Annotated[str, Meta(description="ISO 4217. XXX: no order value is known, and predictedValue counts average orders.")]
    factors: Annotated[
        list[PredictionFactor],
        Meta(description="Associations, not causes. Their contributions plus bias equal margin; the last may be otherFeatures, the rest."),
    ]
    bias: Annotated[float, Meta(description="The model's average margin, in log-odds.")]
    margin: Annotated[float, Meta(description="Log-odds: purchaseProbability = 1 / (1 + exp(-margin)).")]
    degradation: Annotated[
        Degradation,
        Meta(
            description="What there was time for under load: everything; a score without factors; an answer of a while ago (Age); "
            "how often sessions on this device at this hour buy."
        ),
    ]
    horizon: Annotated[Literal["session"], Meta(description="The probability is for this session, not for later ones.")]
    as_of: Annotated[datetime, Meta(tz=True, description="The moment the score is for.")]
    model_version: str
    missing_features: Annotated[list[str], Meta(description="Features that the request neither states nor lets be counted.")]
    timestamp: Annotated[datetime, Meta(tz=True, description="When the score was computed.")]


class Scores(Protocol):
    """What a purchase model says of n rows: float64 [n] each."""

    @property
    def margin(self) -> F64:
        """Return the calibrated log-odds."""

    @property
    def probability(self) -> F64:
        """Return 1 / (1 + exp(-margin))."""

    @property
    def confidence(self) -> F64:
        """Return how well the training data pin the probability down, 0 to 1."""


class Model(Protocol):
    """The seam to training.models.purchase.model.PurchaseModel."""

    @property
    def version(self) -> str:
        """Return the version of the bundle."""

    @property
    def vocabulary(self) -> features.Vocabulary:
        """Return the category values seen in training."""

    @property
    def order_value(self) -> float:
        """Return the average order of the training data, in `currency`."""

    @property
    def currency(self) -> str:
        """Return the ISO 4217 code."""

    def tune(self, live: Any = None) -> Sequence[str]:
        """Choose what is fastest on this machine, as the `live` model has or by measuring it, and return what was chosen and why."""

    def base_rate(self, device: str | None, hour: float) -> tuple[float, float]:
        """Return how often sessions on this device at this hour buy, and the confidence of saying so."""

    def score(self, X: F32) -> Scores:
        """Return the scores of float32 [n, features]."""

    def factors(self, X: F32) -> tuple[F64, float]:
        """Return exact SHAP values of the margin, float64 [n, features], and its bias."""


class Columns(NamedTuple):
    """Requests as columns: X float32 [n, features]; as_of_ms, NaN where unknown; most[i]: how many factors row i may list."""

    X: F32
    as_of_ms: Sequence[float]
    most: Sequence[int]
    degradation: Degradation = "none"


class Answers(NamedTuple):
    """Answers as columns. shares: SHAP values float64 [n, features], zero where no factor is asked for; fired: bool [n, rules]."""

    columns: Columns
    scores: Scores
    shares: F64
    fired: Bool


class PurchaseScorer:
    """A loaded purchase model behind the engine's seam. `clock` returns seconds since 1970."""

    def __init__(self, model: Model, rules: Rules, clock: Callable[[], float] = time.time) -> None:
        self._model, self._rules, self._clock = model, rules, clock
        self._session = SessionColumns(model.vocabulary)
        labels = {name: {code: key for key, code in codes.items()} for name, codes in model.vocabulary.codes.items()}
        self._factors = FactorList(features.NAMES, [feature.unit for feature in features.FEATURES], labels)
        # The bias is the model's, not the row's; one row of missing values finds it, so that rows without factors need no SHAP.
        _, self._bias = model.factors(np.full((1, len(features.NAMES)), np.nan, np.float32))

    @property
    def version(self) -> str:
        """Return the version of the model."""
        return self._model.version

    def tune(self, live: Scorer | None = None) -> Sequence[str]:
        """Choose what is fastest on this machine, as the `live` model has or by measuring it, and return what was chosen and why."""
        return self._model.tune(live._model if isinstance(live, PurchaseScorer) else None)

    def refusal(self, request: PurchasePredictionRequest) -> None:
        """Return nothing: what is not known of a session is missing."""

    def columns(self, requests: Sequence[PurchasePredictionRequest]) -> Columns:
        """Return the requests' features as columns."""
        X, as_of_ms = self._session.matrix(requests)
        return Columns(X, as_of_ms, [DEFAULT_FACTORS if r.max_factors is None else r.max_factors for r in requests])

    def without_explanations(self, columns: Columns) -> Columns:
        """Return the columns of answers that list no factors."""
        return columns._replace(most=[0] * len(columns.most), degradation="no-explanation")

    def base_rate(self, request: PurchasePredictionRequest) -> PurchasePredictionResponse:
        """Return how often such sessions buy, known by device and hour alone; nothing is recommended."""
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
            as_of=now if request.as_of is None else moment(epoch_ms(request.as_of)),
            model_version=model.version,
            missing_features=[name for name in features.NAMES if name not in _OF_A_BASE_RATE],
            timestamp=now,
        )

    def run(self, columns: Columns) -> Answers:
        """Return scores, SHAP values and fired rules as columns."""
        scores = self._model.score(columns.X)
        return Answers(columns, scores, self._shares(columns), self._rules.fired(columns.X, scores.probability))

    def rows(self, requests: Sequence[PurchasePredictionRequest], answers: Answers) -> list[PurchasePredictionResponse]:
        """Return one response for each request, in order."""
        columns, scores, model = answers.columns, answers.scores, self._model
        now = datetime.fromtimestamp(self._clock(), UTC)
        table = zip(
            requests,
            scores.probability.tolist(),
            scores.confidence.tolist(),
            scores.margin.tolist(),
            self._factors.rows(columns.X, answers.shares, columns.most, scores.margin - self._bias),
            self._rules.rows(answers.fired),
            self._factors.missing(columns.X),
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
                as_of=now if as_of_ms != as_of_ms else moment(as_of_ms),
                model_version=model.version,
                missing_features=missing,
                timestamp=now,
            )
            for request, probability, confidence, margin, factors, recommended, missing, as_of_ms in table
        ]

    def table(self, frame: Any) -> Columns:
        """Return a table's rows as columns; they list no factors."""
        from training.models.purchase.model import table_matrix

        X = table_matrix(frame, self._model.vocabulary)
        return Columns(X, [math.nan] * len(X), [0] * len(X))

    def answers_frame(self, answers: Answers) -> dict[str, NDArray[Any] | list[Any]]:
        """Return the output columns of a batch job."""
        scores = answers.scores
        return {
            "purchaseProbability": scores.probability,
            "confidenceScore": scores.confidence,
            "modelVersion": [self.version] * len(scores.probability),
        }

    def _shares(self, columns: Columns) -> F64:
        """Return SHAP values where factors are asked for: nobody pays for what another row of the batch wants."""
        if all(columns.most):
            return self._model.factors(columns.X)[0]
        shares = np.zeros(columns.X.shape)
        if any(columns.most):
            wanted = np.array(columns.most) > 0
            shares[wanted] = self._model.factors(columns.X[wanted])[0]
        return shares


def check(request: PurchasePredictionRequest) -> None:
    """Raise TooLargeError or InvalidRequestError for what types cannot say."""
    wrong = problems(request)
    if wrong:
        raise InvalidRequestError(wrong)


def prepare(bundle: "Bundle") -> Arrays:
    """Return the trees of a bundle, laid out and checked. Raises BundleError."""
    from training.models.purchase.model import PurchaseModel

    return PurchaseModel.prepare(bundle)


def load(bundle: "Bundle", settings: Settings, parts: Arrays | None = None) -> PurchaseScorer:
    """Return the scorer of a bundle. Raises BundleError for a bundle that does not match, SettingsError for rules that do not."""
    from training.models.purchase.model import PurchaseModel

    return PurchaseScorer(PurchaseModel.load(bundle, parts), actions.load(CONFIGS / "actions.yaml", PURCHASE.name, features.FEATURES))


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
    summary="Will this session buy? A calibrated probability, what moved it, and what to do about it.",
    request=PurchasePredictionRequest,
    response=PurchasePredictionResponse,
    example=EXAMPLE,
    check=check,
    prepare=prepare,
    load=load,
)
