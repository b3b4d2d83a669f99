"""The state of a session between two requests: what any model needs to resume, and the networks' states of the model that answered.

Networks' states of another model, or of other attributes, are not used: they are computed again from the stored steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from kernels.sessions import friction
from kernels.sessions.friction import INTS, REALS
from kernels.types import F32, F64, I64
from serving.engines.journey.types import JourneyEvent

LAYOUT = 4


class _PackedState(msgspec.Struct, array_like=True, frozen=True):
    """A SessionState as it is stored; numbers are little-endian."""

    layout: int
    version: str
    events: int
    names: list[str | None]
    moments: bytes
    attributes: dict[str, float]
    pending: Sequence[JourneyEvent]
    states: bytes
    ints: bytes
    reals: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_PackedState).decode


class PossibleStep(NamedTuple):
    """An event that may be a step: its name (`training.tables.journeys.step`), and its time in milliseconds since 1970."""

    name: str | None
    moment: float


class SessionState(NamedTuple):
    """The state of a session after `events` events.

    version: of the model whose networks' states these are.
    attributes: the latest value of each.
    pending: the last events, from the first one that was later than the request's moment: they count once that moment has passed.
    states: float32 [networks, width].
    ints, reals: the friction state of `kernels.sessions.friction`.
    """

    version: str
    events: int
    possible_steps: list[PossibleStep]
    attributes: dict[str, float]
    pending: Sequence[JourneyEvent]
    states: F32
    ints: I64
    reals: F64

    @classmethod
    def empty(cls, networks: int, width: int) -> "SessionState":
        """Return the state of a session without events."""
        ints, reals = np.empty(INTS, np.int64), np.empty(REALS)
        friction.start(ints, reals)
        return cls("", 0, [], {}, (), np.zeros((networks, width), np.float32), ints, reals)

    @classmethod
    def unpack(cls, content: bytes) -> "SessionState | None":
        """Return the state that `pack` returned as bytes, None for any other bytes: the session then counts as not remembered."""
        try:
            found = _decode(content)
            moments = np.frombuffer(found.moments, "<f8").tolist()
            ints, reals = np.frombuffer(found.ints, "<i8"), np.frombuffer(found.reals, "<f8")
            states = np.frombuffer(found.states, "<f4")
        except (msgspec.MsgspecError, ValueError):
            return None
        if found.layout != LAYOUT or len(ints) != INTS or len(reals) != REALS or len(moments) != len(found.names):
            return None
        steps = list(map(PossibleStep, found.names, moments))
        fields = (found.version, found.events, steps, found.attributes, found.pending)
        return cls(*fields, states.copy(), ints.astype(np.int64), reals.astype(np.float64))

    def pack(self) -> bytes:
        """Return the state as bytes."""
        names, moments = [one.name for one in self.possible_steps], np.array([one.moment for one in self.possible_steps], "<f8").tobytes()
        numbers = (self.states.astype("<f4").tobytes(), self.ints.astype("<i8").tobytes(), self.reals.astype("<f8").tobytes())
        return _encode(_PackedState(LAYOUT, self.version, self.events, names, moments, self.attributes, self.pending, *numbers))
