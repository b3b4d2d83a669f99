"""The events of the simulated shop in flat columns, sorted by session and strictly by time."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from kernels.types import F32, I8, I16, I64, Bool
from training.features import EVENT_CODES, EVENT_TYPES, Events

TYPES = (*EVENT_TYPES, "purchase")  # a purchase is the outcome: it is stored, but never among the scored events
PURCHASE = len(EVENT_TYPES)
PAGE_VIEW, PRODUCT_VIEW = EVENT_CODES["page_view"], EVENT_CODES["product_view"]

_SESSION_MS = 1 << 33  # longer than any session: session * _SESSION_MS + time sorts sessions first, then time


@dataclass(frozen=True, slots=True)
class Part:
    """Some events in any order: [events]. kind: codes of TYPES; page: of PAGE_KINDS; product: -1 none; x, y, wait_ms: NaN unknown."""

    session: I64
    kind: I8
    page: I8
    product: I16
    after_ms: I64  # since the session started
    x: F32
    y: F32
    wait_ms: F32


@dataclass(frozen=True, slots=True)
class Stream:
    """Events of sessions; columns as in `Part`, but sorted and with absolute times."""

    offsets: I64  # [sessions + 1]
    kind: I8
    page: I8
    product: I16
    time_ms: I64  # epoch, UTC
    x: F32
    y: F32
    wait_ms: F32

    @property
    def session(self) -> I64:
        """Return the session of each event."""
        return np.repeat(np.arange(self.offsets.size - 1), np.diff(self.offsets))

    @property
    def end_ms(self) -> I64:
        """Return the time of each session's last event."""
        return self.time_ms[self.offsets[1:] - 1]

    @property
    def views(self) -> Bool:
        """Return whether each event is a view of a page."""
        return np.isin(self.kind, (PAGE_VIEW, PRODUCT_VIEW))

    def head(self, counts: I64) -> "Stream":
        """Return the first `counts[i]` events of each session i."""
        offsets = np.concatenate(([0], np.cumsum(counts)))
        index = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1] - offsets[:-1], counts)
        columns = (self.kind, self.page, self.product, self.time_ms, self.x, self.y, self.wait_ms)
        return Stream(offsets, *(column[index] for column in columns))

    def part(self, start_ms: I64) -> Part:
        """Return the events as a part, to be sorted together with others."""
        session = self.session
        return Part(session, self.kind, self.page, self.product, self.time_ms - start_ms[session], self.x, self.y, self.wait_ms)

    def events(self) -> Events:
        """Return the events from which features are counted."""
        unknown = np.zeros(self.kind.size, np.int64)
        return Events(self.offsets, self.kind, self.page, self.time_ms, self.x, self.y, unknown, self.wait_ms)

    def last_product(self) -> I16:
        """Return the product of each session's last event that has one, -1 if none has: [sessions]."""
        latest = np.maximum.accumulate(np.where(self.product >= 0, np.arange(self.product.size), -1))[self.offsets[1:] - 1]
        return np.where(latest >= self.offsets[:-1], self.product[latest], -1).astype(np.int16)


def ordered(parts: Sequence[Part], start_ms: I64) -> Stream:
    """Return the events of all parts, sorted by session and time; no two of a session share a millisecond.

    start_ms: start of each session, [sessions]. Every session must have an event. Events of the same time keep the order of the parts.
    """
    session, kind, page, product, after_ms, x, y, wait_ms = (
        np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Part)
    )
    key = session * _SESSION_MS + after_ms
    order = np.argsort(key, kind="stable")
    rank = np.arange(key.size)
    key = np.maximum.accumulate(key[order] - rank) + rank
    session = session[order]
    offsets = np.concatenate(([0], np.cumsum(np.bincount(session, minlength=start_ms.size))))
    time_ms = start_ms[session] + key - session * _SESSION_MS
    return Stream(offsets, kind[order], page[order], product[order], time_ms, x[order], y[order], wait_ms[order])
