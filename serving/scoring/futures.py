"""Outcomes, a result or an exception, between callbacks and futures."""

import asyncio
from typing import TypeVar

T = TypeVar("T")


def resolve(answer: "asyncio.Future[T]", outcome: T | Exception) -> None:
    """Set the outcome of `answer`, unless it was cancelled."""
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def outcome(done: "asyncio.Future[T]") -> T | Exception:
    """Return how a task or a future that was not cancelled has ended."""
    error = done.exception()
    if error is None:
        return done.result()
    return error if isinstance(error, Exception) else RuntimeError(str(error))
