"""Errors as RFC 9457 problem details: one table maps each kind of error to an HTTP status."""

import logging
from collections.abc import Mapping
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from serving.errors import (
    DeadlineExceededError,
    FieldProblem,
    ForbiddenError,
    HeadTooLargeError,
    InvalidRequestError,
    MalformedRequestError,
    MethodNotAllowedError,
    NoModelError,
    NotFoundError,
    NotJSONError,
    NotReadyError,
    OverloadedError,
    RevenueEngineError,
    SlowRequestError,
    TooLargeError,
    UnsupportedMediaTypeError,
)
from serving.ingress.http.response import Response
from serving.ingress.request_log import ProblemLog
from serving.ingress.retry_after import RETRY_S, whole_seconds

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MAX_TEXT = 500
MAX_PROBLEMS = 100

LOG = ProblemLog()  # of this process

_encode = msgspec.json.Encoder().encode


class ProblemKind(NamedTuple):
    """The status, the title and the advice of one kind of problem."""

    status: int
    title: str
    advice: str


# The first class of an error's __mro__ that is here decides. Any other exception is an internal error.
KINDS: Mapping[type[Exception], ProblemKind] = {
    NotJSONError: ProblemKind(400, "Not JSON", "Send valid JSON in UTF-8: no NaN, no Infinity, no nesting hundreds deep."),
    ForbiddenError: ProblemKind(403, "Forbidden", "Use a credential that has the scope which the detail names."),
    NotFoundError: ProblemKind(404, "Not found", "See /docs for every path."),
    MethodNotAllowedError: ProblemKind(405, "Method not allowed", "The Allow header lists the methods of this path."),
    SlowRequestError: ProblemKind(408, "Request too slow", "Send the whole request at once."),
    TooLargeError: ProblemKind(413, "Too large", "Split the list or shorten the body; the detail names the bound."),
    UnsupportedMediaTypeError: ProblemKind(415, "Unsupported media type", "Send Content-Type: application/json, as it is or with gzip."),
    InvalidRequestError: ProblemKind(422, "Invalid request", "Correct every field that `problems` lists."),
    OverloadedError: ProblemKind(429, "Overloaded", "Try again after Retry-After seconds."),
    Exception: ProblemKind(500, "Internal error", "Report the requestId: the server's log has the cause under it."),
    NoModelError: ProblemKind(503, "No model", "The question has no model: train and add one, as the detail says. Do not retry before."),
    NotReadyError: ProblemKind(
        503, "Not ready", "The server is starting or stopping, or a store does not respond; retry after Retry-After seconds."
    ),
    DeadlineExceededError: ProblemKind(
        504, "Deadline exceeded", "The answer was not ready within X-Request-Timeout-Ms; set a longer timeout."
    ),
}

# Errors from before a path is known, which the OpenAPI document of a path does not list.
UNPARSED: Mapping[type[Exception], ProblemKind] = {
    MalformedRequestError: ProblemKind(
        400, "Malformed request", "Send HTTP/1.1 with one Host and one Content-Length, or chunks that add up."
    ),
    HeadTooLargeError: ProblemKind(431, "Headers too large", "Send fewer or shorter headers; the detail names the bound."),
}
ALL: Mapping[type[Exception], ProblemKind] = {**KINDS, **UNPARSED}


class WrongField(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One wrong field of a request."""

    field: Annotated[str, Meta(description="Path, such as behaviorData.interactions[3].type; $ is the whole body.")]
    detail: Annotated[str, Meta(description="What is wrong with its value, and what is expected.")]


class Problem(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """Problem details (RFC 9457): why a request has no answer, and what to do about it."""

    type: Annotated[str, Meta(description="Path of the description of this kind of problem on this server.")]
    title: Annotated[str, Meta(description="The kind of problem in words.")]
    status: Annotated[int, Meta(ge=400, le=599, description="The HTTP status; in a list the status of the item.")]
    detail: Annotated[str, Meta(description="What happened, the value, and what to do.")]
    field: Annotated[str, Meta(description="Path of the first wrong field.")] | msgspec.UnsetType = msgspec.UNSET
    problems: Annotated[list[WrongField], Meta(description="Every wrong field; the first 100 of an answer.")] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    more_problems: (
        Annotated[int, Meta(ge=1, description="How many more wrong fields were found: of each body at most 1000 are looked for.")]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    request_id: Annotated[str, Meta(description="X-Request-Id of the request, as in the server's log.")]
    retry_after: Annotated[int, Meta(ge=1, description="Seconds after which to try again, as in Retry-After.")] | msgspec.UnsetType = (
        msgspec.UNSET
    )


def kind(error: BaseException) -> tuple[str, ProblemKind]:
    """Return the code and the kind of an error."""
    for cls in type(error).__mro__:
        if cls in ALL:
            return getattr(cls, "code", RevenueEngineError.code), ALL[cls]
    return RevenueEngineError.code, KINDS[Exception]


def problem(error: BaseException, request_id: str, max_problems: int = MAX_PROBLEMS) -> Problem:
    """Return an error as problem details, with at most `max_problems` wrong fields listed.

    An unexpected error is logged with its traceback, which the caller does not see.
    """
    code, (status, title, advice) = kind(error)
    if status == 500:
        log.error("request %s failed", request_id, exc_info=error)
    wrong, more = _wrong_fields(error)
    listed, more = wrong[:max_problems], more + max(0, len(wrong) - max_problems)
    retry_s = getattr(error, "retry_after_s", RETRY_S) if status in (429, 503) else None
    return Problem(
        type=f"/problems/{code}",
        title=title,
        status=status,
        detail=_detail(error, wrong, len(listed) + more)[:MAX_TEXT] if status != 500 else advice,
        field=wrong[0].field if wrong else getattr(error, "field", None) or msgspec.UNSET,
        problems=listed or msgspec.UNSET,
        more_problems=more or msgspec.UNSET,
        request_id=request_id,
        retry_after=msgspec.UNSET if retry_s is None else whole_seconds(retry_s),
    )


def response(error: BaseException, request_id: str) -> Response:
    """Return an error as the response to the caller. Its request id is logged, without the content of the request."""
    made = problem(error, request_id)
    if made.status != 500:  # which is logged with its cause
        LOG.note(made.status, kind(error)[0], made.field if isinstance(made.field, str) else made.detail, (request_id,))
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"x-request-id", request_id.encode())]
    if isinstance(made.retry_after, int):
        headers.append((b"retry-after", b"%d" % made.retry_after))
    if isinstance(error, MethodNotAllowedError):
        headers.append((b"allow", error.allow.encode()))
    return Response(made.status, headers, _encode(made))


def _wrong_fields(error: BaseException) -> tuple[list[WrongField], int]:
    """Return the wrong fields of an error that names some, and how many more there are."""
    if not isinstance(error, InvalidRequestError):
        return [], 0
    found: list[FieldProblem] = error.problems
    return [WrongField(field=p.field[:MAX_TEXT], detail=p.detail[:MAX_TEXT]) for p in found[:MAX_PROBLEMS]], error.more


def _detail(error: BaseException, wrong: list[WrongField], number: int) -> str:
    """Return what is wrong: of `number` wrong fields the first."""
    if not wrong:
        return str(error)
    rest = f" (and {number - 1} more, see problems)" if number > 1 else ""
    return f"{wrong[0].field}: {wrong[0].detail}"[: MAX_TEXT - len(rest)] + rest
