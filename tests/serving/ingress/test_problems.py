"""Errors become problem details; one table has the status of each."""

import logging

import msgspec
import pytest

from serving import errors
from serving.errors import (
    FieldProblem,
    InvalidRequestError,
    MethodNotAllowedError,
    NoModelError,
    NotReadyError,
    OverloadedError,
    TooLargeError,
)
from serving.ingress import problems


def decoded(error: Exception) -> dict[str, object]:
    answer = problems.response(error, "r-1")
    body: dict[str, object] = msgspec.json.decode(answer.body)
    assert body["status"] == answer.status
    return body


def test_a_problem_has_its_fields_details_and_request_id() -> None:
    error = InvalidRequestError([FieldProblem("hour", "Expected `float` < 24"), FieldProblem("place.region", "Expected `str`")])
    assert decoded(error) == {
        "type": "/problems/invalid-request",
        "title": "Invalid request",
        "status": 422,
        "detail": "hour: Expected `float` < 24 (and 1 more, see problems)",
        "field": "hour",
        "problems": [{"field": "hour", "detail": "Expected `float` < 24"}, {"field": "place.region", "detail": "Expected `str`"}],
        "requestId": "r-1",
    }


def test_headers_have_the_media_type_and_request_id() -> None:
    headers = dict(problems.response(TooLargeError("6 items", "items"), "r-1").headers)
    assert headers == {b"content-type": b"application/problem+json", b"x-request-id": b"r-1"}
    assert decoded(TooLargeError("6 items", "items"))["field"] == "items"


@pytest.mark.parametrize(("wait_s", "seconds"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.01, 2), (7.5, 8), (1e9, 600), (float("inf"), 600)])
def test_retry_after_is_computed_in_whole_seconds_and_bounded(wait_s: float, seconds: int) -> None:
    error = OverloadedError("full", wait_s)
    assert dict(problems.response(error, "r").headers)[b"retry-after"] == str(seconds).encode()
    assert decoded(error)["retryAfter"] == seconds


def test_a_server_that_is_not_ready_sends_retry_after() -> None:
    answer = problems.response(NotReadyError("starting"), "r")
    assert (answer.status, dict(answer.headers)[b"retry-after"]) == (503, b"1")


def test_a_question_without_a_model_sends_no_retry_after_but_the_command_that_helps() -> None:
    answer = problems.response(NoModelError("value", "champion", "m-1 is refused: its hash differs"), "r")
    assert (answer.status, b"retry-after" in dict(answer.headers)) == (503, False)
    found = decoded(NoModelError("value", "champion", "m-1 is refused: its hash differs"))
    assert (found["type"], found["title"], "retryAfter" in found) == ("/problems/no-model", "No model", False)
    for part in (
        "value has no model: m-1 is refused: its hash differs",
        "revenue-engine train value --data",
        "models add DIR --alias champion",
    ):
        assert part in found["detail"]


def test_a_wrong_method_is_answered_with_the_allowed_ones() -> None:
    answer = problems.response(MethodNotAllowedError("no", "GET, HEAD"), "r")
    assert (answer.status, dict(answer.headers)[b"allow"]) == (405, b"GET, HEAD")


def test_a_subclass_has_the_status_of_its_base_class() -> None:
    class FullerError(OverloadedError):
        code = "fuller"

    assert problems.kind(FullerError("x", 1))[0] == "overloaded"
    assert problems.response(FullerError("x", 1), "r").status == 429


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), errors.RevenueEngineError("secret"), errors.SettingsError("secret")])
def test_an_internal_error_is_logged_with_its_traceback_and_not_disclosed(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise error
    except Exception as raised:
        with caplog.at_level(logging.ERROR):
            answer = problems.response(raised, "r-77")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    assert "r-77" in caplog.text
    assert "secret" in caplog.text
    assert "test_problems" in caplog.text


def test_the_size_of_a_problem_is_bounded() -> None:
    flood = InvalidRequestError([FieldProblem("f" * 10_000, "d" * 10_000)] * 1000)
    body = problems.response(flood, "r").body
    assert len(msgspec.json.decode(body)["problems"]) == problems.MAX_PROBLEMS
    assert len(body) < 2.2 * problems.MAX_TEXT * problems.MAX_PROBLEMS
    assert len(str(decoded(TooLargeError("x" * 10_000))["detail"])) == problems.MAX_TEXT


def test_no_two_kinds_share_a_type_and_only_a_missing_model_shares_a_status() -> None:
    """The OpenAPI document names responses by status, with every kind in the description; the type of a problem identifies its kind."""
    statuses = [kind.status for cls, kind in problems.KINDS.items() if cls is not NoModelError]
    codes = [getattr(cls, "code", errors.RevenueEngineError.code) for cls in problems.KINDS]
    assert len(set(statuses)) == len(statuses) == len(problems.KINDS) - 1
    assert len(set(codes)) == len(problems.KINDS)
    assert problems.KINDS[NoModelError].status == problems.KINDS[NotReadyError].status
