"""The journey engine: probabilities, friction with its evidence, and no answer for a known customer without consent."""

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engines.journey import friction_states, next_step
from serving.engines.journey.scorer import EXAMPLE, JOURNEY, JourneyScorer, check
from serving.engines.journey.types import MAX_EVENTS, JourneyRequest
from serving.errors import InvalidRequestError, TooLargeError
from serving.ingress.decoding.decoder import Decoder
from serving.settings import CONFIGS
from training.event_names import SAME_AS
from training.models.journey.model import JourneyModel
from training.tables import journeys

NOW = 1_764_000_000.0
START_MS = (NOW - 600) * 1000


@pytest.fixture(scope="module")
def scorer(bundle_of):
    return JourneyScorer(JourneyModel.load(bundle_of("journey")), next_step.load(CONFIGS / "steps.yaml"), lambda: NOW)


def asked(events, **fields):
    request = msgspec.convert({"sessionId": "s-1", "events": events, **fields}, JourneyRequest)
    check(request)
    return request


def answer(scorer, events, **fields):
    request = asked(events, **fields)
    return scorer.rows([request], scorer.run(scorer.columns([request])))[0]


def event(kind, seconds, **fields):
    return {"type": kind, "timestamp": START_MS + seconds * 1000, **fields}


RAGE = [event("page_view", 0, pageKind="1"), *(event("click", 10 + place / 5, x=5, y=5, elementId="buy") for place in range(3))]


def test_friction_has_the_count_and_the_last_event(scorer):
    got = answer(scorer, RAGE)
    assert [(one.detector, one.count, one.last_event) for one in got.friction] == [("rageClick", 1, 3)]
    assert (got.friction_score, got.friction_level) == (4, "low")
    assert got.emotional_state == "frustrated"
    frustrated = next(one for one in got.state_scores if one.state == "frustrated")
    assert [one.detector for one in frustrated.evidence] == ["rageClick"]
    assert frustrated.score == pytest.approx(0.5)


def test_a_session_without_friction_is_neutral_or_engaged(scorer):
    got = answer(scorer, [event("page_view", 0, pageKind="1"), event("page_view", 30, pageKind="2")])
    assert (got.emotional_state, got.friction, got.current_step) == ("neutral", [], "2")


def test_probabilities_of_the_next_page_add_up_and_are_in_order(scorer):
    steps = answer(scorer, [event("page_view", 0, pageKind="1")]).next_steps
    assert sum(step.probability for step in steps) == pytest.approx(1)
    assert [step.probability for step in steps] == sorted((step.probability for step in steps), reverse=True)
    assert {step.step for step in steps} == {"unknown", "0", "1", "2", "3", "4", "event:add_to_cart"}


def test_an_ended_session_has_left(scorer):
    events = [event("page_view", 0, pageKind="1")]
    running, ended = answer(scorer, events), answer(scorer, events, sessionEnded=True)
    assert (running.exit_probability < 1, ended.exit_probability) == (True, 1)
    assert running.conversion_probability != ended.conversion_probability


def test_the_numbers_are_those_of_the_table(scorer, tmp_path):
    """A session in a request has the bits that it has as a row of a table."""
    seconds, pages = [0.0, 12.0, 44.5], ["0", "3", "1"]
    kinds = ["page_view", "add_to_cart", "page_view"]
    columns = {"sessionId": ["a"] * 3, "type": kinds, "pageKind": pages, "seconds": seconds, "static0": [0.25] * 3}
    pl.DataFrame(columns).write_parquet(tmp_path / "events.parquet")
    table = scorer.output_columns(scorer.run(scorer.table(journeys.join(tmp_path / "events.parquet"))))
    events = [event(kind, at, pageKind=page) for kind, page, at in zip(kinds, pages, seconds, strict=True)]
    got = answer(scorer, events, attributes={"static0": 0.25})
    assert table["conversionProbability"][0] == got.conversion_probability
    assert table["exitProbability"][0] == got.exit_probability


def test_unknown_pages_types_and_attributes_are_named_and_never_an_error(scorer):
    events = [event("page_view", 0, pageKind="nowhere"), event("levitate", 1), event("page_view", 2), event("levitate", 3)]
    got = answer(scorer, events, attributes={"static0": None, "moon": 3})
    assert (got.unknown_pages, got.missing_features) == (2, ["static0"])
    assert (got.ignored, got.more_ignored) == (["attributes.moon", "events.pageKind.nowhere", "events.levitate"], 0)
    assert [(one.detector, one.count) for one in got.friction] == [("unknownKind", 2)]


def test_what_the_model_or_the_friction_rules_use_is_not_named_as_ignored(scorer):
    events = [
        event("page_view", 0, pageKind="1"),
        event("click", 1),
        event("add_to_cart", 2),
        event("view_cart", 3),
        event("Cart Viewed", 4),
    ]
    got = answer(scorer, events, attributes={"static0": 1})
    assert (got.ignored, got.more_ignored) == ([], 0)


def test_of_much_that_is_ignored_twenty_names_are_listed_and_the_others_counted(scorer):
    got = answer(scorer, [event(f"levitate {place % 25}", place) for place in range(50)] + [event("x" * 256, 60)])
    assert got.ignored == [f"events.levitate {place}" for place in range(20)]
    assert got.more_ignored == 6


RESPONSES = [
    "add_to_cart",
    "begin_checkout",
    "view_item",
    "view_cart",
    "add_to_wishlist",
    "Product Added",
    "cart_viewed",
    "Checkout Started",
]


@pytest.mark.parametrize("kind", ["change", "page_view", "back", *RESPONSES, *SAME_AS])
def test_a_click_is_answered_by_any_name_of_a_response(scorer, kind):
    """None of the presses of one button is rage or dead if each is answered, by whichever vocabulary."""
    presses = [event("click", 10 + place / 4, elementId="plus") for place in range(4)]
    answers = [event(kind, 10.1 + place / 4, pageKind="1", page=f"/{place}") for place in range(4)]
    events = [event("page_view", 0, pageKind="1"), *(one for pair in zip(presses, answers, strict=True) for one in pair)]
    found = {one.detector for one in answer(scorer, [*events, event("page_view", 60, pageKind="2")]).friction}
    assert not found & {"rageClick", "deadClick", "unknownKind"}
    unanswered = {one.detector for one in answer(scorer, [events[0], *presses, event("page_view", 60, pageKind="2")]).friction}
    assert unanswered >= {"rageClick", "deadClick"}


@pytest.mark.parametrize("link", [{"target": "blank"}, {"target": "_blank"}, {"download": True}, {"download": "terms.pdf"}])
def test_a_click_on_a_link_that_leaves_the_page_is_neither_dead_nor_rage(scorer, link):
    clicks = [event("click", 10 + place / 5, elementId="terms", x=5, y=5, **link) for place in range(6)]
    events = [event("page_view", 0, pageKind="1"), *clicks, event("page_view", 60, pageKind="2")]
    assert answer(scorer, events).friction == []
    assert with_memory(scorer, {"events": events, "remember": True}, {}).friction == []


@pytest.mark.parametrize("link", [{"target": "self"}, {"target": ""}, {"download": False}, {"download": ""}, {}])
def test_a_click_on_any_other_link_waits_for_a_response(scorer, link):
    clicks = [event("click", 10 + place / 5, elementId="terms", **link) for place in range(6)]
    found = answer(scorer, [event("page_view", 0, pageKind="1"), *clicks, event("page_view", 60, pageKind="2")]).friction
    assert [(one.detector, one.count) for one in found] == [("rageClick", 1), ("deadClick", 1)]


def test_an_event_is_a_step_only_if_the_model_has_it(scorer):
    page = event("page_view", 0, pageKind="1")
    plain = answer(scorer, [page])
    added, lifted = answer(scorer, [page, event("add_to_cart", 5)]), answer(scorer, [page, event("levitate", 5)])
    assert (added.current_step, lifted.current_step) == ("event:add_to_cart", "1")
    assert added.conversion_probability != plain.conversion_probability == lifted.conversion_probability
    assert (added.friction, added.unknown_pages, lifted.unknown_pages) == ([], 0, 0)


def test_a_click_that_changes_the_cart_is_not_dead(scorer):
    clicked = [event("page_view", 0, pageKind="1"), event("click", 10, elementId="buy", x=5, y=5)]
    after = event("page_view", 60, pageKind="2")
    assert [one.detector for one in answer(scorer, [*clicked, after]).friction] == ["deadClick"]
    assert answer(scorer, [*clicked, event("add_to_cart", 10.5), after]).friction == []


def test_events_later_than_as_of_do_not_count(scorer):
    events = [event("page_view", 0, pageKind="1"), event("page_view", 9_999, pageKind="2")]
    got = answer(scorer, events)
    assert (got.later_events, got.current_step) == (1, "1")
    cut = answer(scorer, events[:1])
    assert got.conversion_probability == cut.conversion_probability


def test_times_out_of_order_and_events_that_come_twice_are_counted(scorer):
    events = [event("page_view", 5, pageKind="1"), event("page_view", 3, pageKind="2"), event("page_view", 3, pageKind="2")]
    got = answer(scorer, events)
    assert ("unordered", 2) in [(one.detector, one.count) for one in got.friction]
    assert 0 < got.conversion_probability < 1


@pytest.mark.parametrize("number", [0, 1, MAX_EVENTS])
def test_no_event_one_and_very_many_have_an_answer(scorer, number):
    got = answer(scorer, [event("page_view", place / 100, pageKind=str(place % 5)) for place in range(number)])
    assert 0 < got.conversion_probability < 1


def test_too_many_events_are_refused_with_what_to_do():
    with pytest.raises(TooLargeError, match="send the latest ones"):
        asked([event("click", 0)] * (MAX_EVENTS + 1))


def test_the_next_best_step_follows_from_what_was_counted_and_its_worth_from_the_order(scorer):
    got = answer(scorer, RAGE, orderValue=100, currency="EUR")
    help_ = next(one for one in got.next_best_step.candidates if one.step == "offer_help")
    assert (help_.exclusion_reason, help_.expected_incremental_value) == (None, pytest.approx(1))
    assert got.value_prediction == pytest.approx(100 * got.conversion_probability)
    assert (got.currency, got.churn_risk) == ("EUR", None)
    calm = answer(scorer, RAGE[:1])
    assert next(one for one in calm.next_best_step.candidates if one.step == "offer_help").exclusion_reason == "notNow"
    assert (calm.value_prediction, calm.currency, calm.next_best_step.basis) == (None, None, "rule")


def test_contacts_of_the_request_count(scorer):
    contacts = [{"step": "offer_help", "at": START_MS}]
    got = answer(scorer, RAGE, contacts=contacts)
    assert next(one for one in got.next_best_step.candidates if one.step == "offer_help").exclusion_reason == "coolDown"
    with pytest.raises(InvalidRequestError, match=r"contacts\[0\]\.at"):
        asked([], contacts=[{"step": "a", "at": "1999-01-01T00:00:00Z"}])


def test_a_known_customer_needs_consent():
    with pytest.raises(InvalidRequestError, match=r"consent.*profiling"):
        asked([], customerId="c-1")
    asked([], customerId="c-1", consent=["analytics", "profiling"])
    asked([])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"events": [{"type": "click"}]}, r"events\[0\]"),
        ({"events": [event("click", 0, x=1e9)]}, r"events\[0\].x"),
        ({"attributes": {"static0": "much"}}, "attributes"),
        ({"sessionEnded": "perhaps"}, "sessionEnded"),
    ],
)
def test_a_wrong_field_is_named(change, field):
    with pytest.raises(InvalidRequestError, match=field):
        Decoder(JOURNEY.request, JOURNEY.check, 10).reread(msgspec.json.encode({**EXAMPLE, **change}))


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(name for weights in friction_states.WEIGHTS.values() for name in weights)), st.integers(1, 50))
)
def test_every_state_is_scored_from_its_evidence_alone(counts):
    import numpy as np

    from kernels.sessions.friction import COUNTED

    row = np.zeros(2 * len(COUNTED), np.int32)
    for name, number in counts.items():
        row[COUNTED.index(name)] = number
    said = friction_states.scores(friction_states.evidence(row), 10, 0.2)
    for one in said:
        assert 0 <= one.score < 1
        assert {evidence.detector for evidence in one.evidence} == counts.keys() & friction_states.WEIGHTS.get(one.state, {}).keys()
    assert friction_states.strongest(said) == "neutral" or max(one.score for one in said) >= friction_states.MIN_SCORE


def with_memory(scorer, body, remembered):
    """Answer a request as a server with session memory does; `remembered`: the stored state of each session."""
    request = asked(body.pop("events"), **body)
    memory = JOURNEY.memory
    key = memory.key(request)
    if key is not None and memory.continues(request):
        request = memory.resume(request, remembered.get(key))
    answers = scorer.run(scorer.columns([request]))
    (kept,) = memory.snapshots(scorer, [request], answers)
    if kept is not None:
        remembered[key] = kept
    return scorer.rows([request], answers)[0]


KINDS_DRAWN = st.sampled_from(["page_view", "click", "error_click", "wait", "levitate", "add_to_cart"])
EVENTS_DRAWN = st.lists(st.tuples(KINDS_DRAWN, st.integers(0, 400), st.sampled_from(["0", "1", "4", "nowhere", None])), max_size=25)


@settings(max_examples=40, deadline=None)
@given(EVENTS_DRAWN, st.lists(st.integers(0, 25), max_size=3), st.sampled_from([150, 500]))
def test_a_session_that_is_sent_in_parts_has_the_answer_of_the_whole(scorer, drawn, cuts, until):
    """Every number is the same, to the bit, wherever the session is cut, and whichever events are later than asOf."""
    given = {"attributes": {"static0": 1}, "asOf": START_MS + until * 1000}
    events = [event(kind, seconds, pageKind=page, elementId="buy", x=5, y=5, waitMs=3500) for kind, seconds, page in drawn]
    ends = [*sorted(min(cut, len(events)) for cut in cuts), len(events)]
    remembered, before = {}, 0
    for end in ends:
        got = with_memory(scorer, {"events": events[before:end], "remember": True, "eventsBefore": before, **given}, remembered)
        before = end
    whole = answer(scorer, events, **given)
    assert got == msgspec.structs.replace(whole, remarks=got.remarks)
    assert (got.known_events, got.remarks) == (len(events), [])


@pytest.mark.parametrize(("first", "then"), [({"static0": 1}, None), ({"static0": 1}, {"static0": None}), (None, {"static0": 1})])
def test_attributes_are_remembered_and_one_that_comes_later_holds_for_the_whole(scorer, first, then):
    remembered = {}
    with_memory(scorer, {"events": RAGE[:2], "remember": True, "attributes": first}, remembered)
    got = with_memory(scorer, {"events": RAGE[2:], "remember": True, "eventsBefore": 2, "attributes": then}, remembered)
    whole = answer(scorer, RAGE, attributes={"static0": 1})
    assert got == whole
    assert with_memory(scorer, {"events": [], "remember": True, "eventsBefore": 4}, remembered) == whole


def test_a_pending_event_counts_once_its_time_has_passed(scorer):
    """Nor does it lose its place among the others."""
    events = [*RAGE, event("page_view", 90, pageKind="2"), event("page_view", 30, pageKind="3")]
    remembered, then = {}, event("page_view", 95, pageKind="1")
    early = with_memory(scorer, {"events": events, "remember": True, "asOf": START_MS + 60_000}, remembered)
    assert early == answer(scorer, events, asOf=START_MS + 60_000)
    assert (early.later_events, early.known_events) == (1, 6)
    again = with_memory(scorer, {"events": [], "eventsBefore": 6, "asOf": START_MS + 60_000}, remembered)
    assert again == early
    later = with_memory(scorer, {"events": [then], "remember": True, "eventsBefore": 6, "asOf": START_MS + 99_000}, remembered)
    assert later == answer(scorer, [*events, then], asOf=START_MS + 99_000)
    assert (later.later_events, later.known_events, later.remarks) == (0, 7, [])


def test_too_many_attributes_are_refused_those_that_are_remembered_among_them(scorer):
    remembered = {}
    with_memory(scorer, {"events": RAGE, "remember": True, "attributes": {str(one): 1 for one in range(150)}}, remembered)
    more = {"events": [], "eventsBefore": 4, "attributes": {str(one): 1 for one in range(100, 250)}}
    with pytest.raises(InvalidRequestError, match="there are 250, at most 200"):
        with_memory(scorer, more, remembered)


def test_a_request_that_is_sent_twice_counts_once(scorer):
    remembered = {}
    with_memory(scorer, {"events": RAGE[:2], "remember": True}, remembered)
    once = with_memory(scorer, {"events": RAGE[2:], "remember": True, "eventsBefore": 2}, remembered)
    assert with_memory(scorer, {"events": RAGE[2:], "remember": True, "eventsBefore": 2}, remembered) == once


def test_the_state_of_another_model_is_recomputed_with_a_remark(scorer, bundle_of):
    other = JourneyScorer(JourneyModel.load(bundle_of("journey")), next_step.load(CONFIGS / "steps.yaml"), lambda: NOW)
    other._model.version = "journey-of-before"
    remembered = {}
    with_memory(other, {"events": RAGE[:2], "remember": True}, remembered)
    got = with_memory(scorer, {"events": RAGE[2:], "remember": True, "eventsBefore": 2}, remembered)
    assert got.remarks == ["recomputed"]
    assert got.conversion_probability == answer(scorer, RAGE).conversion_probability
    assert with_memory(scorer, {"events": [], "remember": True, "eventsBefore": 4}, remembered).remarks == []


@pytest.mark.parametrize("content", [None, b"", b"\x93\x01\x02\x03", "fewer"])
def test_fewer_remembered_events_than_stated_are_refused_with_what_to_send(scorer, content):
    remembered = {}
    if content == "fewer":
        with_memory(scorer, {"events": RAGE[:1], "remember": True}, remembered)
    elif content is not None:
        remembered["s-1"] = content
    known = len(remembered) if content == "fewer" else 0
    with pytest.raises(InvalidRequestError, match=f"{known} events of this session are remembered, not 3.*eventsBefore {known}"):
        with_memory(scorer, {"events": RAGE[3:], "eventsBefore": 3}, remembered)


def test_a_session_that_grows_too_long_is_refused(scorer):
    remembered = {}
    with_memory(scorer, {"events": [event("click", 0)] * MAX_EVENTS, "remember": True}, remembered)
    with pytest.raises(TooLargeError, match="start a new session"):
        with_memory(scorer, {"events": [event("click", 0)], "eventsBefore": MAX_EVENTS}, remembered)
