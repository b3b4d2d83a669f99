"""Will this customer leave? What is known of customers in, calibrated risks out, with what moved them and what is at stake."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from kernels.arrays import Arrays
from kernels.types import F32, F64
from serving.engines.churn import actions
from serving.engines.churn.actions import RetentionAction, Rules
from serving.engines.engine import Engine, Scorer
from serving.engines.pricing.types import Currency
from serving.engines.shap import FactorList
from serving.engines.types import (
    ApiModel,
    Degradation,
    Fraction,
    Id,
    Moment,
    Money,
    Name,
    PredictionFactor,
    epoch_ms,
    is_sane,
    moment,
    not_sane,
)
from serving.errors import FieldProblem, InvalidRequestError
from serving.settings import CONFIGS, Settings
from training.tables.customers import is_blank

if TYPE_CHECKING:
    from training.models.churn.model import ChurnModel, Scores
    from training.registry.bundle import Bundle

DEFAULT_DRIVERS, MAX_FEATURES = 5, 1000
LOW, HIGH = 0.33, 0.66  # low: below LOW; high: above HIGH

Band = Literal["low", "medium", "high"]
BANDS: tuple[Band, ...] = ("low", "medium", "high")
FeatureValue = Annotated[float, Meta(ge=-1e12, le=1e12)] | Name | bool | None


class ChurnPreventionRequest(ApiModel, frozen=True, kw_only=True):
    """What is known of one customer as of one moment."""

    customer_id: Id
    features: Annotated[
        dict[str, FeatureValue],
        Meta(
            max_length=MAX_FEATURES,
            description="By column of the training table. Null, blank and absent are missing, and so is a category's value never seen in "
            "training; columns that the model does not know are counted as ignored.",
        ),
    ]
    customer_value: Annotated[Money | None, Meta(description="What is lost when the customer leaves; for valueAtRisk.")] = None
    currency: Annotated[Currency | None, Meta(description="Of customerValue, ISO 4217; the answer's amounts are in it.")] = None
    as_of: Annotated[Moment | None, Meta(description="The moment that the features are of. Absent: now.")] = None
    max_factors: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_FEATURES)] | None,
        Meta(description=f"How many drivers to list at most; absent: {DEFAULT_DRIVERS}. 0 saves their computation."),
    ] = None


class ChurnPreventionResponse(ApiModel, frozen=True, kw_only=True):
    """How likely the customer is to leave, what moved that, what is at stake, and what could be done. Times are ISO 8601 in UTC."""

    customer_id: str
    churn_risk: Annotated[Fraction, Meta(description="Calibrated probability of `outcome`.")]
    risk_band: Annotated[Band, Meta(description=f"low: below {LOW}; high: above {HIGH}; medium: between.")]
    outcome: Annotated[str, Meta(description="What churnRisk is the probability of, as the training table says it.")]
    drivers: Annotated[
        list[PredictionFactor],
        Meta(description="Associations, not causes. Their contributions plus bias equal margin; the last may be otherFeatures, the rest."),
    ]
    contribution_unit: Annotated[Literal["log-odds"], Meta(description="Of contributions, bias and margin.")]
    bias: Annotated[float, Meta(description="The model's average margin.")]
    margin: Annotated[float, Meta(description="churnRisk = 1 / (1 + exp(-margin)).")]
    value_at_risk: Annotated[float | None, Meta(description="churnRisk times customerValue, in currency; null without customerValue.")]
    currency: Annotated[str | None, Meta(description="The request's.")]
    retention_actions: Annotated[
        list[RetentionAction],
        Meta(description="By what they are expected to save: arms of the model's experiment, and the rules of configs/retention.yaml."),
    ]
    missing: Annotated[list[str], Meta(description="The model's features that are not known: absent, null, or a value never seen.")]
    ignored: Annotated[int, Meta(ge=0, description="How many of the request's features the model does not know.")]
    degradation: Annotated[
        Degradation, Meta(description="What there was time for under load: everything, no drivers, or an answer of a while ago (Age).")
    ]
    as_of: Annotated[datetime, Meta(tz=True, description="The moment the score is for.")]
    model_version: str
    timestamp: Annotated[datetime, Meta(tz=True, description="When the score was computed.")]


class Columns(NamedTuple):
    """Requests as columns: X float32 [n, features]; most[i]: how many drivers row i may list."""

    X: F32
    most: Sequence[int]
    degradation: Degradation = "none"


class Answers(NamedTuple):
    """Answers as columns. bands: list [n]; shares: SHAP values float64 [n, features], zero where no driver is asked for.

    effects: list [n], by how much each arm of the model's experiment raises the chance of staying; empty without one.
    """

    columns: Columns
    scores: "Scores"
    bands: list[Band]
    shares: F64
    effects: list[dict[str, float]]


class ChurnScorer:
    """A loaded churn model behind the engine's seam. `clock` returns seconds since 1970."""

    def __init__(self, model: "ChurnModel", rules: Rules, clock: Callable[[], float] = time.time) -> None:
        self._model, self._rules, self._clock = model, rules, clock
        self._readers = [(feature.name, feature.reader()) for feature in model.features]
        self._numbers = [feature.name for feature in model.features if feature.kind == "number"]
        self._names = frozenset(feature.name for feature in model.features)
        labels = {f.name: {float(place): value for place, value in enumerate(f.values)} for f in model.features if f.kind == "category"}
        self._drivers = FactorList([f.name for f in model.features], [f.kind for f in model.features], labels)

    @property
    def version(self) -> str:
        """Return the version of the model."""
        return self._model.version

    def tune(self, live: Scorer | None = None) -> Sequence[str]:
        """Choose what is fastest on this machine, as the `live` model has or by measuring it, and return what was chosen and why."""
        return self._model.tune(live._model if isinstance(live, ChurnScorer) else None)

    def refusal(self, request: ChurnPreventionRequest) -> InvalidRequestError | None:
        """Return why this model cannot answer: a text where its table has numbers. None where it can."""
        given = request.features
        texts = [name for name in self._numbers if isinstance(text := given.get(name), str) and not is_blank(text)]
        wrong = [FieldProblem(f"features.{name}", f"is a number in the training data, got {given[name]!r:.100}") for name in texts]
        return InvalidRequestError(wrong) if wrong else None

    def columns(self, requests: Sequence[ChurnPreventionRequest]) -> Columns:
        """Return the requests' features as columns."""
        rows = [[read(request.features.get(name)) for name, read in self._readers] for request in requests]
        X = np.array(rows, np.float32).reshape(len(rows), len(self._readers))
        return Columns(X, [DEFAULT_DRIVERS if r.max_factors is None else r.max_factors for r in requests])

    def without_explanations(self, columns: Columns) -> Columns:
        """Return the columns of answers that list no drivers."""
        return columns._replace(most=[0] * len(columns.most), degradation="no-explanation")

    def base_rate(self, request: ChurnPreventionRequest) -> None:
        """Return nothing: a risk that is the same for everybody says nothing of whom to keep."""

    def run(self, columns: Columns) -> Answers:
        """Return scores, bands and SHAP values as columns."""
        scores = self._model.score(columns.X)
        return Answers(columns, scores, bands(scores.probability), self._shares(columns), self._effects(columns.X))

    def rows(self, requests: Sequence[ChurnPreventionRequest], answers: Answers) -> list[ChurnPreventionResponse]:
        """Return one response for each request, in order."""
        columns, scores, model = answers.columns, answers.scores, self._model
        now = datetime.fromtimestamp(self._clock(), UTC)
        table = zip(
            requests,
            scores.probability.tolist(),
            scores.margin.tolist(),
            answers.bands,
            self._drivers.rows(columns.X, answers.shares, columns.most, scores.margin - model.bias),
            self._drivers.missing(columns.X),
            answers.effects,
            strict=True,
        )
        return [
            ChurnPreventionResponse(
                customer_id=request.customer_id,
                churn_risk=risk,
                risk_band=band,
                outcome=model.outcome,
                drivers=drivers,
                contribution_unit="log-odds",
                bias=model.bias,
                margin=margin,
                value_at_risk=None if request.customer_value is None else risk * request.customer_value,
                currency=request.currency,
                retention_actions=self._rules.actions(risk, request.customer_value, effects),
                missing=missing,
                ignored=sum(value is not None and name not in self._names for name, value in request.features.items()),
                degradation=columns.degradation,
                as_of=now if request.as_of is None else moment(epoch_ms(request.as_of)),
                model_version=model.version,
                timestamp=now,
            )
            for request, risk, margin, band, drivers, missing, effects in table
        ]

    def table(self, frame: Any) -> Columns:
        """Return a table's rows as columns; they list no drivers."""
        X = self._model.table_matrix(frame)
        return Columns(X, [0] * len(X))

    def answers_frame(self, answers: Answers) -> dict[str, NDArray[Any] | list[Any]]:
        """Return the output columns of a batch job."""
        risk = answers.scores.probability
        arms = () if self._model.effects is None else self._model.effects.arms
        effects = {f"effect:{arm.name}": [row[arm.name] for row in answers.effects] for arm in arms}
        return {"churnRisk": risk, "riskBand": answers.bands, **effects, "modelVersion": [self.version] * len(risk)}

    def _effects(self, X: F32) -> list[dict[str, float]]:
        """Return the effects of the experiment's arms on each row, by their names; none where there was no experiment."""
        effects = self._model.effects
        if effects is None:
            return [{}] * len(X)
        names = [arm.name for arm in effects.arms]
        return [dict(zip(names, row, strict=True)) for row in effects.of(X).tolist()]

    def _shares(self, columns: Columns) -> F64:
        """Return SHAP values where drivers are asked for: nobody pays for what another row of the batch wants."""
        shares = np.zeros(columns.X.shape)
        wanted = np.array(columns.most, np.int64) > 0
        if wanted.any():
            shares[wanted] = self._model.factors(columns.X[wanted])
        return shares


def bands(risk: F64) -> list[Band]:
    """Return the band of each risk [n]."""
    return [BANDS[place] for place in ((risk >= LOW).astype(np.int64) + (risk > HIGH)).tolist()]


def check(request: ChurnPreventionRequest) -> None:
    """Raise InvalidRequestError for what types cannot say."""
    if request.as_of is not None and not is_sane(request.as_of):
        raise InvalidRequestError([not_sane("asOf")])


def prepare(bundle: "Bundle") -> Arrays:
    """Return the trees of a bundle, laid out and checked. Raises BundleError."""
    from training.models.churn.model import ChurnModel

    return ChurnModel.prepare(bundle)


def load(bundle: "Bundle", settings: Settings, parts: Arrays | None = None) -> ChurnScorer:
    """Return the scorer of a bundle. Raises BundleError for a bundle that does not match, SettingsError for rules that do not."""
    from training.models.churn.model import ChurnModel

    return ChurnScorer(ChurnModel.load(bundle, parts), actions.load(CONFIGS / "retention.yaml"))


# A customer as the published Telco table has them; a model that learned from another table knows other columns.
EXAMPLE: Mapping[str, Any] = {
    "customerId": "7590-VHVEG",
    "features": {
        "SeniorCitizen": 0,
        "Partner": "Yes",
        "tenure": 2,
        "InternetService": "Fiber optic",
        "OnlineSecurity": "No",
        "TechSupport": "No",
        "Contract": "Month-to-month",
        "PaperlessBilling": "Yes",
        "PaymentMethod": "Electronic check",
        "MonthlyCharges": 79.85,
        "TotalCharges": 159.7,
    },
    "customerValue": 960,
    "currency": "EUR",
}

CHURN = Engine(
    name="churn",
    route="/v1/churn-prevention",
    summary="Will this customer leave? A calibrated risk, what moved it, what is at stake, and what could be done.",
    request=ChurnPreventionRequest,
    response=ChurnPreventionResponse,
    example=EXAMPLE,
    check=check,
    prepare=prepare,
    load=load,
    optional=True,
)
