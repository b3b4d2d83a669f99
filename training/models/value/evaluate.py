"""Predictions of a value model for customers of whom later purchases are known."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kernels.types import F64
from training.errors import TableError
from training.evaluation.judged import Judged
from training.models.value import holdout
from training.models.value.model import ValueModel
from training.models.value.train import read
from training.registry.bundle import Bundle
from training.tables.cells import DEFAULT, CellOptions

COUNT, SPEND = 0, 1  # the outputs


def judge(
    bundle: Bundle,
    data: Path,
    *,
    mapping: Mapping[str, str],
    cells: CellOptions = DEFAULT,
    split: str | None = None,
    end: str | None = None,
) -> Judged:
    """Return the predictions of a bundle for the customers of a table as of `split`, and what they did until `end`, both ISO days.

    Purchases and spend, float64 [customers, 2]. end: by default the last day of the table. Raises TableError without a split, and as
    `train` does, and BundleError.
    """
    if split is None:
        raise TableError(f"{data}: a value model is judged by what customers buy later: give the day it predicts from with --split DAY")
    model = ValueModel.load(bundle)
    if model.insufficient:
        raise TableError(f"{bundle.path}: the model predicts nothing ({'; '.join(model.insufficient)}): train it on more data")
    _, seen = read(data, mapping, split, end, cells)
    if seen.holdout_count is None or seen.holdout_spend is None:
        raise TableError(f"{data}: no day is after --split {split}: choose an earlier one")
    outlook = model.outlook(seen.known, float((seen.end - seen.split).days), 0.0)
    actual = np.stack([seen.holdout_count.astype(np.float64), np.maximum(seen.holdout_spend, 0.0)], axis=1)
    predicted = np.stack([outlook.purchases, outlook.value], axis=1)
    return Judged(actual, predicted, np.arange(len(actual)), _figures, ("mae", "spendDeviance"), SPEND)


def _figures(actual: F64, predicted: F64) -> dict[str, float | None]:
    """Return the errors of purchases, and the errors and the ranking of spend, of [customers, 2]."""
    count, spend = (holdout.errors(predicted[:, one], actual[:, one]) for one in (COUNT, SPEND))
    return {
        **{name: count[name] for name in ("mae", "rmse", "correlation", "aggregateError")},
        "spendDeviance": holdout.deviance(predicted[:, SPEND], actual[:, SPEND]),
        "spendMae": spend["mae"],
        "spendRmse": spend["rmse"],
        "spendAggregateError": spend["aggregateError"],
        "gini": holdout.gini(predicted[:, SPEND], actual[:, SPEND]),
        "topTenthOfSpend": holdout.top_share(predicted[:, SPEND], actual[:, SPEND]),
    }
