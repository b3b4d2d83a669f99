"""A request is the same however it was decoded: by compiled code, by msgspec, or on a second look, and so is the key of its answer."""

import json

import numpy as np
import pytest

from kernels.sessions.timeline import WIDTH
from serving.engines.purchase.scorer import PURCHASE
from serving.engines.purchase.types import MAX_INTERACTIONS
from serving.errors import TooLargeError
from serving.ingress.decoding.decoder import Decoder
from serving.scoring.cache.key import answer_key
from tests.serving.sessions import VISIT, visit

DECODER = Decoder(PURCHASE.request, PURCHASE.check, 10)


def body(**changes: object) -> dict[str, object]:
    return json.loads(json.dumps(visit(VISIT, **changes)))


def ways() -> dict[str, object]:
    """Return one request by the way in which it was decoded."""
    plain, escaped, odd = body(), body(), body(unknown=1)
    text = json.dumps(escaped).replace('"page_view"', '"page\\u005fview"')
    assert text != json.dumps(plain)
    return {
        "compiled": DECODER.read(json.dumps(plain).encode()),
        "compiled, with space": DECODER.read(json.dumps(plain, indent=2).encode()),
        "msgspec": DECODER.read(text.encode()),
        "second look": DECODER.reread(json.dumps(odd).encode()).request,
    }


def test_events_are_the_same_rows_whichever_way_they_came():
    first, *others = (request.behavior_data.interactions for request in ways().values())
    assert first.rows.shape == (len(VISIT), WIDTH)
    for other in others:
        np.testing.assert_array_equal(first.rows, other.rows)
        assert list(first.unknown) == list(other.unknown)


def test_the_key_of_an_answer_does_not_tell_how_its_request_was_decoded():
    keys = {answer_key("default", "purchase", "v", request) for request in ways().values()}
    assert len(keys) == 1


@pytest.mark.parametrize("field", ["type", "timestamp", "x"])
def test_another_event_has_another_key(field):
    one, other = body(), body()
    other["behaviorData"]["interactions"][-1][field] = {"type": "search", "timestamp": 1772366460000.5, "x": 17.25}[field]
    keys = {answer_key("default", "purchase", "v", DECODER.read(json.dumps(each).encode())) for each in (one, other)}
    assert len(keys) == 2


@pytest.mark.parametrize("escaped", [False, True])
def test_too_many_events_are_refused_whichever_way_they_came(escaped):
    events = [{"type": "click", "timestamp": 1772366460000}] * MAX_INTERACTIONS
    for number, refused in ((MAX_INTERACTIONS, False), (MAX_INTERACTIONS + 1, True)):
        text = json.dumps(visit([*events, *[events[0]] * (number - MAX_INTERACTIONS)]))
        raw = (text.replace('"click"', '"cl\\u0069ck"', 1) if escaped else text).encode()
        if refused:
            with pytest.raises(TooLargeError, match=r"interactions has 10,001 events, at most 10,000"):
                DECODER.read(raw)
        else:
            assert len(DECODER.read(raw).behavior_data.interactions) == number


def test_requests_with_other_unknown_types_have_other_keys():
    """Their answers name them."""
    bodies = [visit([*VISIT, {"type": name, "timestamp": 1772366500000}]) for name in ("zoom", "zoop")]
    keys = {answer_key("default", "purchase", "v", DECODER.read(json.dumps(each).encode())) for each in bodies}
    assert len(keys) == 2
