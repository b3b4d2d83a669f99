"""The churn model: XGBoost trees and a calibration line, in a bundle without pickles. Its features are those of its training table.

model.ubj         the trees, over the features that the manifest lists
calibration.json  the line from their margin to log-odds
metrics.json      cross-validated metrics (`train`)
card.md           the model card
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernels.arrays import Arrays
from kernels.trees.forest import Forest
from kernels.trees.shap import TreeShap
from kernels.types import F32, F64
from training.models.churn.uplift import TreatmentEffects
from training.models.shared import boosted
from training.models.shared.boosted import ForestTuning
from training.models.shared.calibration import Platt, probability
from training.registry.bundle import Bundle
from training.tables import customers
from training.tables.customers import CustomerFeature

TASK = "churn"
MODEL, CALIBRATION, METRICS, CARD = "model.ubj", "calibration.json", "metrics.json", "card.md"


class ChurnScores(NamedTuple):
    """float64 [n] each: calibrated log-odds, and 1 / (1 + exp(-margin))."""

    margin: F64
    probability: F64


class ChurnModel:
    """A loaded churn model. Row i of its scores depends on row i of X alone, bit for bit, whatever the batch.

    outcome: the event of the probability, in the words of the training table, such as `Churn = Yes`. effects: those of an experiment's
    treatments, None without an experiment.
    """

    def __init__(
        self,
        forest: Forest,
        factors: TreeShap,
        platt: Platt,
        meta: Mapping[str, Any],
        version: str,
        effects: TreatmentEffects | None = None,
    ) -> None:
        self.effects = effects
        self.version = version
        self.features = _features(meta)
        self.outcome = f"{meta['label']['column']} = {meta['label']['positive']}"
        self._forest, self._factors, self._platt = forest, factors, platt
        self._tuned = ForestTuning(forest)
        self.bias = float(platt.slope * factors.bias[0] + platt.intercept)

    @classmethod
    def prepare(cls, bundle: Bundle) -> Arrays:
        """Return the trees of a verified bundle flattened and checked against XGBoost: most of the work of `load`.

        Raises BundleError as `load` does.
        """
        bundle.require(TASK)
        columns = len(bundle.manifest.get("features", ()))
        return {**boosted.prepare(bundle, MODEL, columns), **TreatmentEffects.prepare(bundle, columns)}

    @classmethod
    def load(cls, bundle: Bundle, parts: Arrays | None = None) -> "ChurnModel":
        """Return the model in a verified bundle; `parts`: the result of `prepare`, if it is at hand.

        Raises BundleError for a bundle of another task, and for an incomplete one.
        """
        bundle.require(TASK)
        parts = cls.prepare(bundle) if parts is None else parts
        forest = Forest.of_parts(parts)
        try:
            platt = Platt.read(bundle.json(CALIBRATION))
            factors, effects = TreeShap.of_parts(forest.trees, parts), TreatmentEffects.load(bundle, parts)
            return cls(forest, factors, platt, bundle.manifest, bundle.version, effects)
        except (KeyError, TypeError, ValueError) as error:
            raise boosted.unloadable(bundle, error) from error

    def tune(self, live: "ChurnModel | None" = None) -> Sequence[str]:
        """Return the settings chosen for this machine and why, one line each: measured, or those of `live` for trees of the same shape."""
        return self._tuned.tune(None if live is None else live._tuned)

    def score(self, X: F32) -> ChurnScores:
        """Return the scores of X float32 [n, features]."""
        margin = self._platt.apply(self._forest.margin(X).astype(np.float64))
        return ChurnScores(margin, probability(margin))

    def shap(self, X: F32) -> F64:
        """Return exact SHAP values of the calibrated margin, float64 [n, features]; a row's sum plus `bias` is its margin.

        TreeSHAP (Lundberg et al. 2020), path-dependent; it passes through the calibration because that is a line.
        """
        return self._platt.slope * self._factors.values(X)

    def table_matrix(self, frame: Any) -> F32:
        """Return the float32 [rows, features] matrix of a table. Raises TableError and CellError for a wrong table."""
        return customers.matrix(frame, self.features)


def _features(meta: Mapping[str, Any]) -> tuple[CustomerFeature, ...]:
    return tuple(CustomerFeature(one["name"], one["kind"], tuple(one.get("values", ()))) for one in meta["features"])
