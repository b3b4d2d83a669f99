"""The batcher: a batch never changes an answer, nothing waits for nothing, nothing is unbounded."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import DeadlineExceededError, OverloadedError
from serving.scoring.batcher import NORMAL, Batcher, Stages

FAR = 60.0


def in_time() -> float:
    return time.monotonic() + FAR


def double(requests, without_explanations=False):
    return Stages([str(2 * r).encode() for r in requests], 0.0, 0.0, 0.0)


class OverloadReader:
    """A model that scores when it is let, and remembers its batches."""

    def __init__(self):
        self.open = threading.Event()
        self.started = threading.Event()
        self.batches = []

    def __call__(self, requests, without_explanations=False):
        self.started.set()
        assert self.open.wait(FAR)
        self.batches.append(list(requests))
        return double(requests)


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def slow(batcher):
    """Make the batcher believe that a row is dear, so that it scores in the thread."""
    batcher.full.learn(1, 1.0)
    return batcher


@given(values=st.lists(st.integers(), min_size=1, max_size=40), gone=st.sets(st.integers(0, 39)), largest=st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_every_caller_gets_its_own_answer_when_others_disconnect(values, gone, largest):
    async def run(executor):
        gate = OverloadReader()
        batcher = slow(Batcher(gate, executor, max_queued=100, max_batch=largest))
        tasks = [batcher.submit(v, in_time()) for v in values]
        await asyncio.to_thread(gate.started.wait, FAR)
        for i in gone:
            if i < len(tasks):
                tasks[i].cancel()
        gate.open.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for i, (value, answer) in enumerate(zip(values, answers, strict=True)):
            if i in gone:
                assert isinstance(answer, asyncio.CancelledError)
            else:
                assert answer.body == str(2 * value).encode()
        assert all(len(batch) <= largest for batch in gate.batches)
        while batcher._busy:  # those who went away are answered to nobody, a turn or a batch later
            await asyncio.sleep(0)
        assert batcher.batches == len(gate.batches)

    with ThreadPoolExecutor(1) as executor:
        asyncio.run(run(executor))


async def test_what_arrives_together_is_scored_together(executor):
    sizes = []

    def score(requests, without_explanations=False):
        sizes.append(len(requests))
        return double(requests)

    batcher = Batcher(score, executor, max_queued=100, max_batch=64)
    await asyncio.gather(*(batcher.submit(i, in_time()) for i in range(10)))
    assert sizes == [10]


async def test_the_nearest_deadline_is_scored_first(executor):
    gate = OverloadReader()
    batcher = slow(Batcher(gate, executor, max_queued=100, max_batch=1))
    first = batcher.submit(0, in_time())
    await asyncio.to_thread(gate.started.wait, FAR)
    rest = [batcher.submit(i, in_time() + 10 - i) for i in range(1, 5)]
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(first, *rest)
    assert gate.batches == [[0], [4], [3], [2], [1]]


async def test_a_full_queue_refuses_at_once_with_retry_after(executor):
    gate = OverloadReader()
    batcher = slow(Batcher(gate, executor, max_queued=3, max_batch=1))
    first = batcher.submit(0, in_time())
    await asyncio.to_thread(gate.started.wait, FAR)
    waiting = [batcher.submit(i, in_time()) for i in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="max_queued=3") as refused:
        await batcher.submit(9, in_time())
    assert refused.value.retry_after_s == pytest.approx(3.0)  # three rows at one second each
    assert batcher.refused == 1
    gate.open.set()
    await asyncio.gather(first, *waiting)


async def test_a_request_past_its_deadline_is_not_scored(executor):
    batcher = Batcher(double, executor, max_queued=10, max_batch=10)
    with pytest.raises(DeadlineExceededError):
        await batcher.submit(1, time.monotonic() - 1)
    assert batcher.rows == 0


async def test_a_failing_batch_fails_its_callers_and_not_the_next_ones(executor):
    def score(requests, without_explanations=False):
        if 13 in requests:
            raise ValueError("thirteen")
        return double(requests)

    for prepare in (lambda b: b, slow):  # on the loop, in the thread
        batcher = prepare(Batcher(score, executor, max_queued=10, max_batch=10))
        with pytest.raises(ValueError, match="thirteen"):
            await batcher.submit(13, in_time())
        assert (await batcher.submit(2, in_time())).body == b"4"


async def test_what_cannot_be_in_time_is_refused_at_once_and_the_accepted_keep_their_place(executor):
    gate = OverloadReader()
    batcher = slow(Batcher(gate, executor, max_queued=100, max_batch=1))  # a second a row
    first = batcher.submit(0, in_time())
    await asyncio.to_thread(gate.started.wait, FAR)
    accepted = [batcher.submit(i, time.monotonic() + 10) for i in range(1, 8)]
    with pytest.raises(OverloadedError, match="would come after 10100 ms") as refused:
        await batcher.submit(8, time.monotonic() + 9.9)  # eight rows of a second: a quarter longer, and a tenth of a second
    assert refused.value.retry_after_s == pytest.approx(10.1)
    gate.open.set()
    assert [scored.body for scored in await asyncio.gather(first, *accepted)] == [str(2 * i).encode() for i in range(8)]


@pytest.mark.parametrize(("row_s", "patience_s", "takes_s"), [(1.0, 9.9, 10.1), (0.006, 0.15, 0.156)])
async def test_a_request_with_hardly_more_time_than_a_refused_one_is_refused_too(executor, row_s, patience_s, takes_s):
    gate = OverloadReader()
    batcher = Batcher(gate, executor, max_queued=100, max_batch=1)
    batcher.full.learn(1, row_s)
    first = batcher.submit(0, in_time())
    await asyncio.to_thread(gate.started.wait, FAR)
    waiting = [batcher.submit(i, time.monotonic() + patience_s) for i in range(1, 8)]
    now = time.monotonic()
    hardly = now + takes_s + 0.0003
    assert batcher.refusal(hardly, now=now) is None
    refused = batcher.refusal(now + takes_s - 0.0001, now=now)
    assert isinstance(refused, OverloadedError)
    assert batcher.refusal(hardly, now=now) is refused  # else it is read, and refused then for the time that took: much for nothing
    assert batcher.refusal(now + takes_s + 0.001, now=now) is None
    gate.open.set()
    await asyncio.gather(first, *waiting, return_exceptions=True)


async def test_an_admitted_request_is_judged_anew_once_others_wait(executor):
    gate = OverloadReader()
    batcher = slow(Batcher(gate, executor, max_queued=100, max_batch=1))  # a second a row
    first = batcher.submit(0, in_time())
    await asyncio.to_thread(gate.started.wait, FAR)
    now = time.monotonic()
    waiting = [batcher.submit(1, now + 3)]
    deadline = now + 3.7  # less than three rows may take: three seconds, a quarter longer, and a tenth of a second
    assert batcher.refusal(deadline, now=now) is None is batcher.refusal(deadline + 1, now=now)
    waiting.append(batcher.submit(2, now + 3))
    assert isinstance(batcher.refusal(deadline, now=now), OverloadedError)
    gate.open.set()
    await asyncio.gather(first, *waiting)


async def test_a_queued_request_that_cannot_meet_its_deadline_is_refused_before_the_deadline(executor):
    gate = OverloadReader()
    batcher = slow(Batcher(gate, executor, max_queued=100, max_batch=2))
    first = batcher.submit(0, in_time())
    await asyncio.to_thread(gate.started.wait, FAR)
    soon = [batcher.submit(i, time.monotonic() + patience) for i, patience in enumerate((30, 31, 32), 1)]
    batcher._pause_s = 30.0  # so much later than it was to be: one batch takes half a minute, and the way back another
    gate.open.set()
    assert (await soon[0]).body == b"2"  # the first is tried whatever is expected
    for late in soon[1:]:
        with pytest.raises(OverloadedError, match="would come after"):
            await late
    assert (await first).body == b"0"
    assert gate.batches == [[0], [1]]


async def test_a_near_deadline_goes_before_far_ones_that_can_wait_but_not_before_those_that_cannot(executor):
    for patience, fits in ((60.0, True), (3.0, False)):
        gate = OverloadReader()
        batcher = slow(Batcher(gate, executor, max_queued=100, max_batch=1))
        first = batcher.submit(0, in_time())
        await asyncio.to_thread(gate.started.wait, FAR)
        waiting = [batcher.submit(i, time.monotonic() + patience) for i in (1, 2)]
        near = batcher.submit(3, time.monotonic() + 2.9)  # alone it fits, after the two others it does not
        gate.open.set()
        await asyncio.gather(first, *waiting)
        if fits:
            await near
            assert gate.batches == [[0], [3], [1], [2]]
        else:
            with pytest.raises(OverloadedError):
                await near
            assert gate.batches == [[0], [1], [2]]


async def test_the_more_urgent_go_first_whatever_their_deadlines(executor):
    gate = OverloadReader()
    batcher = slow(Batcher(gate, executor, max_queued=100, max_batch=1))
    first = batcher.submit(0, in_time())
    await asyncio.to_thread(gate.started.wait, FAR)
    rest = [batcher.submit(i, in_time() + i, priority) for i, priority in ((1, 7), (2, 3), (3, 0), (4, 3))]
    gate.open.set()
    await asyncio.gather(first, *rest)
    assert gate.batches == [[0], [3], [2], [4], [1]]


async def test_requests_of_a_lower_priority_do_not_count_against_a_more_urgent_one(executor):
    gate = OverloadReader()
    batcher = slow(Batcher(gate, executor, max_queued=100, max_batch=1))
    first = batcher.submit(0, in_time())
    await asyncio.to_thread(gate.started.wait, FAR)
    bulk = [batcher.submit(i, in_time(), 7) for i in range(1, 20)]
    urgent = batcher.submit(99, time.monotonic() + 5, 0)
    with pytest.raises(OverloadedError):
        await batcher.submit(98, time.monotonic() + 2, 7)  # after the urgent one: two and a half seconds
    gate.open.set()
    await asyncio.gather(first, urgent, *bulk)
    assert gate.batches[1] == [99]


class Sheddable(OverloadReader):
    """A model that remembers whether it was to leave something out."""

    def __call__(self, requests, without_explanations=False):
        self.batches.append((list(requests), without_explanations))
        return double(requests)


async def test_when_only_leaving_out_makes_it_fit_that_is_done_until_the_queue_is_short_again(executor):
    model = Sheddable()
    batcher = Batcher(model, executor, max_queued=100, max_batch=1, without_explanations=True)
    batcher.full.learn(1, 10.0)
    batcher.without_explanations.learn(1, 1.0)
    asked = [batcher.submit(i, time.monotonic() + 20 if i == 4 else in_time()) for i in range(5)]
    scored = await asyncio.gather(*asked)
    assert all(without_explanations for _, without_explanations in model.batches)
    assert [one.without_explanations for one in scored] == [True] * 5
    assert batcher.without_explanations_rows == 5
    assert not (await batcher.submit(9, in_time())).without_explanations


async def test_without_the_lean_rung_the_same_is_refused(executor):
    batcher = Batcher(Sheddable(), executor, max_queued=100, max_batch=1, without_explanations=False)
    batcher.full.learn(1, 10.0)
    asked = [batcher.submit(i, in_time()) for i in range(4)]
    with pytest.raises(OverloadedError):
        await batcher.submit(4, time.monotonic() + 20)
    assert not any(one.without_explanations for one in await asyncio.gather(*asked))


callers = st.lists(st.tuples(st.sampled_from([-1.0, 0.001, 20.0, 60.0, 90.0]), st.integers(0, 7), st.booleans()), min_size=1, max_size=25)


@given(callers=callers, largest=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_no_answer_ever_reaches_the_wrong_hands_whatever_happens_in_the_middle(callers, largest):
    """Callers come in turns with any patience and priority, go away, run out of time in a batch; each hears its own answer or an error."""

    async def run(executor):
        gate = OverloadReader()
        batcher = slow(Batcher(gate, executor, max_queued=12, max_batch=largest))
        answered = {number: [] for number in range(len(callers))}
        silent = set()
        for number, (patience, priority, goes) in enumerate(callers):
            job = batcher.put(number, time.monotonic() + patience, answered[number].append, priority)
            if isinstance(job, OverloadedError):
                answered[number].append(job)
            elif goes:
                job.cancel()
                silent.add(number)
            if number % 3 == 0:
                await asyncio.sleep(0)
        gate.open.set()
        while batcher._busy:
            await asyncio.sleep(0)
        for number, outcomes in answered.items():
            assert len(outcomes) == (number not in silent)
            for outcome in outcomes:
                assert isinstance(outcome, DeadlineExceededError | OverloadedError) or outcome.body == str(2 * number).encode()

    with ThreadPoolExecutor(1) as executor:
        asyncio.run(run(executor))


@pytest.mark.parametrize(("row_s", "rows"), [(0.0002, 5), (0.0003, 16)])
async def test_beside_other_requests_those_of_low_priority_are_scored_in_short_batches_where_the_model_is_fast(executor, row_s, rows):
    sizes = []

    def score(requests, without_explanations=False):
        sizes.append(len(requests))
        return double(requests)

    batcher = Batcher(score, executor, max_queued=1000, max_batch=64)
    low = [batcher.submit(i, in_time(), NORMAL + 1) for i in range(64)]
    batcher.full.learn(1, row_s)
    urgent = batcher.submit(0, in_time())
    batches = await asyncio.gather(urgent, *low)
    assert (sizes[0], len(batches)) == (rows, 65)


async def test_requests_of_low_priority_alone_are_scored_in_full_batches(executor):
    sizes = []

    def score(requests, without_explanations=False):
        sizes.append(len(requests))
        return double(requests)

    batcher = Batcher(score, executor, max_queued=1000, max_batch=64)
    batcher.full.learn(1, 0.00005)
    await asyncio.gather(*(batcher.submit(i, in_time(), NORMAL + 1) for i in range(64)))
    assert sizes == [64]
