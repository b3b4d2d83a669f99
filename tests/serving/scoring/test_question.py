"""One question in one replica: what the live model says, once for all who ask the same."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import msgspec
import pytest

from serving.auth.principals import ANONYMOUS, Principal
from serving.engines import Engine
from serving.engines.lookup import Lookup
from serving.errors import DeadlineExceededError, NoModelError, NotReadyError, OverloadedError
from serving.scoring.cache.cache import Cache
from serving.scoring.cache.lru import LruCache
from serving.scoring.cache.redis import SharedCache
from serving.scoring.cost import Cost
from serving.scoring.degrade import READ_AND_REPLY_ROWS
from serving.scoring.question import Question
from serving.settings import CacheSettings, DegradeSettings, ModelSettings, Settings
from tests.serving.cache_fixtures import loop_iterations, real_redis


class Ask(msgspec.Struct, frozen=True):
    number: int = 1


class Reply(msgspec.Struct):
    doubled: int
    version: str
    degradation: str = "none"


class Doubler:
    """A scorer that counts its calls and may do something in the middle of one."""

    def __init__(self, version="a", meanwhile=lambda: None):
        self.version = version
        self.calls = 0
        self.meanwhile = meanwhile

    def refusal(self, request):
        return None

    def columns(self, requests):
        return [request.number for request in requests]

    def without_explanations(self, columns):
        return columns

    def base_rate(self, request):
        return Reply(-1, self.version)

    def run(self, columns):
        self.calls += 1
        self.meanwhile()
        return [2 * number for number in columns]

    def rows(self, requests, answers):
        return [Reply(answer, self.version) for answer in answers]


ENGINE = Engine(
    "double", "/v1/double", "Doubles.", Ask, Reply, {"number": 1}, lambda request: None, lambda bundle, settings, parts=None: Doubler()
)


@pytest.fixture
def question():
    with ThreadPoolExecutor(1) as executor:
        yield Question(ENGINE, Settings(), executor, Cache(LruCache(1_000_000), None, 60.0))


def ask(question, number=1, fresh=False):
    return question.ask(Ask(number), principal=ANONYMOUS, deadline=time.monotonic() + 60, fresh=fresh)


async def test_before_its_model_is_loaded_a_question_is_not_ready(question):
    assert not question.ready
    with pytest.raises(NotReadyError, match="no model for double is loaded yet"):
        await ask(question)


async def test_a_question_whose_registry_has_no_model_says_what_to_do_instead_of_asking_to_wait(question):
    question.loading = False
    with pytest.raises(
        NoModelError, match=r"double has no model; train one with `revenue-engine train double .*models add DIR --alias champion"
    ):
        await ask(question)
    question.problem = "double-1 is refused: its hash differs"
    with pytest.raises(NoModelError, match=r"double has no model: double-1 is refused: its hash differs; train one"):
        await ask(question)
    question.switch(Doubler())
    assert (await ask(question)).body


@pytest.mark.parametrize(("loading", "error"), [(True, NotReadyError), (False, NoModelError)])
async def test_without_a_model_no_store_is_read(loading, error):
    """A stored customer is of no use without a model: it is the model that is missing, whoever is asked about."""
    reads = []
    lookup = Lookup("customer", ("a",), lambda request: "c-1", lambda request, stored: reads.append(stored), "customerId", "asOf")

    class Store:
        def get(self, tenant, lookup, entity):
            reads.append(entity)

    with ThreadPoolExecutor(1) as executor:
        question = Question(replace(ENGINE, lookup=lookup), Settings(), executor, features=Store())
        question.loading = loading
        with pytest.raises(error):
            await ask(question)
    assert reads == []


def test_where_demonstrations_are_refused_no_question_is_required():
    with ThreadPoolExecutor(1) as executor:
        for allowed in (True, False):
            settings = Settings(models=ModelSettings(allow_demo=allowed))
            assert Question(ENGINE, settings, executor).lacking is allowed


async def test_a_thousand_identical_requests_at_once_cost_one_computation(question):
    scorer = Doubler()
    question.switch(scorer)
    asked = await asyncio.gather(*(ask(question) for _ in range(1000)))
    assert {one.body for one in asked} == {b'{"doubled":2,"version":"a","degradation":"none"}'}
    assert question.batcher.rows == 1
    assert sorted({one.state for one in asked}) == ["joined", "miss"]
    assert (await ask(question)).state == "hit"


def held(question):
    """Have the batcher wait until `_next` is called."""
    question.batcher._busy = True


async def test_a_caller_that_leaves_does_not_affect_those_who_joined(question):
    scorer = Doubler()
    question.switch(scorer)
    held(question)
    first, others = ask(question), [ask(question) for _ in range(10)]
    first.cancel()
    await loop_iterations()
    question.batcher._next()
    assert [(await other).state for other in others] == ["joined"] * 10
    assert (scorer.calls, question.batcher.rows, question.batcher.skipped) == (1, 1, 0)
    assert (await ask(question)).state == "hit"


async def test_when_all_callers_have_left_nothing_is_computed_and_the_next_one_begins_afresh(question):
    scorer = Doubler()
    question.switch(scorer)
    held(question)
    for left in [ask(question) for _ in range(5)]:
        left.cancel()
    await loop_iterations()
    again = ask(question)
    question.batcher._next()
    assert (await again).state == "miss"
    assert (question.batcher.rows, question.batcher.skipped) == (1, 1)


async def test_the_deadline_of_one_caller_does_not_reach_those_who_joined(question):
    question.switch(Doubler())
    held(question)
    hasty = question.ask(Ask(1), principal=ANONYMOUS, deadline=time.monotonic() - 1)
    others = [ask(question) for _ in range(20)]
    question.batcher._next()
    with pytest.raises(DeadlineExceededError):
        await hasty
    assert sorted([(await other).state for other in others]) == ["joined"] * 19 + ["miss"]
    assert question.batcher.rows == 1


async def test_a_caller_that_began_again_after_the_deadline_of_another_can_still_leave(question):
    question.switch(Doubler())
    held(question)
    hasty = question.ask(Ask(1), principal=ANONYMOUS, deadline=time.monotonic() - 1)
    answered = []
    leave = question.begin(Ask(1), answered.append, principal=ANONYMOUS, deadline=time.monotonic() + 60)
    [(_, _, _, job)] = question.batcher._waiting
    question.batcher._waiting.clear()
    job.done(DeadlineExceededError("20 ms"))
    assert len(question.batcher._waiting) == 1
    leave()
    assert question.batcher._waiting[0][3].cancelled
    with pytest.raises(DeadlineExceededError):
        await hasty
    assert answered == []


@pytest.mark.parametrize("patience_s", [-1.0, -2.0])
async def test_when_every_deadline_passes_every_caller_fails_at_once(question, patience_s):
    question.switch(Doubler())
    held(question)
    asked = [question.ask(Ask(1), principal=ANONYMOUS, deadline=time.monotonic() + patience_s) for _ in range(300)]
    question.batcher._next()
    assert all(isinstance(one.exception(), DeadlineExceededError) for one in asked)


async def test_an_error_of_the_model_reaches_all_waiting_callers_and_is_not_cached(question):
    def fail():
        raise ValueError("broken")

    question.switch(Doubler(meanwhile=fail))
    outcomes = await asyncio.gather(*(ask(question) for _ in range(20)), return_exceptions=True)
    assert {repr(outcome) for outcome in outcomes} == {"ValueError('broken')"}
    question._live.meanwhile = lambda: None
    assert (await ask(question)).state == "miss"


async def test_tenants_share_no_answer(question):
    scorer = Doubler()
    question.switch(scorer)
    tenants = (Principal("one"), Principal("two"), Principal("one", "subject"))
    asked = [await question.ask(Ask(1), principal=tenant, deadline=time.monotonic() + 60) for tenant in tenants]
    assert [one.state for one in asked] == ["miss", "miss", "hit"]


async def test_a_second_replica_takes_the_answer_of_the_first_and_concurrent_callers_join_it(tmp_path_factory):
    with real_redis(tmp_path_factory.mktemp("home")) as url, ThreadPoolExecutor(1) as executor:
        caches = [Cache(LruCache(1_000_000), SharedCache(url, 5.0), 60.0) for _ in range(2)]
        first, second = (Question(ENGINE, Settings(), executor, cache) for cache in caches)
        for replica in (first, second):
            replica.switch(Doubler())
            replica.single_flight.use_shared = True
        computed = await ask(first)
        await caches[0].shared.settle()
        asked = await asyncio.gather(*(ask(second) for _ in range(50)))
        assert sorted(one.state for one in asked) == ["hit-shared"] + ["joined"] * 49
        assert {one.body for one in asked} == {computed.body}
        assert second.batcher.rows == 0
        left = ask(second, 2)
        left.cancel()
        assert (await ask(second, 3)).state == "miss"
        assert second.batcher.rows == 1
        for cache in caches:
            await cache.aclose()


async def test_a_fresh_answer_is_computed_despite_a_cached_one(question):
    scorer = Doubler()
    question.switch(scorer)
    await ask(question)
    assert (await ask(question, fresh=True)).state == "bypass"
    assert scorer.calls == 2


async def test_a_new_model_answers_at_once_and_nothing_cached_of_the_old_one_is_served(question):
    question.switch(Doubler("a"))
    await ask(question)
    question.switch(Doubler("b"))
    assert msgspec.json.decode((await ask(question)).body)["version"] == "b"


async def test_an_answer_scored_across_a_switch_is_given_but_not_kept(question):
    second = Doubler("b")
    first = Doubler("a", meanwhile=lambda: question.switch(second))
    question.switch(first)
    assert msgspec.json.decode((await ask(question)).body)["doubled"] == 2
    question.switch(first)
    assert (await ask(question)).state == "miss"


def without(*degradations):
    """Settings that give up everything but these degradations."""
    return Settings(
        degrade=DegradeSettings(degradations=tuple(r for r in ("no-explanation", "stale", "base-rate") if r not in degradations))
    )


@contextmanager
def overloaded(settings, clock=time.time):
    """A question with a queue that lasts longer than anybody waits, and its cache."""
    with ThreadPoolExecutor(1) as executor:
        cache = Cache(LruCache(1_000_000, settings.degrade.max_stale_s), None, 5.0, clock)
        question = Question(ENGINE, settings, executor, cache)
        question.switch(Doubler())
        yield question


async def fill(question):
    """Have one request wait that takes a day to answer."""
    question.batcher.full = question.batcher.without_explanations = Cost()
    question.batcher.full.learn(1, 86_400.0)
    return question.ask(Ask(99), principal=ANONYMOUS, deadline=time.monotonic() + 10**6, fresh=True)


async def test_under_load_a_stale_answer_is_returned_and_marked():
    now = [1000.0]
    with overloaded(Settings(), lambda: now[0]) as question:
        fresh = await ask(question)
        now[0] += 100
        waiting = await fill(question)
        stale = await ask(question)
        assert (stale.state, stale.degradation, stale.age_s) == ("stale", "stale", 100.0)
        assert stale.body == fresh.body.replace(b"none", b"stale")
        waiting.cancel()


async def test_a_base_rate_that_fails_reaches_its_caller_alone():
    class Broken(Doubler):
        def base_rate(self, request):
            raise ValueError("broken")

    with overloaded(Settings()) as question:
        question.switch(Broken())
        waiting = await fill(question)
        with pytest.raises(ValueError, match="broken"):
            await ask(question, 3)
        question.batcher._fail([question.batcher._waiting[0][3]], OverloadedError("full", 1.0))
        with pytest.raises(OverloadedError):
            await waiting


async def test_without_an_old_answer_the_base_rate_is_given_within_its_share_of_the_time():
    with overloaded(Settings()) as question:
        waiting = await fill(question)
        asked = await ask(question, 3)
        assert (asked.degradation, msgspec.json.decode(asked.body)["doubled"]) == ("base-rate", -1)
        assert question.refusal(time.monotonic() + 1) is None
        assert question.refusal(time.monotonic() - 1) is not None, "nobody waits for it any more"
        question.fallback.time_budget.spend(1.0)
        with pytest.raises(OverloadedError, match="would come after"):
            await ask(question, 5)
        assert question.refusal(time.monotonic() + 1) is None, "the cache may know"
        waiting.cancel()


async def test_a_base_rate_is_charged_for_reading_and_replying_too(monkeypatch):
    with overloaded(Settings()) as question:
        waiting = await fill(question)
        spent = []
        monkeypatch.setattr(question.fallback.time_budget, "spend", spent.append)
        assert (await ask(question, 3)).degradation == "base-rate"
        assert spent[0] > READ_AND_REPLY_ROWS * question.batcher.full.row_s > 0
        waiting.cancel()


@pytest.mark.parametrize("settings", [without("stale", "base-rate"), Settings(degrade=DegradeSettings(enabled=False))])
async def test_what_is_switched_off_is_not_given(settings):
    now = [1000.0]
    with overloaded(settings, lambda: now[0]) as question:
        await ask(question)
        now[0] += 100
        waiting = await fill(question)
        with pytest.raises(OverloadedError):
            await ask(question)
        waiting.cancel()


async def test_an_old_answer_is_not_given_beyond_its_bound():
    now = [1000.0]
    settings = Settings(degrade=DegradeSettings(degradations=("stale",), max_stale_s=50))
    with overloaded(settings, lambda: now[0]) as question:
        await ask(question)
        now[0] += 5 + 51
        waiting = await fill(question)
        with pytest.raises(OverloadedError):
            await ask(question)
        waiting.cancel()


async def test_what_lacks_something_for_want_of_time_is_not_kept():
    with overloaded(Settings()) as question:
        question.batcher._skipping_explanations = question.batcher._busy = True
        asked = ask(question)
        await loop_iterations()
        question.batcher._next()
        without_explanations = await asked
        assert (without_explanations.state, without_explanations.degradation) == ("miss", "no-explanation")
        again = await ask(question)
        assert (again.state, again.degradation) == ("miss", "none")


async def test_with_neither_cache_nor_budget_the_refusal_is_known_before_the_request_is_read():
    settings = Settings(cache=CacheSettings(enabled=False), degrade=DegradeSettings(degradations=()))
    with overloaded(settings) as question:
        assert question.refusal(time.monotonic() + 1) is None
        waiting = await fill(question)
        error = question.refusal(time.monotonic() + 1)
        assert isinstance(error, OverloadedError)
        assert error.retry_after_s > 86_400
        assert question.batcher.refused == 1
        waiting.cancel()


async def test_a_caller_that_goes_away_is_skipped_with_and_without_the_cache():
    with overloaded(Settings()) as question:
        answered = []
        for number, fresh in ((1, False), (2, True)):
            question.begin(Ask(number), answered.append, principal=ANONYMOUS, deadline=time.monotonic() + 60, fresh=fresh)()
        assert (await ask(question, 3)).body == b'{"doubled":6,"version":"a","degradation":"none"}'
        assert answered == []
        assert question.batcher.rows == 1
        assert question.batcher.skipped == 2
