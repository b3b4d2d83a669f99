"""The event loop of the load generator in compiled code: requests that are due are sent; a plain reply is followed by the next request.

The generator shares the cores with the server under test, so what it does for every request is taken from the server; and in the open loop
a generator that falls behind would take its own lag for the server's. What is not plain is left to `benchmarks.generator`: other replies
(`benchmarks.plain_replies`), connections that must be opened or closed, and messages that the kernel did not take whole.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types

from benchmarks.arrivals import MIN_NS
from benchmarks.plain_replies import KINDS, MAX_COUNTED, MAX_TEXT, RIGHT, UNKNOWN, Known, Texts, judged, learn, room, texts
from benchmarks.plan import MAX_CONNECTIONS, Plan
from kernels.compile import on_cpu
from kernels.types import F64, I64, U8
from serving.ingress.overload.syscalls import DONT_WAIT, EVENT_BYTES, NO_SIGNAL, SOCKET_AT, epoll_wait, recv, send

SOCKETS = MAX_CONNECTIONS + 1024  # descriptors, those that are no connections among them
TAKEN = 1 << 14  # answers of a kind, and arrivals, between two harvests
BATCH = 32  # events, or arrivals, at a time, so that neither waits for many of the other
RECEIVE = 64 * 1024  # bytes at a time
IDLE_S = 4.0  # an idle connection older than that may be about to be closed by the server (uvicorn: after 5 s): another is opened
HURRY_S = 1e-3  # what waited longer for a connection states what is left of its deadline
SPIN_S = 20e-6  # an arrival nearer than that is waited for awake
RING_S = 0.05  # the alarm is set no further ahead

# Why a run has ended, where there are no bytes to look at.
NOTHING = 0  # the time has come
EVENT = -1  # epoll reported what is not for compiled code
DONE = -2  # the connection is not needed any more
STALE = -3  # the connection has been idle for too long to be used
WANTED = -4  # a request waits, and there may be another connection

_IN = 1  # EPOLLIN
_MONOTONIC = 1  # CLOCK_MONOTONIC of Linux
# Places in Table.state: the first arrival that waits, the first that is to come, the place of the connection idle for longest, how many
# are idle, how many open, requests sent, bytes of the last message, and counts since the last harvest: lags, answers in time and within the
# deadline, requests given up.
_FIRST, _NEXT, _OLDEST, _IDLE, _OPEN, _SENT, _SIZE, _LAGS, _IN_TIME, _GOOD, _GAVE_UP, _PLACES = range(12)
# Places in Table.moments: when the last request may go out, when an answer last came in time, for which arrival the alarm is set.
_END, _LAST, _RINGS, _MOMENTS = range(4)

# More of the C library, as in serving.ingress.overload.syscalls.
_longs = types.CPointer(types.int64)
_clock_gettime: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, _longs))
_timerfd_settime: Any = types.ExternalFunction("timerfd_settime", types.int32(types.int32, types.int32, _longs, types.uintp))


class Rules(NamedTuple):
    """What does not change while the load runs."""

    is_open: bool  # the open loop
    max_requests: int
    max_connections: int
    deadline_s: float
    alarm: int  # a timerfd that epoll watches, of the open loop
    awake: bool  # it has a core of its own, where it need not sleep: to be woken would be paid for by the server


class Table(NamedTuple):
    """What compiled code works on.

    number, due: [SOCKETS], of each connection which message is under way (UNKNOWN: none) and when it was due; of an idle one since when
    ours: [SOCKETS], 1 where compiled code may read
    timeouts: [messages, 2], where in each the digits of its deadline begin and end, UNKNOWN where it states none
    arrivals: [requests], when each is due; those at state[_FIRST:_NEXT] wait for a connection
    idle: [SOCKETS], a ring of the connections without a request, state[_IDLE] of them from state[_OLDEST] on
    took, lags: [KINDS, TAKEN] and [TAKEN], seconds of each answer and arrival since the last harvest
    taken, by_text: [KINDS] and [MAX_COUNTED], how many answers since then
    """

    number: I64
    due: F64
    ours: U8
    messages: Texts
    timeouts: I64
    known: Known
    arrivals: F64
    idle: I64
    state: I64
    moments: F64
    took: F64
    taken: I64
    by_text: I64
    lags: F64
    buffer: U8
    outgoing: U8
    events: U8
    clock: I64
    timer: I64


class Stop(NamedTuple):
    """Why a run has ended: of `socket`, epoll reported `mask`; `got` bytes came and are in the buffer, or one of NOTHING to WANTED.

    sent: how many bytes of its next request went out, where that was less than all of them, else UNKNOWN.
    """

    socket: int
    mask: int
    got: int
    sent: int


class Harvest(NamedTuple):
    """What was counted since the last harvest: seconds of right and of refused answers, and of lag; numbers of everything else."""

    right: F64
    refused: F64
    lags: F64
    degraded: int
    in_time: int
    good: int
    gave_up: int
    by_text: list[int]


@on_cpu
def _now(clock: I64) -> float:
    """Return the time as `time.perf_counter` has it."""
    _clock_gettime(_MONOTONIC, clock.ctypes)
    return float(clock[0]) + 1e-9 * float(clock[1])


@on_cpu
def _write(message: int, left_ms: int, table: Table) -> int:
    """Put a message into `outgoing`, stating what is left of its deadline where that is not UNKNOWN; return how many bytes it has."""
    begin, size = table.messages.starts[message], table.messages.sizes[message]
    first, last = table.timeouts[message, 0], table.timeouts[message, 1]
    if left_ms == UNKNOWN or first == UNKNOWN:
        table.outgoing[:size] = table.messages.bytes[begin : begin + size]
        return size
    table.outgoing[:first] = table.messages.bytes[begin : begin + first]
    at, power = first, 1
    while power * 10 <= left_ms:
        power *= 10
    while power > 0:
        table.outgoing[at] = ord("0") + left_ms // power % 10
        at, power = at + 1, power // 10
    rest = size - last
    table.outgoing[at : at + rest] = table.messages.bytes[begin + last : begin + size]
    return at + rest


@on_cpu
def _ask(socket: int, due: float, now: float, rules: Rules, table: Table) -> int:
    """Send the next message; return UNKNOWN, or how many bytes of it went out where that was less than all."""
    state = table.state
    message = state[_SENT] % len(table.messages.sizes)
    table.number[socket], table.due[socket] = message, due
    state[_SENT] += 1
    left_ms = UNKNOWN
    if now - due > HURRY_S:
        left_ms = int(np.rint(max(1.0, (rules.deadline_s - (now - due)) * 1000)))
    state[_SIZE] = _write(message, left_ms, table)
    sent = send(socket, table.outgoing.ctypes, state[_SIZE], DONT_WAIT | NO_SIGNAL)
    return UNKNOWN if sent == state[_SIZE] else max(sent, 0)


@on_cpu
def go_on(socket: int, now: float, rules: Rules, table: Table) -> int:
    """Give a connection its next request, as of `_ask`, or let it be idle; return DONE where it is not needed any more."""
    state = table.state
    table.number[socket] = UNKNOWN
    if not rules.is_open:
        if now < table.moments[_END] and state[_SENT] < rules.max_requests:
            return _ask(socket, now, now, rules, table)
        return DONE
    while state[_FIRST] < state[_NEXT] and now - table.arrivals[state[_FIRST]] > rules.deadline_s:
        state[_FIRST] += 1
        state[_GAVE_UP] += 1
    if state[_FIRST] < state[_NEXT]:
        state[_FIRST] += 1
        return _ask(socket, table.arrivals[state[_FIRST] - 1], now, rules, table)
    table.due[socket] = now
    table.idle[(state[_OLDEST] + state[_IDLE]) % len(table.idle)] = socket
    state[_IDLE] += 1
    return UNKNOWN


@on_cpu
def _arrive(now: float, rules: Rules, table: Table) -> tuple[int, int, int]:
    """Send what is due over idle connections; return socket, `got` and `sent` of a Stop, NOTHING where there is no reason for one."""
    state, arrivals = table.state, table.arrivals
    for _ in range(BATCH):
        if state[_NEXT] < len(arrivals) and arrivals[state[_NEXT]] <= now and arrivals[state[_NEXT]] < table.moments[_END]:
            table.lags[state[_LAGS]] = now - arrivals[state[_NEXT]]
            state[_LAGS] += 1
            state[_NEXT] += 1
        if state[_FIRST] == state[_NEXT]:
            break
        if state[_IDLE] == 0:
            if state[_OPEN] < rules.max_connections:
                return UNKNOWN, WANTED, UNKNOWN
            continue
        socket = table.idle[state[_OLDEST]]  # in rotation, so that none of them is idle for long
        state[_OLDEST] = (state[_OLDEST] + 1) % len(table.idle)
        state[_IDLE] -= 1
        if now - table.due[socket] >= IDLE_S:
            return socket, STALE, UNKNOWN
        state[_FIRST] += 1
        sent = _ask(socket, arrivals[state[_FIRST] - 1], now, rules, table)
        if sent != UNKNOWN:
            return socket, NOTHING, sent
        now = _now(table.clock)
    return UNKNOWN, NOTHING, UNKNOWN


@on_cpu
def _rest_ms(now: float, wait_ms: int, rules: Rules, table: Table) -> int:
    """Return how long epoll may wait; have the alarm ring for the next arrival where that is not at once."""
    state = table.state
    if rules.awake:
        return 0
    if not rules.is_open or state[_NEXT] == len(table.arrivals):
        return wait_ms
    due = table.arrivals[state[_NEXT]]
    if due - now <= SPIN_S:
        return 0
    if table.moments[_RINGS] != due:
        ahead = min(due - now, RING_S)
        table.timer[3] = max(MIN_NS, int(ahead * 1e9))
        _timerfd_settime(rules.alarm, 0, table.timer.ctypes, 0)
        table.moments[_RINGS] = due if ahead < RING_S else 0.0
    return wait_ms


@on_cpu
def _count(kind: int, text: int, took: float, now: float, rules: Rules, table: Table) -> None:
    """Count a plain reply."""
    table.took[kind, table.taken[kind]] = took
    table.taken[kind] += 1
    if text != UNKNOWN:
        table.by_text[text] += 1
    if kind == RIGHT:
        if now <= table.moments[_END]:
            table.state[_IN_TIME] += 1
            table.moments[_LAST] = now
        table.state[_GOOD] += int(took <= rules.deadline_s)


@on_cpu
def run_events(epoll: int, until: float, wait_ms: int, rules: Rules, table: Table) -> tuple[int, int, int, int]:
    """Send what is due and take plain replies until `until`, or until something is not plain; return the fields of a Stop.

    Events that were not looked at are reported again.
    """
    number = table.number
    while True:
        if rules.is_open:
            socket, got, sent = _arrive(_now(table.clock), rules, table)
            if socket != UNKNOWN or got != NOTHING:
                return socket, 0, got, sent
        rest_ms = _rest_ms(_now(table.clock), wait_ms, rules, table)
        ready = epoll_wait(epoll, table.events.ctypes, BATCH, rest_ms)
        for event in range(ready):
            at = event * EVENT_BYTES
            mask = int(table.events[at : at + 4].view(np.uint32)[0])
            socket = int(table.events[at + SOCKET_AT : at + SOCKET_AT + 4].view(np.int32)[0])
            if socket == rules.alarm:
                continue
            if mask != _IN or not table.ours[socket] or number[socket] == UNKNOWN:
                return socket, mask, EVENT, UNKNOWN
            got = recv(socket, table.buffer.ctypes, RECEIVE, DONT_WAIT)
            if got <= 0:
                return socket, mask, EVENT, UNKNOWN
            kind, text = judged(table.buffer, got, number[socket], table.known)
            if kind == UNKNOWN:
                return socket, mask, got, UNKNOWN
            now = _now(table.clock)
            _count(kind, text, now - table.due[socket], now, rules, table)
            sent = go_on(socket, now, rules, table)
            if sent == DONE:
                return socket, mask, DONE, UNKNOWN
            if sent != UNKNOWN:
                return socket, mask, NOTHING, sent
        full = max(table.taken.max(), table.state[_LAGS]) > TAKEN - BATCH
        if ready < 0 or full or _now(table.clock) >= until:
            return UNKNOWN, 0, NOTHING, UNKNOWN


class EventLoop:
    """The compiled event loop of one load: call `run`, handle the Stop that it returns, and `harvest` the counts."""

    def __init__(self, plan: Plan, arrivals: F64, alarm: int) -> None:
        """`arrivals`: float64 [requests], when each is due in the open loop, none in the closed one; `alarm`: a timerfd that it watches."""
        messages = plan.messages()
        max_requests = int(min(plan.requests, 2**62))
        self._rules = Rules(plan.rate is not None, max_requests, plan.connections, plan.deadline_ms / 1000, alarm, plan.core is not None)
        self._known = Known(room(len(messages)), room(1), room(MAX_COUNTED), room(1))
        self._names: list[str] = []
        self._table = Table(
            number=np.full(SOCKETS, UNKNOWN, np.int64),
            due=np.zeros(SOCKETS),
            ours=np.zeros(SOCKETS, np.uint8),
            messages=texts(messages),
            timeouts=_timeouts(messages, plan.state_deadline),
            known=self._known,
            arrivals=arrivals,
            idle=np.zeros(SOCKETS, np.int64),
            state=np.zeros(_PLACES, np.int64),
            moments=np.zeros(_MOMENTS),
            took=np.empty((KINDS, TAKEN)),
            taken=np.zeros(KINDS, np.int64),
            by_text=np.zeros(MAX_COUNTED, np.int64),
            lags=np.empty(TAKEN),
            buffer=np.zeros(RECEIVE, np.uint8),
            outgoing=np.zeros(max(map(len, messages)), np.uint8),
            events=np.zeros(BATCH * EVENT_BYTES, np.uint8),
            clock=np.zeros(2, np.int64),
            timer=np.zeros(4, np.int64),
        )
        if plan.degraded is not None:
            learn(self._known.degraded, 0, plan.degraded.encode())
        if plan.count is None:
            self.learn_counted("", b"")
        else:
            learn(self._known.marker, 0, plan.count.encode())
        run_events(-1, 0.0, 0, self._rules._replace(is_open=False), self._table)  # compile now: there is no such epoll, so nothing happens

    def run(self, epoll: int, until: float, wait_s: float) -> Stop:
        """Handle events until one needs Python, or until the time is up."""
        return Stop(*run_events(epoll, until, round(wait_s * 1000), self._rules, self._table))

    def go_on(self, socket: int, now: float) -> int:
        """Give a connection its next request; return how many bytes of it went out, UNKNOWN for all of it or none to send, or DONE."""
        return int(go_on(socket, now, self._rules, self._table))

    def harvest(self) -> Harvest:
        """Return what was counted since the last time."""
        table = self._table
        state, taken = table.state, table.taken.tolist()
        right, degraded, refused = (table.took[kind, : taken[kind]].copy() for kind in range(KINDS))
        found = Harvest(
            *(right, refused, table.lags[: state[_LAGS]].copy(), len(degraded)),
            *(int(state[place]) for place in (_IN_TIME, _GOOD, _GAVE_UP)),
            table.by_text.tolist(),
        )
        for counts in (table.taken, table.by_text, state[_LAGS:_PLACES]):
            counts.fill(0)
        return found

    def opened(self, socket: int) -> None:
        """Take a connection in, which compiled code may not read yet. Raises RuntimeError where there is no room for its descriptor."""
        if socket >= SOCKETS:
            raise RuntimeError(f"descriptor {socket} of a connection: there is room for {SOCKETS}; use fewer connections")
        self._table.number[socket] = UNKNOWN
        self._table.ours[socket] = 0
        self._table.state[_OPEN] += 1

    def hand(self, socket: int, ours: bool) -> None:
        """Log whether compiled code may read a connection from now on."""
        self._table.ours[socket] = ours

    def closed(self, socket: int) -> None:
        """Forget a connection."""
        state, idle = self._table.state, self._table.idle
        places = (state[_OLDEST] + np.arange(state[_IDLE])) % len(idle)
        kept = idle[places][idle[places] != socket]
        idle[places[: len(kept)]] = kept
        state[_IDLE] = len(kept)
        state[_OPEN] -= 1
        self._table.number[socket] = UNKNOWN

    def number(self, socket: int) -> int:
        """Return which message is under way on a connection, UNKNOWN where none is."""
        return int(self._table.number[socket])

    def due(self, socket: int) -> float:
        """Return when the message under way was due."""
        return float(self._table.due[socket])

    def answered(self, socket: int) -> None:
        """Take note that no message is under way on a connection any more."""
        self._table.number[socket] = UNKNOWN

    def learn_right(self, number: int, text: bytes) -> None:
        """Take the body of an answer to message `number` to be right where it holds this text."""
        learn(self._known.right, number, text)

    def learn_counted(self, name: str, text: bytes) -> None:
        """Count answers with this text by this name."""
        if name not in self._names and len(self._names) < MAX_COUNTED and len(text) <= MAX_TEXT:
            learn(self._known.counted, len(self._names), text)
            self._names.append(name)

    @property
    def names(self) -> Sequence[str]:
        """What the counted texts are called, in the order of `Harvest.by_text`."""
        return self._names

    def stop(self, end: float) -> None:
        """Have no request sent that is due after `end`, from any thread, while a run goes on too."""
        self._table.moments[_END] = end

    @property
    def sent(self) -> int:
        """How many requests were sent."""
        return int(self._table.state[_SENT])

    @property
    def waiting(self) -> int:
        """How many requests are due and have no connection."""
        return int(self._table.state[_NEXT] - self._table.state[_FIRST])

    @property
    def last(self) -> float:
        """When an answer last came in time."""
        return float(self._table.moments[_LAST])

    def expects(self, end: float) -> bool:
        """Return whether a request is still to come before `end`."""
        at = int(self._table.state[_NEXT])
        return at < len(self._table.arrivals) and bool(self._table.arrivals[at] < end)

    def received(self, size: int) -> bytes:
        """Return the bytes that a Stop refers to."""
        return self._table.buffer[:size].tobytes()

    def unsent(self, sent: int) -> bytes:
        """Return what is left of the last message, of which so many bytes went out."""
        return self._table.outgoing[sent : self._table.state[_SIZE]].tobytes()


def _timeouts(messages: Sequence[bytes], stated: bool) -> I64:
    """Return where the digits of the deadline are in each message: int64 [messages, 2], UNKNOWN where none is stated."""
    places = np.full((len(messages), 2), UNKNOWN, np.int64)
    for place, message in zip(places, messages if stated else (), strict=False):
        found = re.search(rb"\r\nX-Request-Timeout-Ms: (\d+)\r\n", message)
        if found is not None:
            place[:] = found.span(1)
    return places
