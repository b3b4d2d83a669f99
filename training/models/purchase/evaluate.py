"""Predictions of a purchase model for a table with labels."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import polars as pl

from training.errors import CellError, TableError
from training.evaluation.judged import NAMES, Judged, groups, of_probability
from training.models.purchase.model import PurchaseModel
from training.models.purchase.train import SESSIONS
from training.registry.bundle import Bundle
from training.tables import frames, sessions
from training.tables.cells import DEFAULT, CellOptions

_FIGURES = partial(of_probability, names={name: name for name in NAMES})  # as metrics.json of this model calls them
CUSTOMER = "customerId"  # the column of the rows' customers, where there is one


def judge(bundle: Bundle, data: Path, *, mapping: Mapping[str, str], cells: CellOptions = DEFAULT) -> Judged:
    """Return the predictions of a bundle for the sessions of a table, which `train` takes too. Raises TableError and BundleError."""
    model = PurchaseModel.load(bundle)
    path = data / SESSIONS if (data / SESSIONS).is_file() else data
    frame = frames.read(path, numbers=sessions.TABLE.number_columns(mapping), options=cells)
    try:
        y = sessions.labels(frame, mapping, options=cells)
        X = sessions.matrix(frame, model.vocabulary, mapping, options=cells)
    except CellError as error:
        raise error.at(frames.place(path, error.row)) from None
    except TableError as error:
        raise TableError(f"{path}: {error}") from None
    keys = frame[CUSTOMER].cast(pl.String).to_list() if CUSTOMER in frame.columns else [None] * len(y)
    return Judged(y, model.score(X).probability, groups(keys), _FIGURES, ("auc", "log_loss"))
