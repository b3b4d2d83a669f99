"""The customer value model: purchases, P(alive) and spend, in a bundle without pickles.

value.json    the served counting model and Gamma-Gamma, with parameters and their covariance; RFM quintile edges
ziln-*.ubj    trees of spend, where they had a lower deviance on the hold-out than Gamma-Gamma
metrics.json  every fitted model, and its metrics on the hold-out
card.md       the model card
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from kernels.arrays import Arrays
from kernels.customers import expected_purchases as kernel
from kernels.customers import spend_intervals
from kernels.customers.spend import mean_spends
from kernels.types import F64, Bool
from training.errors import BundleError
from training.models.shared import boosted
from training.models.value import ziln
from training.models.value.defaults import DISCOUNT, HORIZON_DAYS, LEVEL, NO_PURCHASE_DAYS, NoChurnReason
from training.models.value.lifetime import MODELS, SPEND_PARAMETERS, FittedModel, has_no_mean
from training.models.value.rfm import Edges, segments
from training.models.value.ziln import Ziln
from training.registry.bundle import Bundle
from training.tables.summaries import DAYS_A_WEEK, NAMES, Summaries

TASK = "value"
VALUE, METRICS, CARD = "value.json", "metrics.json", "card.md"
_NO_CHURN_REASONS: Mapping[str, NoChurnReason] = {"never": "no-churn-in-model", "after-repeat": "no-repeat-purchase"}
PERIOD_WEEKS = 1.0  # length of a discounting period
LEVELS = np.array([0.5 - LEVEL / 2, 0.5 + LEVEL / 2])  # quantiles of the interval


class Outlook(NamedTuple):
    """Predictions for customers, float64 [customers] each; NaN where the model was fitted to insufficient data.

    alive: P(alive), NaN too where the model assumes that the customer cannot have left; no_purchase: P(no purchase within
    NO_PURCHASE_DAYS); purchases: expected purchases within the horizon; spend: expected spend per purchase; value: their present value;
    low, high: the interval of LEVEL around it, widened to include `value`.
    """

    alive: F64
    no_purchase: F64
    purchases: F64
    spend: F64
    value: F64
    low: F64
    high: F64


class ValueModel:
    """A loaded value model."""

    def __init__(self, content: Mapping[str, Any], meta: Mapping[str, Any], version: str, trees: Ziln | None = None) -> None:
        self.version = version
        self._trees = trees
        self.currency: str | None = meta["currency"]
        counting = content["counting"]
        model = MODELS[counting["model"]]
        self._number = model.number
        self._parameters = model.kernel_parameters(np.array([counting["parameters"][name] for name in model.parameters], np.float64))
        self._churns = model.churns
        spend = content["spend"]
        self._spend = None if spend is None else np.array([spend["parameters"][name] for name in SPEND_PARAMETERS], np.float64)
        self._mean_parameters = self._spend
        if self._spend is not None and spend.get("noMean"):  # absent from bundles of earlier versions
            self._mean_parameters = _meanless(self._spend)
        self._mean_spend = float(content["meanSpend"])
        self.edges = Edges.load(content["edges"])
        self.insufficient: tuple[str, ...] = tuple(content["insufficientData"])

    @classmethod
    def prepare(cls, bundle: Bundle) -> Arrays:
        """Return the flattened and checked trees of a verified bundle, empty where it has none. Raises BundleError as `load` does."""
        bundle.require(TASK)
        if ziln.CHANCE not in bundle.manifest["files"]:
            return {}
        chance, amount = (boosted.named(file, boosted.forest(bundle, file, len(ziln.COLUMNS))) for file in (ziln.CHANCE, ziln.AMOUNT))
        return {**chance, **amount}

    @classmethod
    def load(cls, bundle: Bundle, parts: Arrays | None = None) -> "ValueModel":
        """Return the model in a verified bundle; `parts`: the result of `prepare`, if it is at hand.

        Raises BundleError when the bundle belongs to another task or is incomplete.
        """
        bundle.require(TASK)
        parts = cls.prepare(bundle) if parts is None else parts
        try:
            content, trees = bundle.json(VALUE), None
            if (window := content["trees"]) is not None:
                trees = Ziln(boosted.of_name(ziln.CHANCE, parts), boosted.of_name(ziln.AMOUNT, parts), window["spread"], window["days"])
            return cls(content, bundle.manifest, bundle.version, trees)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"bundle {bundle.path} cannot be loaded ({error}): train the model again") from error

    def outlook(self, known: Summaries, days: float = HORIZON_DAYS, rate: float = DISCOUNT) -> Outlook:
        """Return the predictions for customers within `days`, discounted weekly at a yearly `rate`."""
        if self.insufficient:
            return Outlook(*np.full((len(Outlook._fields), len(known.total)), np.nan))
        weeks, seen, spent = days / DAYS_A_WEEK, known.seen, known.spent
        alive, purchases = expected_purchases(self._number, self._parameters, seen, weeks)
        closed, discounted, no_purchase = self._expected_spend(spent), np.empty(len(seen)), np.empty(len(seen))
        factor = self._factor(known, seen, closed)
        spend = closed * factor
        kernel.discounted_purchases(self._number, self._parameters, seen, weeks, rate, PERIOD_WEEKS, discounted)
        spend_intervals.no_purchase_probabilities(self._number, self._parameters, seen, alive, NO_PURCHASE_DAYS / DAYS_A_WEEK, no_purchase)
        value = discounted * spend
        # Quantiles are discounted like the mean: the model has no joint distribution of the time and amount of purchases.
        discount = np.divide(discounted, purchases, out=np.ones(len(seen)), where=purchases > 0)
        low, high = self._range(seen, spent, alive, closed, weeks).T * discount * factor
        shown = np.where(self.can_churn(known), alive, np.nan)
        return Outlook(shown, no_purchase, purchases, spend, value, np.minimum(low, value), np.maximum(high, value))

    def can_churn(self, known: Summaries) -> Bool:
        """Return which customers can have left by the model, bool [customers]: by BG/NBD after a repeat purchase, by NBD never."""
        if self._churns == "after-repeat":
            return known.frequency > 0
        return np.full(len(known.total), self._churns == "always")

    def no_churn_reasons(self, known: Summaries) -> list[NoChurnReason | None]:
        """Return why P(alive) of each customer is not known, None where it is."""
        if self.insufficient:
            return ["insufficient-data"] * len(known.total)
        reason = _NO_CHURN_REASONS.get(self._churns)
        return [None if can else reason for can in self.can_churn(known).tolist()]

    def alive_at_last(self, known: Summaries) -> F64:
        """Return P(alive) of customers right after their last purchase, float64 [customers]."""
        return expected_purchases(self._number, self._parameters, known._replace(age=known.recency).seen, 0.0)[0]

    def segments(self, known: Summaries, outlook: Outlook) -> tuple[list[str], F64]:
        """Return the segment of each customer and its RFM scores, float64 [customers, 3], 5 is best."""
        scores = self.edges.scores(*known.rfm)
        return segments(*scores, outlook.alive, outlook.no_purchase), np.array(scores, np.float64).T

    def _expected_spend(self, spent: F64) -> F64:
        """Return the expected spend per purchase; the mean of all customers for those without repeat purchases."""
        if self._mean_parameters is None:
            return np.full(len(spent), self._mean_spend)
        return expected_spend(self._mean_parameters, self._mean_spend, spent)

    def _factor(self, known: Summaries, seen: F64, spend: F64) -> F64:
        """Return the factor by which the trees correct the spend per purchase, so that spend in their window equals theirs."""
        if self._trees is None:
            return np.ones(len(seen))
        closed = expected_purchases(self._number, self._parameters, seen, self._trees.days / DAYS_A_WEEK)[1] * spend
        return np.divide(self._trees.expected_spend(known), closed, out=np.ones(len(seen)), where=closed > 0)

    def no_purchase(self, known: Summaries, days: float) -> F64:
        """Return P(no purchase within `days`), float64 [customers]."""
        seen, no_purchase = known.seen, np.empty(len(known.total))
        alive, _ = expected_purchases(self._number, self._parameters, seen, 0.0)
        spend_intervals.no_purchase_probabilities(self._number, self._parameters, seen, alive, days / DAYS_A_WEEK, no_purchase)
        return no_purchase

    def _range(self, seen: F64, spent: F64, alive: F64, each: F64, weeks: float) -> F64:
        """Return the quantiles of spend at LEVELS, float64 [customers, 2]."""
        out = np.empty((len(seen), len(LEVELS)))
        spend = np.empty(0) if self._spend is None else self._spend
        spend_intervals.spend_quantiles(self._number, self._parameters, seen, alive, weeks, spend, spent, each, LEVELS, out)
        return out


def table(model: ValueModel, customers: Sequence[str], as_of: Sequence[str], known: Summaries, outlook: Outlook) -> dict[str, Any]:
    """Return the columns of a scored base, one row per customer: the summaries as of a day, and the predictions after it."""
    recency_days, purchases, money = known.rfm
    expected = {
        "probabilityAlive": outlook.alive,
        "churnRisk": 1 - outlook.alive,
        "noPurchaseRisk": outlook.no_purchase,
        "expectedPurchases": outlook.purchases,
        "expectedSpend": outlook.spend,
        "lifetimeValue": outlook.value,
        "lifetimeValueLow": outlook.low,
        "lifetimeValueHigh": outlook.high,
    }
    insufficient = "; ".join(model.insufficient)
    return {
        "customerId": list(customers),
        "asOf": list(as_of),
        "purchases": purchases.astype(np.int64),
        "daysSincePurchase": recency_days,
        **{name: pl.Series(column, nan_to_null=True) for name, column in zip(NAMES, known, strict=True)},
        **{name: pl.Series(column, nan_to_null=True) for name, column in expected.items()},
        "segment": model.segments(known, outlook)[0],
        "churnRiskReason": pl.Series(model.no_churn_reasons(known), dtype=pl.String),
        "insufficientData": [insufficient] * len(money),
        "modelVersion": [model.version] * len(money),
    }


def content(
    served: FittedModel,
    spend: FittedModel | None,
    now: Summaries,
    as_of: str,
    insufficient: Sequence[str],
    trees: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the content of value.json; now: the customers as of the end of the data; trees: spread and window of the bundled trees."""
    return {
        "counting": served.content(),
        "spend": None if spend is None else {**spend.content(), "noMean": has_no_mean(spend)},
        "meanSpend": now.average_spend if spend is None else mean_parameters(spend, now)[1],
        "asOf": as_of,
        "edges": Edges.of(*now.rfm).content(),
        "insufficientData": list(insufficient),
        "trees": trees,
    }


def expected_purchases(model: int, parameters: F64, seen: F64, weeks: float) -> tuple[F64, F64]:
    """Return P(alive) and the expected purchases within `weeks`, float64 [customers] each; model: its number in the kernels."""
    out = np.empty((len(seen), 2))
    kernel.expected_purchases(model, parameters, seen, np.array([weeks]), out)
    return out[:, kernel.ALIVE].copy(), out[:, kernel.EXPECTED].copy()


def mean_parameters(spend: FittedModel, known: Summaries) -> tuple[F64, float]:
    """Return the first two arguments of `expected_spend`: Gamma-Gamma's parameters, and the spend of customers without repeat purchases.

    Where the population has no mean, no customer is drawn towards it: with q = 1 the expected spend is the customer's own mean plus v over
    the number of their purchases, and it is the median of all for those without any.
    """
    if not has_no_mean(spend):
        return spend.values, known.average_spend
    return _meanless(spend.values), float(np.median(known.spend[1])) if known.has_spend.any() else 0.0


def _meanless(values: F64) -> F64:
    p, _, v = values
    return np.array([p, 1.0, v])


def expected_spend(parameters: F64, otherwise: float, spent: F64) -> F64:
    """Return the expected spend per purchase by Gamma-Gamma from `Summaries.spent`, `otherwise` where that is not finite."""
    out = np.empty(len(spent))
    mean_spends(parameters, spent, out)
    return np.where(np.isfinite(out), out, otherwise)
