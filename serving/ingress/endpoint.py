"""One question's route without an HTTP framework: headers and bytes in, a whole Response out."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from serving.engines import Engine
from serving.errors import OverloadedError, TooLargeError
from serving.ingress import problems
from serving.ingress.decoding.decoder import REFUSED, Decoder, is_list
from serving.ingress.http import routes
from serving.ingress.http.headers import Headers, fresh, priority, require_json, states_timeout, timeout_ms
from serving.ingress.http.headers import request_id as identity
from serving.ingress.http.response import Response
from serving.metrics.collect import Metrics
from serving.scoring.batcher import NORMAL
from serving.scoring.futures import outcome
from serving.scoring.question import Answer, Cancel, Done
from serving.settings import Server

T = TypeVar("T")

# What needs more than a plain decode of a larger body is done in a thread, so that nobody else waits for it.
INLINE_BYTES = 64 * 1024
ITEMS_A_TIMEOUT = 100
LARGE = 2
AGED = ("hit", "hit-shared", "stale", "mixed")
AFTER_SINGLE = NORMAL + 1  # the priority of a list that states none

_encode = msgspec.json.Encoder().encode
_HEAD = (
    b"content-type: application/json\r\n"
    b"server-timing: parse;dur=%.3f, features;dur=%.3f, queue;dur=%.3f, model;dur=%.3f, encode;dur=%.3f\r\n"
    b"x-cache: %b\r\nx-request-id: %b\r\n%b"
)


class Question(Protocol):
    """The seam to serving.scoring.question.Question."""

    @property
    def engine(self) -> Engine:
        """Return the engine that is asked."""

    @property
    def ready(self) -> bool:
        """Return whether a model is live."""

    @property
    def lacking(self) -> bool:
        """Return whether a model is needed that is not there."""

    @property
    def version(self) -> str | None:
        """Return the live model's version."""

    @property
    def choices(self) -> Sequence[str]:
        """Return what the live model chose for this machine, and why."""

    @property
    def pressed(self) -> bool:
        """Return whether somebody was refused of late."""

    def refusal(self, deadline: float, priority: int = NORMAL) -> OverloadedError | None:
        """Return why nothing asked now will be answered in time."""

    def begin(self, request: msgspec.Struct, done: Done, *, deadline: float, fresh: bool = False, priority: int = NORMAL) -> Cancel | None:
        """Begin to answer by `deadline` (time.monotonic()): `done` gets the answer or why there is none, maybe at once."""

    def ask(self, request: msgspec.Struct, *, deadline: float, fresh: bool = False, priority: int = NORMAL) -> "asyncio.Future[Answer]":
        """Return the answer to come."""


class _Call:
    """One request that is being answered."""

    __slots__ = ("began", "endpoint", "parse_s", "reply", "request_id")

    def __init__(self, endpoint: "Endpoint", request_id: str, reply: Callable[[Response], None]) -> None:
        self.endpoint, self.request_id, self.reply = endpoint, request_id, reply
        self.began = time.perf_counter()
        self.parse_s = 0.0

    def done(self, outcome: Answer | Exception) -> None:
        """Reply with what the question said."""
        if isinstance(outcome, Exception):
            self.refuse(outcome)
            return
        self.endpoint.meter.answered(outcome)
        self.end(Response(200, _headers(self.parse_s, outcome, outcome.state, self.request_id), outcome.body))

    def refuse(self, error: Exception) -> None:
        """Reply with the problem that an error is."""
        self.endpoint.meter.refused(problems.kind(error)[0])
        self.end(problems.answer(error, self.request_id))

    def end(self, answer: Response) -> None:
        """Reply."""
        self.endpoint.meter.request(answer.status, time.perf_counter() - self.began)
        self.reply(answer)


class Endpoint:
    """Answers the requests of one question, whatever they are: nothing but cancellation leaves `answer` as an exception."""

    def __init__(self, question: Question, server: Server, metrics: Metrics) -> None:
        engine = question.engine
        self.question = question
        self._server = server
        self._decoder: Decoder[msgspec.Struct] = Decoder(engine.request, engine.check, server.max_items)
        self._decoder.read(_encode(engine.example))  # whatever is compiled at its first call is so before anybody asks
        self.meter = metrics.meter(engine.name)
        self._large = asyncio.Semaphore(LARGE)

    def begin(self, headers: Headers, body: bytes, reply: Callable[[Response], None], unread_s: float = 0.0) -> Cancel:
        """Begin to answer; `reply` gets the whole Response, once, maybe at once. Call what it returns when the caller has gone.

        `unread_s`: for how long the request has lain unread, which its caller has waited already.
        """
        call = _Call(self, identity(headers), reply)
        try:
            deadline = self._admit(headers, body) - unread_s
            if is_list(body):
                return self._aside_from_here(call, self._many(headers, body, deadline, call.request_id))
            urgency = priority(headers, NORMAL)
            # The question judges for itself whether there is time; to ask before the body is read pays where it has said no of late.
            error = self.question.refusal(deadline, urgency) if self.question.pressed else None
            if error is not None:
                call.refuse(error)
                return _nothing
            began = time.perf_counter()
            request = self._decoder.read(body)
            call.parse_s = time.perf_counter() - began
            self.meter.parsed(call.parse_s)
            return self.question.begin(request, call.done, deadline=deadline, fresh=fresh(headers), priority=urgency) or _nothing
        except REFUSED:
            return self._aside_from_here(call, self._reread(headers, body, deadline, call.request_id))
        except Exception as error:
            call.refuse(error)
            return _nothing

    def answer(self, headers: Headers, body: bytes) -> "asyncio.Future[Response]":
        """Return the response to come. `headers` have names in lower case."""
        return routes.ask(self.begin, headers, body)

    @property
    def pressed(self) -> bool:
        """Whether somebody was refused of late: a look at a request before it is parsed may pay."""
        return self.question.pressed

    def shed(self, deadline: float) -> OverloadedError | None:
        """Return why a request with this deadline is refused, if it is, and count it."""
        error = self.question.refusal(deadline)
        if error is not None:
            self.shed_likewise(1)
        return error

    def shed_likewise(self, times: int) -> None:
        """Count so many requests that were refused before they were parsed."""
        self.meter.refused(OverloadedError.code, times)
        self.meter.request(429, 0.0, times)

    def refuse(self, headers: Headers, error: Exception) -> Response:
        """Return the response to a request whose body did not arrive as it should."""
        self.meter.refused(problems.kind(error)[0])
        answer = problems.answer(error, identity(headers))
        self.meter.request(answer.status, 0.0)
        return answer

    def _admit(self, headers: Headers, body: bytes) -> float:
        """Return the deadline. Raises what can be said against a request before its body is read."""
        require_json(headers)
        if len(body) > self._server.max_body_bytes:
            raise TooLargeError(f"the body has {len(body)} bytes, more than server.max_body_bytes={self._server.max_body_bytes}")
        return time.monotonic() + timeout_ms(headers, self._server.default_timeout_ms) / 1000

    def _aside_from_here(self, call: _Call, answering: Coroutine[Any, Any, Response]) -> Cancel:
        """Answer in a task, for what takes more than one step."""
        task = asyncio.get_running_loop().create_task(answering)

        def ended(task: "asyncio.Task[Response]") -> None:
            if task.cancelled():
                return
            answer = outcome(task)
            if isinstance(answer, Exception):
                call.refuse(answer)
            else:
                call.end(answer)

        task.add_done_callback(ended)
        return task.cancel

    async def _reread(self, headers: Headers, body: bytes, deadline: float, request_id: str) -> Response:
        """Answer a request that the plain decoder refused: with every wrong field, or as if its unknown fields were not there."""
        began = time.perf_counter()
        request, unknown = await self._aside(self._decoder.reread, body)
        self.meter.unknown(unknown)
        parse_s = time.perf_counter() - began
        self.meter.parsed(parse_s)
        asked = await self.question.ask(request, deadline=deadline, fresh=fresh(headers), priority=priority(headers, NORMAL))
        self.meter.answered(asked)
        return Response(200, _headers(parse_s, asked, asked.state, request_id), asked.body)

    async def _many(self, headers: Headers, body: bytes, deadline: float, request_id: str) -> Response:
        """Ask all items at once, so that they end up in one batch; each is answered or refused on its own.

        Without a time-out of the caller's the deadline is later for every ITEMS_A_TIMEOUT items, and without a priority of the caller's
        single requests go first.
        """
        began = time.perf_counter()
        items, unknown = await self._aside(self._decoder.items, body)
        self.meter.unknown(unknown)
        if not states_timeout(headers):
            deadline += len(items) // ITEMS_A_TIMEOUT * self._server.default_timeout_ms / 1000
        parse_s = time.perf_counter() - began
        self.meter.parsed(parse_s)
        how: dict[str, Any] = {"deadline": deadline, "fresh": fresh(headers), "priority": priority(headers, AFTER_SINGLE)}
        asking = [self.question.ask(item, **how) for item in items if isinstance(item, msgspec.Struct)]
        results = iter(await asyncio.gather(*asking, return_exceptions=True))
        outcomes = [next(results) if isinstance(item, msgspec.Struct) else item for item in items]
        bodies = [self._item(outcome, request_id) for outcome in outcomes]
        whole, state = _whole([outcome for outcome in outcomes if isinstance(outcome, Answer)])
        return Response(200, _headers(parse_s, whole, state, request_id), b"[%b]" % b",".join(bodies))

    async def _aside(self, read: Callable[[bytes], T], body: bytes) -> T:
        """Return `read(body)`, from a thread when the body is large, of which few at a time may unfold in memory."""
        if len(body) <= INLINE_BYTES:
            return read(body)
        async with self._large:
            return await asyncio.to_thread(read, body)

    def _item(self, outcome: Answer | BaseException, request_id: str) -> bytes:
        if isinstance(outcome, BaseException):
            self.meter.refused(problems.kind(outcome)[0])
            return _encode(problems.problem(outcome, request_id))
        self.meter.answered(outcome)
        return outcome.body


def _nothing() -> None:
    """Cancel nothing: the answer is out."""


def _whole(asked: Sequence[Answer]) -> tuple[Answer, str]:
    """Return what to say of a list as a whole: the longest stages, the greatest age, and what the cache did if it did one thing."""
    if not asked:
        return Answer(b"", "off", 0.0), "none"
    states = {one.state for one in asked}
    greatest = map(max, zip(*(one[2:7] for one in asked), strict=True))
    return Answer(b"", asked[0].state, *greatest), states.pop() if len(states) == 1 else "mixed"


def _headers(parse_s: float, asked: Answer, state: str, request_id: str) -> bytes:
    """Return the headers of an answer as they go over the wire."""
    age = b"age: %d\r\n" % asked.age_s if state in AGED else b""
    return _HEAD % (
        parse_s * 1e3,
        asked.features_s * 1e3,
        asked.queue_s * 1e3,
        asked.model_s * 1e3,
        asked.encode_s * 1e3,
        state.encode(),
        request_id.encode(),
        age,
    )
