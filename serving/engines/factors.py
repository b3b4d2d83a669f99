"""Contributions of features to a margin, as the few factors that a response lists."""

import math
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kernels.factors import by_weight
from serving.engines.types import PredictionFactor

OTHER = "otherFeatures"


class FactorList:
    """Names, units and category values of a model's columns, and the one way to list what moved a score."""

    def __init__(self, names: Sequence[str], units: Sequence[str], labels: Mapping[str, Mapping[float, str]]) -> None:
        """`labels[feature][code]`: the category value behind a code in the matrix."""
        self._names, self._units = tuple(names), tuple(units)
        self._labels = [labels.get(name) for name in names]

    def rows(
        self, X: NDArray[np.float32], shares: NDArray[np.float64], most: Sequence[int], totals: Sequence[float]
    ) -> list[list[PredictionFactor]]:
        """Return for each row its `most[row]` largest contributions, largest first, and the sum of the others as the last one.

        X, shares: [rows, features]; totals: margin less bias, which stands for all of them where most is 0 and no share is known.
        A contribution of exactly zero is not listed.
        """
        order = np.empty(shares.shape, np.int64)
        by_weight(shares, order)
        by_row: list[Any] = [X.tolist(), shares.tolist(), order.tolist()]
        table = zip(*by_row, most, totals, strict=True)
        return [self._row(*row) if row[3] else _whole(row[4]) for row in table]

    def missing(self, X: NDArray[np.float32]) -> list[list[str]]:
        """Return for each row of X the names of the features that are NaN."""
        return [list(compress(self._names, row)) for row in np.isnan(X).tolist()]

    def _row(self, values: list[float], shares: list[float], ranked: list[int], limit: int, _: float) -> list[PredictionFactor]:
        listed = [self._factor(i, values[i], shares[i]) for i in ranked[:limit] if shares[i]]
        rest = [shares[i] for i in ranked[limit:]]
        return [*listed, _other(math.fsum(rest))] if any(rest) else listed

    def _factor(self, i: int, value: float, share: float) -> PredictionFactor:
        return PredictionFactor(
            name=self._names[i], value=self._value(i, value), unit=self._units[i], contribution=share, direction=_direction(share)
        )

    def _value(self, i: int, value: float) -> float | str | None:
        if value != value:
            return None
        labels = self._labels[i]
        if labels is not None:
            return labels.get(value)
        # The matrix is float32: seven digits are all it knows, the others would be noise (0.2 as 0.20000000298).
        return value if value.is_integer() else float(f"{value:.7g}")


def _whole(total: float) -> list[PredictionFactor]:
    return [_other(total)] if total else []


def _other(contribution: float) -> PredictionFactor:
    return PredictionFactor(name=OTHER, value=None, unit="", contribution=contribution, direction=_direction(contribution))


def _direction(contribution: float) -> Literal["raises", "lowers"]:
    return "raises" if contribution >= 0 else "lowers"
