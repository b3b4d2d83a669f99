"""Twins of `kernels.sessions`."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

GROUP_OF_PAGE = {
    "administrative": "administrative",
    "account": "administrative",
    "cart": "administrative",
    "checkout": "administrative",
    "informational": "informational",
    "product": "product",
    "category": "product",
    "search": "product",
}
COUNTED_ACTIONS = {
    "clickCount": "click",
    "productViewCount": "product_view",
    "searchCount": "search",
    "cartAddCount": "add_to_cart",
    "cartRemoveCount": "remove_from_cart",
    "checkoutCount": "checkout",
}


RAGE = {"rageClicks": 3, "ragePixels": 30, "rageMs": 1000, "deadMs": 2500, "deadScrollMs": 100}
IN_FRICTION = {
    **dict.fromkeys(("page_view", "product_view"), "page"),
    **dict.fromkeys(("search", "add_to_cart", "remove_from_cart", "checkout", "change"), "change"),
    **{kind: kind for kind in ("click", "scroll", "input")},
}


class Event(NamedTuple):
    """One interaction: type, kind of page, epoch milliseconds, pixels, milliseconds waited; NaN is unknown; and its element, 0 unknown."""

    kind: str
    page: str
    time_ms: int
    x: float
    y: float
    wait_ms: float
    target: int = 0


def session_features(events: Sequence[Event], given: Mapping[str, float]) -> dict[str, float]:
    """Return the features of one session by name: the given ones, else those counted from its events; the others are absent."""
    return {**_counted(events), **given}


def rage_clicks(events: Sequence[Event]) -> int:
    """Return the number of rage clicks by the rule of friction."""
    kinds = ["outbound" if event.kind == "click" and event.target == -1 else IN_FRICTION.get(event.kind, "unknown") for event in events]
    clicks = [FrictionEvent(kind, event.time_ms, event.x, event.y, event.target) for kind, event in zip(kinds, events, strict=True)]
    return len(rage_click_runs(clicks, [event.time_ms for event in events], RAGE))


def _counted(events: Sequence[Event]) -> dict[str, float]:
    if not events:
        return {}
    start, end = events[0].time_ms, events[-1].time_ms
    counted: dict[str, float] = {
        "eventCount": len(events),
        "activeSeconds": (end - start) / 1000,
        "rageClickCount": rage_clicks(events),
        "waitSeconds": sum(event.wait_ms for event in events if not math.isnan(event.wait_ms)) / 1000,
        **_visited(events),
    }
    for feature, kind in COUNTED_ACTIONS.items():
        counted[feature] = sum(event.kind == kind for event in events)
    if len(events) > 1:
        counted["lastGapSeconds"] = (end - events[-2].time_ms) / 1000
    return counted


def _visited(events: Sequence[Event]) -> dict[str, float]:
    """Return count and seconds of the visits to each group of pages; a visit ends with the next one or with the session."""
    visits = [event for event in events if event.kind in ("page_view", "product_view")]
    ends = [visit.time_ms for visit in visits[1:]] + [events[-1].time_ms]
    features: dict[str, float] = {}
    for group in ("administrative", "informational", "product"):
        stays = [end - visit.time_ms for visit, end in zip(visits, ends, strict=False) if _group(visit) == group]
        features[f"{group}Count"] = len(stays)
        features[f"{group}Seconds"] = sum(stays) / 1000
    return features


def _group(visit: Event) -> str | None:
    if visit.page == "unknown" and visit.kind == "product_view":
        return "product"
    return GROUP_OF_PAGE.get(visit.page)


def columns(events: Sequence[tuple[float, int]], until: float) -> list[tuple[int, float, int]]:
    """Return (index, moment, kind) of the events of a session that count as of `until` (NaN: all), in time order; kind -1 never counts."""
    counting = [(number, moment, kind) for number, (moment, kind) in enumerate(events) if kind != -1 and not moment > until]
    return sorted(counting, key=lambda event: event[1])


class FrictionEvent(NamedTuple):
    """One event of a session as in `kernels.sessions.friction`; NaN and 0 are unknown."""

    kind: str
    time_ms: int
    x: float = math.nan
    y: float = math.nan
    target: int = 0
    page: int = 0
    wait_ms: float = math.nan


RESPONSES = ("page", "change", "input", "back")
ACTS = (
    "page",
    "click",
    "outbound",
    "scroll",
    "back",
    "focus",
    "input",
    "hover",
)  # acts of the shopper; the pointer also moves when the page scrolls


def friction(events: Sequence[FrictionEvent], limits: Mapping[str, float]) -> dict[str, list[int]]:
    """Return the events at which each signal is counted, by its name: every rule examines the whole session by itself."""
    now, latest = [], -1
    for event in events:
        latest = max(latest, event.time_ms)
        now.append(latest)
    rules = {
        "rageClick": rage_click_runs,
        "deadClick": dead_clicks,
        "errorClick": error_clicks,
        "uTurn": u_turns,
        "pageLoop": page_loops,
        "thrashedCursor": thrashed_cursors,
        "hesitation": hesitations,
        "refocus": refocuses,
        "longWait": long_waits,
        "scriptError": script_errors,
        "unknownKind": unknown_kinds,
        "unordered": unordered,
    }
    return {name: rule(events, now, limits) for name, rule in rules.items()}


def start() -> list[FrictionEvent]:
    """Return a session without events."""
    return []


def update(events: Sequence[FrictionEvent], event: FrictionEvent) -> list[FrictionEvent]:
    """Return the session with one more event."""
    return [*events, event]


def friction_scores(counts: Mapping[str, int]) -> float:
    """Return the friction score of a session."""
    return 5 * counts["scriptError"] + 4 * counts["rageClick"] + 4 * counts["errorClick"] + 2 * counts["deadClick"]


def rage_click_runs(events: Sequence[FrictionEvent], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the clicks that are the third of a run of near ones without a response between them, unless each of the run is answered."""
    found = []
    for run, responses in _runs(events, now, limits):
        if len(run) >= limits["rageClicks"] and not _all_answered(run, responses, limits):
            found.append(run[int(limits["rageClicks"]) - 1])
    return found


def _runs(events: Sequence[FrictionEvent], now: Sequence[int], limits: Mapping[str, float]) -> list[tuple[list[int], list[int]]]:
    """Return the runs of near clicks, each with the responses to it, before the next run begins."""
    runs = list[tuple[list[int], list[int]]]()
    open_run = False
    for place, event in enumerate(events):
        if event.kind in ("click", "outbound"):
            last = next((other for other in reversed(range(place)) if events[other].kind in ("click", "outbound")), None)
            if event.kind == "outbound":
                open_run = False
            elif open_run and last is not None and _is_near(events[last], event, now[place] - now[last], limits):
                runs[-1][0].append(place)
            else:
                runs.append(([place], []))
                open_run = True
        elif open_run:
            run, responses = runs[-1]
            within = limits["deadMs"] if event.kind in RESPONSES else limits["deadScrollMs"] if event.kind == "scroll" else 0
            if now[place] - now[run[-1]] < within:
                responses.append(place)
                open_run = len(run) >= limits["rageClicks"] and not _all_answered(run, responses, limits)
    return runs


def _all_answered(run: Sequence[int], responses: Sequence[int], limits: Mapping[str, float]) -> bool:
    """Return whether, at some response after the run had become rage, there were as many responses as clicks until then."""
    became = run[int(limits["rageClicks"]) - 1]
    late = [place for place in responses if place > became]
    return any(number >= sum(click < place for click in run) for number, place in enumerate(late, 1))


def _is_near(before: FrictionEvent, click: FrictionEvent, since_ms: int, limits: Mapping[str, float]) -> bool:
    apart = abs(click.x - before.x) + abs(click.y - before.y)
    near = before.target == click.target != 0 if math.isnan(apart) else apart < limits["ragePixels"]
    return near and since_ms < limits["rageMs"]


def dead_clicks(events: Sequence[FrictionEvent], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the events at which a click has had no response for too long; of more than 15 waiting clicks the oldest is dropped."""
    found, waiting, before = [], list[int](), None
    for place, event in enumerate(events):
        found += [place for since in waiting if now[place] - since >= limits["deadMs"]]
        waiting = [since for since in waiting if now[place] - since < limits["deadMs"]]
        if event.kind in RESPONSES:
            waiting = []
        if event.kind == "scroll":
            waiting = [since for since in waiting if now[place] - since >= limits["deadScrollMs"]]
        if event.kind == "focus":
            waiting = [since for since in waiting if now[place] - since >= limits["deadFocusMs"]]
        if event.kind == "outbound":
            before = place
        if event.kind == "click":
            focused = any(events[other].kind == "focus" and now[place] - now[other] < limits["deadFocusMs"] for other in range(place))
            same = before is not None and event.target == events[before].target != 0
            same = same and before is not None and now[place] - now[before] < limits["sameClickMs"]
            if not (same or focused):
                waiting = [*waiting[-14:], now[place]]
            before = place
    return found


def error_clicks(events: Sequence[FrictionEvent], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the errors that come right after a click, one for each click."""
    found = []
    for place, event in enumerate(events):
        if event.kind in ("click", "outbound"):
            for later in range(place + 1, len(events)):
                if events[later].kind in ("click", "outbound"):
                    break
                if events[later].kind == "error" and now[later] - now[place] <= limits["errorMs"]:
                    found.append(later)
                    break
    return found


def u_turns(events: Sequence[FrictionEvent], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the views of the page before the last one, where the last was left quickly and without a click or an input."""
    visits = [place for place, event in enumerate(events) if event.kind == "page" and event.page]
    found = []
    for before, last, place in zip(visits, visits[1:], visits[2:], strict=False):
        back = events[place].page == events[before].page != events[last].page
        touched = any(event.kind in ("click", "outbound", "input") for event in events[last:place])
        found += [place] if back and not touched and now[place] - now[last] <= limits["turnMs"] else []
    return found


def page_loops(events: Sequence[FrictionEvent], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the visits at which a page was shown three times in a short time, among the latest 16, and not yet at its visit before."""
    visits = [(place, event.page) for place, event in enumerate(events) if event.kind == "page" and event.page]
    return _repeated(visits, now, limits["loopVisits"], limits["loopMs"])


def _repeated(marks: Sequence[tuple[int, int]], now: Sequence[int], times: float, within_ms: float) -> list[int]:
    """Return where a mark has become repeated, and was not at its previous occurrence; it and the 15 before it count."""
    found, was_repeated = [], dict[int, bool]()
    for number, (place, mark) in enumerate(marks):
        late = [other for earlier, other in marks[max(0, number - 15) : number + 1] if now[place] - now[earlier] < within_ms]
        is_repeated = late.count(mark) >= times
        found += [place] if is_repeated and not was_repeated.get(mark, False) else []
        was_repeated[mark] = is_repeated
    return found


def thrashed_cursors(events: Sequence[FrictionEvent], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the moves at which the pointer has reversed so often, so fast and over so little distance that it is thrashed."""
    found, turns, path, at, before = [], list[tuple[int, float, float, float]](), 0.0, None, None
    for place, event in enumerate(events):
        if event.kind != "move" or math.isnan(event.x) or math.isnan(event.y):
            continue
        if at is None:
            at = event.x, event.y
            continue
        way = event.x - at[0], event.y - at[1]
        length = math.sqrt(way[0] * way[0] + way[1] * way[1])
        if length == 0:
            continue
        if before is not None:
            along = way[0] * before[0] + way[1] * before[1]
            if along < limits["thrashCosine"] * length * math.sqrt(before[0] * before[0] + before[1] * before[1]):
                turns.append((now[place], at[0], at[1], path))
                first = turns[-int(limits["thrashTurns"])] if len(turns) >= limits["thrashTurns"] else None
                if first is not None and now[place] - first[0] < limits["thrashMs"]:
                    across = math.sqrt((at[0] - first[1]) ** 2 + (at[1] - first[2]) ** 2)
                    if path - first[3] > limits["thrashRatio"] * across:
                        found.append(place)
                        turns = []
        path, at, before = path + length, (event.x, event.y), way
    return found


def hesitations(events: Sequence[FrictionEvent], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the first events so long after a focus or a hover without an act, up to that act."""
    acts = [place for place, event in enumerate(events) if event.kind in ACTS]
    found = []
    for place, act in pairwise([*acts, len(events) - 1]):
        if events[place].kind in ("focus", "hover"):
            found += [later for later in range(place + 1, act + 1) if now[later] - now[place] > limits["hesitationMs"]][:1]
    return found


def refocuses(events: Sequence[FrictionEvent], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the focuses at which a field was focused three times, among the latest 16, and not yet at its focus before."""
    focuses = [(place, event.target) for place, event in enumerate(events) if event.kind == "focus" and event.target]
    return _repeated(focuses, now, limits["refocuses"], math.inf)


def long_waits(events: Sequence[FrictionEvent], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the long waits."""
    return [place for place, event in enumerate(events) if event.kind == "wait" and event.wait_ms >= limits["waitMs"]]


def script_errors(events: Sequence[FrictionEvent], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the errors."""
    return [place for place, event in enumerate(events) if event.kind == "error"]


def unknown_kinds(events: Sequence[FrictionEvent], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the events of no known kind."""
    return [place for place, event in enumerate(events) if event.kind == "unknown"]


def unordered(events: Sequence[FrictionEvent], now: Sequence[int], limits: Mapping[str, float]) -> list[int]:
    """Return the events with a time before that of an earlier one."""
    return [place for place in range(1, len(events)) if events[place].time_ms < now[place - 1]]


def journey_features(page: Sequence[int], seconds: Sequence[float], ended: float, attributes: Sequence[float], pages: int) -> list[float]:
    """Return the features of one session after all of these events (`kernels.sessions.journey`)."""
    size = len(page)
    gaps = [later - earlier for earlier, later in pairwise(seconds)]
    count = [sum(one == kind for one in page) for kind in range(pages)]
    dwell = [sum(gap for gap, one in zip(gaps, page, strict=False) if one == kind) for kind in range(pages)]
    ago = [next((back + 1 for back, one in enumerate(reversed(page)) if one == kind), math.nan) for kind in range(pages)]
    if size:
        share = [number / size for number in count]
        last = [page[size - back] if size >= back else -1 for back in (1, 2, 3, 4)]
        latest = [gaps[-back] if len(gaps) >= back else math.nan for back in (1, 2, 3)]
        mean, longest = (sum(gaps) / len(gaps), max(gaps)) if gaps else (math.nan, math.nan)
        quick, slow = sum(gap < 2 for gap in gaps), sum(gap > 60 for gap in gaps)
        summary = [size, seconds[-1] - seconds[0], mean, longest, quick, slow, len(set(page)), page[0]]
    else:
        share, last, latest, summary = [0] * pages, [0] * 4, [0] * 3, [0] * 8
    between = [sum(pair == (one, other) for pair in pairwise(page)) for one in range(pages) for other in range(pages)]
    return [*count, *share, *dwell, *ago, *last, *latest, *summary, *attributes, ended, *between]


def element_number(name: bytes) -> int:
    """Return the number of the element with this name: a multiplicative hash of its words of eight bytes, 52 bits, odd."""
    if not name:
        return 0
    number = len(name)
    for start in range(0, len(name), 8):
        word = int.from_bytes(name[start : start + 8], "little")
        number = (number ^ word) * 0x9E3779B97F4A7C15 % 2**64
        number ^= number >> 32
    return number >> 12 | 1


def name_unknown(types: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the types that are not known, each once, in the order of the events."""
    return [name for name in dict.fromkeys(types) if name not in known]
