"""What the server counts and measures (serving/metrics/series.py), and the page that Prometheus reads.

A request only appends to a list; ten times a second, and before a page is made, what was gathered goes to prometheus_client in bulk. With
PROMETHEUS_MULTIPROC_DIR in the environment every replica of a node writes there, and the one that makes the page sums them all; without it
the page is this process's own.
"""

import asyncio
import contextlib
import math
import operator
import os
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client import CollectorRegistry, Gauge, Histogram, disable_created_metrics, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from serving.errors import SettingsError
from serving.metrics.series import SERIES, Series

if TYPE_CHECKING:
    from serving.scoring.answer import Answer
    from serving.scoring.cache.cache import Cache
    from serving.scoring.model_watcher import ModelWatcher
    from serving.scoring.question import Question

PREFIX = "revenue_engine_"
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
FLUSH_S = 0.1
MAX_ROWS = 4096  # gathered between two flushes
MAX_FIELDS = 64  # names of unknown fields that have a series of their own, for each engine
MAX_NAME = 100
OTHER = "(other)"
STAGES = ("parse", "features", "queue", "model", "encode")
COMPUTED = ("miss", "bypass", "off")

_first, _last = operator.itemgetter(0), operator.itemgetter(-1)


class Meter:
    """One engine's metrics. For the event loop's thread alone."""

    def __init__(self, metrics: "Metrics", engine: str) -> None:
        self._metrics = metrics
        self._engine = engine
        self._fields: set[str] = set()
        self._requests: list[tuple[int, float]] = []
        self._alike: Tally[tuple[int, float]] = Tally()
        self._parsed: list[float] = []
        self._answers: list[tuple[Any, ...]] = []
        self._refused: Tally[str] = Tally()
        self._latency = metrics.child("request_seconds", engine)
        self._stages = [metrics.child("stage_seconds", engine, stage) for stage in STAGES]

    def request(self, status: int, seconds: float, times: int = 1) -> None:
        """Note an HTTP request, or so many alike, answered with `status` after `seconds`."""
        if times == 1:
            self._requests.append((status, seconds))
        else:
            self._alike[status, seconds] += times
        if len(self._requests) >= MAX_ROWS or len(self._answers) >= MAX_ROWS:
            self.flush()

    def parsed(self, seconds: float) -> None:
        """Note how long a body took to become a request."""
        self._parsed.append(seconds)

    def answered(self, answer: "Answer") -> None:
        """Note the answer to one object."""
        self._answers.append(answer[1:])

    def refused(self, code: str, times: int = 1) -> None:
        """Note an object or a request, or so many, that got a problem instead of an answer."""
        self._refused[code] += times

    def unknown(self, fields: Mapping[str, int]) -> None:
        """Note unknown fields, by path without indexes; beyond the first MAX_FIELDS names they are counted together."""
        for field, times in fields.items():
            name = field[:MAX_NAME]
            if name not in self._fields and len(self._fields) >= MAX_FIELDS:
                name = OTHER
            self._fields.add(name)
            self._metrics.child("unknown_fields_total", self._engine, name).inc(times)

    def flush(self) -> None:
        """Move what was gathered into the series."""
        if self._requests or self._alike:
            requests, self._requests = self._requests, []
            alike, self._alike = self._alike, Tally()
            statuses = Tally(map(_first, requests))
            for (status, _), times in alike.items():
                statuses[status] += times
            for status, times in statuses.items():
                self._metrics.child("requests_total", self._engine, str(status)).inc(times)
            observe(self._latency, [seconds for _, seconds in chain(requests, alike)], [*repeat(1, len(requests)), *alike.values()])
        if self._answers:
            answers, self._answers = self._answers, []
            for state, times in Tally(map(_first, answers)).items():
                self._metrics.child("answers_total", self._engine, state).inc(times)
            for degradation, times in Tally(map(_last, answers)).items():
                self._metrics.child("degradations_total", self._engine, degradation).inc(times)
            computed = [answer[2:-1] for answer in answers if answer[0] in COMPUTED and answer[-1] != "base-rate"]
            if computed:
                for stage, seconds in zip(self._stages[1:], zip(*computed, strict=True), strict=True):
                    observe(stage, seconds)
        refused, self._refused = self._refused, Tally()
        for code, times in refused.items():
            self._metrics.child("refused_total", self._engine, code).inc(times)
        if self._parsed:
            parsed, self._parsed = self._parsed, []
            observe(self._stages[0], parsed)


def observe(histogram: Histogram, seconds: Sequence[float], times: Sequence[int] | None = None) -> None:
    """Observe every value, so many times each, in one call; `Histogram` has no such method, so its private fields are used."""
    seen = np.bincount(np.searchsorted(histogram._upper_bounds, seconds, side="left"), times)
    for slot in np.flatnonzero(seen).tolist():
        histogram._buckets[slot].inc(int(seen[slot]))
    histogram._sum.inc(math.fsum(seconds if times is None else map(operator.mul, seconds, times)))


class Metrics:
    """All metrics of a process. `watch` names the objects to read, `page` returns what Prometheus scrapes."""

    def __init__(self, replica: bool = True) -> None:
        """`replica`: count this process as a replica."""
        self._directory = os.environ.get(DIRECTORY)
        if self._directory and not values.ValueClass._multiprocess:
            raise SettingsError(f"{DIRECTORY} was set after prometheus_client was imported; set it before the process starts")
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._series = {name: self._made(name, series) for name, series in SERIES.items()}
        self._children: dict[tuple[str, ...], Any] = {}
        self._meters: dict[str, Meter] = {}
        self._readings: list[Callable[[], None]] = []
        if replica:
            self.child("replicas").set(1)

    def _made(self, name: str, series: Series) -> Any:
        more: dict[str, Any] = {}
        if series.kind is Gauge:
            more["multiprocess_mode"] = "livesum"
        elif series.kind is Histogram:
            more["buckets"] = series.buckets
        return series.kind(PREFIX + name, series.help, series.labels, registry=self._registry, **more)

    def child(self, name: str, *labels: str) -> Any:
        """Return the series of a metric with these labels."""
        key = (name, *labels)
        found = self._children.get(key)
        if found is None:
            metric = self._series[name]
            found = self._children[key] = metric.labels(*labels) if labels else metric
        return found

    def meter(self, engine: str) -> Meter:
        """Return one engine's part."""
        return self._meters.setdefault(engine, self._meters.get(engine) or Meter(self, engine))

    def read(self, name: str, *labels: str, value: Callable[[], float]) -> None:
        """Set a counter or a gauge from `value` at every flush from now on."""
        child, last = self.child(name, *labels), 0.0
        gauge = SERIES[name].kind is Gauge

        def reading() -> None:
            nonlocal last
            now = value()
            if now != last:
                child.set(now) if gauge else child.inc(max(0.0, now - last))
                last = now

        self._readings.append(reading)

    def watch(self, questions: "Sequence[Question]", cache: "Cache | None" = None, watchers: "Sequence[ModelWatcher]" = ()) -> None:
        """Read these at every flush from now on, on their own event loop."""
        for question in questions:
            self._watch_question(question)
        for watcher in watchers:
            self._watch_registry(watcher)
        if cache is not None:
            self.read("cache_saved_seconds_total", value=lambda: cache.saved_s)
            self.read("cache_evictions_total", value=lambda: cache.evictions)
            self.read("cache_errors_total", value=lambda: cache.errors)

    def _watch_registry(self, watcher: "ModelWatcher") -> None:
        self.read("model_switches_total", watcher.task, value=lambda: watcher.switched)
        self.read("model_refusals_total", watcher.task, value=lambda: watcher.failed)
        self.read("models_refused", watcher.task, value=lambda: watcher.problem is not None)

    def _watch_question(self, question: "Question") -> None:
        engine, batcher = question.engine.name, question.batcher
        self.read("batches_total", engine, value=lambda: batcher.batches)
        self.read("batched_rows_total", engine, value=lambda: batcher.rows)
        self.read("skipped_total", engine, value=lambda: batcher.skipped)
        self.read("queue_rows", engine, value=lambda: batcher.depth)
        self.read("demo_models", engine, value=lambda: question.demo)
        served: str | None = None

        def version() -> None:
            nonlocal served
            if question.version != served:
                if served is not None:
                    self.child("model_replicas", engine, served).set(0)
                served = question.version
                if served is not None:
                    self.child("model_replicas", engine, served).set(1)

        self._readings.append(version)

    async def follow(self) -> None:
        """Flush every FLUSH_S seconds until cancelled."""
        while True:
            self.flush()
            await asyncio.sleep(FLUSH_S)

    def worker_failed(self, name: str) -> None:
        """Count a failure of a worker, after which it was started again."""
        self.child("worker_failures_total", name).inc()

    def flush(self) -> None:
        """Bring every series of this process up to date."""
        for meter in self._meters.values():
            meter.flush()
        for reading in self._readings:
            reading()

    def page(self, accept: str = "") -> tuple[bytes, str]:
        """Return the page and its content type, of all replicas of the node. Call `flush` first; this may run in a thread."""
        source: Collector = self._registry
        if self._directory:
            _remove_dead_gauges(Path(self._directory))
            source = MultiProcessCollector(None, self._directory)  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        registry.register(_OwnMetrics(source))
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type


class _OwnMetrics(Collector):
    """The metrics of another collector that have our prefix: the directory may also have Ray's. Versions without a replica are left out."""

    def __init__(self, source: Collector) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        for metric in self._source.collect():
            if metric.name == PREFIX + "model_replicas":
                metric.samples = [sample for sample in metric.samples if sample.value]
            if metric.name.startswith(PREFIX):
                yield metric


def _remove_dead_gauges(directory: Path) -> None:
    """Remove the gauges of processes that have ended; their counters stay."""
    for file in directory.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
        except PermissionError:
            continue
