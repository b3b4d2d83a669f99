"""Every metric of the server, as one table."""

from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram

_US, _MS = 1e-6, 1e-3
_LATENCY = (50 * _US, 100 * _US, 200 * _US, 300 * _US, 500 * _US, 750 * _US, 1 * _MS, 1.5 * _MS, 2 * _MS, 3 * _MS, 5 * _MS, 7.5 * _MS,
            10 * _MS, 20 * _MS, 50 * _MS, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # fmt: skip
_STAGE = (5 * _US, 10 * _US, 25 * _US, 50 * _US, 100 * _US, 250 * _US, 500 * _US, 1 * _MS, 2.5 * _MS, 5 * _MS, 10 * _MS, 50 * _MS, 0.1, 1.0)


class Series(NamedTuple):
    """One metric: its kind, its help text, its labels, and a histogram's bounds in seconds."""

    kind: type[Counter] | type[Gauge] | type[Histogram]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


SERIES: Mapping[str, Series] = {
    "requests_total": Series(Counter, "HTTP requests answered.", ("engine", "status")),
    "request_seconds": Series(Histogram, "From the complete body to the complete answer.", ("engine",), _LATENCY),
    "stage_seconds": Series(Histogram, "Stages of answers that were computed, not cached.", ("engine", "stage"), _STAGE),
    "answers_total": Series(Counter, "Objects answered, each one of a list, by the state of the cache.", ("engine", "cache")),
    "degradations_total": Series(
        Counter,
        "Objects answered, by degradation, what was left out to be in time: none, no-explanation, stale, base-rate.",
        ("engine", "degradation"),
    ),
    "refused_total": Series(Counter, "Objects or requests answered with a problem, by its code.", ("engine", "reason")),
    "unknown_fields_total": Series(Counter, "Unknown fields ignored, by path.", ("engine", "field")),
    "connections": Series(Gauge, "Connections that are open now."),
    "connections_opened_total": Series(Counter, "Connections accepted."),
    "connections_closed_total": Series(
        Counter,
        "Connections closed, by the reason: client, or what the server closed it for: head, body, idle, response, evicted, drained.",
        ("reason",),
    ),
    "batches_total": Series(Counter, "Calls of the model.", ("engine",)),
    "batched_rows_total": Series(Counter, "Rows scored in those calls; divided by batches_total, the mean batch size.", ("engine",)),
    "skipped_total": Series(Counter, "Queued requests whose caller went away before they were scored.", ("engine",)),
    "queue_rows": Series(Gauge, "Requests that wait for the model now.", ("engine",)),
    "model_replicas": Series(Gauge, "Replicas that serve this model version.", ("engine", "version")),
    "demo_models": Series(
        Gauge, "Replicas whose live model was learned from a simulated shop: its answers are for demonstration.", ("engine",)
    ),
    "model_switches_total": Series(Counter, "Promotions taken: a new model went live.", ("engine",)),
    "model_refusals_total": Series(Counter, "Bundles that could not be loaded; the live model stayed.", ("engine",)),
    "models_refused": Series(Gauge, "Replicas that have not the model that the registry points to: it could not be loaded.", ("engine",)),
    "cache_saved_seconds_total": Series(Counter, "Seconds of computing saved by the cache."),
    "cache_evictions_total": Series(Counter, "Answers evicted from the in-process cache."),
    "cache_errors_total": Series(Counter, "Failed calls of the shared cache, and corrupt entries in it."),
    "worker_failures_total": Series(Counter, "Failures of workers; each was started again.", ("worker",)),
    "in_flight": Series(Gauge, "Requests being answered now."),
    "replicas": Series(Gauge, "Replicas that run."),
}
