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
from serving.engines.details import ActionDetails, BatchDetails, FactorDetails
from serving.engines.engine import Engine, Scorer
from serving.engines.types import UNKNOWN_CURRENCY, RecommendedAction, from_epoch_ms, risk_bands
from serving.engines.value import columns as value_columns
from serving.engines.value.checks import check
from serving.engines.value.columns import DEFAULT_TERMS, ValueColumns, ValueTerms
from serving.engines.value.drivers import CustomerOutlook, CustomerPast, history, risk_factors, value_drivers
from serving.engines.value.stored import LOOKUP
from serving.engines.value.types import CustomerValueRequest, CustomerValueResponse, ValueDriver, ValueInterval
from serving.errors import FieldProblem, InvalidRequestError
from serving.settings import CONFIGS, Settings
from training.features import Feature
from training.models.value.defaults import LEVEL, NoChurnReason
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
    """Predictions as columns. at_last: P(alive) right after the last purchase; scores: fifths of recency, frequency, money [n, 3].

    reasons: why P(alive) is not known, None where it is.
    """

    columns: ValueColumns
    outlook: "Outlook"
    at_last: F64
    segments: list[str]
    scores: F64
    fired: Bool
    reasons: list[NoChurnReason | None]


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
            missing = "this server has no feature store to read the customer from (features.redis_url): send the summary, or set allowPrior"
            return InvalidRequestError([FieldProblem("summary", missing)])
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
        segments, scores = self._model.segments(known, outlook)
        X = np.empty((len(known.total), len(FACTS)), np.float32)
        X[:, 0], X[:, 1], X[:, 2:5] = known.frequency + 1, known.silent_days, scores
        X[:, 4][np.isnan(known.total)] = np.nan
        X[:, 5], X[:, 6] = 1 - outlook.alive, outlook.no_purchase
        fired = self._rules.fired(X, np.ascontiguousarray(outlook.alive))
        at_last, reasons = self._model.alive_at_last(known), self._model.no_churn_reasons(known)
        return ValuePredictions(columns, outlook, at_last, segments, scores, fired, reasons)

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
            predictions.reasons,
            strict=True,
        )
        return [
            CustomerValueResponse(
                customer_id=request.customer_id,
                current_value=None if basis == "prior" or past.total != past.total else past.total,
                churn_risk_reason=reason,
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
            for request, past, expected, segment, scores, recommended, terms, basis, as_of_ms, reason in table
        ]

    def table(self, frame: Any) -> ValueColumns:
        """Return the customers of a table of purchases as columns, at its last day."""
        from training.tables import histories, purchases
        from training.tables.cells import EMPTY_ONLY

        bought = purchases.read(frame, today=datetime.fromtimestamp(self._clock(), UTC).date(), options=EMPTY_ONLY)
        found = histories.of(bought)
        number = len(found.customers)
        as_of_ms = datetime(found.end.year, found.end.month, found.end.day, tzinfo=UTC).timestamp() * 1000
        terms, moments = [DEFAULT_TERMS] * number, [as_of_ms] * number
        return ValueColumns(found.known, terms, found.customers, moments, ["request"] * number, left_out=bought.left_out)

    def output_columns(self, predictions: ValuePredictions) -> dict[str, Any]:
        """Return the output columns of a batch job."""
        from training.models.value import model as value

        columns = predictions.columns
        days = [from_epoch_ms(as_of_ms).date().isoformat() for as_of_ms in columns.as_of_ms]
        return value.table(self._model, columns.customers, days, columns.known, predictions.outlook)

    def drivers(self, predictions: ValuePredictions) -> list[list[ValueDriver]]:
        """Return the value drivers of each row, as its answer lists them; none where the model was fitted to insufficient data."""
        columns, currency = predictions.columns, self._model.currency or UNKNOWN_CURRENCY
        if self._model.insufficient:
            return [[] for _ in columns.customers]
        pasts = [CustomerPast(*row) for row in zip(*(column.tolist() for column in columns.known), strict=True)]
        return [list(fields["value_drivers"]) for fields in self._outlook_fields(predictions, pasts, currency)]

    def actions(self, predictions: ValuePredictions) -> list[list[RecommendedAction]]:
        """Return the next best action of each row, as its answer has it."""
        return [recommended[:1] for recommended in self._rules.rows(predictions.fired)]

    def left_out(self, predictions: ValuePredictions) -> Mapping[str, int]:
        """Return the numbers of rows of a table that are part of no customer, by reason."""
        return predictions.columns.left_out or {}

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
            known = own.can_churn
            yield {
                "lifetime_value": own.value,
                "lifetime_value_interval": ValueInterval(low=own.low, high=own.high, level=LEVEL),
                "expected_purchases": own.purchases,
                "expected_spend": own.spend,
                "probability_alive": own.alive if known else None,
                "churn_risk": 1 - own.alive if known else None,
                "no_purchase_risk": own.no_purchase,
                "risk_band": band,
                "value_drivers": value_drivers(own, new, currency) if explain else [],
                "new_customer_value": new.value,
                "risk_factors": risk_factors(past, own.alive, at_last) if explain and known else [],
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
    details=BatchDetails(
        factors=FactorDetails(ValueScorer.drivers),
        actions=ActionDetails("nextBestAction", ValueScorer.actions),
        left_out=ValueScorer.left_out,
    ),
)
