"""Every metric of the server, as one table."""

from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram

_US, _MS = 1e-6, 1e-3
_LATENCY = (50 * _US, 100 * _US, 200 * _US, 300 * _US, 500 * _US, 750 * _US, 1 * _MS, 1.5 * _MS, 2 * _MS, 3 * _MS, 5 * _MS, 7.5 * _MS,
            10 * _MS, 20 * _MS, 50 * _MS, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # fmt: skip
_STAGE = (5 * _US, 10 * _US, 25 * _US, 50 * _US, 100 * _US, 250 * _US, 500 * _US, 1 * _MS, 2.5 * _MS, 5 * _MS, 10 * _MS, 50 * _MS, 0.1, 1.0)


class Series(NamedTuple):
    """One metric: its kind, what it says, its labels, and a histogram's bounds in seconds."""

    kind: type[Counter] | type[Gauge] | type[Histogram]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


SERIES: Mapping[str, Series] = {
    "requests_total": Series(Counter, "HTTP requests answered.", ("engine", "status")),
    "request_seconds": Series(Histogram, "From the whole body to the whole answer.", ("engine",), _LATENCY),
    "stage_seconds": Series(Histogram, "Stages of what was computed, not cached.", ("engine", "stage"), _STAGE),
    "answers_total": Series(Counter, "Objects answered, each of a list, by what the cache had to do with it.", ("engine", "cache")),
    "degradations_total": Series(
        Counter, "Objects answered, by what there was time for: none, no-explanation, stale, base-rate.", ("engine", "degradation")
    ),
    "refused_total": Series(Counter, "Objects or requests not answered, by the code of the problem.", ("engine", "reason")),
    "unknown_fields_total": Series(Counter, "Fields ignored because no engine knows them.", ("engine", "field")),
    "batches_total": Series(Counter, "Calls of the model.", ("engine",)),
    "batched_rows_total": Series(Counter, "Rows scored in those calls: divide for the mean batch.", ("engine",)),
    "skipped_total": Series(Counter, "Queued requests whose caller went away.", ("engine",)),
    "queue_rows": Series(Gauge, "Requests that wait for the model.", ("engine",)),
    "model_replicas": Series(Gauge, "Replicas that serve this model version.", ("engine", "version")),
    "model_switches_total": Series(Counter, "Promotions taken.", ("engine",)),
    "model_refusals_total": Series(Counter, "Bundles refused at load; the live model stayed.", ("engine",)),
    "cache_saved_seconds_total": Series(Counter, "Computing that the cache made needless."),
    "cache_evictions_total": Series(Counter, "Answers that made room in memory."),
    "cache_errors_total": Series(Counter, "What went wrong with the shared cache."),
    "in_flight": Series(Gauge, "Requests being answered."),
    "replicas": Series(Gauge, "Replicas alive."),
}
