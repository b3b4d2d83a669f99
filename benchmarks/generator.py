"""The loop of the load generator: non-blocking sockets, epoll, and nothing between them and the numbers."""

import select
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator

from benchmarks import replies
from benchmarks.arrivals import Alarm, poisson
from benchmarks.latencies import Latencies, quantile
from benchmarks.plan import Plan, Report
from benchmarks.turns import DONE, NOTHING, RECEIVE, UNKNOWN, Stop, Turns

RETRY_S = 0.05  # after a connection was refused or cut
IDLE_S = 4.0  # an idle connection older than that may be about to be closed by the server (uvicorn: after 5 s): another is opened
TICK_S = 0.05  # how late an end may be noticed while nothing happens
TURN = 32  # events, or arrivals, at a time, so that neither waits for many of the other
HURRY_S = 1e-3  # what waited longer for a connection states what is left of its deadline
SPIN_S = 20e-6  # an arrival nearer than that is waited for awake

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_clock = time.perf_counter


class Caller:
    """One connection, with at most one request under way: `number` is its body's, `due` when it was to be sent."""

    __slots__ = ("due", "number", "part", "recv_into", "send", "sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.send = sock.send
        self.recv_into = sock.recv_into
        self.number = -1
        self.due = 0.0
        self.part = b""  # of a reply that is not whole
        self.unsent: bytes | memoryview = b""


class Load:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.errors: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._right, self._refused, self._lag = Latencies(), Latencies(), Latencies()
        self._stages: dict[str, list[float]] = {}
        self._messages = plan.messages()
        self._deadline_s = plan.deadline_ms / 1000
        self._judge = replies.Judge(plan.expected, plan.answer, plan.marker, plan.tolerance)
        self._is_right = self._judge.is_right
        self._note = self._right.append
        self._read = replies.Reader().read
        self._marker = None if plan.count is None else plan.count.encode()
        self._most_requests = plan.requests
        self._is_open_loop = plan.rate is not None
        self._looks = plan.timing or plan.count is not None
        self._degraded = None if plan.degraded is None else plan.degraded.encode()
        self._turns: Turns | None = None
        self._counted = ""  # what compiled code counts, once it is known
        self._sent = self._in_time = self._good = self._hasty = self._most = 0
        self._last = 0.0
        self._buffer = bytearray(RECEIVE)
        self._window = memoryview(self._buffer)
        self._callers: dict[int, Caller] = {}
        self._idle: list[Caller] = []
        self._waiting: deque[float] = deque()  # when the requests were due for which there is no connection
        self._reopen: deque[float] = deque()
        self._arrivals: Iterator[float] = iter(())
        self._next = self._end = float("inf")

    def run(self) -> Report:
        """Send until the count or the time is reached, wait for the last answers, and return the report."""
        self._turns = None if self._is_open_loop or self.plan.timing or self.plan.interpreted else self._made_turns()
        cpu_s = time.process_time()
        with select.epoll() as self._epoll:
            self._began = _clock()
            self._end_at(self._began + self.plan.seconds)
            if self.plan.rate is None:
                self._closed_loop()
            else:
                self._open_loop(self.plan.rate)
            self.errors["no answer"] += sum(caller.number >= 0 for caller in self._callers.values()) + len(self._waiting)
            for caller in self._callers.values():
                caller.sock.close()
        return self._report(time.process_time() - cpu_s)

    def stop(self) -> None:
        """Let the time be up now, as a signal may ask."""
        self._end_at(_clock())

    def _end_at(self, end: float) -> None:
        self._end = min(self._end, end)
        if self._turns is not None:
            self._turns.stop(self._end)

    def _closed_loop(self) -> None:
        for _ in range(self.plan.connections):
            self._open(_clock())
        while self._has_work(_clock()):
            if self._turns is None:
                self._turn(TICK_S)
            else:
                self._plain_turns(self._turns)
            while self._reopen and self._reopen[0] <= _clock():
                self._reopen.popleft()
                self._open(_clock())

    def _made_turns(self) -> Turns:
        turns = Turns(self._messages, self._deadline_s, self._marker is not None)
        for number in range(len(self._messages) if self.plan.expected is None else 0):
            turns.learn(number, b"")
        return turns

    def _plain_turns(self, turns: Turns) -> None:
        """Have compiled code take whatever is plain, and do what it has stopped for."""
        stop = turns.run(self._epoll.fileno(), _clock() + TICK_S, self._sent, self._most_requests, TICK_S)
        self._sent = turns.sent
        self._in_time += turns.in_time
        self._good += turns.good
        self._last = max(self._last, turns.last)
        self._right.seconds.frombytes(turns.took.tobytes())
        if turns.counted and self._marker is not None:
            self.counts[self._counted] += turns.counted
        caller = self._callers.get(stop.socket)
        if caller is None:
            return
        under_way = turns.take_back(stop.socket)
        if under_way is not None:
            caller.number, caller.due = under_way
        self._go_on_from(turns, caller, stop)
        if caller is self._callers.get(stop.socket) and caller.number >= 0 and not caller.unsent and not caller.part:
            turns.hand(stop.socket, caller.number, caller.due)

    def _go_on_from(self, turns: Turns, caller: Caller, stop: Stop) -> None:
        """Do with one connection what compiled code could not."""
        if stop.got == DONE:
            self._close(caller)
        elif stop.sent != UNKNOWN:
            self._keep(caller, self._messages[caller.number], stop.sent)
        elif stop.got > NOTHING:
            number = caller.number
            self._take(caller, turns.received(stop.got))
            if self.plan.expected is not None and (right := self._judge.right[number]):
                turns.learn(number, right)
        else:
            self._see(caller, stop.mask)

    def _open_loop(self, rate: float) -> None:
        self._arrivals = poisson(rate, self.plan.seed, self._began)
        next(self._arrivals)  # the beginning itself
        self._next = self._arrival()
        alarm, rings_at = Alarm(), 0.0
        self._epoll.register(alarm.fd, _IN)
        try:
            while self._has_work(now := _clock()):
                for _ in range(TURN):
                    if self._next > min(now, self._end):
                        break
                    self._lag.append(now - self._next)
                    self._assign(self._next, now)
                    self._next = self._arrival()
                    now = _clock()
                ahead = self._next - now
                if ahead > SPIN_S and rings_at != self._next:
                    alarm.set(min(ahead, TICK_S))
                    rings_at = self._next if ahead <= TICK_S else 0.0
                self._turn(TICK_S if ahead > SPIN_S else 0.0)
        finally:
            alarm.close()

    def _arrival(self) -> float:
        """Return when the next request is due, never where that is past the end."""
        due = next(self._arrivals)
        return due if due < self._end and self._sent + len(self._waiting) < self.plan.requests else float("inf")

    def _has_work(self, now: float) -> bool:
        if now < self._end and self._sent < self.plan.requests:
            return True
        if now >= self._end + self.plan.last_answers_s:
            return False
        return self._next < self._end or bool(self._waiting) or any(caller.number >= 0 for caller in self._callers.values())

    def _turn(self, timeout_s: float) -> None:
        """Handle what epoll reports."""
        callers = self._callers
        for fd, event in self._epoll.poll(timeout_s, TURN):
            caller = callers.get(fd)
            if caller is None:
                continue  # the alarm, or a connection that this turn has closed
            self._see(caller, event)

    def _see(self, caller: Caller, event: int) -> None:
        """Handle what epoll reports of one connection."""
        if event & _OUT:
            self._send_rest(caller)
        if event & ~_OUT:
            self._receive(caller)

    def _assign(self, due: float, now: float) -> None:
        """Send a request that is due over an idle connection, or a new one, or let it wait."""
        while self._idle:
            caller = self._idle.pop()
            if now - caller.due < IDLE_S:
                self._ask(caller, due, now - due)
                return
            self._close(caller)
        self._waiting.append(due)
        if len(self._callers) < self.plan.connections:
            self._open(now)

    def _open(self, now: float) -> None:
        """Open a connection and give it something to send; what it sends waits until it is established."""
        family = socket.AF_INET6 if ":" in self.plan.address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex(self.plan.address)
        caller = self._callers[sock.fileno()] = Caller(sock)
        self._most = max(self._most, len(self._callers))
        self._epoll.register(sock.fileno(), _IN | _OUT)
        if not self._go_on(caller, now):
            self._close(caller)
        elif caller.number >= 0 and not caller.unsent:
            self._epoll.modify(sock.fileno(), _IN)

    def _go_on(self, caller: Caller, now: float) -> bool:
        """Give a connection its next request; False when it is not needed any more."""
        if self._is_open_loop:
            while self._waiting and now - self._waiting[0] > self._deadline_s:
                self._waiting.popleft()
                self.errors["gave up"] += 1
            if self._waiting:
                due = self._waiting.popleft()
                self._ask(caller, due, now - due)
            else:
                caller.due = now
                self._idle.append(caller)
        elif now < self._end and self._sent < self._most_requests:
            self._ask(caller, now)
        else:
            return False
        return True

    def _ask(self, caller: Caller, due: float, waited_s: float = 0.0) -> None:
        caller.number = number = self._sent % len(self._messages)
        caller.due = due
        self._sent += 1
        message = self._messages[number]
        if waited_s > HURRY_S and self.plan.state_deadline:
            message = self.plan.hurried(message, waited_s)
        try:
            sent = caller.send(message)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = 0  # epoll will say so, too: it is not established yet, or it is gone
        if sent < len(message):
            self._keep(caller, message, sent)

    def _keep(self, caller: Caller, message: bytes, sent: int) -> None:
        """Keep what was not sent of a message until it can be."""
        caller.unsent = memoryview(message)[sent:]
        self._epoll.modify(caller.sock.fileno(), _IN | _OUT)

    def _send_rest(self, caller: Caller) -> None:
        if caller.unsent:
            try:
                caller.unsent = caller.unsent[caller.send(caller.unsent) :]
            except OSError:
                return  # so it is for reading
        if not caller.unsent:
            self._epoll.modify(caller.sock.fileno(), _IN)

    def _receive(self, caller: Caller) -> None:
        """Take what came."""
        try:
            # Into one buffer and out of it again: a new object of the most that may come would cost several times as much.
            data = bytes(self._window[: caller.recv_into(self._buffer)])
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._take(caller, data)

    def _take(self, caller: Caller, data: bytes) -> None:
        """Take bytes, of which an end has none; count the answer when it is whole, and go on."""
        if not data or caller.number < 0:
            self._lost(caller, "connection")
            return
        if caller.part:
            data = caller.part + data
        try:
            reply = self._read(data)
        except replies.NotHTTPError:
            self._lost(caller, "not HTTP")
            return
        if reply is None:
            caller.part = data
            return
        caller.part = b""
        self._answered(caller, reply, now := _clock())
        caller.number = -1
        if not reply[3] or caller.unsent:
            self._close(caller)
            self._replace(now)
        elif not self._go_on(caller, now):
            self._close(caller)

    def _answered(self, caller: Caller, reply: replies.Reply, now: float) -> None:
        """Count one answer, after holding it against what was expected."""
        status, head, body, _ = reply
        took = now - caller.due
        if status != 200:
            self._refuse(status, head, took)
        elif not self._is_right(caller.number, body):
            self.errors["degraded" if self._degraded is not None and self._degraded in body else "wrong answer"] += 1
        else:
            self._note(took)
            if now <= self._end:
                self._in_time += 1
                self._last = now
            if took <= self._deadline_s:
                self._good += 1
        if self._looks:
            self._look(head, body)

    def _look(self, head: bytes, body: bytes) -> None:
        """Collect what the plan asks for besides."""
        if self._marker is not None:
            name, text = replies.following(self._marker, head + b"\r\n" + body)
            self.counts[name] += 1
            if text and not self._counted and self._turns is not None:
                self._counted = name
                self._turns.learn_counted(text)
        if self.plan.timing:
            for name, duration in replies.stages(head):
                self._stages.setdefault(name, []).append(duration)

    def _refuse(self, status: int, head: bytes, took: float) -> None:
        self.errors[str(status)] += 1
        if status == 429:
            self._refused.append(took)
            self._hasty += not replies.states_retry(head)

    def _lost(self, caller: Caller, error: str) -> None:
        """Close a connection that ended, or should; count a request that was under way as an error."""
        under_way = caller.number >= 0
        if under_way:
            self.errors[error] += 1
        else:
            self._idle = [other for other in self._idle if other is not caller]
        self._close(caller)
        if not self._is_open_loop:
            self._reopen.append(_clock() + RETRY_S)
        elif under_way:
            self._replace(_clock())

    def _replace(self, now: float) -> None:
        """Open another connection where one is needed at once."""
        if self._waiting or (not self._is_open_loop and now < self._end and self._sent < self.plan.requests):
            self._open(now)

    def _close(self, caller: Caller) -> None:
        del self._callers[caller.sock.fileno()]
        caller.sock.close()  # epoll forgets it by itself

    def _report(self, cpu_s: float) -> Report:
        plan, right = self.plan, self._right.summary()
        enough = plan.rate is None and self._sent >= plan.requests and self._in_time == len(self._right) > 0
        seconds = (self._last if enough else self._end) - self._began
        refused = {"count": len(self._refused), "without_retry_after": self._hasty, **self._refused.summary()}
        return Report(
            connections=plan.connections,
            most_connections=self._most,
            offered=plan.rate,
            seconds=round(seconds, 6),
            sent=self._sent,
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
            counts=dict(self.counts),
        )


def _stage(durations_ms: list[float]) -> dict[str, float]:
    mean = sum(durations_ms) / len(durations_ms)
    return {"mean_ms": round(mean, 5), "p50_ms": round(quantile(sorted(durations_ms), 0.5), 5)}
