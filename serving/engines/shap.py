"""SHAP values as the few factors that an answer lists."""

from collections.abc import Mapping, Sequence
from itertools import compress, pairwise

import numpy as np

from kernels.trees.top_factors import REST, shortlist
from kernels.types import F32, F64
from serving.engines.types import PredictionFactor

OTHER = "otherFeatures"


class FactorList:
    """Lists the factors of scores, with the names, units and category values of one model's features."""

    def __init__(self, names: Sequence[str], units: Sequence[str], labels: Mapping[str, Mapping[float, str]]) -> None:
        """`labels[feature][code]`: the category value of a code in the matrix."""
        assert REST == -1, "the rest is named by the last of the names"
        self._names, self._units = (*names, OTHER), (*units, "")
        self._labels = (*(labels.get(name) for name in names), None)

    def rows(self, X: F32, shap: F64, max_factors: Sequence[int], totals: F64) -> list[list[PredictionFactor]]:
        """Return for each row its `max_factors[row]` largest contributions, largest first, and the sum of the others as the last one.

        X float32, shap float64: [rows, features]; totals float64 [rows]: margin minus bias, the one entry of a row with max_factors 0, of
        which no SHAP values are computed. A contribution of exactly zero is not listed.
        """
        ends, columns, values, parts = shortlist(X, shap, np.array(max_factors, np.int64), totals)
        names, units, labels = self._names, self._units, self._labels
        listed = [
            PredictionFactor(
                name=names[column],
                value=None if value != value else value if (texts := labels[column]) is None else texts.get(value),
                unit=units[column],
                contribution=part,
                direction="raises" if part >= 0 else "lowers",
            )
            for column, value, part in zip(columns.tolist(), values.tolist(), parts.tolist(), strict=True)
        ]
        return [listed[begin:end] for begin, end in pairwise([0, *ends.tolist()])]

    def missing_features(self, X: F32) -> list[list[str]]:
        """Return for each row of X the names of the features that are NaN."""
        return [list(compress(self._names, row)) for row in np.isnan(X).tolist()]
