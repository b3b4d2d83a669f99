"""What is known of a session: blocks of features that come and go together, because one source gives them or does not."""

from collections.abc import Collection

import numpy as np

from kernels.trees.calibrated import ENOUGH
from kernels.types import F32, Bool, Intp
from training.features import FEATURES, INDEX

BLOCKS: dict[str, tuple[str, ...]] = {
    "pageValue": ("pageValue",),
    "pageRates": ("bounceRate", "exitRate"),
    "activity": tuple(feature.name for feature in FEATURES if feature.counted),
    "context": ("month", "specialDay", "operatingSystem", "browser", "region", "trafficType", "visitorType"),
}
EVENTS_ONLY = tuple(feature.name for feature in FEATURES if feature.source == "behaviorData.interactions")
LEVELS = 2 ** len(BLOCKS)

NO_STATISTICS = ("pageValue", "pageRates")

# How often a copy of a session loses what a request often does not carry.
LOSES_ACTIVITY, LOSES_EVENTS, LOSES_CONTEXT = 0.3, 0.3, 0.4

_COLUMNS = {block: np.array([INDEX[name] for name in names]) for block, names in BLOCKS.items()}
_EVENTS = np.array([INDEX[name] for name in EVENTS_ONLY])
_STATED = np.array(
    [INDEX[name] for name in ("pageViews", "timeOnSite", "timeOfDay", "dayOfWeek", "weekend", "deviceType", *BLOCKS["context"])]
)


def without(X: F32, blocks: Collection[str]) -> F32:
    """Return a copy of X [n, features] that does not know `blocks`."""
    out = X.copy()
    for block in blocks:
        out[:, _COLUMNS[block]] = np.nan
    return out


def forgetful(X: F32, seed: int) -> F32:
    """Return a copy of X [n, features] without page statistics, in which rows also lose activity, events and context at random."""
    random = np.random.default_rng(seed)
    out = without(X, NO_STATISTICS)
    for columns, share in ((_COLUMNS["activity"], LOSES_ACTIVITY), (_EVENTS, LOSES_EVENTS)):
        out[np.ix_(random.random(len(X)) < share, columns)] = np.nan
    for column in _STATED:
        out[random.random(len(X)) < LOSES_CONTEXT, column] = np.nan
    return out


def weights(X: F32) -> F32:
    """Return float32 [features, blocks]: a row knows a block when its known features weigh at least 1 there.

    Half of those features of a block that the table X has at all must be known; a block that X never has is known by none.
    """
    there = np.asarray(np.isfinite(X).any(axis=0))
    out = np.zeros((X.shape[1], len(BLOCKS)), np.float32)
    for number, columns in enumerate(_COLUMNS.values()):
        here = columns[there[columns]]
        out[here, number] = 2 / max(len(here), 1)
    return out


def level(X: F32, weights: F32) -> Intp:
    """Return which blocks each row knows, as a number: bit i is the i-th of BLOCKS."""
    known: Bool = np.logical_not(np.isnan(X)) @ weights >= ENOUGH
    return np.asarray(known @ (1 << np.arange(weights.shape[1])), np.intp)


def blocks_of(level: int) -> tuple[str, ...]:
    """Return the blocks that a level knows."""
    return tuple(block for bit, block in enumerate(BLOCKS) if level >> bit & 1)


def bits(blocks: Collection[str]) -> int:
    """Return the level that knows `blocks` and nothing else."""
    return sum(1 << bit for bit, block in enumerate(BLOCKS) if block in blocks)
