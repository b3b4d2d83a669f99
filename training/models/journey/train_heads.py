"""How the journey model's other heads are learned: each from the sessions whose table says what it is about."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xgboost as xgb

from kernels.types import F32, F64, I64, Bool
from training.evaluation import metrics
from training.models.journey.heads import AMOUNT, CHURN, HEADS
from training.models.shared.calibration import Platt
from training.registry import bundle as bundles

LEAST = 100  # sessions that say something, below which a head is not learned
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


class Told:
    """What a table tells beside purchases, of the rows to learn from and of those to judge by; NaN where it says nothing of a session.

    X: what the trees of a purchase see. weight: [rows]; part: which fold a row's session is in.
    """

    def __init__(self, X: F32, weight: F64, part: I64, session: I64, seed: int, threads: int) -> None:
        self._X, self._weight, self._part, self._session = X, weight, part, session
        self._how = {**PARAMETERS, "seed": seed, "nthread": threads}

    def amount(self, value: F64, bought: F64) -> tuple[xgb.Booster, float] | None:
        """Return trees of the logarithm of an order's value, of the sessions that bought something worth more than 0, and its spread."""
        known = np.isfinite(value) & (value > 0) & (bought > 0)
        if known.sum() < LEAST:
            return None
        rows = known[self._session]
        y = np.log(np.where(known, value, 1.0))[self._session]
        held = self._held(rows, y, "reg:squarederror")
        return self._fit(rows, y, "reg:squarederror"), float(np.sqrt(np.average((y - held)[rows] ** 2, weights=self._weight[rows])))

    def churn(self, gone: F64) -> tuple[xgb.Booster, Platt, float] | None:
        """Return trees of not coming back, their calibration, and the AUC of those that saw other sessions."""
        known = np.isfinite(gone)
        if known.sum() < LEAST or min((gone[known] > 0).sum(), (gone[known] == 0).sum()) < MIN_OF_CLASS:
            return None
        rows = known[self._session]
        y = np.where(known, gone, 0.0)[self._session]
        held = self._held(rows, y, "binary:logistic")
        return self._fit(rows, y, "binary:logistic"), Platt.fit(held[rows], y[rows]), metrics.auc(y[rows], held[rows])

    def _held(self, rows: Bool, y: F64, objective: str) -> F64:
        """Return of each row the margin of trees that saw no row of its fold."""
        held = np.zeros(len(y))
        for number in np.unique(self._part):
            own = rows & (self._part == number)
            booster = self._fit(rows & (self._part != number), y, objective)
            held[own] = booster.inplace_predict(self._X[own], predict_type="margin")
        return held

    def _fit(self, rows: Bool, y: F64, objective: str) -> xgb.Booster:
        data = xgb.QuantileDMatrix(self._X[rows], y[rows], weight=self._weight[rows], nthread=self._how["nthread"])
        return xgb.train({**self._how, "objective": objective}, data, ROUNDS)


def files(told: Told, value: F64 | None, bought: F64, gone: F64 | None, currency: str | None) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files of the heads that can be learned, and their figures for metrics.json."""
    out, said, figures = dict[str, bytes](), dict[str, Any](), dict[str, Any]()
    amount = None if value is None else told.amount(value, bought)
    churn = None if gone is None else told.churn(gone)
    if amount is not None:
        out[AMOUNT], said["spread"], said["currency"] = bytes(amount[0].save_raw("ubj")), amount[1], currency
        figures["orderValueLogError"] = amount[1]
    if churn is not None:
        out[CHURN], said["churn"] = bytes(churn[0].save_raw("ubj")), churn[1].content()
        figures["churnAuc"] = churn[2]
    return ({**out, HEADS: bundles.encoded(said)} if out else {}), figures
