"""The cache: one computation for all who ask at once, and no answer older than its time to live."""

import asyncio
import gc
import itertools
from typing import Any

import msgspec
import pytest

from serving.errors import DeadlineExceededError, NotReadyError, OverloadedError
from serving.scoring.answer import Answer
from serving.scoring.cache.key import answer_key
from serving.scoring.cache.redis import SharedCache
from tests.contracts.cache import NOW
from tests.serving.cache_fixtures import (
    TIMEOUT_S,
    TTL_S,
    Clock,
    Counted,
    FakeRedis,
    ask,
    kept,
    loop_iterations,
    over,
    polite,
    written,
)


@pytest.mark.parametrize("with_redis", [False, True])
async def test_a_thousand_identical_concurrent_misses_cost_one_computation(emptied: str, with_redis: bool) -> None:
    compute = Counted(held=True)
    store = over(SharedCache(emptied, TIMEOUT_S) if with_redis else None)
    asked = [asyncio.create_task(ask(store, b"key", compute)) for _ in range(1000)]
    while not compute.runs:
        await loop_iterations()
    compute.go.set()
    answers = await asyncio.gather(*asked)
    assert compute.runs == store.misses == 1
    assert {answer.body for answer in answers} == {b"answer"}
    assert sorted(answer.state for answer in answers) == ["joined"] * 999 + ["miss"]
    assert store.joined == 999
    assert store.saved_s == pytest.approx(999 * kept(store, b"key").cost_s)
    await store.aclose()


async def test_a_second_replica_takes_the_answer_of_the_first(emptied: str) -> None:
    first, second = over(SharedCache(emptied, TIMEOUT_S)), over(SharedCache(emptied, TIMEOUT_S))
    compute = Counted()
    await ask(first, b"key", compute)
    await written(first)
    answers = await asyncio.gather(*(ask(second, b"key", compute) for _ in range(50)))
    assert compute.runs == 1
    assert (second.shared_hits, second.joined, second.misses) == (1, 49, 0)
    assert {answer.body for answer in answers} == {b"answer"}
    await first.aclose()
    await second.aclose()


async def test_other_keys_do_not_wait_for_a_slow_one() -> None:
    store, slow = over(), Counted(held=True)
    waiting = asyncio.create_task(ask(store, b"slow", slow))
    await loop_iterations()
    assert await ask(store, b"fast", Counted(b"fast")) == Answer(b"fast", "miss", 0.0)
    assert not waiting.done()
    slow.go.set()
    assert (await waiting).body == b"answer"


async def test_an_error_of_a_computation_reaches_all_waiting_callers_and_is_not_cached() -> None:
    store, failing = over(), Counted(held=True, error=OverloadedError("full", 0.5))
    asked = [asyncio.create_task(ask(store, b"key", failing)) for _ in range(20)]
    await loop_iterations()
    failing.go.set()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert failing.runs == 1
    assert all(isinstance(outcome, OverloadedError) for outcome in outcomes)
    assert await ask(store, b"key", Counted(b"better")) == Answer(b"better", "miss", 0.0)


async def test_cancelling_the_first_caller_does_not_affect_the_others() -> None:
    store, compute = over(), Counted(held=True)
    first = asyncio.create_task(ask(store, b"key", compute))
    await loop_iterations()
    others = [asyncio.create_task(ask(store, b"key", compute)) for _ in range(10)]
    await loop_iterations()
    first.cancel()
    await loop_iterations()
    compute.go.set()
    assert [(await other).body for other in others] == [b"answer"] * 10
    assert (compute.runs, compute.cancelled, first.cancelled()) == (1, 0, True)


async def test_when_all_callers_have_left_the_computation_is_cancelled_and_the_next_one_starts_anew() -> None:
    store, abandoned = over(), Counted(held=True)
    asked = [asyncio.create_task(ask(store, b"key", abandoned)) for _ in range(5)]
    await loop_iterations()
    for one in asked:
        one.cancel()
    await asyncio.wait(asked)
    assert await ask(store, b"key", Counted(b"afresh")) == Answer(b"afresh", "miss", 0.0)
    assert abandoned.cancelled == 1


async def test_no_caller_joins_an_abandoned_computation_that_is_slow_to_end() -> None:
    store, leaving, gone = over(), asyncio.Event(), asyncio.Event()

    async def lingering() -> bytes:
        try:
            return await asyncio.Event().wait() and b""
        finally:
            leaving.set()
            await gone.wait()

    asked = asyncio.create_task(ask(store, b"key", lingering))
    await loop_iterations()
    asked.cancel()
    await leaving.wait()
    newcomer = asyncio.create_task(ask(store, b"key", Counted(b"afresh")))
    await loop_iterations()
    assert newcomer.done()
    gone.set()
    await loop_iterations()
    assert (await newcomer).body == (await ask(store, b"key", lingering)).body == b"afresh"


async def test_the_error_of_an_abandoned_computation_is_not_reported() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    store, started = over(), asyncio.Event()

    async def stubborn() -> bytes:
        started.set()
        try:
            return await asyncio.Event().wait() and b""
        finally:
            raise OSError("the model has gone")

    asked = asyncio.create_task(ask(store, b"key", stubborn))
    await started.wait()
    asked.cancel()
    await loop_iterations()
    assert asked.cancelled()
    del asked
    gc.collect()  # a task reports what nobody asked it for when it is collected
    assert reported == []


@pytest.mark.parametrize("ending", [DeadlineExceededError("20 ms"), asyncio.CancelledError()], ids=["deadline", "cancelled"])
async def test_the_deadline_or_cancellation_of_one_caller_does_not_reach_those_who_joined(ending: BaseException) -> None:
    store, hasty, patient = over(), Counted(held=True, error=ending), Counted(b"in time")
    first = asyncio.create_task(ask(store, b"key", hasty))
    await loop_iterations()
    others = [asyncio.create_task(ask(store, b"key", patient)) for _ in range(20)]
    await loop_iterations()
    hasty.go.set()
    with pytest.raises(DeadlineExceededError):
        await first
    assert [(await other).body for other in others] == [b"in time"] * 20
    assert patient.runs == 1


async def test_when_every_deadline_passes_all_callers_fail_at_once() -> None:
    store, hasty = over(), Counted(error=DeadlineExceededError("20 ms"))
    asked = asyncio.gather(*(ask(store, b"key", hasty) for _ in range(300)), return_exceptions=True)
    await loop_iterations(30)
    assert asked.done()
    assert all(isinstance(outcome, DeadlineExceededError) for outcome in asked.result())
    assert hasty.runs <= 300


async def test_closing_ends_what_is_under_way() -> None:
    store, compute = over(), Counted(held=True)
    asked = asyncio.create_task(ask(store, b"key", compute))
    await loop_iterations()
    await store.aclose()
    with pytest.raises(NotReadyError, match="stopping"):
        await asked
    await loop_iterations()
    assert compute.cancelled == 1


async def test_an_answer_lives_exactly_its_time_and_tells_its_age() -> None:
    clock = Clock()
    store, compute = over(clock=clock), Counted()
    assert await ask(store, b"key", compute) == Answer(b"answer", "miss", 0.0)
    clock.now = NOW + 9.75
    assert await ask(store, b"key", compute) == Answer(b"answer", "hit", 9.75)
    clock.now = NOW + TTL_S
    assert await ask(store, b"key", compute) == Answer(b"answer", "miss", 0.0)
    assert (compute.runs, store.hits, store.misses) == (2, 1, 2)


async def test_a_life_counts_from_the_beginning_of_the_computation() -> None:
    clock = Clock()
    store = over(clock=clock)

    async def slow() -> bytes:
        clock.now += 4.0
        return b"answer"

    await ask(store, b"key", slow)
    clock.now = NOW + 9.0
    assert (await ask(store, b"key", slow)).state == "hit"
    clock.now = NOW + TTL_S
    assert (await ask(store, b"key", slow)).state == "miss"


async def test_a_copy_from_redis_keeps_its_expiry_and_its_age(emptied: str) -> None:
    clock = Clock()
    first, second = (over(SharedCache(emptied, TIMEOUT_S), clock) for _ in range(2))
    compute = Counted()
    await ask(first, b"key", compute)
    await written(first)
    clock.now = NOW + 6.0
    assert await ask(second, b"key", compute) == Answer(b"answer", "hit-shared", 6.0)
    clock.now = NOW + 9.5
    assert await ask(second, b"key", compute) == Answer(b"answer", "hit", 9.5)
    clock.now = NOW + TTL_S
    assert await ask(second, b"key", compute) == Answer(b"answer", "miss", 0.0)
    assert compute.runs == 2
    await first.aclose()
    await second.aclose()


@pytest.mark.parametrize(("ahead_s", "state", "value"), [(-3600, "miss", b"ours"), (0.5, "hit-shared", b"theirs"), (3600, "miss", b"ours")])
async def test_a_node_whose_clock_is_wrong_prolongs_no_life_here(emptied: str, ahead_s: float, state: str, value: bytes) -> None:
    clock = Clock()
    theirs, ours = over(SharedCache(emptied, TIMEOUT_S), Clock(NOW + ahead_s)), over(SharedCache(emptied, TIMEOUT_S), clock)
    await ask(theirs, b"key", Counted(b"theirs"))
    await written(theirs)
    assert await ask(ours, b"key", Counted(b"ours")) == Answer(value, state, 0.0)
    clock.now += TTL_S
    assert (await ask(ours, b"key", Counted(b"later"), use_shared=False)).body == b"later"
    await theirs.aclose()
    await ours.aclose()


async def test_an_engine_that_is_faster_than_redis_does_not_touch_it() -> None:
    async with FakeRedis(polite) as server:
        store = over(SharedCache(server.url, TIMEOUT_S))
        await asyncio.gather(*(ask(store, b"%d" % i, Counted(), use_shared=False) for i in range(50)))
        assert (store.misses, server.connections) == (50, 0)
        await store.aclose()


class _Where(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    country_code: str | None = None
    hour: float = 0.0


class _Request(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    customer_id: str | None = None
    where: _Where | None = None
    extra: dict[str, int] | None = None


def _key(text: str, engine: str = "purchase", version: str = "v1", tenant: str = "default") -> bytes:
    return answer_key(tenant, engine, version, msgspec.json.decode(text, type=_Request))


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ('{"customerId": null}', "{}"),
        ('{"where": {"hour": 7}, "customerId": "c"}', '{ "customerId" : "\\u0063", "unknown": 1, "where": {"hour": 7.0} }'),
        ('{"extra": {"a": 1, "b": 2}}', '{"extra": {"b": 2, "a": 1}}'),
    ],
)
def test_requests_that_mean_the_same_have_one_key(one: str, same: str) -> None:
    assert _key(one) == _key(same)


def test_every_difference_that_can_matter_makes_another_key() -> None:
    texts = [
        "{}",
        '{"customerId": ""}',
        '{"customerId": "c"}',
        '{"where": {}}',
        '{"where": {"hour": 1}}',
        '{"extra": {}}',
        '{"extra": {"a": 1}}',
    ]
    tenants = ("default", "de", "de:purchase", "de%3Apurchase")
    keys = [_key(text, *key) for text in texts for key in itertools.product(("purchase", "churn"), ("v1", "v2"), tenants)]
    assert len(set(keys)) == len(keys)


def test_numbers_beyond_64_bits_have_a_key_too():
    class Big(msgspec.Struct):
        number: int

    assert len({answer_key("t", "e", "v", Big(number)) for number in (2**80, 2**80 + 1, -(2**80), 1)}) == 4
