"""One question in one replica: what the live model says, once for all who ask the same."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from serving.answers import Memory
from serving.cache import Cache
from serving.engines import Engine
from serving.errors import NotReadyError
from serving.service import Question
from serving.settings import Settings


class Ask(msgspec.Struct, frozen=True):
    number: int = 1


class Reply(msgspec.Struct):
    doubled: int
    version: str


class Doubler:
    """A scorer that counts its calls and may do something in the middle of one."""

    def __init__(self, version="a", meanwhile=lambda: None):
        self.version = version
        self.calls = 0
        self.meanwhile = meanwhile

    def columns(self, requests):
        return [request.number for request in requests]

    def lean(self, columns):
        return columns

    def base_rate(self, request):
        return None

    def run(self, columns):
        self.calls += 1
        self.meanwhile()
        return [2 * number for number in columns]

    def rows(self, requests, answers):
        return [Reply(answer, self.version) for answer in answers]


ENGINE = Engine("double", "/v1/double", "Doubles.", Ask, Reply, {"number": 1}, lambda request: None, lambda bundle, settings: Doubler())


@pytest.fixture
def question():
    with ThreadPoolExecutor(1) as executor:
        yield Question(ENGINE, Settings(), executor, Cache(Memory(1_000_000), None, 60.0))


def ask(question, number=1, fresh=False):
    return question.ask(Ask(number), deadline=time.monotonic() + 60, fresh=fresh)


async def test_without_a_model_the_question_is_not_ready(question):
    assert not question.ready
    with pytest.raises(NotReadyError, match="double"):
        await ask(question)


async def test_a_thousand_who_ask_the_same_at_once_cost_one_computation(question):
    scorer = Doubler()
    question.switch(scorer)
    asked = await asyncio.gather(*(ask(question) for _ in range(1000)))
    assert {one.body for one in asked} == {b'{"doubled":2,"version":"a"}'}
    assert question.batcher.rows == 1
    assert sorted({one.state for one in asked}) == ["joined", "miss"]
    assert (await ask(question)).state == "hit"


async def test_fresh_is_computed_although_the_cache_knows(question):
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
