"""Predictions of an emotion model for texts with labels."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from kernels.types import F64
from training.errors import CellError, TableError
from training.evaluation.judged import Judged
from training.models.emotion import train
from training.models.emotion.model import NAMES, EmotionModel
from training.registry.bundle import Bundle
from training.tables import frames, texts
from training.tables.cells import DEFAULT, CellOptions


def judge(bundle: Bundle, data: Path, *, mapping: Mapping[str, str], cells: CellOptions = DEFAULT) -> Judged:
    """Return the predictions of a bundle for the texts of a table, which `train` takes too. Raises TableError and BundleError."""
    model = EmotionModel.load(bundle)
    path = data / train.DEV if (data / train.DEV).is_file() else data
    try:
        found = texts.read(frames.read(path, numbers=(), options=cells), mapping)
    except CellError as error:
        raise error.at(frames.place(path, error.row)) from None
    except TableError as error:
        raise error if str(error).startswith(str(path)) else TableError(f"{path}: {error}") from None
    y = np.concatenate([found.labels, texts.grouped(found.labels)], axis=1).astype(np.float64)
    figures = partial(_figures, model.threshold)
    plotted = NAMES.index("frustration")
    return Judged(y, model.score(found.texts).probability, np.arange(len(y)), figures, ("macroF1", "ece"), plotted)


def _figures(limits: F64, y: F64, stated: F64) -> dict[str, float | None]:
    """Return the figures at the top level of metrics.json, of y and stated [texts, outputs]."""
    return {name: value for name, value in train.figures(stated, y, limits).items() if isinstance(value, float)}
