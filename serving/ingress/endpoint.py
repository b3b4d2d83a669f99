"""One question's route without an HTTP framework: headers and bytes in, a whole Answer out."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from serving.engines import Engine
from serving.errors import TooLargeError
from serving.ingress import problems
from serving.ingress.answer import Answer
from serving.ingress.headers import Headers, fresh, require_json, states_timeout, timeout_ms
from serving.ingress.headers import request_id as identity
from serving.ingress.validation import REFUSED, Decoder, is_list
from serving.metrics import Metrics
from serving.service import Asked
from serving.settings import Server

T = TypeVar("T")

# What needs more than a plain decode of a larger body is done in a thread, so that nobody else waits for it.
INLINE_BYTES = 64 * 1024
ITEMS_A_TIMEOUT = 100
LARGE = 2

_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")


class Question(Protocol):
    """The seam to serving.service.Question."""

    @property
    def engine(self) -> Engine:
        """Return the engine that is asked."""

    @property
    def ready(self) -> bool:
        """Return whether a model is live."""

    @property
    def version(self) -> str | None:
        """Return the live model's version."""

    async def ask(self, request: msgspec.Struct, *, deadline: float, fresh: bool = False) -> Asked:
        """Return the answer by `deadline` (time.monotonic()), or raise why there is none."""


class Endpoint:
    """Answers the requests of one question, whatever they are: nothing but cancellation leaves `answer` as an exception."""

    def __init__(self, question: Question, server: Server, metrics: Metrics) -> None:
        engine = question.engine
        self.question = question
        self._server = server
        self._decoder: Decoder[msgspec.Struct] = Decoder(engine.request, engine.check, server.max_items)
        self._meter = metrics.meter(engine.name)
        self._large = asyncio.Semaphore(LARGE)

    def begin(self, headers: Headers, body: bytes, reply: Callable[[Answer], None]) -> Callable[[], None]:
        """Begin to answer; `reply` gets the whole Answer, once, perhaps before this returns. Call what it returns when the caller has gone."""
        task = asyncio.get_running_loop().create_task(self.answer(headers, body))
        task.add_done_callback(lambda done: None if done.cancelled() else reply(done.result()))
        return task.cancel

    async def answer(self, headers: Headers, body: bytes) -> Answer:
        """Return the response to one request. `headers` have names in lower case."""
        began = time.perf_counter()
        request_id = identity(headers)
        try:
            deadline = self._admit(headers, body)
            if is_list(body):
                spare_s = 0.0 if states_timeout(headers) else self._server.default_timeout_ms / 1000
                answer = await self._many(body, deadline, spare_s, fresh(headers), request_id)
            else:
                answer = await self._one(body, deadline, fresh(headers), request_id)
        except Exception as error:
            answer = self._refused(error, request_id)
        self._meter.request(answer.status, time.perf_counter() - began)
        return answer

    def refuse(self, headers: Headers, error: Exception) -> Answer:
        """Return the response to a request whose body did not arrive as it should."""
        answer = self._refused(error, identity(headers))
        self._meter.request(answer.status, 0.0)
        return answer

    def _admit(self, headers: Headers, body: bytes) -> float:
        """Return the deadline. Raises what can be said against a request before its body is read."""
        require_json(headers)
        if len(body) > self._server.max_body_bytes:
            raise TooLargeError(f"the body has {len(body)} bytes, more than server.max_body_bytes={self._server.max_body_bytes}")
        return time.monotonic() + timeout_ms(headers, self._server.default_timeout_ms) / 1000

    def _refused(self, error: BaseException, request_id: str) -> Answer:
        self._meter.refused(problems.kind(error)[0])
        return problems.answer(error, request_id)

    async def _one(self, body: bytes, deadline: float, is_fresh: bool, request_id: str) -> Answer:
        began = time.perf_counter()
        try:
            request = self._decoder.read(body)
        except REFUSED:
            request, unknown = await self._aside(self._decoder.reread, body)
            self._meter.unknown(unknown)
        parse_s = time.perf_counter() - began
        self._meter.parsed(parse_s)
        asked = await self.question.ask(request, deadline=deadline, fresh=is_fresh)
        self._meter.answered(asked)
        return Answer(200, _headers(parse_s, asked, asked.state, request_id), asked.body)

    async def _many(self, body: bytes, deadline: float, spare_s: float, is_fresh: bool, request_id: str) -> Answer:
        """Ask all items at once, so that they end up in one batch; each is answered or refused on its own.

        `spare_s` is added to the deadline for every ITEMS_A_TIMEOUT items. Single requests beside it have nearer deadlines and go first.
        """
        began = time.perf_counter()
        items, unknown = await self._aside(self._decoder.items, body)
        self._meter.unknown(unknown)
        deadline += len(items) // ITEMS_A_TIMEOUT * spare_s
        parse_s = time.perf_counter() - began
        self._meter.parsed(parse_s)
        asking = [self.question.ask(item, deadline=deadline, fresh=is_fresh) for item in items if isinstance(item, msgspec.Struct)]
        results = iter(await asyncio.gather(*asking, return_exceptions=True))
        outcomes = [next(results) if isinstance(item, msgspec.Struct) else item for item in items]
        bodies = [self._item(outcome, request_id) for outcome in outcomes]
        whole, state = _whole([outcome for outcome in outcomes if isinstance(outcome, Asked)])
        return Answer(200, _headers(parse_s, whole, state, request_id), b"[%b]" % b",".join(bodies))

    async def _aside(self, read: Callable[[bytes], T], body: bytes) -> T:
        """Return `read(body)`, from a thread when the body is large, of which few at a time may unfold in memory."""
        if len(body) <= INLINE_BYTES:
            return read(body)
        async with self._large:
            return await asyncio.to_thread(read, body)

    def _item(self, outcome: Asked | BaseException, request_id: str) -> bytes:
        if isinstance(outcome, BaseException):
            self._meter.refused(problems.kind(outcome)[0])
            return _encode(problems.problem(outcome, request_id))
        self._meter.answered(outcome)
        return outcome.body


def _whole(asked: Sequence[Asked]) -> tuple[Asked, str]:
    """Return what to say of a list as a whole: the longest stages, the greatest age, and what the cache did if it did one thing."""
    if not asked:
        return Asked(b"", "off", 0.0), "none"
    states = {one.state for one in asked}
    greatest = map(max, zip(*(one[2:] for one in asked), strict=True))
    return Asked(b"", asked[0].state, *greatest), states.pop() if len(states) == 1 else "mixed"


def _headers(parse_s: float, asked: Asked, state: str, request_id: str) -> list[tuple[bytes, bytes]]:
    stages = (parse_s * 1e3, asked.features_s * 1e3, asked.queue_s * 1e3, asked.model_s * 1e3, asked.encode_s * 1e3)
    headers = [
        _JSON,
        (b"server-timing", b"parse;dur=%.3f, features;dur=%.3f, queue;dur=%.3f, model;dur=%.3f, encode;dur=%.3f" % stages),
        (b"x-cache", state.encode()),
        (b"x-request-id", request_id.encode()),
    ]
    if state in ("hit", "hit-shared", "mixed"):
        headers.append((b"age", b"%d" % asked.age_s))
    return headers
