"""Predictions of a journey model for sessions of which it is known whether they bought."""

from pathlib import Path

import numpy as np

from training.errors import CellError, TableError
from training.evaluation.judged import Judged, of_probability
from training.models.journey.model import JourneyColumns, JourneyModel
from training.registry.bundle import Bundle
from training.tables import journeys
from training.tables.cells import DEFAULT, EMPTY_ONLY, CellOptions
from training.tables.table import Mapped


def judge(bundle: Bundle, data: Path, *, mapping: Mapped, cells: CellOptions = DEFAULT, first: int | None = None) -> Judged:
    """Return the predictions of a bundle for the sessions of a folder or a table, which `train` takes too.

    first: each session is judged as of its event of this number; None: as the table has it, after all of its events. Sessions without a
    label are left out. Raises TableError and BundleError.
    """
    model = JourneyModel.load(bundle)
    try:
        found = journeys.read(journeys.join(data, mapping, first, options=cells), options=EMPTY_ONLY)
    except CellError as error:
        raise TableError(f"{data}: {error}") from None
    if found.y is None or not np.isfinite(found.y).any():
        raise TableError(f"{data}: no column holds whether a session bought: name it with --map purchase=COLUMN")
    found = found.of(np.isfinite(found.y)).known(model.codes)
    attributes = np.full((len(found.ids), len(model.attributes)), np.nan, np.float32)
    for place, name in enumerate(model.attributes):
        if name in found.names:
            attributes[:, place] = found.attributes[:, found.names.index(name)]
    offsets = found.offsets
    columns = JourneyColumns(offsets[:-1].copy(), offsets[1:].copy(), model.code(found.pages), found.seconds, found.ended, attributes)
    y = np.asarray(found.y, np.float64)
    return Judged(y, model.score(columns).conversion, np.arange(len(y)), of_probability, ("auc", "logLoss"))
