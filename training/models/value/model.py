"""The model of what customers are worth: how often they will buy, whether they still do, and for how much, in a bundle without pickles.

value.json    the counting model that is served and Gamma-Gamma, each with its parameters and how sure they are; fifths of the customers
ziln-*.ubj    trees of what customers spend, where the hold-out showed that they are better at it than Gamma-Gamma
metrics.json  every model that was fitted, and how their predictions compare with what came after
card.md       the same for people
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from kernels.arrays import Arrays
from kernels.customers import counting as kernel
from kernels.customers import spend_intervals
from kernels.types import F64
from training.errors import BundleError
from training.models.shared import boosted
from training.models.value import ziln
from training.models.value.defaults import DISCOUNT, HORIZON_DAYS, LEVEL, QUIET_DAYS
from training.models.value.lifetime import MODELS, SPEND_PARAMETERS, Fit
from training.models.value.rfm import Edges, segments
from training.models.value.ziln import Ziln
from training.registry.bundle import Bundle
from training.tables.summaries import DAYS_A_WEEK, NAMES, Summaries

TASK = "value"
VALUE, METRICS, CARD = "value.json", "metrics.json", "card.md"
PERIOD_WEEKS = 1.0  # that value is discounted by
LEVELS = np.array([0.5 - LEVEL / 2, 0.5 + LEVEL / 2])  # between these quantiles lies what four customers in five bring


class Outlook(NamedTuple):
    """What is to be expected of customers, float64 [customers] each; NaN where the model has learned from too little to say.

    alive: the probability that they still buy; quiet: that they do not within QUIET_DAYS; purchases: how many within the horizon; spend:
    money at each; value: the present value of all of these; low, high: what it will be for four customers in five, and never less than
    what is expected.
    """

    alive: F64
    quiet: F64
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
        self._parameters = model.given(np.array([counting["parameters"][name] for name in model.parameters], np.float64))
        spend = content["spend"]
        self._spend = None if spend is None else np.array([spend["parameters"][name] for name in SPEND_PARAMETERS], np.float64)
        self._mean_spend = float(content["meanSpend"])
        self.edges = Edges.load(content["edges"])
        self.insufficient: tuple[str, ...] = tuple(content["insufficientData"])

    @classmethod
    def prepare(cls, bundle: Bundle) -> Arrays:
        """Return the trees of a verified bundle, laid out and checked, where it has some. Raises BundleError as `load` does."""
        bundle.require(TASK)
        if ziln.CHANCE not in bundle.manifest["files"]:
            return {}
        chance, amount = (boosted.named(file, boosted.forest(bundle, file, len(ziln.COLUMNS))) for file in (ziln.CHANCE, ziln.AMOUNT))
        return {**chance, **amount}

    @classmethod
    def load(cls, bundle: Bundle, parts: Arrays | None = None) -> "ValueModel":
        """Return the model in a verified bundle; `parts`: what `prepare` has made of it, where that is there already.

        Raises BundleError when it is another task's, or is not whole.
        """
        bundle.require(TASK)
        parts = cls.prepare(bundle) if parts is None else parts
        try:
            content, trees = bundle.json(VALUE), None
            if (of := content["trees"]) is not None:
                trees = Ziln(boosted.of_name(ziln.CHANCE, parts), boosted.of_name(ziln.AMOUNT, parts), of["spread"], of["days"])
            return cls(content, bundle.manifest, bundle.version, trees)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"bundle {bundle.path} cannot be loaded ({error}): train it again") from error

    def outlook(self, known: Summaries, days: float = HORIZON_DAYS, rate: float = DISCOUNT) -> Outlook:
        """Return what is to be expected of customers within `days`, discounted at a yearly `rate`, by weeks."""
        if self.insufficient:
            return Outlook(*np.full((len(Outlook._fields), len(known.total)), np.nan))
        weeks, seen, spent = days / DAYS_A_WEEK, known.seen, known.spent
        alive, purchases = futures(self._number, self._parameters, seen, weeks)
        closed, worth, quiet = self._spends(spent), np.empty(len(seen)), np.empty(len(seen))
        factor = self._factor(known, seen, closed)
        spend = closed * factor
        kernel.discounted(self._number, self._parameters, seen, weeks, rate, PERIOD_WEEKS, worth)
        spend_intervals.quiet(self._number, self._parameters, seen, alive, QUIET_DAYS / DAYS_A_WEEK, quiet)
        value = worth * spend
        # A quantile is discounted as the mean is: when in the horizon the money comes is another question than how much it is.
        discount = np.divide(worth, purchases, out=np.ones(len(seen)), where=purchases > 0)
        low, high = self._range(seen, spent, alive, closed, weeks).T * discount * factor
        return Outlook(alive, quiet, purchases, spend, value, np.minimum(low, value), np.maximum(high, value))

    def alive_at_last(self, known: Summaries) -> F64:
        """Return P(alive) of customers as it was right after their last purchase, float64 [customers]."""
        return futures(self._number, self._parameters, known._replace(age=known.recency).seen, 0.0)[0]

    def segments(self, known: Summaries) -> tuple[list[str], F64]:
        """Return the segment of each customer, and the fifths that it follows from: float64 [customers, 3], 5 is best."""
        scores = self.edges.scores(*known.rfm)
        return segments(*scores), np.array(scores, np.float64).T

    def _spends(self, spent: F64) -> F64:
        """Return the expected spend at a purchase; of customers without repeats that of all."""
        if self._spend is None:
            return np.full(len(spent), self._mean_spend)
        return spends(self._spend, spent, self._mean_spend)

    def _factor(self, known: Summaries, seen: F64, spend: F64) -> F64:
        """Return by what the trees correct the money at a purchase: so that within their own window all of it is what they say."""
        if self._trees is None:
            return np.ones(len(seen))
        closed = futures(self._number, self._parameters, seen, self._trees.days / DAYS_A_WEEK)[1] * spend
        return np.divide(self._trees.spends(known), closed, out=np.ones(len(seen)), where=closed > 0)

    def silence(self, known: Summaries, days: float) -> F64:
        """Return the chance that customers buy nothing within `days`, float64 [customers]."""
        seen, quiet = known.seen, np.empty(len(known.total))
        alive, _ = futures(self._number, self._parameters, seen, 0.0)
        spend_intervals.quiet(self._number, self._parameters, seen, alive, days / DAYS_A_WEEK, quiet)
        return quiet

    def _range(self, seen: F64, spent: F64, alive: F64, each: F64, weeks: float) -> F64:
        """Return the quantiles of what customers will spend, at LEVELS: float64 [customers, 2]."""
        out = np.empty((len(seen), len(LEVELS)))
        spend = np.empty(0) if self._spend is None else self._spend
        spend_intervals.ranges(self._number, self._parameters, seen, alive, weeks, spend, spent, each, LEVELS, out)
        return out


def table(model: ValueModel, customers: Sequence[str], as_of: Sequence[str], known: Summaries, outlook: Outlook) -> dict[str, Any]:
    """Return the columns of a scored base, a row for each customer: what is known as of a day, and what is to be expected after it."""
    recency_days, purchases, money = known.rfm
    expected = {
        "probabilityAlive": outlook.alive,
        "churnRisk": 1 - outlook.alive,
        "noPurchaseRisk": outlook.quiet,
        "expectedPurchases": outlook.purchases,
        "expectedSpend": outlook.spend,
        "lifetimeValue": outlook.value,
        "lifetimeValueLow": outlook.low,
        "lifetimeValueHigh": outlook.high,
    }
    lacking = "; ".join(model.insufficient)
    return {
        "customerId": list(customers),
        "asOf": list(as_of),
        "purchases": purchases.astype(np.int64),
        "daysSincePurchase": recency_days,
        **{name: pl.Series(column, nan_to_null=True) for name, column in zip(NAMES, known, strict=True)},
        **{name: pl.Series(column, nan_to_null=True) for name, column in expected.items()},
        "segment": model.segments(known)[0],
        "insufficientData": [lacking] * len(money),
        "modelVersion": [model.version] * len(money),
    }


def content(
    served: Fit,
    spend: Fit | None,
    now: Summaries,
    as_of: str,
    insufficient: Sequence[str],
    trees: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the content of value.json; `now`: the customers as of the end of the data; trees: the spread and days of those beside it."""
    return {
        "counting": served.content(),
        "spend": None if spend is None else spend.content(),
        "meanSpend": now.average_spend,
        "asOf": as_of,
        "edges": Edges.of(*now.rfm).content(),
        "insufficientData": list(insufficient),
        "trees": trees,
    }


def futures(model: int, parameters: F64, seen: F64, weeks: float) -> tuple[F64, F64]:
    """Return P(alive) and the expected purchases within `weeks` by a counting model of `kernels.customers.counting`."""
    out = np.empty((len(seen), 2))
    kernel.futures(model, parameters, seen, np.array([weeks]), out)
    return out[:, kernel.ALIVE].copy(), out[:, kernel.EXPECTED].copy()


def spends(parameters: F64, spent: F64, otherwise: float) -> F64:
    """Return the expected spend at a purchase by Gamma-Gamma of `Summaries.spent`; `otherwise` where that has no mean."""
    out = np.empty(len(spent))
    kernel.mean_spends(parameters, spent, out)
    return np.where(np.isfinite(out), out, otherwise)
