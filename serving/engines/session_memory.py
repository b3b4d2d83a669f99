"""Session memory: the state that a question keeps from one request to the next, so that a request needs only what is new."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from serving.errors import FieldProblem, InvalidRequestError


@dataclass(frozen=True, slots=True)
class SessionMemory:
    """What an engine keeps from one request to the next.

    kind: the kind of entity, the namespace of its keys in the store.
    key: returns the entity that a request is about, None where nothing is to be read or written for it.
    continues: returns whether a request needs the stored state.
    resume: returns the request combined with the stored state (bytes; None where nothing is stored). Raises InvalidRequestError where they
        do not fit together.
    snapshots: given a scorer, requests and their predictions, returns the state to store for each request, None where none is.
    keep_s: seconds for which a state is kept after the last request.
    field: the request field that turns the memory on, for the error message where there is no store.
    """

    kind: str
    key: Callable[[Any], str | None]
    continues: Callable[[Any], bool]
    resume: Callable[[Any, bytes | None], Any]
    snapshots: Callable[[Any, Sequence[Any], Any], Sequence[bytes | None]]
    keep_s: float
    field: str

    def refusal(self) -> InvalidRequestError:
        """Return the error for a request that needs a store where the server has none."""
        fix = f"this server has no store for sessions (features.redis_url): leave {self.field} out, and send the whole session"
        return InvalidRequestError([FieldProblem(self.field, fix)])
