"""Train the journey model's optional heads, each on the sessions that have its label: order value and churn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xgboost as xgb

from kernels.types import F32, F64, I64, Bool
from training.evaluation import metrics
from training.models.journey.heads import AMOUNT, CHURN, HEADS
from training.models.shared.calibration import Platt
from training.registry import bundle as bundles

MIN_SESSIONS = 100  # with a label, to fit a head
MIN_OF_CLASS = 30
ROUNDS = 120
PARAMETERS: Mapping[str, Any] = {
    "tree_method": "hist",
    "eta": 0.05,
    "max_depth": 4,
    "min_child_weight": 30,
    "subsample": 0.7,
    "colsample_bytree": 0.4,
    "reg_lambda": 5,
}


class HeadTrainer:
    """Fits the optional heads on the rows of the purchase trees. Labels are per session, NaN where unknown.

    X: the features of the purchase trees; weight: [rows]; part: the fold of a row's session.
    """

    def __init__(self, X: F32, weight: F64, part: I64, session: I64, seed: int, threads: int) -> None:
        self._X, self._weight, self._part, self._session = X, weight, part, session
        self._parameters = {**PARAMETERS, "seed": seed, "nthread": threads}

    def amount(self, value: F64, bought: F64) -> tuple[xgb.Booster, float] | None:
        """Return trees of the logarithm of order value and its out-of-fold standard deviation, None for too few orders above 0."""
        known = np.isfinite(value) & (value > 0) & (bought > 0)
        if known.sum() < MIN_SESSIONS:
            return None
        rows = known[self._session]
        y = np.log(np.where(known, value, 1.0))[self._session]
        held_out = self._out_of_fold(rows, y, "reg:squarederror")
        return self._fit(rows, y, "reg:squarederror"), float(np.sqrt(np.average((y - held_out)[rows] ** 2, weights=self._weight[rows])))

    def churn(self, churned: F64) -> tuple[xgb.Booster, Platt, float] | None:
        """Return trees of churn, their calibration, and their out-of-fold AUC, None for too few labels."""
        known = np.isfinite(churned)
        if known.sum() < MIN_SESSIONS or min((churned[known] > 0).sum(), (churned[known] == 0).sum()) < MIN_OF_CLASS:
            return None
        rows = known[self._session]
        y = np.where(known, churned, 0.0)[self._session]
        held_out = self._out_of_fold(rows, y, "binary:logistic")
        return self._fit(rows, y, "binary:logistic"), Platt.fit(held_out[rows], y[rows]), metrics.auc(y[rows], held_out[rows])

    def _out_of_fold(self, rows: Bool, y: F64, objective: str) -> F64:
        """Return the out-of-fold margins float64 [rows], 0 for rows without a label."""
        held_out = np.zeros(len(y))
        for number in np.unique(self._part):
            own = rows & (self._part == number)
            booster = self._fit(rows & (self._part != number), y, objective)
            held_out[own] = booster.inplace_predict(self._X[own], predict_type="margin")
        return held_out

    def _fit(self, rows: Bool, y: F64, objective: str) -> xgb.Booster:
        data = xgb.QuantileDMatrix(self._X[rows], y[rows], weight=self._weight[rows], nthread=self._parameters["nthread"])
        return xgb.train({**self._parameters, "objective": objective}, data, ROUNDS)


def files(
    trainer: HeadTrainer, value: F64 | None, bought: F64, churned: F64 | None, currency: str | None
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files of the heads that can be fitted, and their metrics for metrics.json."""
    out, content, figures = dict[str, bytes](), dict[str, Any](), dict[str, Any]()
    amount = None if value is None else trainer.amount(value, bought)
    churn = None if churned is None else trainer.churn(churned)
    if amount is not None:
        out[AMOUNT], content["spread"], content["currency"] = bytes(amount[0].save_raw("ubj")), amount[1], currency
        figures["orderValueLogError"] = amount[1]
    if churn is not None:
        out[CHURN], content["churn"] = bytes(churn[0].save_raw("ubj")), churn[1].content()
        figures["churnAuc"] = churn[2]
    return ({**out, HEADS: bundles.encoded(content)} if out else {}), figures
