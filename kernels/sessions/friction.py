"""Friction in a session, counted exactly: signals that something does not work, is not found, or cannot be decided.

Deterministic rules over a session's events, in the order in which they come; `THRESHOLDS` has every number of the rules with its source. A
state of fixed size takes one event after the other (`update`), and `friction` takes a million sessions by the same step, so both count
alike. No rule looks at key strokes or the shape of a movement; of pointer moves only reversals count, where moves are sent.

An event: its kind; milliseconds, 0 or more; x and y in pixels, NaN unknown; target, the hash of the element that was clicked, focused or
hovered over; page, the hash of the page shown; 0 is unknown. wait_ms: how long the shopper waited for the shop, NaN unknown. A kind that is
neither in KINDS nor OUTBOUND is counted as unknown, and only advances the time. A time before the latest one counts as the latest, and as
unordered: an event from the future holds the time until the others reach it, so the caller leaves out events later than now. A duplicate
event counts twice.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kernels.compile import formula, on_cpu, on_cuda
from kernels.sessions.rage import after_response, is_near
from kernels.types import F32, F64, I8, I32, I64

Single = np.float32

# The acts of a shopper come first. MOVE is of the pointer, which is not an act: it moves when the page scrolls.
UNKNOWN, PAGE, CLICK, SCROLL, BACK, FOCUS, INPUT, HOVER, MOVE, CHANGE, ERROR, WAIT = range(12)
KINDS = ("unknown", "page", "click", "scroll", "back", "focus", "input", "hover", "move", "change", "error", "wait")
# CHANGE: the page has changed in place, which is a response to a click as a new page is. ERROR: of a script.
OUTBOUND = len(KINDS)  # a click on a link to a new tab or a download: this page does not show its response, so it counts as answered

RAGE_CLICK, DEAD_CLICK, ERROR_CLICK, U_TURN, PAGE_LOOP, THRASHED_CURSOR, HESITATION, REFOCUS, LONG_WAIT = range(9)
DETECTORS = (
    *("rageClick", "deadClick", "errorClick", "uTurn", "pageLoop"),
    *("thrashedCursor", "hesitation", "refocus", "longWait"),
)
# Counted too: every script error, and defects of the events themselves.
SCRIPT_ERROR, UNKNOWN_KIND, UNORDERED = range(len(DETECTORS), len(DETECTORS) + 3)
COUNTED = (*DETECTORS, "scriptError", "unknownKind", "unordered")

# Memory is bounded: the latest visits and focuses (MAX_REMEMBERED each), waiting clicks (MAX_CLICKS - 1), and reversals.
MAX_REMEMBERED, MAX_CLICKS, MAX_REVERSALS = 16, 16, 8


class Threshold(NamedTuple):
    """A number of a rule: its unit, its source, and the range of values that it may have."""

    name: str
    value: float
    unit: str
    source: str
    low: float = 0.0
    high: float = 1e9
    whole: bool = False


THRESHOLDS: tuple[Threshold, ...] = (
    Threshold(
        "rageClicks", 3, "clicks without a response between them, each near the one before", "PostHog, rageclick; Conviva", 1, whole=True
    ),
    Threshold("ragePixels", 30, "pixels, |dx| + |dy|, less than; the same element where unknown", "PostHog, rageclick"),
    Threshold("rageMs", 1000, "ms between two clicks, less than", "PostHog, rageclick"),
    Threshold("deadMs", 2500, "ms without a response to a click", "PostHog, dead clicks: mutation threshold"),
    Threshold("deadScrollMs", 100, "ms in which a scroll is a response to a click, less than", "PostHog, dead clicks: scroll threshold"),
    Threshold("deadFocusMs", 1000, "ms between a click and a focus that is its response, less than", "PostHog, dead clicks: liveness"),
    Threshold("sameClickMs", 1000, "ms in which a click on the same target is the same attempt, less than", "PostHog, dead clicks"),
    Threshold("errorMs", 100, "ms from a click to a script's error, at most", "Datadog, error tap"),
    Threshold("turnMs", 5000, "ms on a page without a click or an input before going back, at most", "Uxify, u-turn"),
    Threshold("loopVisits", 3, "visits of one page, once a run of them", "Conviva, page loop", 2, MAX_REMEMBERED, whole=True),
    Threshold("loopMs", 15000, "ms that these visits are within, less than", "Conviva, page loop"),
    Threshold("thrashTurns", 8, "reversals of the pointer", "ours: vendors publish no number", 2, MAX_REVERSALS, whole=True),
    Threshold("thrashCosine", -0.5, "cosine of the angle that is a reversal, less than: 120 degrees", "ours", -1, 1),
    Threshold("thrashMs", 2000, "ms that these reversals are within, less than", "ours"),
    Threshold("thrashRatio", 4, "times the displacement that the path is, more than", "ours"),
    Threshold("hesitationMs", 3000, "ms after a focus or a hover in which the shopper does nothing, more than", "ours"),
    Threshold("refocuses", 3, "focuses of one field, of the latest 16, once a run of them", "ours", 2, MAX_REMEMBERED, whole=True),
    Threshold("waitMs", 3000, "ms of a wait, at least", "Sentry, slow click"),
)
RAGE_CLICKS, RAGE_PIXELS, RAGE_MS, DEAD_MS, DEAD_SCROLL_MS, DEAD_FOCUS_MS, SAME_CLICK_MS, ERROR_MS, TURN_MS, LOOP_VISITS = range(10)
LOOP_MS, THRASH_TURNS, THRASH_COSINE, THRASH_MS, THRASH_RATIO, HESITATION_MS, REFOCUSES, WAIT_MS = range(10, 18)
DEFAULTS = np.array([threshold.value for threshold in THRESHOLDS])


def limits_with(changes: Mapping[str, float]) -> F64:
    """Return the values of THRESHOLDS, float64 [thresholds], with those of `changes` instead of the defaults.

    Raises ValueError for an unknown name or a value out of range.
    """
    known = {threshold.name: threshold for threshold in THRESHOLDS}
    for name, value in changes.items():
        if name not in known:
            raise ValueError(f"unknown friction threshold {name}: choose one of {', '.join(known)}")
        low, high, whole = known[name][-3:]
        if not low <= value <= high or (whole and value != int(value)):
            raise ValueError(f"{name} is {value}: give a {'whole ' if whole else ''}number from {low:,g} to {high:,g}")
    return np.array([changes.get(threshold.name, threshold.value) for threshold in THRESHOLDS], np.float64)


# A ring of the latest keys: how many were added; bit by bit, by place, whether it was repeated by then; the keys, and their times.
_TOTAL, _REPEATED, _KEYS = range(3)
_TIMES = _KEYS + MAX_REMEMBERED
_RING = _TIMES + MAX_REMEMBERED

# The whole numbers of a state. _FIRST, _AFTER: the range of the waiting clicks. A time is -1 where there is none, and NEVER for a wait that
# has not begun: one comparison that rarely holds costs less than two that often do.
NEVER = 1 << 62
_INDEX, _NOW, _RUN, _CLICK_AT, _CLICK_TARGET, _BLAMED, _TOUCHED, _HESITATING, _REVERSALS, _FIRST, _AFTER, _FOCUS_AT = range(12)
_RESPONSES, _RAGE_BEFORE = 12, 13  # to the run of clicks since it became rage; LATEST of the rage click before it
_CLICKS = 14
_PAGES = _CLICKS + MAX_CLICKS  # a ring of visits
_FIELDS = _PAGES + _RING  # and one of focuses
_REVERSED_AT = _FIELDS + _RING
COUNTS = _REVERSED_AT + MAX_REVERSALS  # the number of times that each of COUNTED was seen
LATEST = COUNTS + len(COUNTED)  # the index of the last event with it, -1 for never
INTS = LATEST + len(COUNTED)
# And the others.
_CLICK_X, _CLICK_Y, _X, _Y, _STEP_X, _STEP_Y, _PATH = range(7)
_REVERSED_X = 7
_REVERSED_Y = _REVERSED_X + MAX_REVERSALS
_REVERSED_PATH = _REVERSED_Y + MAX_REVERSALS
REALS = _REVERSED_PATH + MAX_REVERSALS


@formula
def begin(ints: I64, reals: F64) -> None:
    """Reset a state that another session used. Rings are emptied by their totals alone: older entries are never read."""
    for place in range(_CLICKS):
        ints[place] = 0
    ints[_PAGES + _TOTAL] = ints[_FIELDS + _TOTAL] = 0
    ints[_NOW] = ints[_CLICK_AT] = ints[_FOCUS_AT] = -1
    ints[_HESITATING] = ints[_CLICKS] = NEVER
    for place in range(len(COUNTED)):
        ints[COUNTS + place], ints[LATEST + place] = 0, -1
    for place in range(_PATH):
        reals[place] = math.nan
    reals[_PATH] = 0.0


@formula
def count_signal(ints: I64, one: int) -> None:
    """Count one of COUNTED at the present event."""
    ints[COUNTS + one] += 1
    ints[LATEST + one] = ints[_INDEX]


@formula
def count_dead_clicks(ints: I64, now: int, limits: F64) -> None:
    """Count the clicks that got no response in time. They wait in order of time, the oldest first, and NEVER follows the last."""
    while now - ints[_CLICKS + ints[_FIRST] % MAX_CLICKS] >= limits[DEAD_MS]:
        ints[_FIRST] += 1
        count_signal(ints, DEAD_CLICK)


@formula
def clear_clicks(ints: I64, now: int, within_ms: float) -> None:
    """Remove the waiting clicks made less than `within_ms` ago: the page has responded to them."""
    while ints[_FIRST] < ints[_AFTER] and now - ints[_CLICKS + (ints[_AFTER] - 1) % MAX_CLICKS] < within_ms:
        ints[_AFTER] -= 1
    ints[_CLICKS + ints[_AFTER] % MAX_CLICKS] = NEVER


@formula
def end_run(ints: I64, now: int, within_ms: float, limits: F64) -> None:
    """Process a response to the run of clicks, if its last one was less than `within_ms` ago; rage that is answered is taken back."""
    if ints[_RUN] > 0 and now - ints[_CLICK_AT] < within_ms:
        ints[_RUN], ints[_RESPONSES], answered = after_response(ints[_RUN], ints[_RESPONSES], limits[RAGE_CLICKS])
        if answered:
            ints[COUNTS + RAGE_CLICK] -= 1
            ints[LATEST + RAGE_CLICK] = ints[_RAGE_BEFORE]


@formula
def add_click(ints: I64, now: int) -> None:
    """Add a click that waits for a response, in place of the oldest where all places are taken."""
    ints[_CLICKS + ints[_AFTER] % MAX_CLICKS] = now
    ints[_AFTER] += 1
    ints[_CLICKS + ints[_AFTER] % MAX_CLICKS] = NEVER
    ints[_FIRST] = max(ints[_FIRST], ints[_AFTER] - MAX_CLICKS + 1)


@formula
def click(ints: I64, reals: F64, now: int, x: Single, y: Single, target: int, limits: F64) -> None:
    """Process a click: the run of clicks near each other, and whether it waits for a response."""
    since = now - ints[_CLICK_AT]
    same = ints[_CLICK_AT] >= 0 and target != 0 and target == ints[_CLICK_TARGET]
    near = is_near(x, y, reals[_CLICK_X], reals[_CLICK_Y], same, since, limits[RAGE_PIXELS], limits[RAGE_MS])
    ints[_RUN] = ints[_RUN] + 1 if near and ints[_RUN] > 0 else 1
    if ints[_RUN] == limits[RAGE_CLICKS]:
        ints[_RESPONSES], ints[_RAGE_BEFORE] = 0, ints[LATEST + RAGE_CLICK]
        count_signal(ints, RAGE_CLICK)
    # A browser sends the focus of a field before the click that caused it.
    focused = ints[_FOCUS_AT] >= 0 and now - ints[_FOCUS_AT] < limits[DEAD_FOCUS_MS]
    if not ((same and since < limits[SAME_CLICK_MS]) or focused):
        add_click(ints, now)
    remember_click(ints, reals, now, x, y, target)


@formula
def remember_click(ints: I64, reals: F64, now: int, x: Single, y: Single, target: int) -> None:
    """Write when, where and on which element the shopper clicked last."""
    ints[_CLICK_AT], ints[_CLICK_TARGET], ints[_BLAMED], ints[_TOUCHED] = now, target, 0, 1
    reals[_CLICK_X], reals[_CLICK_Y] = x, y


@formula
def repeated(ints: I64, ring: int, key: int, now: int, times: float, within_ms: float) -> bool:
    """Add a key to a ring; return whether it has now occurred `times` times within `within_ms`, and had not at its previous occurrence."""
    total = ints[ring + _TOTAL]
    seen, before = 1, 0
    for back in range(1, min(total, MAX_REMEMBERED - 1) + 1):
        place = (total - back) % MAX_REMEMBERED
        if now - ints[ring + _TIMES + place] >= within_ms:
            break
        if ints[ring + _KEYS + place] == key:
            before = ints[ring + _REPEATED] >> place & 1 if seen == 1 else before
            seen += 1
    place = total % MAX_REMEMBERED
    ints[ring + _KEYS + place], ints[ring + _TIMES + place] = key, now
    ints[ring + _REPEATED] = ints[ring + _REPEATED] & ~(1 << place) | int(seen >= times) << place
    ints[ring + _TOTAL] += 1
    return seen >= times and before == 0


@formula
def visit(ints: I64, now: int, page: int, limits: F64) -> None:
    """Process the page that is shown: a return to the page before the last one, and repeated visits."""
    visits = ints[_PAGES + _TOTAL]
    if visits >= 2:
        last, before = (visits - 1) % MAX_REMEMBERED, (visits - 2) % MAX_REMEMBERED
        back = page == ints[_PAGES + _KEYS + before] and page != ints[_PAGES + _KEYS + last]
        if back and ints[_TOUCHED] == 0 and now - ints[_PAGES + _TIMES + last] <= limits[TURN_MS]:
            count_signal(ints, U_TURN)
    ints[_TOUCHED] = 0
    if repeated(ints, _PAGES, page, now, limits[LOOP_VISITS], limits[LOOP_MS]):
        count_signal(ints, PAGE_LOOP)


@formula
def move(ints: I64, reals: F64, now: int, x: Single, y: Single, limits: F64) -> None:
    """Process a position of the pointer: whether it has reversed, and whether the reversals are a thrashed cursor."""
    if math.isnan(x) or math.isnan(y):
        return
    step_x, step_y = x - reals[_X], y - reals[_Y]
    length = math.sqrt(step_x * step_x + step_y * step_y)
    if math.isnan(length):
        reals[_X], reals[_Y] = x, y
    elif length > 0:
        before = math.sqrt(reals[_STEP_X] * reals[_STEP_X] + reals[_STEP_Y] * reals[_STEP_Y])
        along = step_x * reals[_STEP_X] + step_y * reals[_STEP_Y]
        if along < limits[THRASH_COSINE] * length * before:
            reverse(ints, reals, now, limits)
        reals[_PATH] += length
        reals[_X], reals[_Y], reals[_STEP_X], reals[_STEP_Y] = x, y, step_x, step_y


@formula
def reverse(ints: I64, reals: F64, now: int, limits: F64) -> None:
    """Process a reversal of the pointer at its last position."""
    place = ints[_REVERSALS] % MAX_REVERSALS
    ints[_REVERSED_AT + place] = now
    reals[_REVERSED_X + place], reals[_REVERSED_Y + place], reals[_REVERSED_PATH + place] = reals[_X], reals[_Y], reals[_PATH]
    ints[_REVERSALS] += 1
    reversals = int(limits[THRASH_TURNS])
    if ints[_REVERSALS] < reversals:
        return
    first = (ints[_REVERSALS] - reversals) % MAX_REVERSALS
    across = math.sqrt((reals[_X] - reals[_REVERSED_X + first]) ** 2 + (reals[_Y] - reals[_REVERSED_Y + first]) ** 2)
    if (
        now - ints[_REVERSED_AT + first] < limits[THRASH_MS]
        and reals[_PATH] - reals[_REVERSED_PATH + first] > limits[THRASH_RATIO] * across
    ):
        count_signal(ints, THRASHED_CURSOR)
        ints[_REVERSALS] = 0


@formula
def error(ints: I64, now: int, limits: F64) -> None:
    """Process a script error: the first one right after a click is an error click."""
    count_signal(ints, SCRIPT_ERROR)
    if ints[_CLICK_AT] >= 0 and ints[_BLAMED] == 0 and now - ints[_CLICK_AT] <= limits[ERROR_MS]:
        ints[_BLAMED] = 1
        count_signal(ints, ERROR_CLICK)


@formula
def step(
    kind: int, time_ms: int, x: Single, y: Single, target: int, page: int, wait_ms: Single, limits: F64, ints: I64, reals: F64
) -> None:
    """Process one event: constant work, constant memory."""
    if time_ms < ints[_NOW]:
        count_signal(ints, UNORDERED)
    now = max(time_ms, ints[_NOW])
    ints[_NOW] = now
    count_dead_clicks(ints, now, limits)
    if now - ints[_HESITATING] > limits[HESITATION_MS]:
        count_signal(ints, HESITATION)
        ints[_HESITATING] = NEVER
    ints[_HESITATING] = NEVER if UNKNOWN < kind < MOVE or kind == OUTBOUND else ints[_HESITATING]
    if kind in (PAGE, CHANGE, INPUT, BACK):
        clear_clicks(ints, now, math.inf)
        end_run(ints, now, limits[DEAD_MS], limits)
    if kind == CLICK:
        click(ints, reals, now, x, y, target, limits)
    elif kind == PAGE and page != 0:
        visit(ints, now, page, limits)
    elif kind == SCROLL:
        clear_clicks(ints, now, limits[DEAD_SCROLL_MS])
        end_run(ints, now, limits[DEAD_SCROLL_MS], limits)
    elif kind == FOCUS:
        ints[_FOCUS_AT] = ints[_HESITATING] = now
        clear_clicks(ints, now, limits[DEAD_FOCUS_MS])
        if target != 0 and repeated(ints, _FIELDS, target, now, limits[REFOCUSES], math.inf):
            count_signal(ints, REFOCUS)
    elif kind == INPUT:
        ints[_TOUCHED] = 1
    elif kind == HOVER:
        ints[_HESITATING] = now
    elif kind == MOVE:
        move(ints, reals, now, x, y, limits)
    elif kind == ERROR:
        error(ints, now, limits)
    elif kind == WAIT and wait_ms >= limits[WAIT_MS]:
        count_signal(ints, LONG_WAIT)
    elif kind == OUTBOUND:
        ints[_RUN] = 0
        remember_click(ints, reals, now, x, y, target)
    elif not UNKNOWN < kind < len(KINDS):
        count_signal(ints, UNKNOWN_KIND)
    ints[_INDEX] += 1


@formula
def session_into(
    place: int,
    row: int,
    offsets: I64,
    kind: I8,
    time_ms: I64,
    x: F32,
    y: F32,
    target: I64,
    page: I64,
    wait_ms: F32,
    limits: F64,
    reals: F64,
    ints: I64,
    out: I32,
) -> None:
    """Write the counts of session `row`, in the state at `place`; the arrays are those of `friction`."""
    state, rest = ints[place], reals[place]
    begin(state, rest)
    for event in range(offsets[row], offsets[row + 1]):
        step(kind[event], time_ms[event], x[event], y[event], target[event], page[event], wait_ms[event], limits, state, rest)
    for one in range(2 * len(COUNTED)):
        out[row, one] = state[COUNTS + one]


@formula
def session_of(
    row: int,
    offsets: I64,
    kind: I8,
    time_ms: I64,
    x: F32,
    y: F32,
    target: I64,
    page: I64,
    wait_ms: F32,
    limits: F64,
    reals: F64,
    ints: I64,
    out: I32,
) -> None:
    """Write the counts of session `row`; reals, ints: a state for each session, float64 [sessions, REALS] and int64 [sessions, INTS]."""
    session_into(row, row, offsets, kind, time_ms, x, y, target, page, wait_ms, limits, reals, ints, out)


@on_cpu
def update(kind: int, time_ms: int, x: float, y: float, target: int, page: int, wait_ms: float, limits: F64, ints: I64, reals: F64) -> None:
    """Process one event in the state of its session, which `start` has begun: int64 [INTS] and float64 [REALS].

    kind: of KINDS, or OUTBOUND; x, y and wait_ms are rounded to float32, as `friction` has them; limits: DEFAULTS or `limits_with`.
    ints[COUNTS:LATEST] is the number of times that each of COUNTED was seen, ints[LATEST:] the index of the last event with it, from 0.
    """
    step(kind, time_ms, np.float32(x), np.float32(y), target, page, np.float32(wait_ms), limits, ints, reals)


@on_cpu
def start(ints: I64, reals: F64) -> None:
    """Write the state of a session without an event: int64 [INTS], float64 [REALS]."""
    ints[:], reals[:] = 0, 0.0
    begin(ints, reals)


@on_cpu
def friction(
    offsets: I64,
    kind: I8,
    time_ms: I64,
    x: F32,
    y: F32,
    target: I64,
    page: I64,
    wait_ms: F32,
    limits: F64,
    out: I32,
) -> None:
    """Write how often each of COUNTED was seen in every session, and the index of the last event with it.

    offsets: int64 [sessions + 1]; the events of session i are offsets[i]:offsets[i + 1], in the order in which they came. kind int8,
    time_ms int64, x and y float32, target and page int64, wait_ms float32, all [events]. limits: as for `update`. out: int32 [sessions, 2
    counted]: the counts, then the indices, from 0 within the session, -1 for never.
    """
    reals, ints = np.empty((1, REALS)), np.empty((1, INTS), np.int64)
    for row in range(len(offsets) - 1):
        session_into(0, row, offsets, kind, time_ms, x, y, target, page, wait_ms, limits, reals, ints, out)


friction_on_cuda = on_cuda(session_of)


@on_cpu
def friction_scores(counts: I32 | I64, out: F64) -> None:
    """Write the friction score of each session: 5 for a script error, 4 for a rage or an error click, 2 for a dead click (netaj.io).

    counts: int32 or int64 [sessions, >= counted], in the order of COUNTED; out: float64 [sessions].
    """
    for row in range(len(counts)):
        seen = counts[row]
        out[row] = 5 * seen[SCRIPT_ERROR] + 4 * (seen[RAGE_CLICK] + seen[ERROR_CLICK]) + 2 * seen[DEAD_CLICK]


LEVELS = (("high", 15.0), ("medium", 6.0), ("low", 0.0))  # with the lowest score of each (netaj.io)


def friction_level(score: float) -> str:
    """Return the level of LEVELS that a friction score belongs to."""
    return next(level for level, lowest in LEVELS if score >= lowest)
