"""The purchase model: XGBoost trees, a calibration line and a table of confidences, in a bundle without pickles.

model.ubj         the trees (`trees`)
calibration.json  the line from their margin to log-odds (`calibration`)
confidence.json   the table of confidenceScore (`confidence`)
base_rate.json    the answer when there is no time to score a session (`base_rate`)
metrics.json      cross-validated figures (`validation`)
card.md           the model card (`card`)
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernels.arrays import Arrays
from kernels.trees.calibrated import scores
from kernels.trees.ensemble import LEAF
from kernels.trees.forest import Forest
from kernels.trees.shap import TreeShap
from kernels.types import F32, F64
from training import features
from training.errors import BundleError
from training.features import Vocabulary
from training.models.purchase.base_rate import ANY, HOURS, BaseRate
from training.models.purchase.confidence import EDGES, Confidence
from training.models.shared import boosted
from training.models.shared.boosted import ForestTuning
from training.models.shared.calibration import Platt
from training.registry.bundle import Bundle
from training.tables import sessions

TASK = "purchase"
MODEL, CALIBRATION, CONFIDENCE, BASE_RATE = "model.ubj", "calibration.json", "confidence.json", "base_rate.json"
METRICS, CARD = "metrics.json", "card.md"


class PurchaseScores(NamedTuple):
    """float64 [n] each: calibrated log-odds, 1 / (1 + exp(-margin)), and the confidence (see `training.models.purchase.confidence`)."""

    margin: F64
    probability: F64
    confidence: F64


class PurchaseModel:
    """A loaded purchase model. Row i of its scores depends on row i of X alone, bit for bit, whatever the batch."""

    def __init__(
        self,
        forest: Forest,
        factors: TreeShap,
        platt: Platt,
        confidence: Confidence,
        base_rate: BaseRate,
        meta: Mapping[str, Any],
        version: str,
    ) -> None:
        self.version = version
        self.vocabulary = Vocabulary(meta["vocabulary"])
        self.order_value = float(meta["orderValue"]["amount"])
        self.currency = str(meta["orderValue"]["currency"])
        self._forest, self._platt, self._confidence, self._base_rate = forest, platt, confidence, base_rate
        self._factors = factors
        self.used = frozenset(features.NAMES[column] for column in np.unique(forest.trees.feature) if column != LEAF)
        self._tuned = ForestTuning(forest)
        self._bias = float(platt.slope * self._factors.bias[0] + platt.intercept)

    @classmethod
    def prepare(cls, bundle: Bundle) -> Arrays:
        """Return the trees of a verified bundle flattened and checked against XGBoost: most of the work of `load`.

        Raises BundleError as `load` does.
        """
        return boosted.prepare(bundle, MODEL, len(features.NAMES))

    @classmethod
    def load(cls, bundle: Bundle, parts: Arrays | None = None) -> "PurchaseModel":
        """Return the model in a verified bundle; `parts`: the result of `prepare`, if it is at hand.

        Raises BundleError for a bundle of another task, and for one with other features than this version.
        """
        bundle.require(TASK)
        names = [feature["name"] for feature in bundle.manifest.get("features", ())]
        if names != list(features.NAMES):
            found = next(
                (pair for pair in zip(names, features.NAMES, strict=False) if pair[0] != pair[1]), (len(names), len(features.NAMES))
            )
            raise BundleError(
                f"bundle {bundle.path} has other features than this version ({found[0]} instead of {found[1]}); train the model again"
            )
        try:
            platt, confidence = Platt.read(bundle.json(CALIBRATION)), Confidence.read(bundle.json(CONFIDENCE))
            base_rate = _base_rate(bundle)
        except (KeyError, TypeError, ValueError) as error:
            raise boosted.unloadable(bundle, error) from error
        forest = Forest.of_parts(parts := cls.prepare(bundle) if parts is None else parts)
        factors = TreeShap.of_parts(forest.trees, parts)
        return cls(forest, factors, platt, confidence, base_rate, bundle.manifest, bundle.version)

    def base_rate(self, device: str | None, hour: float) -> tuple[float, float]:
        """Return the share of sessions that buy on this device at this hour of the day, and the confidence of a score without features."""
        rate = self._base_rate.of(device, hour)
        return rate, float(self._confidence.at(0, np.array(rate)))

    def score(self, X: F32) -> PurchaseScores:
        """Return the scores of X float32 [n, features]."""
        margins = self._forest.margin(X)
        out = np.empty((3, len(margins)))
        platt, confidence = self._platt, self._confidence
        scores(margins, X, platt.slope, platt.intercept, confidence.weights, EDGES, confidence.table, out)
        return PurchaseScores(*out)

    def shap(self, X: F32) -> tuple[F64, float]:
        """Return exact SHAP values of the margin, float64 [n, features], and the bias; a row's sum plus the bias is its margin.

        TreeSHAP (Lundberg et al. 2020), path-dependent; it passes through the calibration because that is a line.
        """
        return self._platt.slope * self._factors.values(X), self._bias

    def tune(self, live: "PurchaseModel | None" = None) -> Sequence[str]:
        """Return the settings chosen for this machine and why, one line each: measured, or those of `live` for trees of the same shape."""
        return self._tuned.tune(None if live is None else live._tuned)


def _base_rate(bundle: Bundle) -> BaseRate:
    """Return the base rates of a bundle; without a file of them, the training data's rate at every hour."""
    if BASE_RATE in bundle.manifest["files"]:
        return BaseRate.read(bundle.json(BASE_RATE))
    return BaseRate({ANY: [float(bundle.manifest["trainingData"]["labelRate"])] * HOURS})


def table_matrix(frame: Any, vocabulary: Vocabulary) -> F32:
    """Return the float32 [rows, features] matrix of a table whose columns are named by field."""
    return sessions.matrix(frame, vocabulary)
