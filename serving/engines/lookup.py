"""Lookup of stored features: how a request that leaves something out is completed from the feature store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kernels.types import F64


class Stored(NamedTuple):
    """The stored features of one entity.

    version: of the model that wrote them; as_of_s: the moment they describe (seconds since 1970, UTC); vector: float64 [features].
    """

    version: str
    as_of_s: float
    vector: F64


@dataclass(frozen=True, slots=True)
class Lookup:
    """What an engine reads from the feature store before it answers.

    kind: the kind of entity, the namespace of its keys in the store.
    names: the features in the order of the vector; a stored vector with other names is treated as not found.
    key: returns the entity whose features a request needs, None where the request is complete.
    fill: returns the request with the stored features, or, given None, with what to use where nothing is stored. Raises NotFoundError where
        the request cannot be answered without.
    entity, as_of: the output columns of a batch job with the entity and the day (ISO 8601) of a row; `batch --publish` stores by them.
    """

    kind: str
    names: Sequence[str]
    key: Callable[[Any], str | None]
    fill: Callable[[Any, Stored | None], Any]
    entity: str
    as_of: str
