"""The purchase model: XGBoost trees, a calibration line and a table of confidences, in a bundle without pickles.

model.ubj         the trees (`trees`)
calibration.json  the line from their margin to log-odds (`calibration`)
confidence.json   what confidenceScore is read from (`confidence`)
base_rate.json    what is said of a session when there is no time to look at it (`base_rate`); older bundles have none
metrics.json      how well all that does on rows it never saw (`validation`)
card.md           the same for people (`training.models.purchase.card`)
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernels.arrays import Arrays
from kernels.trees.calibrated import scores
from kernels.trees.forest import Forest
from kernels.trees.shap import Factors
from kernels.types import F32, F64
from training import features
from training.errors import BundleError
from training.features import Vocabulary
from training.models.purchase.base_rate import ANY, HOURS, BaseRate
from training.models.purchase.confidence import EDGES, Confidence
from training.models.shared import boosted
from training.models.shared.boosted import Tuned
from training.models.shared.calibration import Platt
from training.registry.bundle import Bundle
from training.tables import sessions

TASK = "purchase"
MODEL, CALIBRATION, CONFIDENCE, BASE_RATE = "model.ubj", "calibration.json", "confidence.json", "base_rate.json"
METRICS, CARD = "metrics.json", "card.md"


class Scores(NamedTuple):
    """float64 [n] each: calibrated log-odds, 1 / (1 + exp(-margin)), and the confidence (see `training.models.purchase.confidence`)."""

    margin: F64
    probability: F64
    confidence: F64


class PurchaseModel:
    """A loaded purchase model. Row i of an answer depends on row i of X alone, bit for bit, whatever else is in the batch."""

    def __init__(
        self,
        forest: Forest,
        factors: Factors,
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
        self._tuned = Tuned(forest)
        self._bias = float(platt.slope * self._factors.bias[0] + platt.intercept)

    @classmethod
    def prepare(cls, bundle: Bundle) -> Arrays:
        """Return the trees of a verified bundle laid out and checked against XGBoost: most of the work of `load`.

        Raises BundleError as `load` does.
        """
        return boosted.prepare(bundle, MODEL, len(features.NAMES))

    @classmethod
    def load(cls, bundle: Bundle, parts: Arrays | None = None) -> "PurchaseModel":
        """Return the model in a verified bundle; `parts`: what `prepare` has made of it, where that is there already.

        Raises BundleError when it is another task's, or its features are not this code's.
        """
        bundle.require(TASK)
        names = [feature["name"] for feature in bundle.manifest.get("features", ())]
        if names != list(features.NAMES):
            odd = next((pair for pair in zip(names, features.NAMES, strict=False) if pair[0] != pair[1]), (len(names), len(features.NAMES)))
            raise BundleError(
                f"bundle {bundle.path} has other features than this version ({odd[0]} where {odd[1]} is expected); train it again"
            )
        try:
            platt, confidence = Platt.read(bundle.json(CALIBRATION)), Confidence.read(bundle.json(CONFIDENCE))
            base_rate = _base_rate(bundle)
        except (KeyError, TypeError, ValueError) as error:
            raise boosted.unloadable(bundle, error) from error
        forest = Forest.of_parts(parts := cls.prepare(bundle) if parts is None else parts)
        factors = Factors.of_parts(forest.trees, parts)
        return cls(forest, factors, platt, confidence, base_rate, bundle.manifest, bundle.version)

    def base_rate(self, device: str | None, hour: float) -> tuple[float, float]:
        """Return how often sessions on this device at this hour of the day buy, and the confidence of a score that knows nothing else."""
        rate = self._base_rate.of(device, hour)
        return rate, float(self._confidence.at(0, np.array(rate)))

    def score(self, X: F32) -> Scores:
        """Return the scores of X float32 [n, features]."""
        margins = self._forest.margin(X)
        out = np.empty((3, len(margins)))
        platt, confidence = self._platt, self._confidence
        scores(margins, X, platt.slope, platt.intercept, confidence.weights, EDGES, confidence.table, out)
        return Scores(*out)

    def factors(self, X: F32) -> tuple[F64, float]:
        """Return exact SHAP values of the margin, float64 [n, features], and the bias; a row's sum plus the bias is its margin.

        TreeSHAP (Lundberg et al. 2020), path-dependent; it passes through the calibration because that is a line.
        """
        return self._platt.slope * self._factors.of(X), self._bias

    def tune(self, live: "PurchaseModel | None" = None) -> Sequence[str]:
        """Return what was chosen for this machine and why, a line each: by measuring it, or as `live` did for trees of the same shape."""
        return self._tuned.tune(None if live is None else live._tuned)


def _base_rate(bundle: Bundle) -> BaseRate:
    """Return the base rates of a bundle; of one from before there were any, its training data's at every hour."""
    if BASE_RATE in bundle.manifest["files"]:
        return BaseRate.read(bundle.json(BASE_RATE))
    return BaseRate({ANY: [float(bundle.manifest["trainingData"]["labelRate"])] * HOURS})


def table_matrix(frame: Any, vocabulary: Vocabulary) -> F32:
    """Return the float32 [rows, features] matrix of a table whose mapped columns bear their field's name already."""
    return sessions.matrix(frame, vocabulary)
