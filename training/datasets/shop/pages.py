"""Page statistics of the simulated shop, as a web analytics tool reports them on the day that a session starts.

The statistics of a page on a day come from the sessions that ended before that day, so no session's outcome leaks into its own
statistics. Each product has its own page; each other kind has one page. Over those sessions,

    bounceRate  share of the sessions that began on the page and viewed no other page
    exitRate    share of the views of the page that were the last of their session
    pageValue   mean spend of the sessions that viewed the page (EUR)

and a session's statistics are the means over its viewed pages with statistics, NaN without any.
"""

import numpy as np

from kernels.types import F64, I64
from training.datasets.shop.calendar import DAY_MS, DAYS, EPOCH_MS
from training.datasets.shop.catalog import PRODUCTS
from training.datasets.shop.stream import Stream
from training.features import PAGE_KINDS

PAGES = PRODUCTS + len(PAGE_KINDS)


def statistics(seen: Stream, start_ms: I64, whole: Stream, spent: F64) -> F64:
    """Return bounceRate, exitRate and pageValue [sessions, 3] of the pages that each session has `seen` up to its scored moment.

    whole: the complete sessions; spent: EUR per session, 0 without a purchase; start_ms: epoch, [sessions].
    """
    history = _history(whole, spent)
    session, page = seen.session[seen.views], _page(seen)[seen.views]
    known = history[:, _day(start_ms)[session], page]
    return np.stack([_mean(session, values, start_ms.size) for values in known], axis=1).round(5)


def _history(whole: Stream, spent: F64) -> F64:
    """Return the three statistics of each page as of the start of each day: [3, days, pages], NaN without history."""
    session, page = whole.session[whole.views], _page(whole)[whole.views]
    day = _day(whole.end_ms)[session]
    views = np.bincount(session, minlength=spent.size)
    last = np.cumsum(views) - 1
    first = last - views + 1
    once = np.unique(session * PAGES + page, return_index=True)[1]
    parts = (  # numerator, weights of the numerator, denominator
        (first[views == 1], None, first),
        (last, None, slice(None)),
        (once, spent[session[once]], once),
    )
    with np.errstate(invalid="ignore"):  # 0 / 0: no history
        return np.stack([_before(day[of], page[of], money) / _before(day[out], page[out]) for of, money, out in parts])


def _before(day: I64, page: I64, weights: F64 | None = None) -> F64:
    """Return the count, or the sum of `weights`, by page of all days before each day: [days, pages]."""
    daily = np.bincount(day * PAGES + page, weights, minlength=(DAYS + 2) * PAGES).reshape(-1, PAGES)
    return np.asarray(np.cumsum(daily, axis=0, dtype=np.float64) - daily)


def _page(stream: Stream) -> I64:
    """Return the number of each event's page."""
    return np.where(stream.product >= 0, stream.product, PRODUCTS + stream.page.astype(np.int64))


def _day(time_ms: I64) -> I64:
    """Return the UTC day of each time; day 0 is the one before the first day of the year, since local time may be ahead of UTC."""
    return np.asarray((time_ms - EPOCH_MS) // DAY_MS + 1)


def _mean(session: I64, values: F64, sessions: int) -> F64:
    """Return each session's mean of its values that are not NaN, NaN without any."""
    present = ~np.isnan(values)
    count = np.bincount(session[present], minlength=sessions)
    total = np.bincount(session[present], values[present], minlength=sessions)
    with np.errstate(invalid="ignore"):  # 0 / 0: no value
        return np.asarray(total / count)
