"""The compiled event loop: it handles plain replies, leaves the others to Python, and counts each answer once."""

import itertools
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import event_loop
from benchmarks.generator import LoadRun
from benchmarks.plan import Plan
from tests.benchmarks.test_load import ANSWERS, BODIES, EXPECTED, Server, answer

DEGRADATION = '"degradation":"'
DEGRADED = DEGRADATION + "base-rate"
RATE = 2000.0


def reply(body, degradation="none", value=None, headers=""):
    """Return a whole reply with its degradation."""
    probability = ANSWERS[json.loads(body)["number"]] if value is None else value
    text = json.dumps({"purchaseProbability": probability, "degradation": degradation}, separators=(",", ":"))
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n{headers}\r\n{text}".encode()


def chunked(body):
    text = reply(body).partition(b"\r\n\r\n")[2]
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(text), text)


def cut(reply):
    return [reply[:7], reply[7:40], reply[40:]]


# What a reply is, what the report calls it (None: a right answer), and what is counted of it.
REPLIES = {
    "plain": (reply, None, "none"),
    "another head": (lambda body: reply(body, headers="x-cache: off\r\n"), None, "none"),
    "lean": (lambda body: reply(body, degradation="no-explanation"), None, "no-explanation"),
    "wrong": (lambda body: reply(body, value=0.75), "wrong answer", "none"),
    "refused": (lambda body: answer(body, status=429, headers="retry-after: 1\r\n"), "429", "(none)"),
    "hastily refused": (lambda body: answer(body, status=429), "429", "(none)"),
    "base rate": (lambda body: reply(body, degradation="base-rate", value=0.01), "degraded", "base-rate"),
    "failed": (lambda body: answer(body, status=504), "504", "(none)"),
    "chunked": (chunked, None, "none"),
    "in pieces": (lambda body: cut(reply(body)), None, "none"),
    "closing": (lambda body: reply(body, headers="connection: close\r\n"), None, "none"),
}


@given(st.lists(st.sampled_from([*["plain"] * 12, *REPLIES]), min_size=30, max_size=120), st.integers(1, 4), st.sampled_from([None, RATE]))
@settings(deadline=None, max_examples=20)
def test_whatever_the_replies_are_each_is_counted_once_as_what_it_is(kinds, connections, rate):
    given_ = itertools.count()
    server = Server(lambda body: REPLIES[kinds[next(given_)]][0](body))
    plan = {"connections": connections, "requests": len(kinds), "bodies": BODIES, "expected": EXPECTED, "seconds": 60.0, "rate": rate}
    with server.running():
        report = LoadRun(Plan(url=server.url, count=DEGRADATION, degraded=DEGRADED, **plan)).run()
    called = Counter(REPLIES[kind][1] for kind in kinds)
    assert (report.sent, report.requests) == (len(kinds), called.pop(None, 0))
    assert report.errors == dict(called)
    assert report.counts == dict(Counter(REPLIES[kind][2] for kind in kinds))
    refused = Counter(kinds)["refused"] + (hasty := Counter(kinds)["hastily refused"])
    assert (report.refused["count"], report.refused["without_retry_after"]) == (refused, hasty)
    assert server.bodies == {body: len(kinds[number :: len(BODIES)]) for number, body in enumerate(BODIES)}


@pytest.mark.parametrize("count", [None, DEGRADATION])
@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("rate", [None, RATE])
def test_compiled_code_handles_nearly_all_plain_replies(monkeypatch, connections, count, rate):
    taken = []
    harvest = event_loop.EventLoop.harvest

    def watched(self):
        found = harvest(self)
        taken.append(len(found.right))
        return found

    monkeypatch.setattr(event_loop.EventLoop, "harvest", watched)
    server = Server(reply)
    plan = {"connections": connections, "requests": 400, "bodies": BODIES, "expected": EXPECTED, "count": count, "seconds": 60.0}
    with server.running():
        report = LoadRun(Plan(url=server.url, rate=rate, **plan)).run()
    assert report.errors == {}
    assert report.requests == 400
    assert 380 <= sum(taken) <= 400
