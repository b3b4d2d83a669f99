"""Errors as RFC 9457 problem details: one table says which HTTP status each kind of error has."""

import logging
import math
from collections.abc import Mapping
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from serving.errors import (
    DeadlineExceededError,
    FieldProblem,
    HeadTooLargeError,
    InvalidRequestError,
    MalformedRequestError,
    MethodNotAllowedError,
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

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MAX_TEXT = 500
MAX_PROBLEMS = 100
MAX_RETRY_S = 600
RETRY_S = 1.0  # when nothing says how long a server that starts or drains will take

_encode = msgspec.json.Encoder().encode


class Kind(NamedTuple):
    """One kind of problem, as it is documented."""

    status: int
    title: str
    advice: str


# The first class of an error's __mro__ that is here decides; anything else is ours, not the caller's.
KINDS: Mapping[type[Exception], Kind] = {
    NotJSONError: Kind(400, "Not JSON", "Send valid JSON in UTF-8: no NaN, no Infinity, no nesting hundreds deep."),
    NotFoundError: Kind(404, "Not found", "See /docs for every path."),
    MethodNotAllowedError: Kind(405, "Method not allowed", "The Allow header lists the methods of this path."),
    SlowRequestError: Kind(408, "Request too slow", "Send the whole body at once."),
    TooLargeError: Kind(413, "Too large", "Split the list or shorten the body; the detail names the bound."),
    UnsupportedMediaTypeError: Kind(415, "Unsupported media type", "Send Content-Type: application/json, uncompressed."),
    InvalidRequestError: Kind(422, "Invalid request", "Mend every field that problems names."),
    OverloadedError: Kind(429, "Overloaded", "Try again after Retry-After seconds."),
    Exception: Kind(500, "Internal error", "Report requestId: the server's log has it with the cause."),
    NotReadyError: Kind(503, "Not ready", "The server starts or stops, or a store does not answer; try again after Retry-After seconds."),
    DeadlineExceededError: Kind(504, "Deadline exceeded", "The answer was not ready within X-Request-Timeout-Ms: allow more."),
}

# What never gets as far as a path, and so is in no document of one.
UNPARSED: Mapping[type[Exception], Kind] = {
    MalformedRequestError: Kind(400, "Malformed request", "Send HTTP/1.1 with one Content-Length, or chunks that add up."),
    HeadTooLargeError: Kind(431, "Headers too large", "Send fewer or shorter headers; the detail names the bound."),
}
ALL: Mapping[type[Exception], Kind] = {**KINDS, **UNPARSED}


class WrongField(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One wrong field of a request."""

    field: Annotated[str, Meta(description="Path, such as behaviorData.interactions[3].type; $ is the whole body.")]
    detail: str


class Problem(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """Problem details (RFC 9457): why there is no answer, and what to do about it."""

    type: Annotated[str, Meta(description="Where this kind of problem is described, relative to this server.")]
    title: str
    status: Annotated[int, Meta(ge=400, le=599, description="The HTTP status; of one item where it stands in a list.")]
    detail: str
    field: Annotated[str, Meta(description="Path of the first wrong field.")] | msgspec.UnsetType = msgspec.UNSET
    problems: Annotated[list[WrongField], Meta(description="Every wrong field; the first 100 of more.")] | msgspec.UnsetType = msgspec.UNSET
    request_id: Annotated[str, Meta(description="X-Request-Id of the request, as in the server's log.")]
    retry_after: Annotated[int, Meta(ge=1, description="Seconds after which to try again, as in Retry-After.")] | msgspec.UnsetType = (
        msgspec.UNSET
    )


def kind(error: BaseException) -> tuple[str, Kind]:
    """Return the code and the kind of an error."""
    for cls in type(error).__mro__:
        if cls in ALL:
            return getattr(cls, "code", RevenueEngineError.code), ALL[cls]
    return RevenueEngineError.code, KINDS[Exception]


def problem(error: BaseException, request_id: str) -> Problem:
    """Return the problem that an error is to the caller. An unexpected one is logged with its trace, of which the caller sees nothing."""
    code, (status, title, advice) = kind(error)
    if status == 500:
        log.error("request %s failed", request_id, exc_info=error)
    wrong = _wrong_fields(error)
    retry_s = getattr(error, "retry_after_s", RETRY_S) if status in (429, 503) else None
    return Problem(
        type=f"/problems/{code}",
        title=title,
        status=status,
        detail=_detail(error, wrong)[:MAX_TEXT] if status != 500 else advice,
        field=wrong[0].field if wrong else getattr(error, "field", None) or msgspec.UNSET,
        problems=wrong or msgspec.UNSET,
        request_id=request_id,
        retry_after=msgspec.UNSET if retry_s is None else math.ceil(min(max(retry_s, 1.0), MAX_RETRY_S)),
    )


def answer(error: BaseException, request_id: str) -> Response:
    """Return the response that an error is to the caller."""
    made = problem(error, request_id)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"x-request-id", request_id.encode())]
    if isinstance(made.retry_after, int):
        headers.append((b"retry-after", b"%d" % made.retry_after))
    if isinstance(error, MethodNotAllowedError):
        headers.append((b"allow", error.allow.encode()))
    return Response(made.status, headers, _encode(made))


def _wrong_fields(error: BaseException) -> list[WrongField]:
    found: list[FieldProblem] = error.problems if isinstance(error, InvalidRequestError) else []
    return [WrongField(field=p.field[:MAX_TEXT], detail=p.detail[:MAX_TEXT]) for p in found[:MAX_PROBLEMS]]


def _detail(error: BaseException, wrong: list[WrongField]) -> str:
    if not wrong:
        return str(error)
    more = f" (and {len(wrong) - 1} more, see problems)" if len(wrong) > 1 else ""
    return f"{wrong[0].field}: {wrong[0].detail}"[: MAX_TEXT - len(more)] + more
