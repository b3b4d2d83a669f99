"""What is this customer worth, and is he still one? Summaries of purchases in, values with intervals out, with what makes them."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from kernels.arrays import Arrays
from kernels.types import F64, Bool
from serving.engines import actions
from serving.engines.actions import Rules
from serving.engines.churn.scorer import bands
from serving.engines.engine import Engine, Scorer
from serving.engines.lookup import Lookup, Stored
from serving.engines.types import Degradation, epoch_ms, is_sane, moment, not_sane
from serving.engines.value import drivers
from serving.engines.value.drivers import Expected, Past
from serving.engines.value.types import Basis, CustomerSummary, CustomerValueRequest, CustomerValueResponse, StoredSummary, ValueInterval
from serving.errors import FieldProblem, InvalidRequestError, NotFoundError
from serving.settings import CONFIGS, Settings
from training.features import Feature
from training.models.value.defaults import DISCOUNT, HORIZON_DAYS, LEVEL
from training.tables.summaries import DAYS_A_WEEK, NAMES, Summaries

if TYPE_CHECKING:
    from training.models.value.model import Outlook, ValueModel
    from training.registry.bundle import Bundle

_NO_CURRENCY = "XXX"
_TERMS = 1024  # pairs of horizon and discount rate whose new customer is remembered
# What a rule of configs/actions.yaml may be about, beside the probability, which is probabilityAlive.
FACTS: tuple[Feature, ...] = (
    Feature("purchases", "count", "summary"),
    Feature("daysSincePurchase", "days", "summary"),
    Feature("recencyScore", "fifth", "summary"),
    Feature("frequencyScore", "fifth", "summary"),
    Feature("moneyScore", "fifth", "summary"),
    Feature("churnRisk", "probability", "the model"),
    Feature("noPurchaseRisk", "probability", "the model"),
)


class Terms(NamedTuple):
    """What the value is about: so many days, discounted at so much a year."""

    days: float
    rate: float


class Columns(NamedTuple):
    """Requests as columns: what is known, for which terms, of whom, as of when (milliseconds since 1970), and from where."""

    known: Summaries
    terms: Sequence[Terms]
    customers: Sequence[str]
    as_of_ms: Sequence[float]
    basis: Sequence[Basis]
    degradation: Degradation = "none"


class Answers(NamedTuple):
    """Answers as columns. at_last: P(alive) right after the last purchase; scores: float64 [n, 3], fifths of recency, frequency, money."""

    columns: Columns
    outlook: "Outlook"
    at_last: F64
    segments: list[str]
    scores: F64
    fired: Bool


class ValueScorer:
    """A loaded value model behind the engine's seam. `clock` returns seconds since 1970."""

    def __init__(self, model: "ValueModel", rules: Rules, clock: Callable[[], float] = time.time) -> None:
        self._model, self._rules, self._clock = model, rules, clock
        self._new = functools.lru_cache(_TERMS)(self._of_new)

    @property
    def version(self) -> str:
        """Return the version of the model."""
        return self._model.version

    def tune(self, live: Scorer | None = None) -> Sequence[str]:
        """Choose nothing: there is one way to compute it."""
        return ()

    def refusal(self, request: CustomerValueRequest) -> InvalidRequestError | None:
        """Return what lacks where nothing is known of the customer, and no prior may be said instead."""
        if request.summary is None and not request.allow_prior:
            return InvalidRequestError(
                [FieldProblem("summary", "is needed where no feature store is asked; or allow the prior: allowPrior")]
            )
        return None

    def columns(self, requests: Sequence[CustomerValueRequest]) -> Columns:
        """Return the requests as columns."""
        now_ms = self._clock() * 1000
        rows = [_known(request.summary) for request in requests]
        known = np.array([row for row, _ in rows], np.float64).reshape(len(rows), len(NAMES))
        return Columns(
            Summaries(*np.ascontiguousarray(known.T)),
            [_terms(request) for request in requests],
            [request.customer_id for request in requests],
            [now_ms if request.as_of is None else epoch_ms(request.as_of) for request in requests],
            [basis for _, basis in rows],
        )

    def without_explanations(self, columns: Columns) -> Columns:
        """Return the columns of answers without drivers and risk factors."""
        return columns._replace(degradation="no-explanation")

    def base_rate(self, request: CustomerValueRequest) -> None:
        """Return nothing: the prior is said where it is asked for, and never because there is no time."""

    def run(self, columns: Columns) -> Answers:
        """Return values, segments and what follows from them, as columns."""
        known, outlook = columns.known, self._outlook(columns)
        segments, scores = self._model.segments(known)
        X = np.empty((len(known.total), len(FACTS)), np.float32)
        X[:, 0], X[:, 1], X[:, 2:5] = known.frequency + 1, known.silent_days, scores
        X[:, 5], X[:, 6] = 1 - outlook.alive, outlook.quiet
        fired = self._rules.fired(X, np.ascontiguousarray(outlook.alive))
        return Answers(columns, outlook, self._model.alive_at_last(known), segments, scores, fired)

    def rows(self, requests: Sequence[CustomerValueRequest], answers: Answers) -> list[CustomerValueResponse]:
        """Return one response for each request, in order."""
        columns, model, currency = answers.columns, self._model, self._model.currency or _NO_CURRENCY
        now = datetime.fromtimestamp(self._clock(), UTC)
        pasts = [Past(*row) for row in zip(*(column.tolist() for column in columns.known), strict=True)]
        table = zip(
            requests,
            pasts,
            [_UNKNOWN] * len(pasts) if model.insufficient else self._expected(answers, pasts, currency),
            answers.segments,
            answers.scores.astype(np.int64).tolist(),
            self._rules.rows(answers.fired),
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
                next_best_action=best[0] if best else None,
                history=drivers.history(past, as_of_ms) if request.include_history and basis != "prior" else None,
                prediction_horizon=terms.days,
                discount_rate=terms.rate,
                currency=currency,
                basis=basis,
                insufficient_data=list(model.insufficient),
                degradation=columns.degradation,
                as_of=moment(as_of_ms),
                model_version=model.version,
                timestamp=now,
                **expected,
            )
            for request, past, expected, segment, scores, best, terms, basis, as_of_ms in table
        ]

    def table(self, frame: Any) -> Columns:
        """Return the customers in a table of purchases as columns, as of its last day."""
        from training.tables import histories, purchases

        found = histories.of(purchases.read(frame, today=datetime.fromtimestamp(self._clock(), UTC).date()))
        number = len(found.customers)
        as_of_ms = datetime(found.end.year, found.end.month, found.end.day, tzinfo=UTC).timestamp() * 1000
        return Columns(found.known, [_DEFAULT] * number, found.customers, [as_of_ms] * number, ["request"] * number)

    def answers_frame(self, answers: Answers) -> dict[str, Any]:
        """Return the output columns of a batch job."""
        from training.models.value import model as value

        columns = answers.columns
        as_of = [_day(as_of_ms) for as_of_ms in columns.as_of_ms]
        return value.table(self._model, columns.customers, as_of, columns.known, answers.outlook)

    def _outlook(self, columns: Columns) -> "Outlook":
        """Return the outlook of each row on its own terms."""
        terms = columns.terms
        if len(set(terms)) == 1:
            return self._model.outlook(columns.known, *terms[0])
        return _rows_of([self._model.outlook(columns.known.of([row]), *one) for row, one in enumerate(terms)])

    def _of_new(self, terms: Terms) -> Expected:
        """Return what is expected of a new customer."""
        return Expected(*(float(column[0]) for column in self._model.outlook(Summaries.new(), *terms)))

    def _expected(self, answers: Answers, pasts: Sequence[Past], currency: str) -> Iterator[Mapping[str, Any]]:
        """Yield what is expected of each row, as the fields of the response."""
        columns, outlook = answers.columns, answers.outlook
        without_explanations = columns.degradation != "none"
        rows = zip(*(column.tolist() for column in outlook), strict=True)
        for row, past, at_last, band, terms in zip(rows, pasts, answers.at_last.tolist(), bands(outlook.quiet), columns.terms, strict=True):
            own, new = Expected(*row), self._new(terms)
            yield {
                "lifetime_value": own.value,
                "lifetime_value_interval": ValueInterval(low=own.low, high=own.high, level=LEVEL),
                "expected_purchases": own.purchases,
                "expected_spend": own.spend,
                "probability_alive": own.alive,
                "churn_risk": 1 - own.alive,
                "no_purchase_risk": own.quiet,
                "risk_band": band,
                "value_drivers": [] if without_explanations else drivers.drivers(own, new, currency),
                "new_customer_value": new.value,
                "risk_factors": [] if without_explanations else drivers.risks(past, own.alive, at_last),
            }


_DEFAULT = Terms(HORIZON_DAYS, DISCOUNT)


def _terms(request: CustomerValueRequest) -> Terms:
    return Terms(
        HORIZON_DAYS if request.prediction_horizon is None else request.prediction_horizon,
        DISCOUNT if request.discount_rate is None else request.discount_rate,
    )


def _known(summary: CustomerSummary | None) -> tuple[Sequence[float], Basis]:
    """Return a customer's row of Summaries, and where it is from."""
    if isinstance(summary, StoredSummary):
        return summary.vector, "stored"
    if summary is None:
        return [float(column[0]) for column in Summaries.new()], "prior"
    mean, repeats = summary.mean_spend, summary.repeats_with_spend
    with_spend = 0.0 if not mean else summary.frequency if repeats is None else repeats
    total = (1 + summary.frequency) * (mean or 0.0) if summary.current_value is None else summary.current_value
    weeks = summary.recency_days / DAYS_A_WEEK, summary.age_days / DAYS_A_WEEK
    return [summary.frequency, *weeks, with_spend, mean if with_spend and mean else np.nan, total], "request"


def _rows_of(outlooks: Sequence["Outlook"]) -> "Outlook":
    """Return the outlooks of one row each as one of them all."""
    from training.models.value.model import Outlook

    columns = zip(*outlooks, strict=True) if outlooks else [[np.empty(0)]] * len(Outlook._fields)
    return Outlook(*(np.concatenate(list(column)) for column in columns))


_UNKNOWN: Mapping[str, Any] = {
    **dict.fromkeys(
        (
            *("lifetime_value", "lifetime_value_interval", "expected_purchases", "expected_spend", "probability_alive"),
            *("churn_risk", "no_purchase_risk", "risk_band", "new_customer_value"),
        )
    ),
    "value_drivers": [],
    "risk_factors": [],
}


def _day(as_of_ms: float) -> str:
    day: date = moment(as_of_ms).date()
    return day.isoformat()


def check(request: CustomerValueRequest) -> None:
    """Raise InvalidRequestError for what types cannot say."""
    wrong = [not_sane("asOf")] if request.as_of is not None and not is_sane(request.as_of) else []
    if request.summary is not None:
        wrong += _problems(request.summary)
    if wrong:
        raise InvalidRequestError(wrong)


def _problems(summary: CustomerSummary) -> list[FieldProblem]:
    """Return what contradicts itself in a summary."""
    wrong = []
    if summary.recency_days > summary.age_days:
        wrong.append(FieldProblem("summary.recencyDays", f"is {summary.recency_days:g}, more than ageDays, {summary.age_days:g}"))
    if (summary.frequency == 0) != (summary.recency_days == 0):
        wrong.append(FieldProblem("summary.recencyDays", "is 0 where frequency is 0, and only there: a repeat purchase is on a later day"))
    if summary.frequency > summary.recency_days:
        wrong.append(FieldProblem("summary.frequency", "is more than recencyDays: purchases of one day count as one"))
    if summary.repeats_with_spend is not None and summary.repeats_with_spend > summary.frequency:
        wrong.append(FieldProblem("summary.repeatsWithSpend", "is more than frequency"))
    return wrong


def key(request: CustomerValueRequest) -> str | None:
    """Return the customer that the feature store is asked for."""
    return request.customer_id if request.summary is None else None


def filled(request: CustomerValueRequest, stored: Stored | None) -> CustomerValueRequest:
    """Return the request with what is stored of its customer. Raises NotFoundError where nothing is and no prior is allowed."""
    if stored is None:
        if request.allow_prior:
            return request
        raise NotFoundError(
            f"no customer {request.customer_id!r} is known: publish the base with `revenue-engine batch value --publish`, "
            "send `summary`, or set allowPrior for what a new customer is worth"
        )
    frequency, recency, age, repeats, mean, total = vector = tuple(stored.vector.tolist())
    summary = StoredSummary(
        frequency=frequency,
        recency_days=recency * DAYS_A_WEEK,
        age_days=age * DAYS_A_WEEK,
        mean_spend=None if np.isnan(mean) else mean,
        repeats_with_spend=repeats,
        current_value=total,
        vector=vector,
    )
    return msgspec.structs.replace(request, summary=summary, as_of=moment(stored.as_of_s * 1000))


def prepare(bundle: "Bundle") -> Arrays:
    """Return the trees of a bundle that has some, laid out and checked. Raises BundleError."""
    from training.models.value.model import ValueModel

    return ValueModel.prepare(bundle)


def load(bundle: "Bundle", settings: Settings, parts: Arrays | None = None) -> ValueScorer:
    """Return the scorer of a bundle. Raises BundleError for a bundle that does not match, SettingsError for rules that do not."""
    from training.models.value.model import ValueModel

    return ValueScorer(ValueModel.load(bundle, parts), actions.load(CONFIGS / "actions.yaml", "value", FACTS))


EXAMPLE: Mapping[str, Any] = {
    "customerId": "17850",
    "summary": {"frequency": 33, "recencyDays": 261, "ageDays": 302, "meanSpend": 153.1, "currentValue": 5391.21},
    "predictionHorizon": 365,
    "includeHistory": True,
}

VALUE = Engine(
    name="value",
    route="/v1/customer-value",
    summary="What is this customer worth? Value with an interval, whether he still is a customer, what makes it so, and what to do.",
    request=CustomerValueRequest,
    response=CustomerValueResponse,
    example=EXAMPLE,
    check=check,
    prepare=prepare,
    load=load,
    optional=True,
    lookup=Lookup("customer-value", NAMES, key, filled, entity="customerId", as_of="asOf"),
)
