"""Predictions of a churn model for a table with labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from training.errors import CellError, TableError
from training.evaluation.judged import Judged, of_probability
from training.models.churn.model import ChurnModel
from training.registry.bundle import Bundle
from training.tables import customers, frames
from training.tables.cells import DEFAULT, CellOptions


def judge(bundle: Bundle, data: Path, *, mapping: Mapping[str, str | Sequence[str]], cells: CellOptions = DEFAULT) -> Judged:
    """Return the predictions of a bundle for the customers of a table, which `train` takes too. Raises TableError and BundleError.

    The positive label is the one that the model was trained with.
    """
    model = ChurnModel.load(bundle)
    frame = frames.read(data, numbers=customers.TABLE.number_columns(mapping), options=cells)
    try:
        rows = customers.read(frame, mapping, bundle.manifest["label"]["positive"], options=cells)
        X = model.table_matrix(customers.TABLE.with_cells(frame, cells))
    except CellError as error:
        raise error.at(frames.place(data, error.row)) from None
    except TableError as error:
        raise TableError(f"{data}: {error}") from None
    group = np.arange(len(rows.y)) if rows.customer is None else rows.customer
    return Judged(rows.y, model.score(X).probability, group, of_probability, ("auc", "logLoss"))
