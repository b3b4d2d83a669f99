"""What a batch job can add to the answers of a question where it is asked for: factors, actions, and what the model does not have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Factor(Protocol):
    """What moved a score: a factor of `serving.engines.types`, or one of a question's own."""

    @property
    def name(self) -> str:
        """Return the name of a feature or a quantity."""

    @property
    def value(self) -> float | str | None:
        """Return its value in this row, None where it is missing."""

    @property
    def contribution(self) -> float:
        """Return how much it moved the score."""


class Action(Protocol):
    """A recommended action."""

    @property
    def action(self) -> str:
        """Return its code."""


@dataclass(frozen=True, slots=True)
class FactorDetails:
    """The factors of a question. of: called with a scorer and its predictions of n rows, returns the factors of each, largest first.

    rest: the name of the last factor of a row, the sum of those that are not listed; "" where a row lists all. column: the number of
    factors of each row, a field of the scorer's columns; "" where there is none.
    """

    of: Callable[[Any, Any], Sequence[Sequence[Factor]]]
    rest: str = ""
    column: str = ""


@dataclass(frozen=True, slots=True)
class ActionDetails:
    """The actions of a question. column: their name in the output.

    of: called as `FactorDetails.of`, returns the actions of each row by priority.
    """

    column: str
    of: Callable[[Any, Any], Sequence[Sequence[Action]]]


@dataclass(frozen=True, slots=True)
class UnknownDetails:
    """Rows about something that the model does not have. what: its name, such as product; then: how such rows are answered.

    of: called with a scorer and its predictions, returns the ids of those rows, in order.
    """

    what: str
    then: str
    of: Callable[[Any, Any], Sequence[str]]


@dataclass(frozen=True, slots=True)
class BatchDetails:
    """What a batch job can add to the answers of one question, and to its report; None: nothing of that kind.

    left_out: called with a scorer and its predictions, returns the numbers of rows of the table that are part of no answer, by reason.
    """

    factors: FactorDetails | None = None
    actions: ActionDetails | None = None
    unknown: UnknownDetails | None = None
    left_out: Callable[[Any, Any], Mapping[str, int]] | None = None


NO_DETAILS = BatchDetails()
