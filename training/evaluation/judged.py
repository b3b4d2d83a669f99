"""A model's predictions beside what happened: what figures, intervals and plots of an evaluation are computed from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from kernels.types import F64, I64
from training.evaluation import metrics

Figures = Callable[[F64, F64], Mapping[str, float | None]]

# Of a figure by its name: 1 where more is better, -1 where less is. Of another figure neither is.
BETTER: Mapping[str, int] = {
    **dict.fromkeys(("auc", "averagePrecision", "average_precision", "macroF1", "microF1", "ekmanMacroF1", "ekmanOfLabelsMacroF1"), 1),
    **dict.fromkeys(("correlation", "spendCorrelation", "gini", "topTenthOfSpend"), 1),
    **dict.fromkeys(("logLoss", "log_loss", "brier", "ece", "mae", "rmse", "spendDeviance", "spendMae", "spendRmse"), -1),
}


@dataclass(frozen=True, slots=True)
class Judged:
    """Predictions of the rows of a table, and their outcomes.

    outcome, prediction: float64 [rows], or [rows, outputs]; group: int64 [rows], the rows of one customer have one group. figures: returns
    the figures of outcomes and predictions. decisive: the figures by which a model is better or worse than another. plotted: the output
    that plots show.
    """

    outcome: F64
    prediction: F64
    group: I64
    figures: Figures
    decisive: tuple[str, ...]
    plotted: int = 0

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return len(self.outcome)

    @property
    def plot(self) -> tuple[F64, F64]:
        """Return outcomes and predictions of the output that is plotted, float64 [rows] each."""
        if self.outcome.ndim == 1:
            return self.outcome, self.prediction
        return self.outcome[:, self.plotted], self.prediction[:, self.plotted]

    def measured(self) -> dict[str, float | None]:
        """Return the figures of all rows."""
        return dict(self.figures(self.outcome, self.prediction))


NAMES: Mapping[str, str] = {
    "auc": "auc",
    "average_precision": "averagePrecision",
    "log_loss": "logLoss",
    "brier": "brier",
    "ece": "ece",
}


def of_probability(y: F64, p: F64, names: Mapping[str, str] = NAMES) -> dict[str, float | None]:
    """Return the five figures of probabilities p [n] for outcomes y [n], 0 or 1; None where all outcomes are equal.

    names: those of `metrics.figures` and what they are called here.
    """
    if len(y) == 0 or y.min() == y.max():
        return dict.fromkeys(names.values())
    found = metrics.figures(y, p)
    return {name: found[key] for key, name in names.items()}


def groups(keys: list[str | None]) -> I64:
    """Return the group of each row, int64 [rows]: rows of one key have one, a row without a key has its own."""
    names = np.array([f"k{key}" if key not in (None, "") else f"r{row}" for row, key in enumerate(keys)], dtype=str)
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
