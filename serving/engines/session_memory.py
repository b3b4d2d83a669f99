"""What a request may leave to what was remembered of the requests before it, and what is to be remembered of this one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from serving.errors import FieldProblem, InvalidRequestError


@dataclass(frozen=True, slots=True)
class SessionMemory:
    """What an engine remembers from one request to the next.

    kind: of entity, the space of its names in the store. key: returns the entity that a request is about, None where nothing is to be
    remembered or known of it. reads: whether what is remembered is needed. filled: returns the request with that (None: nothing is
    remembered); it raises InvalidRequestError where the two do not fit. kept: of a scorer, requests and its answers returns what is to be
    remembered of each, None where nothing is. keep_s: for how long, after the last request. field: of the request, that asks for it.
    """

    kind: str
    key: Callable[[Any], str | None]
    reads: Callable[[Any], bool]
    filled: Callable[[Any, bytes | None], Any]
    kept: Callable[[Any, Sequence[Any], Any], Sequence[bytes | None]]
    keep_s: float
    field: str

    def refusal(self) -> InvalidRequestError:
        """Return what to say where there is no store to remember anything in."""
        told = "this server has no store to remember anything in (features.redis_url): leave it out, and send the whole"
        return InvalidRequestError([FieldProblem(self.field, told)])
