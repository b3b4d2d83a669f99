"""What is answered when there is no time to score: a stale answer from the cache, or the base rate."""

import itertools
import time
from collections.abc import Callable

import msgspec

from serving.engines import Scorer
from serving.scoring.answer import Answer
from serving.scoring.cache.cache import Cache
from serving.settings import DegradeSettings

HIT_RATE_SMOOTHING, MIN_HIT_RATE = 0.02, 0.1
LOOK_EVERY = 16  # below MIN_HIT_RATE, one refusal in so many still looks into the cache, or the hit rate could never rise again
READ_AND_REPLY_ROWS = 1.5  # the rows that could be scored while one request is read and replied to

_encode = msgspec.json.Encoder().encode

# A degradation as it appears in an answer's JSON. No text of a caller's can look like it: quotes in a JSON string are escaped.
_NONE, _STALE = b'"degradation":"none"', b'"degradation":"stale"'


class TimeBudget:
    """A share of the time, in seconds to spend: it fills as time passes, up to one second's share."""

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._share, self._clock = share, clock
        self._seconds, self._updated = share, clock()

    def left(self) -> bool:
        """Return whether there are seconds to spend."""
        now = self._clock()
        self._seconds = min(self._share, self._seconds + self._share * (now - self._updated))
        self._updated = now
        return self._seconds > 0

    def spend(self, seconds: float) -> None:
        """Take the seconds that an answer took; the budget may become negative."""
        self._seconds -= seconds


class Fallback:
    """The answers that need no scoring, as far as the settings allow them. `hit_rate`: the recent share of cache lookups that were hits."""

    def __init__(self, settings: DegradeSettings, cache: Cache | None) -> None:
        self.time_budget = TimeBudget(settings.base_rate_share if settings.allows("base-rate") else 0.0)
        self.hit_rate = 1.0
        self._stale_cache = cache if settings.allows("stale") else None
        self._cache = cache
        self._lookups = itertools.count(1)

    def note_lookup(self, hit: bool) -> None:
        """Take a cache lookup into the hit rate."""
        self.hit_rate += HIT_RATE_SMOOTHING * (hit - self.hit_rate)

    def possible(self) -> bool:
        """Return whether a request that cannot be scored in time may still get an answer, before the request is read."""
        return self.time_budget.left() or self._lookup_pays()

    def answer(self, key: bytes, scorer: Scorer, request: msgspec.Struct, row_s: float) -> Answer | None:
        """Return a stale answer, or the base rate, or None where neither is allowed or there. `row_s`: what scoring one row takes."""
        if self._stale_cache is not None and key:
            stale = self._stale_cache.stale(key)
            if stale is not None:
                self.hit_rate += HIT_RATE_SMOOTHING
                return stale._replace(body=stale.body.replace(_NONE, _STALE, 1))
        if not self.time_budget.left():
            return None
        began = time.perf_counter()
        row = scorer.base_rate(request)
        if row is None:
            return None
        body = _encode(row)
        self.time_budget.spend(time.perf_counter() - began + READ_AND_REPLY_ROWS * row_s)
        return Answer(body, "off" if self._cache is None else "bypass", 0.0, degradation="base-rate")

    def _lookup_pays(self) -> bool:
        """Return whether to look into the cache before refusing: that costs half an answer, and pays only where it finds enough of them."""
        return self._cache is not None and (self.hit_rate > MIN_HIT_RATE or next(self._lookups) % LOOK_EVERY == 0)
