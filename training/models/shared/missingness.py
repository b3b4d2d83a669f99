"""Missing features of a session: blocks of features that are present or missing together, because they have the same source."""

from collections.abc import Collection

import numpy as np

from kernels.trees.calibrated import MIN_KNOWN_WEIGHT
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

# The probabilities with which a copy of a session loses the blocks that requests often lack.
DROP_ACTIVITY, DROP_EVENTS, DROP_CONTEXT = 0.3, 0.3, 0.4

_COLUMNS = {block: np.array([INDEX[name] for name in names]) for block, names in BLOCKS.items()}
_EVENTS = np.array([INDEX[name] for name in EVENTS_ONLY])
_STATED = np.array(
    [INDEX[name] for name in ("pageViews", "timeOnSite", "timeOfDay", "dayOfWeek", "weekend", "deviceType", *BLOCKS["context"])]
)


def without(X: F32, blocks: Collection[str]) -> F32:
    """Return a copy of X [n, features] in which `blocks` are missing."""
    out = X.copy()
    for block in blocks:
        out[:, _COLUMNS[block]] = np.nan
    return out


def masked(X: F32, seed: int) -> F32:
    """Return a copy of X [n, features] without page statistics, in which rows also lose activity, events and context at random."""
    random = np.random.default_rng(seed)
    out = without(X, NO_STATISTICS)
    for columns, share in ((_COLUMNS["activity"], DROP_ACTIVITY), (_EVENTS, DROP_EVENTS)):
        out[np.ix_(random.random(len(X)) < share, columns)] = np.nan
    for column in _STATED:
        out[random.random(len(X)) < DROP_CONTEXT, column] = np.nan
    return out


def weights(X: F32) -> F32:
    """Return float32 [features, blocks]: a row has a block when the weights of its known features sum to at least 1.

    Half of those features of a block that the table X has at all must be known; a block that X never has is known by none.
    """
    present = np.asarray(np.isfinite(X).any(axis=0))
    out = np.zeros((X.shape[1], len(BLOCKS)), np.float32)
    for number, columns in enumerate(_COLUMNS.values()):
        own = columns[present[columns]]
        out[own, number] = 2 / max(len(own), 1)
    return out


def level(X: F32, weights: F32) -> Intp:
    """Return the blocks that each row has, as a number: bit i is the i-th of BLOCKS."""
    known: Bool = np.logical_not(np.isnan(X)) @ weights >= MIN_KNOWN_WEIGHT
    return np.asarray(known @ (1 << np.arange(weights.shape[1])), np.intp)


def blocks_of(level: int) -> tuple[str, ...]:
    """Return the blocks of a level."""
    return tuple(block for bit, block in enumerate(BLOCKS) if level >> bit & 1)


def bits(blocks: Collection[str]) -> int:
    """Return the level of exactly `blocks`."""
    return sum(1 << bit for bit, block in enumerate(BLOCKS) if block in blocks)
