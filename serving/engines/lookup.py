"""What a request need not say because it is stored: whose it is, what is stored of it, and how the request looks with that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kernels.types import F64


class Stored(NamedTuple):
    """What a feature store has of an entity: who wrote it, the moment it is of (seconds since 1970, UTC), float64 [features]."""

    version: str
    as_of_s: float
    vector: F64


@dataclass(frozen=True, slots=True)
class Lookup:
    """What an engine looks up before it answers.

    kind: of entity, the space of its names in the store; names: of the features, in their order: a vector of others is as good as none.
    key: returns the entity that a request leaves to be looked up, None where it says all itself. filled: returns the request with what is
    stored, or what is to be said where nothing is (None); it raises NotFoundError where there is nothing to say. entity, as_of: the columns
    of a batch's output that hold whose and of when a row is (an ISO day), as `batch --publish` stores it.
    """

    kind: str
    names: Sequence[str]
    key: Callable[[Any], str | None]
    filled: Callable[[Any, Stored | None], Any]
    entity: str
    as_of: str
