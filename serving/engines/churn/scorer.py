"""Will this customer leave? What is known of customers in, calibrated risks out, with their factors and the value at risk."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Arrays
from kernels.types import F32, F64
from serving.engines.churn import actions
from serving.engines.churn.actions import RetentionAction, RetentionRules
from serving.engines.churn.types import DEFAULT_FACTORS, ChurnPreventionRequest, ChurnPreventionResponse
from serving.engines.details import ActionDetails, BatchDetails, FactorDetails
from serving.engines.engine import Engine, Scorer
from serving.engines.ignored import NOTHING, IgnoredPaths, ignored_paths
from serving.engines.shap import OTHER, FactorList
from serving.engines.types import (
    Degradation,
    PredictionFactor,
    RiskBand,
    epoch_ms,
    from_epoch_ms,
    invalid_moment,
    is_valid_moment,
    risk_bands,
)
from serving.errors import FieldProblem, InvalidRequestError
from serving.settings import CONFIGS, Settings
from training.tables.customers import is_blank

if TYPE_CHECKING:
    from training.models.churn.model import ChurnModel, ChurnScores
    from training.registry.bundle import Bundle


class ChurnColumns(NamedTuple):
    """Requests as columns: X float32 [n, features]; max_factors[i]: the most factors that row i lists."""

    X: F32
    max_factors: Sequence[int]
    degradation: Degradation = "none"


class ChurnPredictions(NamedTuple):
    """Predictions as columns. bands: list [n]; shap: SHAP values float64 [n, features], zero in rows that list no factors.

    effects: list [n]: by how much each arm of the model's experiment raises the probability of staying; empty without an experiment.
    """

    columns: ChurnColumns
    scores: "ChurnScores"
    bands: list[RiskBand]
    shap: F64
    effects: list[dict[str, float]]


class ChurnScorer:
    """The churn question's Scorer. `clock` returns seconds since 1970."""

    def __init__(self, model: "ChurnModel", rules: RetentionRules, clock: Callable[[], float] = time.time) -> None:
        self._model, self._rules, self._clock = model, rules, clock
        self._readers = [(feature.name, feature.reader()) for feature in model.features]
        self._numbers = [feature.name for feature in model.features if feature.kind == "number"]
        self._names = frozenset(feature.name for feature in model.features)
        labels = {f.name: {float(place): value for place, value in enumerate(f.values)} for f in model.features if f.kind == "category"}
        self._factors = FactorList([f.name for f in model.features], [f.kind for f in model.features], labels)

    @property
    def version(self) -> str:
        """Return the version of the model."""
        return self._model.version

    def tune(self, live: Scorer | None = None) -> Sequence[str]:
        """Choose the fastest implementation, by measuring or as `live` did, and return what was chosen and why."""
        return self._model.tune(live._model if isinstance(live, ChurnScorer) else None)

    def refusal(self, request: ChurnPreventionRequest) -> InvalidRequestError | None:
        """Return an error for texts where the training table has numbers, None where there are none."""
        given = request.features
        texts = [name for name in self._numbers if isinstance(text := given.get(name), str) and not is_blank(text)]
        wrong = [FieldProblem(f"features.{name}", f"is a number in the training data, got {given[name]!r:.100}") for name in texts]
        return InvalidRequestError(wrong) if wrong else None

    def columns(self, requests: Sequence[ChurnPreventionRequest]) -> ChurnColumns:
        """Return the requests' features as columns."""
        rows = [[read(request.features.get(name)) for name, read in self._readers] for request in requests]
        X = np.array(rows, np.float32).reshape(len(rows), len(self._readers))
        return ChurnColumns(X, [DEFAULT_FACTORS if r.max_factors is None else r.max_factors for r in requests])

    def without_explanations(self, columns: ChurnColumns) -> ChurnColumns:
        """Return the columns of answers that list no factors."""
        return columns._replace(max_factors=[0] * len(columns.max_factors), degradation="no-explanation")

    def base_rate(self, request: ChurnPreventionRequest) -> None:
        """Return None: a risk that is the same for all customers does not rank them."""

    def run(self, columns: ChurnColumns) -> ChurnPredictions:
        """Return scores, bands and SHAP values as columns."""
        scores = self._model.score(columns.X)
        effects = self._effects(columns.X, scores.probability)
        return ChurnPredictions(columns, scores, risk_bands(scores.probability), self._shap(columns), effects)

    def rows(self, requests: Sequence[ChurnPreventionRequest], predictions: ChurnPredictions) -> list[ChurnPreventionResponse]:
        """Return one response for each request, in order."""
        columns, scores, model = predictions.columns, predictions.scores, self._model
        now = datetime.fromtimestamp(self._clock(), UTC)
        missing_features = self._factors.missing_features(columns.X)
        table = zip(
            requests,
            scores.probability.tolist(),
            scores.margin.tolist(),
            predictions.bands,
            self._factors.rows(columns.X, predictions.shap, columns.max_factors, scores.margin - model.bias),
            missing_features,
            map(self._ignored, requests, missing_features),
            predictions.effects,
            strict=True,
        )
        return [
            ChurnPreventionResponse(
                customer_id=request.customer_id,
                churn_risk=risk,
                risk_band=band,
                outcome=model.outcome,
                factors=factors,
                contribution_unit="log-odds",
                bias=model.bias,
                margin=margin,
                value_at_risk=None if request.customer_value is None else risk * request.customer_value,
                currency=None if request.customer_value is None else request.currency,
                retention_actions=self._rules.actions(risk, request.customer_value, effects),
                missing_features=missing,
                ignored=ignored.paths,
                more_ignored=ignored.more,
                degradation=columns.degradation,
                as_of=now if request.as_of is None else from_epoch_ms(epoch_ms(request.as_of)),
                model_version=model.version,
                timestamp=now,
            )
            for request, risk, margin, band, factors, missing, ignored, effects in table
        ]

    def table(self, frame: Any) -> ChurnColumns:
        """Return a table's rows as columns; they list no factors."""
        X = self._model.table_matrix(frame)
        return ChurnColumns(X, [0] * len(X))

    def output_columns(self, predictions: ChurnPredictions) -> dict[str, NDArray[Any] | list[Any]]:
        """Return the output columns of a batch job."""
        risk = predictions.scores.probability
        arms = () if self._model.effects is None else self._model.effects.arms
        effects = {f"effect:{arm.name}": [row[arm.name] for row in predictions.effects] for arm in arms}
        return {"churnRisk": risk, "riskBand": predictions.bands, **effects, "modelVersion": [self.version] * len(risk)}

    def factors(self, predictions: ChurnPredictions) -> list[list[PredictionFactor]]:
        """Return the factors of each row, as its answer lists them."""
        columns, scores = predictions.columns, predictions.scores
        return self._factors.rows(columns.X, predictions.shap, columns.max_factors, scores.margin - self._model.bias)

    def actions(self, predictions: ChurnPredictions) -> list[list[RetentionAction]]:
        """Return the retention actions of each row, as the answer for a customer of unknown value lists them."""
        rows = zip(predictions.scores.probability.tolist(), predictions.effects, strict=True)
        return [self._rules.actions(risk, None, effects) for risk, effects in rows]

    def _ignored(self, request: ChurnPreventionRequest, missing: Sequence[str]) -> IgnoredPaths:
        """Return the features that the model does not have, and those of which it has not seen the value."""
        given = request.features
        names = [name for name, value in given.items() if value is not None and name not in self._names]
        names += [name for name in missing if (value := given.get(name)) is not None and not (isinstance(value, str) and is_blank(value))]
        return ignored_paths(f"features.{name}" for name in names) if names else NOTHING

    def _effects(self, X: F32, risk: F64) -> list[dict[str, float]]:
        """Return the effects of the experiment's arms on each row, by name; none without an experiment.

        No effect exceeds the probability that it can change: the arm saves at most who would leave, and loses at most who would stay.
        """
        effects = self._model.effects
        if effects is None:
            return [{}] * len(X)
        names = [arm.name for arm in effects.arms]
        possible = np.clip(effects.of(X), (risk - 1)[:, None], risk[:, None])
        return [dict(zip(names, row, strict=True)) for row in possible.tolist()]

    def _shap(self, columns: ChurnColumns) -> F64:
        """Return the SHAP values of the rows that list factors; they are computed for no others."""
        shap = np.zeros(columns.X.shape)
        wanted = np.array(columns.max_factors, np.int64) > 0
        if wanted.any():
            shap[wanted] = self._model.shap(columns.X[wanted])
        return shap


def check(request: ChurnPreventionRequest) -> None:
    """Raise InvalidRequestError for what types cannot express."""
    if request.as_of is not None and not is_valid_moment(request.as_of):
        raise InvalidRequestError([invalid_moment("asOf")])


def prepare(bundle: "Bundle") -> Arrays:
    """Return the trees of a bundle as arrays, checked against XGBoost. Raises BundleError."""
    from training.models.churn.model import ChurnModel

    return ChurnModel.prepare(bundle)


def load(bundle: "Bundle", settings: Settings, arrays: Arrays | None = None) -> ChurnScorer:
    """Return the scorer of a bundle. Raises BundleError for a bundle that does not fit, SettingsError for rules that do not."""
    from training.models.churn.model import ChurnModel

    return ChurnScorer(ChurnModel.load(bundle, arrays), actions.load(CONFIGS / "retention.yaml"))


# A customer of the published Telco table; a model that was trained on another table has other columns.
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
    summary="Will this customer leave? A calibrated risk, its factors, the value at risk, and what could be done.",
    request=ChurnPreventionRequest,
    response=ChurnPreventionResponse,
    example=EXAMPLE,
    check=check,
    prepare=prepare,
    load=load,
    optional=True,
    details=BatchDetails(
        factors=FactorDetails(ChurnScorer.factors, OTHER, "max_factors"),
        actions=ActionDetails("retentionActions", ChurnScorer.actions),
    ),
)
