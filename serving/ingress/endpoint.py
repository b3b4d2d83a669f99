"""The route of one question without an HTTP framework: headers and bytes in, a whole Response out."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import msgspec

from serving.auth.principals import Principal, authenticate
from serving.errors import OverloadedError, RevenueEngineError, TooLargeError
from serving.ingress import problems
from serving.ingress.decoding.body_reader import BodyReader, Slices
from serving.ingress.decoding.decoder import REFUSED, Decoder, is_list
from serving.ingress.decoding.fields import MAX_PROBLEMS
from serving.ingress.decoding.reading_process import ReadingProcess
from serving.ingress.http import routes
from serving.ingress.http.headers import AUTHORIZATION, Headers, fresh, priority, request_id, require_json, states_timeout, timeout_ms
from serving.ingress.http.response import Response
from serving.metrics.collect import Metrics
from serving.resources.resource import QuestionStatus
from serving.scoring.answer import Answer, Cancel, Done
from serving.scoring.batcher import NORMAL
from serving.scoring.futures import outcome as outcome_of
from serving.settings import ServerSettings

ITEMS_PER_TIMEOUT = 100
MAX_LIST_BYTES = 64 * 1024 * 1024  # of all the lists that are being answered
RETRY_S = 1.0
CACHED_STATES = ("hit", "hit-shared", "stale", "mixed")
LIST_PRIORITY = NORMAL + 1  # of a list without a Priority header: single requests go first

_encode = msgspec.json.Encoder().encode
_HEAD = (
    b"content-type: application/json\r\n"
    b"server-timing: parse;dur=%.3f, features;dur=%.3f, queue;dur=%.3f, model;dur=%.3f, encode;dur=%.3f\r\n"
    b"x-cache: %b\r\nx-request-id: %b\r\n%b"
)


class ServedQuestion(QuestionStatus, Protocol):
    """The question that an endpoint answers: serving.scoring.question.Question outside of tests."""

    @property
    def pressed(self) -> bool:
        """Return whether a request was refused recently."""

    def refusal(self, deadline: float, priority: int = NORMAL) -> OverloadedError | None:
        """Return why no request would be answered by `deadline`, None where one may be."""

    def begin(
        self,
        request: msgspec.Struct,
        done: Done,
        *,
        principal: Principal,
        deadline: float,
        fresh: bool = False,
        priority: int = NORMAL,
    ) -> Cancel | None:
        """Begin to answer by `deadline` (time.monotonic()); `done` gets the answer or the error, perhaps at once."""

    def ask(
        self, request: msgspec.Struct, *, principal: Principal, deadline: float, fresh: bool = False, priority: int = NORMAL
    ) -> "asyncio.Future[Answer]":
        """Return the answer to come."""


class _PendingReply:
    """A request that is being answered: its id, its times, and where its response goes."""

    __slots__ = ("began", "endpoint", "parse_s", "reply", "request_id")

    def __init__(self, endpoint: "Endpoint", request_id: str, reply: Callable[[Response], None]) -> None:
        self.endpoint, self.request_id, self.reply = endpoint, request_id, reply
        self.began = time.perf_counter()
        self.parse_s = 0.0

    def done(self, outcome: Answer | Exception) -> None:
        """Reply with the question's answer or error."""
        if isinstance(outcome, Exception):
            self.refuse(outcome)
            return
        self.endpoint.meter.answered(outcome)
        self.end(Response(200, _headers(self.parse_s, outcome, outcome.state, self.request_id), outcome.body))

    def refuse(self, error: Exception) -> None:
        """Reply with an error as a problem."""
        self.endpoint.meter.refused(problems.kind(error)[0])
        self.end(problems.response(error, self.request_id))

    def end(self, response: Response) -> None:
        """Reply."""
        self.endpoint.meter.request(response.status, time.perf_counter() - self.began)
        self.reply(response)


class Endpoint:
    """Answers the requests of one question. It establishes the principal of each request, once, from its `Authorization` header.

    Every error becomes a problem response; only cancellation leaves `answer` as an exception.
    """

    def __init__(self, question: ServedQuestion, server: ServerSettings, metrics: Metrics, process: ReadingProcess) -> None:
        """`process` reads the large bodies that the plain decoder refuses."""
        engine = question.engine
        self.question = question
        self._server = server
        self._decoder: Decoder[msgspec.Struct] = Decoder(engine.request, engine.check, server.max_items)
        self._decoder.read(_encode(engine.example))  # compile now what is compiled at the first call
        self._bodies = BodyReader(engine.request, self._decoder, process)
        self.meter = metrics.meter(engine.name)
        self._list_turn = asyncio.Lock()  # one list at a time takes slices of the event loop
        self._list_bytes = 0

    def begin(self, headers: Headers, body: bytes, reply: Callable[[Response], None], unread_s: float = 0.0) -> Cancel:
        """Begin to answer. `reply` gets the whole Response, once, perhaps at once; the function returned cancels the request.

        `unread_s`: how long the request has waited in the socket, which counts towards its timeout.
        """
        pending = _PendingReply(self, request_id(headers), reply)
        try:
            deadline = self._admit(headers, body) - unread_s
            principal = authenticate(headers.get(AUTHORIZATION))
            if is_list(body):
                return self._in_task(pending, self._answer_list(headers, body, principal, deadline, pending.request_id))
            urgency = priority(headers, NORMAL)
            # The question decides itself whether there is time. Asking it before the body is decoded pays while it refuses requests.
            error = self.question.refusal(deadline, urgency) if self.question.pressed else None
            if error is not None:
                pending.refuse(error)
                return _nothing
            began = time.perf_counter()
            request = self._decoder.read(body)
            pending.parse_s = time.perf_counter() - began
            self.meter.parsed(pending.parse_s)
            cancel = self.question.begin(
                request, pending.done, principal=principal, deadline=deadline, fresh=fresh(headers), priority=urgency
            )
            return cancel or _nothing
        except REFUSED:
            return self._in_task(pending, self._answer_reread(headers, body, principal, deadline, pending.request_id))
        except Exception as error:
            pending.refuse(error)
            return _nothing

    def answer(self, headers: Headers, body: bytes) -> "asyncio.Future[Response]":
        """Return the response to come. `headers` have names in lower case."""
        return routes.future_response(self.begin, headers, body)

    @property
    def pressed(self) -> bool:
        """Whether a request was refused recently: checking one before it is parsed may pay."""
        return self.question.pressed

    def shed(self, deadline: float) -> OverloadedError | None:
        """Return why a request with this deadline is refused, and count it; None where it is not refused."""
        error = self.question.refusal(deadline)
        if error is not None:
            self.shed_likewise(1)
        return error

    def shed_likewise(self, times: int) -> None:
        """Count `times` requests that were refused before they were parsed."""
        self.meter.refused(OverloadedError.code, times)
        self.meter.request(429, 0.0, times)

    def refuse(self, headers: Headers, error: Exception) -> Response:
        """Return the response to a request whose body was too large or too slow, and count it."""
        self.meter.refused(problems.kind(error)[0])
        response = problems.response(error, request_id(headers))
        self.meter.request(response.status, 0.0)
        return response

    def _admit(self, headers: Headers, body: bytes) -> float:
        """Return the deadline. Raises what is wrong with the request apart from the content of its body."""
        require_json(headers)
        if len(body) > self._server.max_body_bytes:
            raise TooLargeError(f"the body has {len(body)} bytes, more than server.max_body_bytes={self._server.max_body_bytes}")
        return time.monotonic() + timeout_ms(headers, self._server.default_timeout_ms) / 1000

    def _in_task(self, pending: _PendingReply, answering: Coroutine[Any, Any, Response]) -> Cancel:
        """Answer in a task, where it takes more than one step."""
        task = asyncio.get_running_loop().create_task(answering)

        def ended(task: "asyncio.Task[Response]") -> None:
            if task.cancelled():
                return
            response = outcome_of(task)
            if isinstance(response, Exception):
                pending.refuse(response)
            else:
                pending.end(response)

        task.add_done_callback(ended)
        return task.cancel

    async def _answer_reread(self, headers: Headers, body: bytes, principal: Principal, deadline: float, request_id: str) -> Response:
        """Answer a request that the plain decoder refused: without its unknown fields, or with a problem that names every wrong field."""
        began = time.perf_counter()
        request, unknown = await self._bodies.reread(body, deadline)
        self.meter.unknown(unknown)
        parse_s = time.perf_counter() - began
        self.meter.parsed(parse_s)
        answer = await self.question.ask(
            request, principal=principal, deadline=deadline, fresh=fresh(headers), priority=priority(headers, NORMAL)
        )
        self.meter.answered(answer)
        return Response(200, _headers(parse_s, answer, answer.state, request_id), answer.body)

    async def _answer_list(self, headers: Headers, body: bytes, principal: Principal, deadline: float, request_id: str) -> Response:
        """Answer or refuse each item on its own; the items are scored in common batches.

        Without a timeout header the deadline is later by one default timeout for every ITEMS_PER_TIMEOUT items.
        """
        if self._list_bytes and self._list_bytes + len(body) > MAX_LIST_BYTES:
            raise OverloadedError(f"lists of {self._list_bytes:,} bytes are being answered already; send fewer at once", RETRY_S)
        self._list_bytes += len(body)
        asked: list[asyncio.Future[Answer] | RevenueEngineError] = []
        try:
            parse_s = await self._ask_items(headers, body, principal, deadline, asked)
            outcomes = await _outcomes(asked)
            async with self._list_turn:
                bodies = await self._encoded(outcomes, request_id, Slices())
        finally:
            self._list_bytes -= len(body)
            for one in asked:
                if isinstance(one, asyncio.Future):
                    one.cancel()  # where the caller has left; otherwise all are done
        summary, state = _summarize([outcome for outcome in outcomes if isinstance(outcome, Answer)])
        return Response(200, _headers(parse_s, summary, state, request_id), b"[%b]" % b",".join(bodies))

    async def _ask_items(
        self,
        headers: Headers,
        body: bytes,
        principal: Principal,
        deadline: float,
        asked: "list[asyncio.Future[Answer] | RevenueEngineError]",
    ) -> float:
        """Append to `asked` the answer to come, or the error, of each item of a list, and return the seconds of reading them."""
        options: dict[str, Any] = {"fresh": fresh(headers), "priority": priority(headers, LIST_PRIORITY)}
        async with self._list_turn:
            slices = Slices()
            began = time.perf_counter()
            raws = self._decoder.split(body)
            if not states_timeout(headers):
                deadline += len(raws) // ITEMS_PER_TIMEOUT * self._server.default_timeout_ms / 1000
            items, unknown = await self._bodies.items(raws, deadline, slices)
            parse_s = time.perf_counter() - began
            self.meter.unknown(unknown)
            self.meter.parsed(parse_s)
            for item in items:
                if isinstance(item, RevenueEngineError):
                    asked.append(item)
                else:
                    asked.append(self.question.ask(item, principal=principal, deadline=deadline, **options))
                await slices.pause()
        return parse_s

    async def _encoded(self, outcomes: Sequence[Answer | BaseException], request_id: str, slices: Slices) -> list[bytes]:
        """Return the answers and problems of a list's items, of whose wrong fields MAX_PROBLEMS are listed in all."""
        bodies, left = list[bytes](), MAX_PROBLEMS
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                self.meter.refused(problems.kind(outcome)[0])
                problem = problems.problem(outcome, request_id, left)
                left -= 0 if problem.problems is msgspec.UNSET else len(problem.problems)
                bodies.append(_encode(problem))
            else:
                self.meter.answered(outcome)
                bodies.append(outcome.body)
            await slices.pause()
        return bodies


async def _outcomes(asked: Sequence["asyncio.Future[Answer] | RevenueEngineError"]) -> list[Answer | BaseException]:
    """Return the answer or the error of each item, in order."""
    answers = iter(await asyncio.gather(*(one for one in asked if not isinstance(one, RevenueEngineError)), return_exceptions=True))
    return [one if isinstance(one, RevenueEngineError) else next(answers) for one in asked]


def _nothing() -> None:
    """Cancel nothing: the response is out."""


def _summarize(answers: Sequence[Answer]) -> tuple[Answer, str]:
    """Return the longest stages and the greatest age of a list's answers, and their cache state, "mixed" where it differs."""
    if not answers:
        return Answer(b"", "off", 0.0), "none"
    states = {answer.state for answer in answers}
    greatest = map(max, zip(*(answer[2:7] for answer in answers), strict=True))
    return Answer(b"", answers[0].state, *greatest), states.pop() if len(states) == 1 else "mixed"


def _headers(parse_s: float, answer: Answer, state: str, request_id: str) -> bytes:
    """Return the headers of an answer as they go over the wire."""
    age = b"age: %d\r\n" % answer.age_s if state in CACHED_STATES else b""
    return _HEAD % (
        parse_s * 1e3,
        answer.features_s * 1e3,
        answer.queue_s * 1e3,
        answer.model_s * 1e3,
        answer.encode_s * 1e3,
        state.encode(),
        request_id.encode(),
        age,
    )
