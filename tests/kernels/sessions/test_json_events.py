"""Elements have numbers of their own, and unknown types their names."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.sessions import json_events
from kernels.sessions.json_events import FIELDS, MAX_UNKNOWN, MIN_BYTES, UNSURE
from kernels.sessions.timeline import KIND, WIDTH
from tests.naive import sessions as naive

KNOWN = {"click": 7, "scroll": 8, "purchase": -1}
FORM = json_events.form(KNOWN, {"home": 1}, dict.fromkeys(FIELDS, (0, 256)))
TYPES = st.lists(st.sampled_from([*KNOWN, "clic", "clicks", "zoom", "zoo", "z" * 9, ""]), max_size=20)


@given(st.binary(max_size=40))
@settings(deadline=None)
def test_the_number_of_an_element_is_that_of_the_naive_twin(name: bytes) -> None:
    number = json_events.element_number(np.frombuffer(name, np.uint8))
    assert number == naive.element_number(name)
    assert number < 2**52
    assert (number == 0) == (name == b"")


def test_elements_of_similar_names_have_different_numbers() -> None:
    names = [f"{letter * size}-{number}".encode() for letter in "ab" for size in (1, 7, 8, 9) for number in range(500)]
    numbers = {json_events.element_number(np.frombuffer(name, np.uint8)) for name in names}
    assert len(numbers) == len(names)


@given(TYPES)
@settings(deadline=None)
def test_unknown_types_are_named_as_by_the_naive_twin(types: list[str]) -> None:
    body = json.dumps([{"type": name, "timestamp": 1_732_129_331_000} for name in types]).encode()
    data = np.frombuffer(body, np.uint8)
    out, places = np.empty((len(data) // MIN_BYTES + 1, WIDTH)), np.empty((MAX_UNKNOWN, 2), np.int64)
    events = json_events.read(data, FORM, out)
    expected = naive.name_unknown(types, list(KNOWN))
    assert events == (UNSURE - len(types) if expected else len(types))
    found = json_events.name_unknown(data, out[: len(types)], places)
    assert [body[begin:end].decode() for begin, end in places[:found]] == expected
    assert out[: len(types), KIND].tolist() == [KNOWN.get(name, 0) for name in types]
