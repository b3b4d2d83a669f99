"""What is wrong with a field is said in words of JSON, which callers of every language read, and units of time by name."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from serving.engines import ENGINES
from serving.engines.types import Moment
from serving.errors import InvalidRequestError
from serving.ingress.decoding.decoder import Decoder
from serving.ingress.decoding.fields import Found, tree

PYTHON = re.compile(r"`|\b(str|int|float|bool|dict|datetime|None|array|enum|regex|RFC3339|Struct|NoneType)\b")
WRONG: list[Any] = [None, True, 1.5, -1e308, "", "x" * 5000, [], [7], {}, {"a": 7}, 7, "2026-01-31T09:30:00"]


def detail(value: Any, kind: Any) -> str:
    """Return what is wrong with one value."""
    found = Found()
    tree(kind).find(value, "field", found)
    (problem,) = found.problems
    return problem.detail


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in an example."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_no_problem_of_any_field_of_any_question_names_a_type_of_python(engine):
    decoder = Decoder(engine.request, engine.check, 10)
    example, problems = msgspec.json.decode(msgspec.json.encode(engine.example)), []
    for path in places(example):
        for wrong in WRONG:
            try:
                decoder.reread(msgspec.json.encode(replaced(example, path, wrong)))
            except InvalidRequestError as error:
                problems += error.problems
    assert len(problems) > 50
    assert [problem for problem in problems if PYTHON.search(problem.detail)] == []


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("x", int, "Expected a whole number, got text"),
        ([], str | None, "Expected text, got a list"),
        ([], bool | float | str | None, "Expected true or false, a number, text or null, got a list"),
        (25.0, Annotated[float, Meta(ge=0, lt=24)], "Expected a number < 24"),
        (0.5, Annotated[float, Meta(ge=0.75)], "Expected a number >= 0.75"),
        ("", Annotated[str, Meta(min_length=1)], "Expected text of length >= 1"),
        ("eur", Annotated[str, Meta(pattern="^[A-Z]{3}$")], "Expected text that matches the pattern '^[A-Z]{3}$'"),
        ("c", Literal["a", "b"], "Invalid value 'c'; expected one of a, b"),
        (
            3,
            Annotated[datetime, Meta(tz=True)],
            "Expected an ISO 8601 time with a zone, such as 2026-01-31T09:30:00Z; got 3, which is out of range",
        ),
    ],
)  # fmt: skip
def test_types_and_bounds_are_said_in_words(value, kind, expected):
    assert detail(value, kind) == expected


def test_of_many_possible_values_the_first_are_listed():
    assert detail(99, Literal[tuple(range(30))]).endswith("18, 19 or 10 others")


MOMENT = "Expected a number or an ISO 8601 time: milliseconds since 1970-01-01 UTC, or such as 2026-01-31T09:30:00Z; got "


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (1_764_555_863, "1764555863, which reads as seconds since 1970: send 1764555863000"),
        (1_764_555_863.25, "1764555863.25, which reads as seconds since 1970: send 1764555863250"),
        (1_764_555_863_000_000, "1764555863000000, which reads as microseconds since 1970: send 1764555863000"),
        (1_764_555_863_000_000_000, "1764555863000000000, which reads as nanoseconds since 1970: send 1764555863000"),
        (12, "12, which is out of range"),
        ("yesterday", "text that is no such time"),
        ("2026-01-31T09:30:00", "a time without a zone"),
        ({}, "an object"),
        (True, "true or false"),
    ],
)
def test_a_moment_in_another_unit_is_named_and_so_is_what_to_send(value, got):
    assert detail(value, Moment) == MOMENT + got
    assert detail([value], list[Moment]) == MOMENT + got
