"""What is counted, by one process and by all replicas of a node."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from serving.engines.demo import DemoScorer
from serving.metrics.collect import DIRECTORY, MAX_FIELDS, MAX_ROWS, OTHER, PREFIX, Metrics, observe
from serving.metrics.series import SERIES
from serving.scoring.answer import Answer
from serving.scoring.cache.cache import Cache
from serving.scoring.cache.lru import LruCache
from tests.serving.greeting import JSON, CountingScorer, app, client, configured, encoded, endpoint, question

ROOT = Path(__file__).resolve().parents[3]


def samples(page: bytes) -> dict[tuple[str, ...], float]:
    """Return the page's samples by name without prefix and sorted label values; histograms without their buckets."""
    return {
        (sample.name.removeprefix(PREFIX), *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def read(metrics: Metrics) -> dict[tuple[str, ...], float]:
    metrics.flush()
    return samples(metrics.page()[0])


@given(st.lists(st.tuples(st.floats(0, 20) | st.sampled_from([0.001, 0.01, 0.1, 1.0]), st.integers(1, 4))), st.booleans())
@settings(max_examples=100, deadline=None)
def test_observing_many_at_once_is_observing_one_after_another(seen: list[tuple[float, int]], counted: bool) -> None:
    """`observe` reaches into prometheus_client: this holds it against the real thing."""
    one, many = (Histogram("h", "h", registry=CollectorRegistry(), buckets=(0.001, 0.01, 0.1, 1.0)) for _ in range(2))
    for value, times in seen:
        for _ in range(times if counted else 1):
            one.observe(value)
    observe(many, [value for value, _ in seen], [times for _, times in seen] if counted else None)
    expected, got = ({(s.name, *s.labels.values()): s.value for s in h.collect()[0].samples if s.name != "h_created"} for h in (one, many))
    assert got == pytest.approx(expected, rel=1e-12)


async def test_requests_are_counted_by_engine_and_status() -> None:
    configuration, metrics = configured(), Metrics()
    with question(configuration, CountingScorer()) as asked:
        ask = endpoint(asked, configuration, metrics)
        for body in (encoded(), encoded(), b"{", encoded(hour=-1), b"[%b,{}]" % encoded()):
            await ask.answer(JSON, body)
    got = read(metrics)
    assert {key[1:]: value for key, value in got.items() if key[0] == "requests_total"} == {
        ("greeting", "200"): 3,
        ("greeting", "400"): 1,
        ("greeting", "422"): 1,
    }
    assert {key[1:]: value for key, value in got.items() if key[0] == "answers_total"} == {("hit", "greeting"): 2, ("miss", "greeting"): 1}
    assert {key[1:]: value for key, value in got.items() if key[0] == "refused_total"} == {
        ("greeting", "not-json"): 1,
        ("greeting", "invalid-request"): 2,
    }
    assert got["request_seconds_count", "greeting"] == 5
    assert got["request_seconds_sum", "greeting"] > 0
    assert got["stage_seconds_count", "greeting", "parse"] == 3, "what could not be parsed took no time to parse"
    assert {got["stage_seconds_count", "greeting", stage] for stage in ("features", "queue", "model", "encode")} == {1}, (
        "hits have no stages"
    )


def test_stages_are_summed_in_seconds() -> None:
    metrics = Metrics()
    for state in ("miss", "hit", "joined", "off"):
        metrics.meter("e").answered(Answer(b"", state, 9.0, 0.1, 0.2, 0.3, 0.4))
    got = read(metrics)
    sums = [got["stage_seconds_sum", "e", stage] for stage in ("features", "queue", "model", "encode")]
    assert sums == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_what_is_gathered_between_flushes_is_bounded() -> None:
    metrics = Metrics()
    meter = metrics.meter("e")
    for _ in range(3 * MAX_ROWS):
        meter.request(200, 0.001)
        assert len(meter._requests) < MAX_ROWS
    assert read(metrics)["requests_total", "e", "200"] == 3 * MAX_ROWS


def test_unknown_fields_have_a_bounded_number_of_names() -> None:
    metrics = Metrics()
    for i in range(10 * MAX_FIELDS):
        metrics.meter("e").unknown({f"field{i}": 2, "known": 1, "x" * 5000 + str(i): 1})
    got = {key[2]: value for key, value in read(metrics).items() if key[0] == "unknown_fields_total"}
    assert len(got) <= MAX_FIELDS + 1
    assert got["known"] == 10 * MAX_FIELDS
    assert got["field0"] == 2
    assert sum(got.values()) == 40 * MAX_FIELDS
    assert got[OTHER] > 0
    assert max(map(len, got)) <= 100


async def test_a_body_with_unknown_fields_is_counted_by_path() -> None:
    configuration, metrics = configured(), Metrics()
    with question(configuration, CountingScorer()) as asked:
        ask = endpoint(asked, configuration, metrics)
        await ask.answer(JSON, encoded(colour=1, place={"street": 1}))
        await ask.answer(JSON, b"[%b,%b]" % (encoded(colour=1), encoded(colour=2)))
    got = read(metrics)
    assert (got["unknown_fields_total", "greeting", "colour"], got["unknown_fields_total", "greeting", "place.street"]) == (3, 1)


async def test_what_is_watched_is_read_as_it_is() -> None:
    configuration, metrics = configured(), Metrics()
    cache = Cache(LruCache(1000), None, 1.0)
    with question(configuration, CountingScorer("v1")) as asked:
        metrics.watch([asked], cache)
        await endpoint(asked, configuration, metrics).answer(JSON, b"[%b,%b]" % (encoded(), encoded(sessionId="s-2")))
        cache.saved_s = 2.5
        got = read(metrics)
        assert (got["batches_total", "greeting"], got["batched_rows_total", "greeting"], got["queue_rows", "greeting"]) == (1, 2, 0)
        assert got["model_replicas", "greeting", "v1"] == 1
        assert got[("cache_saved_seconds_total",)] == 2.5
        assert read(metrics)[("cache_saved_seconds_total",)] == 2.5, "a reading is counted once"
        asked.switch(CountingScorer("v2"))
        versions = {key[2]: value for key, value in read(metrics).items() if key[0] == "model_replicas"}
        assert versions == {"v2": 1}, "a version that nobody serves has no series"
        assert read(metrics)["demo_models", "greeting"] == 0
        asked.switch(DemoScorer(CountingScorer("v3")))
        assert read(metrics)["demo_models", "greeting"] == 1


async def test_the_page_is_served() -> None:
    configuration = configured()
    with question(configuration, CountingScorer()) as asked:
        async with client(app(asked, configuration)) as http:
            await http.post("/v1/greeting", content=encoded(), headers={"content-type": "application/json"})
            answer = await http.get("/metrics")
            open_metrics = await http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("text/plain")
    got = samples(answer.content)
    assert got["requests_total", "greeting", "200"] == 1
    assert got[("replicas",)] == 1
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert open_metrics.content.endswith(b"# EOF\n")


def test_every_series_has_a_description() -> None:
    names = {family.name for family in text_string_to_metric_families(Metrics().page()[0].decode()) if family.documentation}
    assert {(PREFIX + name).removesuffix("_total") for name in SERIES} <= names


REPLICA = """
import sys
from serving.metrics.collect import Metrics
metrics = Metrics()
meter = metrics.meter("e")
for _ in range(int(sys.argv[1])):
    meter.request(200, 0.001)
metrics.child("model_replicas", "e", sys.argv[2]).set(1)
metrics.flush()
print("up", flush=True)
sys.stdin.read()
"""
PAGE = """
import sys
from serving.metrics.collect import Metrics
metrics = Metrics()
metrics.flush()
sys.stdout.buffer.write(metrics.page()[0])
"""
FOREIGN = """
from prometheus_client import Counter
Counter("ray_something", "Not ours.").inc()
"""


def python(script: str, directory: Path, *args: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, DIRECTORY: str(directory), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", script, *args], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)


def test_whichever_replica_answers_all_are_summed_and_the_dead_leave_only_their_counts(tmp_path: Path) -> None:
    first, second = python(REPLICA, tmp_path, "3", "v1"), python(REPLICA, tmp_path, "4", "v2")
    foreign = python(FOREIGN, tmp_path)
    foreign.communicate(timeout=60)

    def page() -> dict[tuple[str, ...], float]:
        with python(PAGE, tmp_path) as process:
            return samples(process.communicate(timeout=60)[0])

    with first, second:
        for replica in (first, second):
            assert replica.stdout is not None
            assert replica.stdout.readline() == b"up\n"
        got = page()
        assert got["requests_total", "e", "200"] == 7
        assert got["request_seconds_count", "e"] == 7
        assert got[("replicas",)] == 3, "two replicas and the one that makes the page"
        assert (got["model_replicas", "e", "v1"], got["model_replicas", "e", "v2"]) == (1, 1)
        assert not any(key[0].startswith("ray") for key in got)
        first.kill()
        first.wait()
        got = page()
        assert got["requests_total", "e", "200"] == 7
        assert got[("replicas",)] == 2
        assert ("model_replicas", "e", "v1") not in got
        second.communicate(timeout=60)


def test_a_directory_that_is_named_too_late_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.errors import SettingsError

    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    with pytest.raises(SettingsError, match=DIRECTORY):
        Metrics()
