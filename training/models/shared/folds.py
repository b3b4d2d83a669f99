"""Cross-validation: splitting rows into folds, and fitting all folds in parallel."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kernels.types import F64, I64, Intp


class Fold(NamedTuple):
    """The rows to fit on and those to evaluate on."""

    learn: Intp
    judge: Intp


def stratified(y: F64, number: int, seed: int) -> list[Fold]:
    """Return `number` folds of y [n], each with the same share of positive rows."""
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(number, shuffle=True, random_state=seed)
    return [Fold(*fold) for fold in splitter.split(np.zeros((len(y), 1)), y)]


def grouped(y: F64, group: I64 | None, number: int, seed: int) -> list[Fold]:
    """Return `number` folds of y [n] with about the same share of positive rows, all rows of a group in one of them; None: no groups."""
    if group is None:
        return stratified(y, number, seed)
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    return [Fold(*fold) for fold in splitter.split(np.zeros((len(y), 1)), y, group)]


def run(fits: list[Callable[[], Any]], workers: int, progress: Callable[[float], None]) -> list[Any]:
    """Return the results of `fits`, in order, run by `workers` threads; XGBoost releases the GIL."""
    from concurrent.futures import ThreadPoolExecutor, as_completed

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(fit) for fit in fits]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                progress(done / len(fits))
        finally:
            for future in futures:
                future.cancel()
    return [future.result() for future in futures]
