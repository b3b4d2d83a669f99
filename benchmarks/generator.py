"""The load generator: the compiled event loop over non-blocking sockets, and the events that it leaves to Python."""

import itertools
import select
import socket
import time
from collections import Counter, deque

import numpy as np

from benchmarks import replies
from benchmarks.arrivals import Alarm, poisson
from benchmarks.event_loop import DONE, NOTHING, RECEIVE, STALE, UNKNOWN, WANTED, EventLoop, Stop
from benchmarks.latencies import Latencies, quantile
from benchmarks.plan import LoadReport, Plan
from kernels.types import F64

RETRY_S = 0.05  # after a connection was refused or cut
TICK_S = 0.05  # how late an end may be noticed while nothing happens

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_clock = time.perf_counter


class Caller:
    """One connection, with at most one request under way, of which `benchmarks.event_loop` keeps account."""

    __slots__ = ("fd", "part", "sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.part = b""  # of a reply that is not whole
        self.unsent = b""


class LoadRun:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.errors: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._right, self._refused, self._lag = Latencies(), Latencies(), Latencies()
        self._stages: dict[str, list[float]] = {}
        self._deadline_s = plan.deadline_ms / 1000
        self._judge = replies.Judge(plan.expected, plan.answer, plan.marker, plan.tolerance)
        self._read = replies.Reader().read
        self._marker = None if plan.count is None else plan.count.encode()
        self._is_open_loop = plan.rate is not None
        self._degraded = None if plan.degraded is None else plan.degraded.encode()
        self._in_time = self._good = self._hasty = self._most = self._sent_before = 0
        self._warming = plan.warm_up > 0
        self._last = 0.0
        self._callers: dict[int, Caller] = {}
        self._reopen: deque[float] = deque()
        self._end = float("inf")
        self._loop: EventLoop | None = None

    def run(self) -> LoadReport:
        """Send until the count or the time is reached, wait for the last answers, and return the report."""
        alarm = Alarm()
        cpu_s = time.process_time()
        try:
            loop = self._loop = self._made_loop(alarm.fd)
            with select.epoll() as self._epoll:
                self._epoll.register(alarm.fd, _IN)
                self._end_at(self._began + self.plan.warm_up + self.plan.seconds)
                self._drive(loop)
        finally:
            alarm.close()
        self.errors["no answer"] += sum(loop.number(fd) >= 0 for fd in self._callers) + loop.waiting
        for caller in self._callers.values():
            caller.sock.close()
        return self._report(loop, time.process_time() - cpu_s)

    def stop(self) -> None:
        """Let the time be up now, as a signal may ask."""
        self._end_at(_clock())

    def _end_at(self, end: float) -> None:
        self._end = min(self._end, end)
        if self._loop is not None:
            self._loop.stop(self._end)

    def _made_loop(self, alarm: int) -> EventLoop:
        arrivals = np.zeros(0) if self.plan.rate is None else _arrivals(self.plan, self.plan.rate)
        loop = EventLoop(self.plan, arrivals, alarm)
        self._began = _clock()  # after all that takes its time
        arrivals += self._began
        for number in range(len(self.plan.bodies) if self.plan.expected is None and not self.plan.timing else 0):
            loop.learn_right(number, b"")
        return loop

    def _drive(self, loop: EventLoop) -> None:
        for _ in range(0 if self._is_open_loop else self.plan.connections):
            self._open(loop, _clock())
        while self._has_work(loop, _clock()):
            stop = loop.run(self._epoll.fileno(), _clock() + TICK_S, TICK_S)
            self._harvest(loop)
            if self._warming and _clock() >= self._began + self.plan.warm_up:
                self._count_from_here(loop)
            self._do(loop, stop)
            while self._reopen and self._reopen[0] <= _clock():
                self._reopen.popleft()
                self._open(loop, _clock())

    def _count_from_here(self, loop: EventLoop) -> None:
        """Forget what was counted: until now the connections were being opened, and the server warmed up."""
        self._warming = False
        self._began = _clock()
        self._sent_before = loop.sent
        self._in_time = self._good = self._hasty = 0
        for counted in (self.errors, self.counts, self._stages):
            counted.clear()
        for latencies in (self._right, self._refused, self._lag):
            del latencies.seconds[:]

    def _has_work(self, loop: EventLoop, now: float) -> bool:
        if not self._is_open_loop and now < self._end and loop.sent < self.plan.requests:
            return True
        if now >= self._end + self.plan.last_answers_s:
            return False
        return loop.expects(self._end) or loop.waiting > 0 or any(loop.number(fd) >= 0 for fd in self._callers)

    def _harvest(self, loop: EventLoop) -> None:
        """Take over what compiled code has counted."""
        found = loop.harvest()
        for into, seconds in ((self._right, found.right), (self._refused, found.refused), (self._lag, found.lags)):
            into.seconds.frombytes(seconds.tobytes())
        self._in_time += found.in_time
        self._good += found.good
        self._last = max(self._last, loop.last)
        self.errors["degraded"] += found.degraded
        self.errors["429"] += len(found.refused)
        self.errors["gave up"] += found.gave_up
        if self._marker is not None:
            self.counts.update(dict(zip(loop.names, found.by_text, strict=False)))
            self.counts["(none)"] += len(found.refused)

    def _do(self, loop: EventLoop, stop: Stop) -> None:
        """Do what compiled code has stopped for."""
        if stop.got == WANTED:
            self._open(loop, _clock())
            return
        caller = self._callers.get(stop.socket)
        if caller is None:
            return
        if stop.got in (DONE, STALE):
            self._close(loop, caller)
            return
        if stop.sent != UNKNOWN:
            self._keep(loop, caller, stop.sent)
        elif stop.got > NOTHING:
            number = loop.number(caller.fd)
            self._take(loop, caller, loop.received(stop.got))
            if self.plan.expected is not None and not self.plan.timing and (right := self._judge.right[number]):
                loop.learn_right(number, right)
        else:
            self._see(loop, caller, stop.mask)
        if caller is self._callers.get(stop.socket):
            loop.hand(caller.fd, not caller.unsent and not caller.part)

    def _see(self, loop: EventLoop, caller: Caller, event: int) -> None:
        """Handle what epoll reports of one connection."""
        if event & _OUT:
            self._send_rest(caller)
        if event & ~_OUT:
            self._receive(loop, caller)

    def _open(self, loop: EventLoop, now: float) -> None:
        """Open a connection and give it something to send; what it sends waits until it is established."""
        family = socket.AF_INET6 if ":" in self.plan.address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex(self.plan.address)
        caller = Caller(sock)
        loop.opened(caller.fd)
        self._callers[caller.fd] = caller
        self._most = max(self._most, len(self._callers))
        self._epoll.register(caller.fd, _IN | _OUT)
        self._go_on(loop, caller, now)

    def _go_on(self, loop: EventLoop, caller: Caller, now: float) -> None:
        """Give a connection its next request, or close it when it is not needed any more."""
        sent = loop.go_on(caller.fd, now)
        if sent == DONE:
            self._close(loop, caller)
        elif sent != UNKNOWN:
            self._keep(loop, caller, sent)

    def _keep(self, loop: EventLoop, caller: Caller, sent: int) -> None:
        """Keep what was not sent of a message until it can be."""
        caller.unsent = loop.unsent(sent)
        self._epoll.modify(caller.fd, _IN | _OUT)

    def _send_rest(self, caller: Caller) -> None:
        if caller.unsent:
            try:
                caller.unsent = caller.unsent[caller.sock.send(caller.unsent) :]
            except OSError:
                return  # so it is for reading
        if not caller.unsent:
            self._epoll.modify(caller.fd, _IN)

    def _receive(self, loop: EventLoop, caller: Caller) -> None:
        """Take what came."""
        try:
            data = caller.sock.recv(RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._take(loop, caller, data)

    def _take(self, loop: EventLoop, caller: Caller, data: bytes) -> None:
        """Take bytes, of which an end has none; count the answer when it is whole, and go on."""
        if not data or loop.number(caller.fd) < 0:
            self._lost(loop, caller, "connection")
            return
        if caller.part:
            data = caller.part + data
        try:
            reply = self._read(data)
        except replies.NotHTTPError:
            self._lost(loop, caller, "not HTTP")
            return
        if reply is None:
            caller.part = data
            return
        caller.part = b""
        self._answered(loop, caller, reply, now := _clock())
        loop.answered(caller.fd)
        if not reply[3] or caller.unsent:
            self._close(loop, caller)
            self._replace(loop, now)
        else:
            self._go_on(loop, caller, now)

    def _answered(self, loop: EventLoop, caller: Caller, reply: replies.Reply, now: float) -> None:
        """Count one answer, after holding it against what was expected."""
        status, head, body, _ = reply
        took = now - loop.due(caller.fd)
        if status != 200:
            self._refuse(status, head, took)
        elif not self._judge.is_right(loop.number(caller.fd), body):
            self.errors["degraded" if self._degraded is not None and self._degraded in body else "wrong answer"] += 1
        else:
            self._right.append(took)
            if now <= self._end:
                self._in_time += 1
                self._last = now
            if took <= self._deadline_s:
                self._good += 1
        if self._marker is not None:
            name, text = replies.following(self._marker, head + b"\r\n" + body)
            self.counts[name] += 1
            if text:
                loop.learn_counted(name, text)
        if self.plan.timing:
            for name, duration in replies.stages(head):
                self._stages.setdefault(name, []).append(duration)

    def _refuse(self, status: int, head: bytes, took: float) -> None:
        self.errors[str(status)] += 1
        if status == 429:
            self._refused.append(took)
            self._hasty += not replies.states_retry(head)

    def _lost(self, loop: EventLoop, caller: Caller, error: str) -> None:
        """Close a connection that ended, or should; count a request that was under way as an error."""
        under_way = loop.number(caller.fd) >= 0
        if under_way:
            self.errors[error] += 1
        self._close(loop, caller)
        if not self._is_open_loop:
            self._reopen.append(_clock() + RETRY_S)
        elif under_way:
            self._replace(loop, _clock())

    def _replace(self, loop: EventLoop, now: float) -> None:
        """Open another connection where one is needed at once."""
        if loop.waiting or (not self._is_open_loop and now < self._end and loop.sent < self.plan.requests):
            self._open(loop, now)

    def _close(self, loop: EventLoop, caller: Caller) -> None:
        del self._callers[caller.fd]
        loop.closed(caller.fd)
        caller.sock.close()  # epoll forgets it by itself

    def _report(self, loop: EventLoop, cpu_s: float) -> LoadReport:
        plan, right = self.plan, self._right.summary()
        enough = plan.rate is None and loop.sent >= plan.requests and self._in_time == len(self._right) > 0
        seconds = (self._last if enough else self._end) - self._began
        refused = {"count": len(self._refused), "without_retry_after": self._hasty, **self._refused.summary()}
        return LoadReport(
            connections=plan.connections,
            max_connections=self._most,
            offered=plan.rate,
            seconds=round(seconds, 6),
            sent=loop.sent - self._sent_before,
            requests=len(self._right),
            rate=round(self._in_time / seconds, 2),
            goodput=round(self._good / seconds, 2),
            late=len(self._right) - self._good,
            mean_ms=right.get("mean_ms"),
            p50_ms=right.get("p50_ms"),
            p99_ms=right.get("p99_ms"),
            p999_ms=right.get("p999_ms"),
            errors={name: times for name, times in sorted(self.errors.items()) if times},
            refused=refused,
            lag={name: value for name, value in self._lag.summary().items() if name in ("p50_ms", "p99_ms", "max_ms")},
            histogram=self._right.histogram(),
            cpu_s=round(cpu_s, 3),
            stages={name: _stage(values) for name, values in self._stages.items()},
            counts={name: times for name, times in self.counts.items() if times},
        )


def _arrivals(plan: Plan, rate: float) -> F64:
    """Return when the requests of an open loop are due, float64 seconds from its beginning."""
    due = itertools.takewhile(lambda time: time < plan.warm_up + plan.seconds, itertools.islice(poisson(rate, plan.seed), 1, None))
    most = None if plan.requests == float("inf") else int(plan.requests)
    return np.fromiter(itertools.islice(due, most), np.float64)


def _stage(durations_ms: list[float]) -> dict[str, float]:
    mean = sum(durations_ms) / len(durations_ms)
    return {"mean_ms": round(mean, 5), "p50_ms": round(quantile(sorted(durations_ms), 0.5), 5)}
