"""The decoder: valid bodies become requests, and every wrong field of the others is named."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import InvalidRequestError, NotJSONError, TooLargeError
from serving.ingress.decoding.decoder import REFUSED, Decoder
from serving.ingress.decoding.fields import MAX_COUNTED, MAX_PROBLEMS, MAX_UNKNOWN, OTHERS
from serving.ingress.decoding.strict import strict
from tests.serving.greeting import EXAMPLE, MAX_EVENTS, Greeting, check, encoded

DECODER = Decoder(Greeting, check, max_items=3)


def event(**changes: Any) -> dict[str, Any]:
    return {"type": "click", "timestamp": 1.0, **changes}


def behavior(*events: Any, **changes: Any) -> dict[str, Any]:
    return {"pageViews": 3, "interactions": list(events), **changes}


def wrong_fields(body: bytes) -> set[str]:
    with pytest.raises(REFUSED):
        DECODER.read(body)
    with pytest.raises(InvalidRequestError) as refused:
        DECODER.reread(body)
    return {problem.field for problem in refused.value.problems}


def test_a_valid_body_is_decoded_at_once() -> None:
    request = DECODER.read(encoded())
    assert isinstance(request, Greeting)
    assert msgspec.to_builtins(request) == msgspec.to_builtins(msgspec.json.decode(encoded(), type=Greeting))


def test_every_wrong_field_is_named_with_its_path() -> None:
    body = encoded(
        sessionId="",
        hour=24,
        place={"region": 7, "latitude": 91},
        behaviorData=behavior(
            event(), event(type=3), {"timestamp": 1}, event(timestamp="yesterday"), "click", pageViews=-1, weights={"a": -1}
        ),
    )
    assert wrong_fields(body) == {
        "sessionId",
        "hour",
        "place.region",
        "place.latitude",
        "behaviorData.pageViews",
        "behaviorData.interactions[1].type",
        "behaviorData.interactions[2].type",
        "behaviorData.interactions[3].timestamp",
        "behaviorData.interactions[4]",
        "behaviorData.weights.a",
    }


def test_null_means_absent_in_an_optional_field() -> None:
    assert wrong_fields(encoded(hour=None, place=None, sessionId=1)) == {"sessionId"}
    assert wrong_fields(encoded(behaviorData=None)) == {"behaviorData"}
    request, unknown = DECODER.reread(encoded(place=None, hour=None, extra=None))
    assert (request.place, request.hour, dict(unknown)) == (None, None, {"extra": 1})


def test_a_missing_required_field_is_named() -> None:
    assert wrong_fields(b"{}") == {"sessionId", "behaviorData"}
    assert wrong_fields(encoded(behaviorData={})) == {"behaviorData.pageViews"}


@pytest.mark.parametrize("body", [b"5", b'"text"', b"null", b"true", b" 1.5 "])
def test_a_body_that_is_not_an_object_is_wrong_as_a_whole(body: bytes) -> None:
    assert wrong_fields(body) == {"$"}


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 5000])
def test_a_number_out_of_range_is_a_wrong_field_not_broken_json(number: str) -> None:
    body = encoded(hour="HOUR", behaviorData=behavior(pageViews="x")).replace(b'"HOUR"', number.encode())
    assert wrong_fields(body) == {"hour", "behaviorData.pageViews"}


def test_a_number_out_of_range_in_an_unknown_field_is_ignored() -> None:
    body = encoded(extra="HERE", hour=3.5).replace(b'"HERE"', b"[1e999]")
    request, unknown = DECODER.reread(body)
    assert (request.hour, dict(unknown)) == (3.5, {"extra": 1})


def test_further_checks_run_in_both_decoders() -> None:
    rude = behavior(event(), event(type="rude"))
    with pytest.raises(InvalidRequestError) as clean:
        DECODER.read(encoded(behaviorData=rude))
    with pytest.raises(InvalidRequestError) as unknown:
        DECODER.reread(encoded(behaviorData=rude, extra=1))
    assert [p.field for p in clean.value.problems] == [p.field for p in unknown.value.problems] == ["behaviorData.interactions[1].type"]
    with pytest.raises(TooLargeError):
        DECODER.read(encoded(behaviorData=behavior(*[event()] * (MAX_EVENTS + 1))))


def test_the_number_of_problems_is_bounded() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        DECODER.reread(encoded(behaviorData=behavior(*[{"timestamp": 1}] * 150)))
    assert (len(refused.value.problems), refused.value.more) == (MAX_PROBLEMS, 50)
    with pytest.raises(InvalidRequestError) as refused:
        DECODER.reread(encoded(behaviorData=behavior(*[{"timestamp": 1}] * 3000)), 5)
    assert (len(refused.value.problems), refused.value.more) == (5, MAX_COUNTED - 5)


def test_unknown_fields_beyond_a_number_of_names_are_counted_together() -> None:
    names = [f"k{number}" for number in range(3 * MAX_UNKNOWN)]
    _, unknown = DECODER.reread(encoded(**dict.fromkeys(names, 1), place=dict.fromkeys([*names, "country"], 1)))
    assert (unknown[names[0]], unknown[OTHERS], len(unknown)) == (1, 5 * MAX_UNKNOWN + 1, MAX_UNKNOWN + 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b'{"sessionId": }',
        b'{"hour": NaN}',
        b'{"hour": Infinity}',
        b'{"hour": 1e999, "place": -Infinity}',
        b'{"sessionId": "\xff"}',
        b'{"hour": 1e999, "extra": "\xff"}',
        b'{"hour": 1e999, "extra": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"{} {}",
        encoded()[:-1],
        encoded(extra="X").replace(b"X", b"\xc3\x28"),
        encoded().replace(b"3", b"03"),
    ],
)
def test_a_body_that_is_not_json_is_reported_as_such(body: bytes) -> None:
    with pytest.raises(REFUSED):
        DECODER.read(body)
    with pytest.raises(NotJSONError):
        DECODER.reread(body)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("levels", [5_000, 100_000])
@pytest.mark.parametrize("start", [b'{"extra":', b'{"place":', b'{"hour":1e999,"extra":', b""])
def test_deep_nesting_is_refused(opening: bytes, closing: bytes, levels: int, start: bytes) -> None:
    body = start + opening * levels + b"1" + closing * levels + (b"}" if start else b"")
    with pytest.raises(REFUSED):
        DECODER.read(body)
    with pytest.raises(NotJSONError, match="deep"):
        DECODER.reread(body)
    with pytest.raises(NotJSONError):
        DECODER.split(b"[" + body + b"]")
    assert DECODER.read(encoded()).session_id == "s-1"


def test_unknown_fields_are_ignored_and_counted_by_path_without_indexes() -> None:
    body = encoded(a=1, place={"street": "x"}, behaviorData=behavior(event(color=1), event(color=2, size=3), speed=4))
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        DECODER.read(body)
    request, unknown = DECODER.reread(body)
    assert dict(unknown) == {
        "a": 1,
        "place.street": 1,
        "behaviorData.speed": 1,
        "behaviorData.interactions[].color": 2,
        "behaviorData.interactions[].size": 1,
    }
    clean = DECODER.read(encoded(place={}, behaviorData=behavior(event(), event())))
    assert msgspec.to_builtins(request) == msgspec.to_builtins(clean)


def test_a_list_with_too_many_items_is_refused_as_a_whole() -> None:
    with pytest.raises(TooLargeError, match="more than 3"):
        DECODER.split(b"[1,2,3,4]")


@pytest.mark.parametrize("body", [b"[", b"[1,]", b"[NaN]", b"[{}] x"])
def test_a_list_that_is_not_json_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(NotJSONError):
        DECODER.split(body)


class Cat(msgspec.Struct, tag="cat", rename="camel"):
    lives_left: int


class Dog(msgspec.Struct, tag="dog"):
    name: str
    friends: list["Dog"] = []


class Home(msgspec.Struct):
    pets: list[Cat | Dog]
    pair: tuple[int, str] | None = None
    note: Any = None


def test_tagged_structs_are_checked_by_their_tag() -> None:
    decoder = Decoder(Home, lambda home: None, 1)
    body = b'{"pets":[{"type":"cat","livesLeft":9,"x":1},{"type":"dog","name":"a"}],"pair":[1,"a"]}'
    home, unknown = decoder.reread(body)
    assert (msgspec.to_builtins(home)["pets"][0], dict(unknown)) == ({"type": "cat", "livesLeft": 9}, {"pets[].x": 1})
    with pytest.raises(InvalidRequestError) as refused:
        decoder.reread(b'{"pets":[{"type":"cat","livesLeft":"9"},{"type":"dog"},{"type":"cow"},{}],"pair":[1,2]}')
    assert [p.field for p in refused.value.problems] == ["pets[0].livesLeft", "pets[1].name", "pets[2].type", "pets[3]", "pair[1]"]


@pytest.mark.parametrize(("note", "fits"), [(b"[1]", True), (b"[1e999]", False)])
def test_a_number_out_of_range_is_refused_in_a_field_of_any_type(note: bytes, fits: bool) -> None:
    decoder = Decoder(Home, lambda home: None, 1)
    body = b'{"pets":[],"other":1e999,"note":' + note + b"}"
    if fits:
        assert decoder.reread(body).request.note == [1]
    else:
        with pytest.raises(InvalidRequestError, match="out of range"):
            decoder.reread(body)


def test_the_strict_variant_encodes_as_the_type_itself() -> None:
    """The cache key is a digest of the encoded request: it must not depend on how the request was decoded."""
    variant = msgspec.json.decode(encoded(), type=strict(Greeting))
    assert isinstance(variant, Greeting)
    assert msgspec.msgpack.encode(variant) == msgspec.msgpack.encode(msgspec.json.decode(encoded(), type=Greeting))
    assert type(variant).__name__ == "Greeting"
    assert strict(Greeting) is strict(Greeting)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = [
    "sessionId",
    "behaviorData",
    "place",
    "hour",
    "maxWords",
    "pageViews",
    "interactions",
    "type",
    "timestamp",
    "region",
    "weights",
    "z",
]


def mutated(value: Any, draw: st.DrawFn) -> Any:
    """Return the value with a part of it replaced, removed or added."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: mutated(value[key], draw)}
    if isinstance(value, list) and value and draw(st.booleans()):
        return [mutated(value[0], draw), *value[1:]]
    if isinstance(value, dict) and draw(st.booleans()):
        kept = {k: v for k, v in value.items() if k != draw(st.sampled_from(KEYS))}
        return {**kept, draw(st.sampled_from(KEYS)): draw(JSON)}
    return draw(JSON)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    value: Any = dict(EXAMPLE)
    for _ in range(draw(st.integers(0, 3))):
        value = mutated(value, draw)
    return json.dumps(value).encode()


@given(bodies())
@settings(max_examples=200, deadline=None)
def test_both_decoders_agree_with_msgspec(body: bytes) -> None:
    """`reread` accepts exactly what the plain, lenient type accepts, with the same result."""
    try:
        expected = msgspec.json.decode(body, type=Greeting)
    except msgspec.ValidationError:
        with pytest.raises(InvalidRequestError) as refused:
            DECODER.reread(body)
        assert refused.value.problems
        return
    request, unknown = DECODER.reread(body)
    assert msgspec.json.encode(request) == msgspec.json.encode(expected)
    if not unknown:
        assert msgspec.json.encode(DECODER.read(body)) == msgspec.json.encode(request)


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_become_a_request_or_a_documented_error(body: bytes) -> None:
    with contextlib.suppress(NotJSONError, InvalidRequestError):
        assert isinstance(DECODER.reread(body).request, Greeting)
