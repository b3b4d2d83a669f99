"""Session features counted from ragged event arrays: the same compiled function for one live session and for a hundred million.

Events of all sessions lie in flat columns, session after session, each session in order of time; `offsets[row]:offsets[row + 1]`
are the events of session `row`. Codes are those of `training.features` (EVENT_TYPES, PAGE_KINDS); 0 is unknown. `target` is a number for
the element that was clicked, 0 unknown, OUTBOUND for a link to a new tab or a download.
"""

import math

import numpy as np

from kernels.compile import formula, on_cpu, on_cuda
from kernels.sessions.rage import after_response, is_near
from kernels.types import F32, F64, I8, I64

PAGE_VIEW, PRODUCT_VIEW, SEARCH, ADD_TO_CART, REMOVE_FROM_CART, CHECKOUT, CLICK, SCROLL, INPUT, WAIT, CHANGE = range(1, 12)
OUTBOUND = -1  # the target of a click whose response this page does not show

# The group of pages that a visit is counted in, by code of PAGE_KINDS.
NO_GROUP, ADMINISTRATIVE, INFORMATIONAL, PRODUCT = range(-1, 3)
PAGE_GROUPS = np.array([-1, 0, 1, 2, -1, 2, 2, 0, 0, 0, -1], dtype=np.int8)
UNKNOWN_PAGE = 0

# Columns of the result, in the order of training.features.FEATURES.
COUNTS, SECONDS = (0, 2, 4), (1, 3, 5)
(
    EVENT_COUNT,
    ACTIVE_SECONDS,
    LAST_GAP_SECONDS,
    CLICK_COUNT,
    PRODUCT_VIEW_COUNT,
    SEARCH_COUNT,
    CART_ADD_COUNT,
    CART_REMOVE_COUNT,
    CHECKOUT_COUNT,
    RAGE_CLICK_COUNT,
    WAIT_SECONDS,
) = range(6, 17)
EVENT_FEATURES = 17

# The rule of `kernels.sessions.friction`, with its default thresholds and their sources.
RAGE_CLICKS = 3
RAGE_PIXELS = 30.0
RAGE_MS = 1000
RESPONSE_MS, SCROLL_RESPONSE_MS = 2500, 100


@formula
def page_group(kind: int, page: int, groups: I8) -> int:
    """Return the group that a visit is counted in: product for a product view of an unknown page, none for any other unknown page."""
    known = UNKNOWN_PAGE < page < groups.size
    if known:
        return int(groups[page])
    return PRODUCT if kind == PRODUCT_VIEW else NO_GROUP


@formula
def visits(
    first: int,
    last: int,
    kind: I8,
    page: I8,
    time_ms: I64,
    groups: I8,
) -> tuple[int, int, int, int, int, int]:
    """Return the visits and their milliseconds in the events `first:last`: administrative, informational, product; count before time.

    A visit (page or product view) lasts until the next visit, the last one until the last event.
    """
    administrative = informational = product = 0
    administrative_ms = informational_ms = product_ms = 0
    group = NO_GROUP
    since = time_ms[first]
    for i in range(first, last + 1):
        over = i == last
        if over or kind[i] == PAGE_VIEW or kind[i] == PRODUCT_VIEW:
            now = time_ms[last - 1] if over else time_ms[i]
            if group == ADMINISTRATIVE:
                administrative += 1
                administrative_ms += now - since
            elif group == INFORMATIONAL:
                informational += 1
                informational_ms += now - since
            elif group == PRODUCT:
                product += 1
                product_ms += now - since
            since = now
            if not over:
                group = page_group(kind[i], page[i], groups)
    return administrative, administrative_ms, informational, informational_ms, product, product_ms


@formula
def actions(first: int, last: int, kind: I8) -> tuple[int, int, int, int, int, int]:
    """Return how many of the events `first:last` are a click, product view, search, cart add, cart remove, checkout."""
    clicks = product_views = searches = adds = removes = checkouts = 0
    for i in range(first, last):
        k = kind[i]
        clicks += k == CLICK
        product_views += k == PRODUCT_VIEW
        searches += k == SEARCH
        adds += k == ADD_TO_CART
        removes += k == REMOVE_FROM_CART
        checkouts += k == CHECKOUT
    return clicks, product_views, searches, adds, removes, checkouts


@formula
def response_ms(kind: int) -> int:
    """Return the milliseconds after a click in which an event of this kind is a response to it, 0 for none."""
    if kind == SCROLL:
        return SCROLL_RESPONSE_MS
    return RESPONSE_MS if PAGE_VIEW <= kind < CLICK or kind in (INPUT, CHANGE) else 0


@formula
def rage_clicks(
    first: int,
    last: int,
    kind: I8,
    time_ms: I64,
    x: F32,
    y: F32,
    target: I64,
) -> int:
    """Return the number of runs of RAGE_CLICKS clicks near each other that are not answered (`kernels.sessions.rage`)."""
    rages = run = responses = 0
    previous = -1
    for i in range(first, last):
        if kind[i] == CLICK:
            near = False
            if run > 0:
                same = target[i] != 0 and target[i] == target[previous]
                since = time_ms[i] - time_ms[previous]
                near = is_near(x[i], y[i], x[previous], y[previous], same, since, RAGE_PIXELS, RAGE_MS)
            run = 0 if target[i] == OUTBOUND else run + 1 if near else 1
            responses = 0 if run <= RAGE_CLICKS else responses
            rages += run == RAGE_CLICKS
            previous = i
        elif run > 0 and time_ms[i] - time_ms[previous] < response_ms(kind[i]):
            run, responses, answered = after_response(run, responses, RAGE_CLICKS)
            rages -= int(answered)
    return rages


@formula
def waited(first: int, last: int, wait_ms: F32) -> float:
    """Return the milliseconds waited in the events `first:last`, without the unknown ones (NaN)."""
    total = 0.0
    for i in range(first, last):
        total += 0.0 if math.isnan(wait_ms[i]) else float(wait_ms[i])  # without a branch
    return total


@formula
def counted(
    first: int,
    last: int,
    kind: I8,
    page: I8,
    time_ms: I64,
    x: F32,
    y: F32,
    target: I64,
    wait_ms: F32,
    groups: I8,
) -> tuple[float, ...]:
    """Return the EVENT_FEATURES features counted from the events `first:last`, at least one; one event has no last gap: NaN."""
    visited = visits(first, last, kind, page, time_ms, groups)
    administrative, administrative_ms, informational, informational_ms, product, product_ms = visited
    clicks, product_views, searches, adds, removes, checkouts = actions(first, last, kind)
    return (
        float(administrative),
        administrative_ms / 1000.0,
        float(informational),
        informational_ms / 1000.0,
        float(product),
        product_ms / 1000.0,
        float(last - first),
        (time_ms[last - 1] - time_ms[first]) / 1000.0,
        (time_ms[last - 1] - time_ms[last - 2]) / 1000.0 if last - first > 1 else math.nan,
        float(clicks),
        float(product_views),
        float(searches),
        float(adds),
        float(removes),
        float(checkouts),
        float(rage_clicks(first, last, kind, time_ms, x, y, target)),
        waited(first, last, wait_ms) / 1000.0,
    )


@formula
def session_row(
    row: int,
    offsets: I64,
    kind: I8,
    page: I8,
    time_ms: I64,
    x: F32,
    y: F32,
    target: I64,
    wait_ms: F32,
    groups: I8,
    given: F64,
    out: F32,
) -> None:
    """Write the features of session `row` into `out[row]`: the given value, else the one counted from the events, else NaN.

    offsets: int64 [rows + 1]; kind, page: int8 codes; time_ms: int64 milliseconds; x, y: float32 pixels, NaN unknown; target: int64;
    wait_ms: float32 milliseconds, NaN unknown (all [events]); groups: PAGE_GROUPS; given: float64 [rows, features], NaN where absent;
    out: float32 alike. Without events nothing is counted.
    """
    first = offsets[row]
    last = offsets[row + 1]
    for feature in range(out.shape[1]):
        out[row, feature] = given[row, feature]
    if first == last:
        return
    features = counted(first, last, kind, page, time_ms, x, y, target, wait_ms, groups)
    for feature in range(EVENT_FEATURES):
        if math.isnan(given[row, feature]):
            out[row, feature] = features[feature]


@on_cpu
def session_features(
    offsets: I64,
    kind: I8,
    page: I8,
    time_ms: I64,
    x: F32,
    y: F32,
    target: I64,
    wait_ms: F32,
    groups: I8,
    given: F64,
    out: F32,
) -> None:
    """Write the features of every session into `out`; shapes and dtypes as in `session_row`, each session on its own."""
    for row in range(offsets.size - 1):
        session_row(row, offsets, kind, page, time_ms, x, y, target, wait_ms, groups, given, out)


_launch = on_cuda(session_row)


def session_features_cuda(
    offsets: I64,
    kind: I8,
    page: I8,
    time_ms: I64,
    x: F32,
    y: F32,
    target: I64,
    wait_ms: F32,
    groups: I8,
    given: F64,
    out: F32,
) -> None:
    """Write the features of every session into `out` as `session_features` does, on CUDA; host or device arrays (see `on_cuda`)."""
    _launch(offsets.size - 1, offsets, kind, page, time_ms, x, y, target, wait_ms, groups, given, out)
