"""What the load generator is asked to do, and what it reports."""

import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

MAX_CONNECTIONS = 60_000  # a port each

# Besides the statuses that are not 200.
ERRORS = {
    "wrong answer": "another number than the right one",
    "degraded": "an answer that is marked as degraded (Plan.degraded)",
    "connection": "refused, or ended with a request under way",
    "not HTTP": "bytes that are no reply",
    "no answer": "none came, until some seconds after the time was up",
    "gave up": "open loop: not sent, since no connection was free before its deadline had passed",
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to send, how often, and what must come back: the number called `answer` equals `expected[i]` for `bodies[i]`."""

    url: str
    bodies: Sequence[bytes]
    connections: int = 32  # in the open loop: at most
    seconds: float = 8.0
    warm_up: float = 0.0  # seconds before them, of which nothing is counted but requests under way at their end
    requests: float = math.inf
    rate: float | None = None  # requests a second of the open loop; None: closed loop
    seed: int = 0  # of the arrivals
    deadline_ms: float = math.inf  # a right answer that comes later is not a good one; what cannot be sent until then is given up
    state_deadline: bool = False  # in X-Request-Timeout-Ms; of a request that waited for a connection, what is left of it
    headers: Sequence[tuple[str, str]] = ()
    expected: Sequence[Sequence[float]] | None = None  # as many for each body as its answer holds
    answer: str = "purchaseProbability"
    marker: str | None = None  # the text before the number, where it is no member of that name
    tolerance: float = 1e-6
    timing: bool = False  # read Server-Timing too
    count: str | None = None  # count the texts that follow this one in the replies
    degraded: str | None = None  # the text that marks a degraded answer: counted apart, neither right nor wrong
    core: int | None = None  # the only one that the process may use
    last_answers_s: float = 5.0  # how long what is under way when the time is up may still take

    def __post_init__(self) -> None:
        if not _is_loopback(urlsplit(self.url).hostname or ""):
            raise ValueError(f"{self.url} is not on this machine: only loopback addresses are taken, such as http://127.0.0.1:8000/")
        if not self.bodies:
            raise ValueError("no bodies to send: the file given with --body is empty")
        if self.expected is not None and len(self.expected) != len(self.bodies):
            raise ValueError(f"{len(self.bodies)} bodies but {len(self.expected)} expected answers: one for each is needed")
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise ValueError(f"rate is {self.rate}: it must be a number of requests a second, more than 0")
        if self.rate is not None and not min(self.rate * (self.warm_up + self.seconds), self.requests) < math.inf:
            raise ValueError(f"rate is {self.rate} for {self.seconds} seconds: say how long, or with requests how many there are to be")
        if not 1 <= self.connections <= MAX_CONNECTIONS:
            raise ValueError(f"connections is {self.connections}: it must be 1 to {MAX_CONNECTIONS:,}")
        if self.state_deadline and self.deadline_ms == math.inf:
            raise ValueError("--state-deadline needs --deadline-ms")

    def messages(self) -> list[bytes]:
        """Return a whole HTTP request for each body; with `state_deadline` it has a header X-Request-Timeout-Ms."""
        target = urlsplit(self.url)
        path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        headers = {"Host": target.netloc, "Content-Type": "application/json", **dict(self.headers)}
        head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if self.state_deadline:
            head += f"X-Request-Timeout-Ms: {self.deadline_ms:.0f}\r\n"
        return [head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body for body in self.bodies]

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port."""
        target = urlsplit(self.url)
        return target.hostname or "", target.port or 80


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What came back. Only right answers count as requests; `rate` is those within the time, a second. Everything else is in `errors`."""

    connections: int
    max_connections: int  # open at the same time
    offered: float | None  # of the open loop, a second
    seconds: float
    sent: int
    requests: int
    rate: float
    goodput: float  # right answers within the deadline, a second
    late: int  # right answers past the deadline
    mean_ms: float | None
    p50_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    errors: dict[str, int]  # by status; see ERRORS
    refused: dict[str, float]  # replies of 429: how many, without_retry_after, and their latency
    lag: dict[str, float]  # of the generator itself: from when a request was due to when it was looked at
    histogram: list[tuple[float, int]]  # of right answers: (upper bound in ms, how many)
    cpu_s: float  # of the load generator itself
    stages: dict[str, dict[str, float]] = field(default_factory=dict)  # Server-Timing: mean_ms and p50_ms of each name
    counts: dict[str, int] = field(default_factory=dict)  # of the texts that Plan.count asked for


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
