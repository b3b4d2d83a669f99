"""One question without HTTP: headers and bytes in, an answer out."""

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping

import msgspec
import pytest

from serving.errors import DeadlineExceededError, NotReadyError, OverloadedError
from serving.ingress.decoding import body_reader
from serving.ingress.decoding.body_reader import INLINE_BYTES
from serving.ingress.decoding.fields import MAX_PROBLEMS
from serving.ingress.decoding.reading_process import ReadingProcess
from serving.ingress.endpoint import MAX_LIST_BYTES, Endpoint
from serving.metrics.collect import Metrics
from serving.scoring.answer import Answer
from tests.serving.greeting import EXAMPLE, JSON, MAX_EVENTS, CountingScorer, Scripted, configured, encoded, endpoint, question

ANSWER = Answer(b'{"a":1}', "miss", 0.0, 0.001, 0.002, 0.003, 0.004)
PROBLEM = "application/problem+json"


def header(headers: list[tuple[bytes, bytes]], name: str) -> str | None:
    found = [value.decode() for key, value in headers if key.decode() == name]
    assert len(found) <= 1
    return found[0] if found else None


async def refused(target: Endpoint, headers: Mapping[bytes, bytes], body: bytes) -> tuple[int, dict[str, object]]:
    answer = await target.answer(headers, body)
    assert header(answer.pairs, "content-type") == PROBLEM
    problem: dict[str, object] = msgspec.json.decode(answer.body)
    assert problem["status"] == answer.status
    assert problem["requestId"] == header(answer.pairs, "x-request-id")
    return answer.status, problem


async def test_an_object_is_answered_with_an_object() -> None:
    settings = configured()
    with question(settings, CountingScorer()) as greeting:
        answer = await endpoint(greeting, settings).answer(JSON, encoded())
    assert answer.status == 200
    assert msgspec.json.decode(answer.body) == {"sessionId": "s-1", "events": 1, "rows": 1, "modelVersion": "greeting-1"}
    assert header(answer.pairs, "content-type") == "application/json"
    assert header(answer.pairs, "x-cache") == "miss"
    assert header(answer.pairs, "age") is None
    timing = r"parse;dur=\d+\.\d{3}, features;dur=\d+\.\d{3}, queue;dur=\d+\.\d{3}, model;dur=\d+\.\d{3}, encode;dur=\d+\.\d{3}"
    assert re.fullmatch(timing, header(answer.pairs, "server-timing") or "")


async def test_server_timing_is_in_milliseconds() -> None:
    answer = await endpoint(Scripted(ANSWER), configured()).answer(JSON, encoded())
    assert (header(answer.pairs, "server-timing") or "").endswith("features;dur=1.000, queue;dur=2.000, model;dur=3.000, encode;dur=4.000")


async def test_the_second_identical_request_is_a_cache_hit_with_an_age_unless_no_cache_is_sent() -> None:
    settings = configured()
    with question(settings, CountingScorer()) as greeting:
        ask = endpoint(greeting, settings)
        first = await ask.answer(JSON, encoded())
        hit = await ask.answer(JSON, encoded(place=None))
        fresh = await ask.answer({**JSON, b"cache-control": b"max-age=0, No-Cache"}, encoded())
    assert [header(a.pairs, "x-cache") for a in (first, hit, fresh)] == ["miss", "hit", "bypass"]
    assert [header(a.pairs, "age") for a in (first, hit, fresh)] == [None, "0", None]
    assert first.body == hit.body


async def test_age_is_in_whole_seconds() -> None:
    answer = await endpoint(Scripted(Answer(b"{}", "hit-shared", 3.99)), configured()).answer(JSON, encoded())
    assert (header(answer.pairs, "age"), header(answer.pairs, "x-cache")) == ("3", "hit-shared")


async def test_unknown_fields_change_neither_the_answer_nor_its_cache_key() -> None:
    settings = configured()
    with question(settings, CountingScorer()) as greeting:
        ask = endpoint(greeting, settings)
        answers = [await ask.answer(JSON, body) for body in (encoded(), encoded(colour="red"))]
    assert [header(a.pairs, "x-cache") for a in answers] == ["miss", "hit"]


@pytest.fixture
def one_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list takes the event loop once, however long that takes."""
    monkeypatch.setattr(body_reader, "SLICE_S", 60.0)


@pytest.mark.usefixtures("one_slice")
async def test_each_item_of_a_list_has_its_own_answer_in_order() -> None:
    settings = configured()
    event = {"type": "click", "timestamp": 1}
    items = [
        EXAMPLE,
        {**EXAMPLE, "sessionId": 5, "hour": -1},
        {**EXAMPLE, "sessionId": "s-2"},
        {**EXAMPLE, "behaviorData": {"pageViews": 1, "interactions": [event] * (MAX_EVENTS + 1)}},
        7,
    ]
    with question(settings, CountingScorer()) as greeting:
        answer = await endpoint(greeting, settings).answer({**JSON, b"x-request-id": b"mine"}, msgspec.json.encode(items))
    got = msgspec.json.decode(answer.body)
    assert answer.status == 200
    assert [(item.get("sessionId"), item.get("status")) for item in got] == [
        ("s-1", None),
        (None, 422),
        ("s-2", None),
        (None, 413),
        (None, 422),
    ]
    assert [problem["field"] for problem in got[1]["problems"]] == ["sessionId", "hour"]
    assert {item["requestId"] for item in got if "status" in item} == {"mine"}
    assert (got[0]["rows"], got[2]["rows"]) == (2, 2), "the items of a list are scored in one batch"


async def test_an_empty_list_is_answered_with_an_empty_list() -> None:
    answer = await endpoint(Scripted(ANSWER), configured()).answer(JSON, b" [ ] ")
    assert (answer.status, answer.body) == (200, b"[]")


async def test_an_item_that_fails_later_is_a_problem_in_its_place() -> None:
    ask = endpoint(Scripted(ANSWER, OverloadedError("full", 2.5), DeadlineExceededError("late"), ANSWER), configured())
    answer = await ask.answer(JSON, b"[" + b",".join([encoded()] * 4) + b"]")
    got = msgspec.json.decode(answer.body)
    assert [item.get("status") for item in got] == [None, 429, 504, None]
    assert got[1]["retryAfter"] == 3


async def test_the_headers_of_a_list_summarize_its_items() -> None:
    outcomes = [Answer(b"1", "hit", 4.2), Answer(b"2", "miss", 0.0, 0.005, 0.001, 0.001, 0.001), Answer(b"3", "hit", 1.0)]
    answer = await endpoint(Scripted(*outcomes), configured()).answer(JSON, b"[" + b",".join([encoded()] * 3) + b"]")
    assert (header(answer.pairs, "x-cache"), header(answer.pairs, "age")) == ("mixed", "4")
    assert "features;dur=5.000" in (header(answer.pairs, "server-timing") or "")


async def test_a_list_with_too_many_items_is_refused_as_a_whole() -> None:
    ask = endpoint(Scripted(ANSWER), configured(max_items=2))
    assert (await refused(ask, JSON, b"[1,2,3]"))[0] == 413
    assert (await ask.answer(JSON, b"[%b,%b]" % (encoded(), encoded()))).status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"hour":NaN}', 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b"[NaN]", 400),
        (b'[{}, "\xff"]', 400),
        (b"5", 422),
        (b"{}", 422),
    ],
)
async def test_an_invalid_body_is_refused_with_the_right_status(body: bytes, status: int) -> None:
    assert (await refused(endpoint(Scripted(ANSWER), configured()), JSON, body))[0] == status


async def test_every_wrong_field_is_named() -> None:
    _, problem = await refused(endpoint(Scripted(ANSWER), configured()), JSON, encoded(hour=99, sessionId=""))
    assert isinstance(problem["problems"], list)
    assert {p["field"] for p in problem["problems"]} == {"sessionId", "hour"}
    assert problem["field"] == "sessionId"


async def test_a_body_that_is_too_large_is_refused() -> None:
    ask = endpoint(Scripted(ANSWER), configured(max_body_bytes=1024))
    assert (await ask.answer(JSON, encoded().ljust(1024))).status == 200
    assert (await refused(ask, JSON, encoded().ljust(1025)))[0] == 413


@pytest.mark.parametrize("padding", ["", "x" * INLINE_BYTES])
async def test_a_large_body_is_reread_like_a_small_one(padding: str) -> None:
    async with contextlib.aclosing(ReadingProcess()) as process:
        ask = Endpoint(scripted := Scripted(ANSWER), configured().server, Metrics(), process)
        headers = {**JSON, b"x-request-timeout-ms": b"60000"}
        assert (await ask.answer(headers, encoded(padding=padding))).status == 200
        assert (await ask.answer(headers, b"[%b]" % encoded(padding=padding))).status == 200
        assert (await refused(ask, headers, encoded(padding=padding, hour=-1)))[1]["field"] == "hour"
        assert [request.session_id for request, _, _ in scripted.calls] == ["s-1", "s-1"]
        assert (process.pid is not None) == bool(padding), "a process is started for large bodies alone"


async def test_the_wrong_fields_of_a_list_are_listed_up_to_a_number_in_all_and_each_item_names_its_first() -> None:
    wrong = {**EXAMPLE, "sessionId": 5, "behaviorData": {"pageViews": -1, "interactions": [{"timestamp": 1}] * 5}}
    answer = await endpoint(Scripted(ANSWER), configured()).answer(JSON, msgspec.json.encode([wrong] * 40))
    got = msgspec.json.decode(answer.body)
    assert [item["field"] for item in got] == ["sessionId"] * 40
    assert sum(len(item.get("problems", ())) for item in got) == MAX_PROBLEMS
    assert [len(item.get("problems", ())) + item.get("moreProblems", 0) for item in got] == [7] * 40
    assert {item["detail"].partition(" (")[2] for item in got} == {"and 6 more, see problems)"}


async def test_a_single_request_is_answered_between_the_slices_of_a_list() -> None:
    settings = configured(max_items=1000)
    with question(settings, CountingScorer()) as greeting:
        ask = endpoint(greeting, settings)
        items = [{**EXAMPLE, "sessionId": f"s-{number}"} for number in range(1000)]
        answered = list[str]()
        body = ask.answer(JSON, msgspec.json.encode(items))
        body.add_done_callback(lambda _: answered.append("list"))
        await asyncio.sleep(0)
        single = ask.answer(JSON, encoded(sessionId="single"))
        single.add_done_callback(lambda _: answered.append("single"))
        got = msgspec.json.decode((await body).body)
        await single
    assert answered == ["single", "list"]
    assert [item["sessionId"] for item in got] == [item["sessionId"] for item in items]


class Unanswered(Scripted):
    """A question that never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[asyncio.Future[Answer]] = []

    def ask(self, *_: object, **__: object) -> "asyncio.Future[Answer]":
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]


async def test_the_items_of_a_list_are_cancelled_with_it() -> None:
    unanswered = Unanswered()
    body = endpoint(unanswered, configured()).answer(JSON, b"[%b]" % b",".join([encoded()] * 10))
    while len(unanswered.asked) < 10:
        await asyncio.sleep(0)
    body.cancel()
    await asyncio.wait(unanswered.asked)
    assert all(one.cancelled() for one in unanswered.asked)


async def test_lists_beyond_a_number_of_bytes_are_refused() -> None:
    ask = endpoint(Scripted(ANSWER), configured(max_body_bytes=2 * MAX_LIST_BYTES, max_items=2))
    large = b"[%b]" % encoded().ljust(MAX_LIST_BYTES)
    first = ask.answer(JSON, large)
    await asyncio.sleep(0)
    assert (await refused(ask, JSON, large))[0] == 429
    assert (await first).status == 200
    assert (await ask.answer(JSON, large)).status == 200, "the bytes of an answered list no longer count"


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b'application/json;charset="UTF-8"',
        b"application/json ; charset=utf8",
    ],
)
async def test_every_spelling_of_the_json_media_type_is_accepted(content_type: bytes) -> None:
    assert (await endpoint(Scripted(ANSWER), configured()).answer({b"content-type": content_type}, encoded())).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"content-type": b""},
        {b"content-type": b"text/json"},
        {b"content-type": b"application/json; charset=latin-1"},
        {b"content-type": b"application/jsonp"},
        {b"content-type": b"application/x-www-form-urlencoded"},
        {b"content-type": b"application/json", b"content-encoding": b"gzip"},
    ],
)
async def test_any_other_media_type_is_unsupported(headers: dict[bytes, bytes]) -> None:
    assert (await refused(endpoint(Scripted(ANSWER), configured()), headers, encoded()))[0] == 415


@pytest.mark.parametrize(("given", "wait_s"), [(None, 1.0), (b"250", 0.25), (b"60000", 60.0)])
async def test_the_deadline_is_the_callers_or_the_default(given: bytes | None, wait_s: float) -> None:
    scripted = Scripted(ANSWER)
    headers = JSON if given is None else {**JSON, b"x-request-timeout-ms": given}
    before = time.monotonic()
    await endpoint(scripted, configured(default_timeout_ms=1000)).answer(headers, encoded())
    after = time.monotonic()
    deadline = scripted.calls[0][1]
    assert before + wait_s <= deadline <= after + wait_s


@pytest.mark.parametrize("given", [b"0", b"-5", b"1.5", b"soon", b"", b"60001", b"9" * 30, "٣".encode()])
async def test_an_invalid_timeout_header_is_a_wrong_field(given: bytes) -> None:
    status, problem = await refused(endpoint(Scripted(ANSWER), configured()), {**JSON, b"x-request-timeout-ms": given}, encoded())
    assert (status, problem["field"]) == (422, "X-Request-Timeout-Ms")


@pytest.mark.parametrize(
    ("error", "status"), [(OverloadedError("full", 1.2), 429), (NotReadyError("no model"), 503), (DeadlineExceededError("late"), 504)]
)
async def test_each_error_has_its_status(error: Exception, status: int) -> None:
    assert (await refused(endpoint(Scripted(error), configured()), JSON, encoded()))[0] == status


async def test_a_deadline_that_passes_in_the_queue_is_504() -> None:
    settings = configured()
    with question(settings, CountingScorer()) as greeting:
        request = endpoint(greeting, settings).answer({**JSON, b"x-request-timeout-ms": b"1"}, encoded())  # it is queued
        started = time.monotonic()
        while time.monotonic() < started + 0.005:
            pass  # the loop is busy until the deadline has passed
        assert (await request).status == 504


async def test_a_question_without_a_model_is_not_ready() -> None:
    settings = configured()
    with question(settings) as greeting:
        assert (await refused(endpoint(greeting, settings), JSON, encoded()))[0] == 503


async def test_a_failing_model_is_a_500_without_a_traceback() -> None:
    settings, scorer = configured(), CountingScorer()
    with question(settings, scorer) as greeting:
        ask = endpoint(greeting, settings)
        scorer.broken = KeyError("secret")
        status, problem = await refused(ask, JSON, encoded())
        assert (status, problem["type"]) == (500, "/problems/internal")
        assert "secret" not in str(problem)
        scorer.broken = None
        assert (await ask.answer(JSON, encoded())).status == 200


@pytest.mark.parametrize("given", [b"a", b"order 17/3", b"~" * 128])
async def test_a_valid_request_id_is_returned(given: bytes) -> None:
    answer = await endpoint(Scripted(ANSWER), configured()).answer({**JSON, b"x-request-id": given}, encoded())
    assert header(answer.pairs, "x-request-id") == given.decode()


@pytest.mark.parametrize("given", [None, b"", b" ", b"a" * 129, b"a\r\nx: y", b"a\n", b"caf\xc3\xa9", b"\x00"])
async def test_an_invalid_request_id_is_replaced(given: bytes | None) -> None:
    ask = endpoint(Scripted(ANSWER), configured())
    headers = JSON if given is None else {**JSON, b"x-request-id": given}
    ids = {header((await ask.answer(headers, encoded())).pairs, "x-request-id") for _ in range(3)}
    assert len(ids) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", one or "") for one in ids)


async def test_cancellation_is_not_an_answer() -> None:
    settings = configured()
    with question(settings, CountingScorer()) as greeting:
        request = endpoint(greeting, settings).answer(JSON, encoded())
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
