"""Interactions read from a body by compiled code: what msgspec and `events.rows` make of them, to the last bit, or left to these."""

import json
from datetime import datetime

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernels.sessions.features import OUTBOUND
from kernels.sessions.json_events import MAX_UNKNOWN
from kernels.sessions.timeline import TARGET
from serving.engines.purchase import columns as events
from serving.engines.purchase import fast_events
from serving.engines.purchase.columns import EventTable
from serving.engines.purchase.scorer import PURCHASE
from serving.engines.types import InteractionEvent, is_valid_moment
from serving.ingress.decoding.decoder import Decoder
from serving.ingress.decoding.strict import quick_fields, strict
from training.event_names import SAME_AS
from training.features import EVENT_TYPES, PAGE_KINDS

DECODE = msgspec.json.Decoder(list[strict(InteractionEvent)]).decode  # type: ignore[misc]  # a type made at run time


def bounded(low: float, high: float) -> st.SearchStrategy[float | None]:
    return st.one_of(st.none(), st.integers(int(low), int(high)), st.floats(low, high).map(lambda x: round(x, 3)))


NAMES = st.sampled_from(
    [*EVENT_TYPES, *PAGE_KINDS, *SAME_AS, "purchase", "", "clicks", "page_vie", "page_view_", "x" * 40, "begin_checkou", "Product Adde"]
)
MOMENTS = st.one_of(
    st.datetimes(min_value=datetime(2001, 1, 1), max_value=datetime(2098, 12, 31)).map(lambda moment: moment.isoformat() + "Z"),
    st.sampled_from(["2024-02-29T23:59:59.5+02:00", "2026-11-20T19:02:11Z", "2026-11-20T19:02:11.123456-09:30", "2100-02-28T00:00:00Z"]),
    st.integers(978_307_200_000, 4_070_908_799_999),
)
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), min_size=1, max_size=40)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {"type": NAMES, "timestamp": MOMENTS},
        optional={
            "pageKind": st.none() | NAMES,
            "page": st.none() | TEXTS,
            "productId": st.none() | TEXTS,
            "elementId": st.none() | TEXTS,
            "x": bounded(-1e6, 1e6),
            "y": bounded(-1e6, 1e6),
            "waitMs": bounded(0, 1e9),
            "value": bounded(-1e12, 1e12),
            "target": st.none() | st.sampled_from(["blank", "_blank", "_self", "", "blanks", "parent"]) | TEXTS,
            "download": st.none() | st.booleans() | st.just("") | TEXTS,
        },
    ),
    max_size=6,
)


def usual(body: bytes) -> EventTable:
    """Return the table that the usual way gives. Raises for a body that it refuses."""
    decoded = DECODE(body)
    assert all(is_valid_moment(event.timestamp) for event in decoded)
    return events.read(decoded)


def is_right(found: EventTable | None, body: bytes) -> bool:
    """Return whether nothing was read, or what the usual way gives."""
    if found is None:
        return True
    expected = usual(body)
    return np.array_equal(found.rows, expected.rows, equal_nan=True) and list(found.unknown) == list(expected.unknown)


@settings(deadline=None, max_examples=300)
@given(EVENTS, st.sampled_from([None, 1]), st.randoms(use_true_random=False))
def test_plain_events_are_read_as_by_msgspec_in_any_order_and_with_any_space(found, indent, random):
    shuffled = [dict(random.sample(list(event.items()), len(event))) for event in found]
    body = json.dumps(shuffled, indent=indent).encode()
    years = [event["timestamp"][:4] for event in found if isinstance(event["timestamp"], str)]
    found_rows = fast_events.read(body)
    assert is_right(found_rows, body)
    assert found_rows is not None or "2100" in years or b"e-" in body or b"e+" in body


@settings(deadline=None, max_examples=300)
@given(EVENTS, st.data())
def test_whatever_has_become_of_a_body_it_is_read_rightly_or_not_at_all(found, data):
    body = bytearray(json.dumps(found).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        piece = data.draw(
            st.sampled_from([b"", b'"', b"\\", b"0", b"-", b".", b"e5", b"{", b"}", b",", b" ", b"\n", b"\xc3\xa9", b"null", b"Z"])
        )
        body[at : at + data.draw(st.integers(0, 2))] = piece
    assert is_right(fast_events.read(bytes(body)), bytes(body))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60))
@example(b"")
@example(b"[")
@example(b'[{"type":"click","timestamp":1732129331000')
@example(b'[{"type":"click","timestamp":1732129331000}] x')
@example(b'[{"type":"click","timestamp":"2026-11-20T19:02:11.')
def test_no_bytes_are_read_as_what_they_are_not(body):
    assert is_right(fast_events.read(body), body)


EVENT = '"type":"click","timestamp":1732129331000'


@pytest.mark.parametrize(
    "event",
    [
        EVENT + ',"type":"click"',  # twice
        EVENT + ',"colour":"red"',  # unknown
        '"type":"click"',
        '"timestamp":1732129331000',
        EVENT + ',"elementId":"caf\\u00e9"',
        EVENT + ',"elementId":"café"',
        EVENT + ',"productId":""',
        EVENT + ',"x":1000001',
        EVENT + ',"waitMs":-1',
        EVENT + ',"x":1e3',
        EVENT + ',"x":0.1234567890123456',
        EVENT + ',"x":01',
        EVENT + ',"x":1.',
        EVENT + ',"x":.5',
        EVENT + ',"x":"1"',
        EVENT + ',"elementId":"' + "e" * 257 + '"',
        '"type":null,"timestamp":1732129331000',
        '"type":"click","timestamp":null',
        '"type":"click","timestamp":12',
        '"type":"click","timestamp":"2026-11-20T19:02:11"',  # no zone
        '"type":"click","timestamp":"2026-02-29T19:02:11Z"',
        '"type":"click","timestamp":"2026-11-20T24:00:00Z"',
        '"type":"click","timestamp":"2026-11-20T19:02:60Z"',
        '"type":"click","timestamp":"2026-13-20T19:02:11Z"',
        '"type":"click","timestamp":"2026-11-20T19:02:11.1234567Z"',
        '"type":"click","timestamp":"1999-11-20T19:02:11Z"',
    ],
)
def test_what_is_odd_is_left_to_the_usual_way(event):
    assert fast_events.read(("[{" + event + "}]").encode()) is None
    plain = b"[{" + EVENT.encode() + b"}]"
    assert fast_events.read(plain) is not None
    assert is_right(fast_events.read(plain), plain)


def test_an_empty_list_has_no_rows():
    assert fast_events.read(b" [ ] ").rows.shape == (0, 7)


def test_unknown_types_are_named_once_each_in_their_order_and_no_others_are():
    types = ["zoom", "click", "begin_checkout", "zo", "zoom", "Product Added", "Zoom", "purchase", "", "zoom_in"]
    body = json.dumps([{"type": name, "timestamp": 1732129331000} for name in types]).encode()
    found = fast_events.read(body)
    assert found is not None
    assert list(found.unknown) == ["zoom", "zo", "Zoom", "", "zoom_in"]
    assert is_right(found, body)


def test_of_many_unknown_types_the_first_are_named():
    body = json.dumps([{"type": f"type-{place % 100}", "timestamp": 1732129331000} for place in range(1000)]).encode()
    found = fast_events.read(body)
    assert found is not None
    assert list(found.unknown) == [f"type-{place}" for place in range(MAX_UNKNOWN)]
    assert is_right(found, body)


@pytest.mark.parametrize("link", ['"target":"blank"', '"target":"_blank"', '"download":true', '"download":"terms.pdf"'])
@pytest.mark.parametrize("element", ["", '"elementId":"terms",'])
@pytest.mark.parametrize("escaped", [False, True])  # an escape leaves the body to msgspec
def test_a_link_to_a_new_tab_or_a_download_has_the_target_of_one_that_leaves(link: str, element: str, escaped: bool):
    page = '"page":"\\u002fhelp",' if escaped else '"page":"/help",'
    for body in ("[{" + element + page + link + "," + EVENT + "}]", "[{" + link + "," + element + page + EVENT + "}]"):
        found = fast_events.read(body.encode())
        assert (found is None) == escaped
        assert (usual(body.encode()) if found is None else found).rows[0, TARGET] == OUTBOUND


@pytest.mark.parametrize(
    "link", ['"target":"self"', '"target":""', '"target":null', '"download":false', '"download":""', '"download":null']
)
def test_other_links_have_the_target_of_their_element(link: str):
    body = (
        '[{"elementId":"terms",' + link + "," + EVENT + '},{"elementId":"term",' + EVENT + '},{"elementId":"terms",' + EVENT + "}]"
    ).encode()
    found = fast_events.read(body)
    assert found is not None
    first, other, again = found.rows[:, TARGET].tolist()
    assert 0 < first == again != other > 0


def test_the_interactions_of_a_request_are_the_field_that_compiled_code_reads():
    """A description of the fields around it does not take that from it."""
    ((path, field),) = quick_fields(PURCHASE.request)
    assert (path, field.read) == (("behavior_data", "interactions"), fast_events.read)
    request = Decoder(PURCHASE.request, PURCHASE.check, 10).read(msgspec.json.encode(PURCHASE.example))
    assert isinstance(request.behavior_data.interactions, EventTable)
