"""What is this customer worth? Summaries of purchases in, values with intervals out, with their drivers and the risk of leaving."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kernels.arrays import Arrays
from kernels.types import F64, Bool
from serving.engines import actions
from serving.engines.actions import ActionRules
from serving.engines.engine import Engine, Scorer
from serving.engines.types import UNKNOWN_CURRENCY, from_epoch_ms, risk_bands
from serving.engines.value import columns as value_columns
from serving.engines.value.checks import check
from serving.engines.value.columns import DEFAULT_TERMS, ValueColumns, ValueTerms
from serving.engines.value.drivers import CustomerOutlook, CustomerPast, history, risk_factors, value_drivers
from serving.engines.value.stored import LOOKUP
from serving.engines.value.types import CustomerValueRequest, CustomerValueResponse, ValueInterval
from serving.errors import FieldProblem, InvalidRequestError
from serving.settings import CONFIGS, Settings
from training.features import Feature
from training.models.value.defaults import LEVEL
from training.tables.summaries import Summaries

if TYPE_CHECKING:
    from training.models.value.model import Outlook, ValueModel
    from training.registry.bundle import Bundle

_MAX_TERMS = 1024  # pairs of horizon and discount rate for which the outlook of a new customer is cached
# The facts that rules of configs/actions.yaml can use, besides the probability, which is probabilityAlive.
FACTS: tuple[Feature, ...] = (
    Feature("purchases", "count", "summary"),
    Feature("daysSincePurchase", "days", "summary"),
    Feature("recencyScore", "fifth", "summary"),
    Feature("frequencyScore", "fifth", "summary"),
    Feature("moneyScore", "fifth", "summary"),
    Feature("churnRisk", "probability", "the model"),
    Feature("noPurchaseRisk", "probability", "the model"),
)


class ValuePredictions(NamedTuple):
    """Predictions as columns. at_last: P(alive) right after the last purchase; scores: fifths of recency, frequency, money [n, 3]."""

    columns: ValueColumns
    outlook: "Outlook"
    at_last: F64
    segments: list[str]
    scores: F64
    fired: Bool


class ValueScorer:
    """The value question's Scorer. `clock` returns seconds since 1970."""

    def __init__(self, model: "ValueModel", rules: ActionRules, clock: Callable[[], float] = time.time) -> None:
        self._model, self._rules, self._clock = model, rules, clock
        self._new_customer = functools.lru_cache(_MAX_TERMS)(self._new_customer_outlook)

    @property
    def version(self) -> str:
        """Return the version of the model."""
        return self._model.version

    def tune(self, live: Scorer | None = None) -> Sequence[str]:
        """Return nothing: there is only one implementation."""
        return ()

    def refusal(self, request: CustomerValueRequest) -> InvalidRequestError | None:
        """Return an error where nothing is known of the customer and no prior is allowed, else None."""
        if request.summary is None and not request.allow_prior:
            return InvalidRequestError([FieldProblem("summary", "is required where there is no feature store; or set allowPrior")])
        return None

    def columns(self, requests: Sequence[CustomerValueRequest]) -> ValueColumns:
        """Return the requests as columns."""
        return value_columns.columns(requests, self._clock() * 1000)

    def without_explanations(self, columns: ValueColumns) -> ValueColumns:
        """Return the columns of answers without drivers and risk factors."""
        return columns._replace(degradation="no-explanation")

    def base_rate(self, request: CustomerValueRequest) -> None:
        """Return None: the prior is an answer only where the request allows it."""

    def run(self, columns: ValueColumns) -> ValuePredictions:
        """Return values, segments and fired rules as columns."""
        known, outlook = columns.known, self._outlook(columns)
        segments, scores = self._model.segments(known)
        X = np.empty((len(known.total), len(FACTS)), np.float32)
        X[:, 0], X[:, 1], X[:, 2:5] = known.frequency + 1, known.silent_days, scores
        X[:, 5], X[:, 6] = 1 - outlook.alive, outlook.no_purchase
        fired = self._rules.fired(X, np.ascontiguousarray(outlook.alive))
        return ValuePredictions(columns, outlook, self._model.alive_at_last(known), segments, scores, fired)

    def rows(self, requests: Sequence[CustomerValueRequest], predictions: ValuePredictions) -> list[CustomerValueResponse]:
        """Return one response for each request, in order."""
        columns, model, currency = predictions.columns, self._model, self._model.currency or UNKNOWN_CURRENCY
        now = datetime.fromtimestamp(self._clock(), UTC)
        pasts = [CustomerPast(*row) for row in zip(*(column.tolist() for column in columns.known), strict=True)]
        table = zip(
            requests,
            pasts,
            [_NO_OUTLOOK] * len(pasts) if model.insufficient else self._outlook_fields(predictions, pasts, currency),
            predictions.segments,
            predictions.scores.astype(np.int64).tolist(),
            self._rules.rows(predictions.fired),
            columns.terms,
            columns.basis,
            columns.as_of_ms,
            strict=True,
        )
        return [
            CustomerValueResponse(
                customer_id=request.customer_id,
                current_value=None if basis == "prior" else past.total,
                segment=segment,
                segment_scores=scores,
                next_best_action=recommended[0] if recommended else None,
                history=history(past, as_of_ms) if request.include_history and basis != "prior" else None,
                prediction_horizon=terms.days,
                discount_rate=terms.rate,
                currency=currency,
                basis=basis,
                insufficient_data=list(model.insufficient),
                degradation=columns.degradation,
                as_of=from_epoch_ms(as_of_ms),
                model_version=model.version,
                timestamp=now,
                **expected,
            )
            for request, past, expected, segment, scores, recommended, terms, basis, as_of_ms in table
        ]

    def table(self, frame: Any) -> ValueColumns:
        """Return the customers of a table of purchases as columns, at its last day."""
        from training.tables import histories, purchases

        found = histories.of(purchases.read(frame, today=datetime.fromtimestamp(self._clock(), UTC).date()))
        number = len(found.customers)
        as_of_ms = datetime(found.end.year, found.end.month, found.end.day, tzinfo=UTC).timestamp() * 1000
        return ValueColumns(found.known, [DEFAULT_TERMS] * number, found.customers, [as_of_ms] * number, ["request"] * number)

    def output_columns(self, predictions: ValuePredictions) -> dict[str, Any]:
        """Return the output columns of a batch job."""
        from training.models.value import model as value

        columns = predictions.columns
        days = [from_epoch_ms(as_of_ms).date().isoformat() for as_of_ms in columns.as_of_ms]
        return value.table(self._model, columns.customers, days, columns.known, predictions.outlook)

    def _outlook(self, columns: ValueColumns) -> "Outlook":
        """Return the outlook of each row on its own terms."""
        terms = columns.terms
        if len(set(terms)) == 1:
            return self._model.outlook(columns.known, *terms[0])
        return _concatenate([self._model.outlook(columns.known.of([row]), *one) for row, one in enumerate(terms)])

    def _new_customer_outlook(self, terms: ValueTerms) -> CustomerOutlook:
        """Return the outlook of a new customer."""
        return CustomerOutlook(*(float(column[0]) for column in self._model.outlook(Summaries.new(), *terms)))

    def _outlook_fields(self, predictions: ValuePredictions, pasts: Sequence[CustomerPast], currency: str) -> Iterator[Mapping[str, Any]]:
        """Yield the response fields that come from the outlook, of each row."""
        columns, outlook = predictions.columns, predictions.outlook
        explain = columns.degradation == "none"
        rows = zip(*(column.tolist() for column in outlook), strict=True)
        table = zip(rows, pasts, predictions.at_last.tolist(), risk_bands(outlook.no_purchase), columns.terms, strict=True)
        for row, past, at_last, band, terms in table:
            own, new = CustomerOutlook(*row), self._new_customer(terms)
            yield {
                "lifetime_value": own.value,
                "lifetime_value_interval": ValueInterval(low=own.low, high=own.high, level=LEVEL),
                "expected_purchases": own.purchases,
                "expected_spend": own.spend,
                "probability_alive": own.alive,
                "churn_risk": 1 - own.alive,
                "no_purchase_risk": own.no_purchase,
                "risk_band": band,
                "value_drivers": value_drivers(own, new, currency) if explain else [],
                "new_customer_value": new.value,
                "risk_factors": risk_factors(past, own.alive, at_last) if explain else [],
            }


def _concatenate(outlooks: Sequence["Outlook"]) -> "Outlook":
    """Return outlooks of one row each as one with a row for each."""
    from training.models.value.model import Outlook

    columns = zip(*outlooks, strict=True) if outlooks else [[np.empty(0)]] * len(Outlook._fields)
    return Outlook(*(np.concatenate(list(column)) for column in columns))


_NO_OUTLOOK: Mapping[str, Any] = {
    **dict.fromkeys(
        (
            *("lifetime_value", "lifetime_value_interval", "expected_purchases", "expected_spend", "probability_alive"),
            *("churn_risk", "no_purchase_risk", "risk_band", "new_customer_value"),
        )
    ),
    "value_drivers": [],
    "risk_factors": [],
}


def prepare(bundle: "Bundle") -> Arrays:
    """Return the trees of a bundle that has some as arrays, checked against XGBoost. Raises BundleError."""
    from training.models.value.model import ValueModel

    return ValueModel.prepare(bundle)


def load(bundle: "Bundle", settings: Settings, arrays: Arrays | None = None) -> ValueScorer:
    """Return the scorer of a bundle. Raises BundleError for a bundle that does not fit, SettingsError for rules that do not."""
    from training.models.value.model import ValueModel

    return ValueScorer(ValueModel.load(bundle, arrays), actions.load(CONFIGS / "actions.yaml", "value", FACTS))


EXAMPLE: Mapping[str, Any] = {
    "customerId": "17850",
    "summary": {"frequency": 33, "recencyDays": 261, "ageDays": 302, "meanSpend": 153.1, "currentValue": 5391.21},
    "predictionHorizon": 365,
    "includeHistory": True,
}

VALUE = Engine(
    name="value",
    route="/v1/customer-value",
    summary="What is this customer worth? Lifetime value with an interval, risk of leaving, the drivers of both, and the next action.",
    request=CustomerValueRequest,
    response=CustomerValueResponse,
    example=EXAMPLE,
    check=check,
    prepare=prepare,
    load=load,
    optional=True,
    lookup=LOOKUP,
)
