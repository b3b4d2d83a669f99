"""Friction in a session, counted exactly: what a shopper does when something does not work, is not found, or cannot be decided.

Deterministic rules over a session's events, in the order in which they come; `THRESHOLDS` has every number of them and where it is from.
A state of fixed size takes one event after the other (`update`), and `friction` takes a million sessions by the very same step, so that
both count alike. No rule looks at how keys are struck or how a hand moves; of pointer moves only reversals count, where they are sent.

An event: its kind; milliseconds, 0 or more; x and y in pixels, NaN unknown; target, the hash of what was clicked, focused or hovered over;
page, that of the page shown; 0 is unknown. wait_ms: how long the shopper waited for the shop, NaN unknown. A kind that KINDS has not is
unknown: it is counted, and only moves the time. A time before the latest one counts as that one, and is counted as unordered: a moment of
the future holds the time until the others reach it, so what is later than now is to be left out before. An event that comes twice is two.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kernels.compile import formula, on_cpu, on_cuda
from kernels.types import F32, F64, I8, I32, I64

Single = np.float32

# First what a shopper does. MOVE: of the pointer, which moves by itself.
UNKNOWN, PAGE, CLICK, SCROLL, BACK, FOCUS, INPUT, HOVER, MOVE, CHANGE, ERROR, WAIT = range(12)
KINDS = ("unknown", "page", "click", "scroll", "back", "focus", "input", "hover", "move", "change", "error", "wait")
# CHANGE: the page has changed without being another one, which answers a click as well as a page does. ERROR: of a script.

RAGE_CLICK, DEAD_CLICK, ERROR_CLICK, U_TURN, PAGE_LOOP, THRASHED_CURSOR, HESITATION, REFOCUS, LONG_WAIT = range(9)
DETECTORS = (
    *("rageClick", "deadClick", "errorClick", "uTurn", "pageLoop"),
    *("thrashedCursor", "hesitation", "refocus", "longWait"),
)
# What is counted beside: errors of a script wherever they come, and what is odd about the events themselves.
SCRIPT_ERROR, UNKNOWN_KIND, UNORDERED = range(len(DETECTORS), len(DETECTORS) + 3)
COUNTED = (*DETECTORS, "scriptError", "unknownKind", "unordered")

# What is remembered is bounded: so many of the latest visits and of the latest focuses, one less of the clicks without an answer, and so
# many reversals.
REMEMBERED, PLACES, TURNS = 16, 16, 8


class Threshold(NamedTuple):
    """A number of a rule: its unit, where it is from, and what else it may be."""

    name: str
    value: float
    unit: str
    source: str
    low: float = 0.0
    high: float = 1e9
    whole: bool = False


THRESHOLDS: tuple[Threshold, ...] = (
    Threshold("rageClicks", 3, "clicks, each near the one before in place and time", "PostHog, rageclick", 1, whole=True),
    Threshold("ragePixels", 30, "pixels, |dx| + |dy|, less than", "PostHog, rageclick"),
    Threshold("rageMs", 1000, "ms between two clicks, less than", "PostHog, rageclick"),
    Threshold("deadMs", 2500, "ms in which nothing answers a click", "PostHog, dead clicks: mutation threshold"),
    Threshold("deadScrollMs", 100, "ms in which a scroll answers a click, less than", "PostHog, dead clicks: scroll threshold"),
    Threshold("deadFocusMs", 1000, "ms before or after a click in which a focus answers it, less than", "PostHog, dead clicks: liveness"),
    Threshold("sameClickMs", 1000, "ms in which a click on the same target is the same attempt, less than", "PostHog, dead clicks"),
    Threshold("errorMs", 100, "ms from a click to a script's error, at most", "Datadog, error tap"),
    Threshold("turnMs", 5000, "ms on a page without a click or an input before going back, at most", "Uxify, u-turn"),
    Threshold("loopVisits", 3, "visits of one page, once a run of them", "Conviva, page loop", 2, REMEMBERED, whole=True),
    Threshold("loopMs", 15000, "ms that these visits are within, less than", "Conviva, page loop"),
    Threshold("thrashTurns", 8, "reversals of the pointer", "ours: vendors give no number", 2, TURNS, whole=True),
    Threshold("thrashCosine", -0.5, "cosine of the angle that is a reversal, less than: 120 degrees", "ours", -1, 1),
    Threshold("thrashMs", 2000, "ms that these reversals are within, less than", "ours"),
    Threshold("thrashRatio", 4, "times the displacement that the path is, more than", "ours"),
    Threshold("hesitationMs", 3000, "ms after a focus or a hover in which the shopper does nothing, more than", "ours"),
    Threshold("refocuses", 3, "focuses of one field, of the latest 16, once a run of them", "ours", 2, REMEMBERED, whole=True),
    Threshold("waitMs", 3000, "ms of a wait, at least", "Sentry, slow click"),
)
RAGE_CLICKS, RAGE_PIXELS, RAGE_MS, DEAD_MS, DEAD_SCROLL_MS, DEAD_FOCUS_MS, SAME_CLICK_MS, ERROR_MS, TURN_MS, LOOP_VISITS = range(10)
LOOP_MS, THRASH_TURNS, THRASH_COSINE, THRASH_MS, THRASH_RATIO, HESITATION_MS, REFOCUSES, WAIT_MS = range(10, 18)
DEFAULTS = np.array([threshold.value for threshold in THRESHOLDS])


def limits_with(changes: Mapping[str, float]) -> F64:
    """Return the values of THRESHOLDS, float64, with those changed that are named. Raises ValueError where a rule cannot hold with one."""
    known = {threshold.name: threshold for threshold in THRESHOLDS}
    for name, value in changes.items():
        if name not in known:
            raise ValueError(f"{name} is no threshold of friction: name one of {', '.join(known)}")
        low, high, whole = known[name][-3:]
        if not low <= value <= high or (whole and value != int(value)):
            raise ValueError(f"{name} is {value}: give a {'whole ' if whole else ''}number from {low:,g} to {high:,g}")
    return np.array([changes.get(threshold.name, threshold.value) for threshold in THRESHOLDS], np.float64)


# A ring of what came last: how many have come; bit by bit, by place, whether it had come often by then; what it was, and when.
_CAME, _OFTEN, _KEYS = range(3)
_MOMENTS = _KEYS + REMEMBERED
_RING = _MOMENTS + REMEMBERED

# The whole numbers of a state. _FIRST, _AFTER: of the clicks that wait. Times are -1 where there is none, those that something waits from
# NEVER: a comparison that seldom holds costs less than two that often do.
NEVER = 1 << 62
_INDEX, _NOW, _RUN, _CLICK_AT, _CLICK_TARGET, _BLAMED, _TOUCHED, _AWAITED, _TURNED, _FIRST, _AFTER, _FOCUS_AT = range(12)
_WAITING = 12
_PAGES = _WAITING + PLACES  # a ring of visits
_FIELDS = _PAGES + _RING  # and one of focuses
_TURNED_AT = _FIELDS + _RING
COUNTS = _TURNED_AT + TURNS  # how often each of COUNTED was seen
LATEST = COUNTS + len(COUNTED)  # and at which event last, -1 for never
INTS = LATEST + len(COUNTED)
# And the others.
_CLICK_X, _CLICK_Y, _X, _Y, _STEP_X, _STEP_Y, _PATH = range(7)
_TURN_X = 7
_TURN_Y = _TURN_X + TURNS
_TURN_PATH = _TURN_Y + TURNS
REALS = _TURN_PATH + TURNS


@formula
def begin(ints: I64, reals: F64) -> None:
    """Begin a session in the state of another: what is remembered of that one's visits, focuses and reversals is no longer counted."""
    for place in range(_WAITING):
        ints[place] = 0
    ints[_PAGES + _CAME] = ints[_FIELDS + _CAME] = 0
    ints[_NOW] = ints[_CLICK_AT] = ints[_FOCUS_AT] = -1
    ints[_AWAITED] = ints[_WAITING] = NEVER
    for place in range(len(COUNTED)):
        ints[COUNTS + place], ints[LATEST + place] = 0, -1
    for place in range(_PATH):
        reals[place] = math.nan
    reals[_PATH] = 0.0


@formula
def fire(ints: I64, one: int) -> None:
    """Count one of COUNTED, at the event that is taken."""
    ints[COUNTS + one] += 1
    ints[LATEST + one] = ints[_INDEX]


@formula
def expire(ints: I64, now: int, limits: F64) -> None:
    """Count the clicks that nothing has answered in time: they wait in order of time, the oldest first, and after the last is NEVER."""
    while now - ints[_WAITING + ints[_FIRST] % PLACES] >= limits[DEAD_MS]:
        ints[_FIRST] += 1
        fire(ints, DEAD_CLICK)


@formula
def answer(ints: I64, now: int, within_ms: float) -> None:
    """Forget the clicks, made less than `within_ms` ago, that something has answered."""
    while ints[_FIRST] < ints[_AFTER] and now - ints[_WAITING + (ints[_AFTER] - 1) % PLACES] < within_ms:
        ints[_AFTER] -= 1
    ints[_WAITING + ints[_AFTER] % PLACES] = NEVER


@formula
def await_answer(ints: I64, now: int) -> None:
    """Remember a click without an answer, instead of the oldest where there is no place."""
    ints[_WAITING + ints[_AFTER] % PLACES] = now
    ints[_AFTER] += 1
    ints[_WAITING + ints[_AFTER] % PLACES] = NEVER
    ints[_FIRST] = max(ints[_FIRST], ints[_AFTER] - PLACES + 1)


@formula
def click(ints: I64, reals: F64, now: int, x: Single, y: Single, target: int, limits: F64) -> None:
    """Take a click: the run of those near each other, and whether something must answer it."""
    since = now - ints[_CLICK_AT]
    first = ints[_CLICK_AT] < 0
    near = not first and abs(x - reals[_CLICK_X]) + abs(y - reals[_CLICK_Y]) < limits[RAGE_PIXELS] and since < limits[RAGE_MS]
    ints[_RUN] = ints[_RUN] + 1 if near else 1
    if ints[_RUN] == limits[RAGE_CLICKS]:
        fire(ints, RAGE_CLICK)
    same = not first and target != 0 and target == ints[_CLICK_TARGET] and since < limits[SAME_CLICK_MS]
    # A browser tells of the field that a click focuses before it tells of the click.
    focused = ints[_FOCUS_AT] >= 0 and now - ints[_FOCUS_AT] < limits[DEAD_FOCUS_MS]
    if not (same or focused):
        await_answer(ints, now)
    ints[_CLICK_AT], ints[_CLICK_TARGET], ints[_BLAMED], ints[_TOUCHED] = now, target, 0, 1
    reals[_CLICK_X], reals[_CLICK_Y] = x, y


@formula
def often(ints: I64, ring: int, key: int, now: int, times: float, within_ms: float) -> bool:
    """Take a key into a ring: return whether it has come so many times in less than `within_ms`, and had not when it came before."""
    came = ints[ring + _CAME]
    seen, before = 1, 0
    for back in range(1, min(came, REMEMBERED - 1) + 1):
        place = (came - back) % REMEMBERED
        if now - ints[ring + _MOMENTS + place] >= within_ms:
            break
        if ints[ring + _KEYS + place] == key:
            before = ints[ring + _OFTEN] >> place & 1 if seen == 1 else before
            seen += 1
    place = came % REMEMBERED
    ints[ring + _KEYS + place], ints[ring + _MOMENTS + place] = key, now
    ints[ring + _OFTEN] = ints[ring + _OFTEN] & ~(1 << place) | int(seen >= times) << place
    ints[ring + _CAME] += 1
    return seen >= times and before == 0


@formula
def visit(ints: I64, now: int, page: int, limits: F64) -> None:
    """Take the page that is shown: whether it is the one before the last, left in haste, and how often it was shown of late."""
    visits = ints[_PAGES + _CAME]
    if visits >= 2:
        last, before = (visits - 1) % REMEMBERED, (visits - 2) % REMEMBERED
        back = page == ints[_PAGES + _KEYS + before] and page != ints[_PAGES + _KEYS + last]
        if back and ints[_TOUCHED] == 0 and now - ints[_PAGES + _MOMENTS + last] <= limits[TURN_MS]:
            fire(ints, U_TURN)
    ints[_TOUCHED] = 0
    if often(ints, _PAGES, page, now, limits[LOOP_VISITS], limits[LOOP_MS]):
        fire(ints, PAGE_LOOP)


@formula
def move(ints: I64, reals: F64, now: int, x: Single, y: Single, limits: F64) -> None:
    """Take where the pointer is: whether it has turned back, so often and to so little that it is thrashed about."""
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
            turn(ints, reals, now, limits)
        reals[_PATH] += length
        reals[_X], reals[_Y], reals[_STEP_X], reals[_STEP_Y] = x, y, step_x, step_y


@formula
def turn(ints: I64, reals: F64, now: int, limits: F64) -> None:
    """Take that the pointer has turned back where it was last."""
    place = ints[_TURNED] % TURNS
    ints[_TURNED_AT + place] = now
    reals[_TURN_X + place], reals[_TURN_Y + place], reals[_TURN_PATH + place] = reals[_X], reals[_Y], reals[_PATH]
    ints[_TURNED] += 1
    turns = int(limits[THRASH_TURNS])
    if ints[_TURNED] < turns:
        return
    first = (ints[_TURNED] - turns) % TURNS
    across = math.sqrt((reals[_X] - reals[_TURN_X + first]) ** 2 + (reals[_Y] - reals[_TURN_Y + first]) ** 2)
    if now - ints[_TURNED_AT + first] < limits[THRASH_MS] and reals[_PATH] - reals[_TURN_PATH + first] > limits[THRASH_RATIO] * across:
        fire(ints, THRASHED_CURSOR)
        ints[_TURNED] = 0


@formula
def error(ints: I64, now: int, limits: F64) -> None:
    """Take an error of a script: whether it comes right after a click, the first to do so."""
    fire(ints, SCRIPT_ERROR)
    if ints[_CLICK_AT] >= 0 and ints[_BLAMED] == 0 and now - ints[_CLICK_AT] <= limits[ERROR_MS]:
        ints[_BLAMED] = 1
        fire(ints, ERROR_CLICK)


@formula
def step(
    kind: int, time_ms: int, x: Single, y: Single, target: int, page: int, wait_ms: Single, limits: F64, ints: I64, reals: F64
) -> None:
    """Take one event into a state: constant work, constant memory."""
    if time_ms < ints[_NOW]:
        fire(ints, UNORDERED)
    now = max(time_ms, ints[_NOW])
    ints[_NOW] = now
    expire(ints, now, limits)
    if now - ints[_AWAITED] > limits[HESITATION_MS]:
        fire(ints, HESITATION)
        ints[_AWAITED] = NEVER
    ints[_AWAITED] = NEVER if UNKNOWN < kind < MOVE else ints[_AWAITED]
    if kind in (PAGE, CHANGE, INPUT, BACK):
        answer(ints, now, math.inf)
    if kind == CLICK:
        click(ints, reals, now, x, y, target, limits)
    elif kind == PAGE and page != 0:
        visit(ints, now, page, limits)
    elif kind == SCROLL:
        answer(ints, now, limits[DEAD_SCROLL_MS])
    elif kind == FOCUS:
        ints[_FOCUS_AT] = ints[_AWAITED] = now
        answer(ints, now, limits[DEAD_FOCUS_MS])
        if target != 0 and often(ints, _FIELDS, target, now, limits[REFOCUSES], math.inf):
            fire(ints, REFOCUS)
    elif kind == INPUT:
        ints[_TOUCHED] = 1
    elif kind == HOVER:
        ints[_AWAITED] = now
    elif kind == MOVE:
        move(ints, reals, now, x, y, limits)
    elif kind == ERROR:
        error(ints, now, limits)
    elif kind == WAIT and wait_ms >= limits[WAIT_MS]:
        fire(ints, LONG_WAIT)
    elif not UNKNOWN < kind < len(KINDS):
        fire(ints, UNKNOWN_KIND)
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
    """Write what session `row` comes to, by way of the state at `place`; the arrays are those of `friction`."""
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
    """Write what session `row` comes to; reals, ints: a state for each session, float64 [sessions, REALS] and int64 [sessions, INTS]."""
    session_into(row, row, offsets, kind, time_ms, x, y, target, page, wait_ms, limits, reals, ints, out)


@on_cpu
def update(kind: int, time_ms: int, x: float, y: float, target: int, page: int, wait_ms: float, limits: F64, ints: I64, reals: F64) -> None:
    """Take one event into the state of its session, which `start` has begun: int64 [INTS] and float64 [REALS].

    kind: of KINDS; x, y and wait_ms count as the float32 that `friction` takes; limits: DEFAULTS, or those of `limits_with`.
    ints[COUNTS:LATEST] says how often each of COUNTED was seen, ints[LATEST:] at which event, from 0, last.
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
    """Write how often each of COUNTED was seen in every session, and at which of its events, from 0, last.

    offsets: int64 [sessions + 1]; the events of session i are offsets[i]:offsets[i + 1], in the order in which they came. kind int8,
    time_ms int64, x and y float32, target and page int64, wait_ms float32, all [events]. limits: as for `update`. out: int32 [sessions,
    2 counted], the counts and then the events, -1 for never.
    """
    reals, ints = np.empty((1, REALS)), np.empty((1, INTS), np.int64)
    for row in range(len(offsets) - 1):
        session_into(0, row, offsets, kind, time_ms, x, y, target, page, wait_ms, limits, reals, ints, out)


friction_on_cuda = on_cuda(session_of)


@on_cpu
def friction_scores(counts: I32 | I64, out: F64) -> None:
    """Write a friction score of each session: 5 for an error of a script, 4 for a rage or an error click, 2 for a dead one (netaj.io).

    counts: int32 or int64 [sessions, >= counted], in the order of COUNTED; out: float64 [sessions].
    """
    for row in range(len(counts)):
        seen = counts[row]
        out[row] = 5 * seen[SCRIPT_ERROR] + 4 * (seen[RAGE_CLICK] + seen[ERROR_CLICK]) + 2 * seen[DEAD_CLICK]


LEVELS = (("high", 15.0), ("medium", 6.0), ("low", 0.0))  # and the least score of each (netaj.io)


def friction_level(score: float) -> str:
    """Return which of LEVELS a friction score is of."""
    return next(level for level, least in LEVELS if score >= least)
