"""What is remembered of a session between two requests: what any model needs to go on, and the networks' state of the one that answered.

A state of another model, or of other attributes, is as good as none: it is made anew from what is remembered of the steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from kernels.sessions import friction
from kernels.sessions.friction import INTS, REALS
from kernels.types import F32, F64, I64
from serving.engines.journey.types import JourneyEvent

LAYOUT = 2


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    """A trace as it is stored; numbers are little-endian."""

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
_decode = msgspec.msgpack.Decoder(_Packed).decode


class Seen(NamedTuple):
    """What may be a step of a session: which (`training.tables.journeys.step`), and when, in milliseconds since 1970."""

    name: str | None
    moment: float


class Trace(NamedTuple):
    """What is known of a session after `events` events.

    seen: what may be its steps. attributes: what was last said of each. pending: the latest of the events, from the first on that was later
    than the moment that was asked for: they count once they are not, in their order. states: float32 [networks, width], of the model
    `version`. ints, reals: of `kernels.sessions.friction`.
    """

    version: str
    events: int
    seen: list[Seen]
    attributes: dict[str, float]
    pending: Sequence[JourneyEvent]
    states: F32
    ints: I64
    reals: F64

    @classmethod
    def begun(cls, networks: int, width: int) -> "Trace":
        """Return what is known of a session without an event."""
        ints, reals = np.empty(INTS, np.int64), np.empty(REALS)
        friction.start(ints, reals)
        return cls("", 0, [], {}, (), np.zeros((networks, width), np.float32), ints, reals)

    @classmethod
    def read(cls, content: bytes) -> "Trace | None":
        """Return what `packed` returned, None for anything else: it is then as if nothing were remembered."""
        try:
            found = _decode(content)
            moments = np.frombuffer(found.moments, "<f8").tolist()
            ints, reals = np.frombuffer(found.ints, "<i8"), np.frombuffer(found.reals, "<f8")
            states = np.frombuffer(found.states, "<f4")
        except (msgspec.MsgspecError, ValueError):
            return None
        if found.layout != LAYOUT or len(ints) != INTS or len(reals) != REALS or len(moments) != len(found.names):
            return None
        seen = list(map(Seen, found.names, moments))
        known = (found.version, found.events, seen, found.attributes, found.pending)
        return cls(*known, states.copy(), ints.astype(np.int64), reals.astype(np.float64))

    def packed(self) -> bytes:
        """Return it as bytes."""
        names, moments = [one.name for one in self.seen], np.array([one.moment for one in self.seen], "<f8").tobytes()
        numbers = (self.states.astype("<f4").tobytes(), self.ints.astype("<i8").tobytes(), self.reals.astype("<f8").tobytes())
        return _encode(_Packed(LAYOUT, self.version, self.events, names, moments, self.attributes, self.pending, *numbers))
