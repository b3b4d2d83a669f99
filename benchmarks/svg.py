"""Charts as small SVG text, written by hand: bars, and lines over linear or logarithmic axes."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

WIDTH = 800
OURS, OTHERS, INK, GRID = "#1f6feb", "#8c959f", "#24292f", "#d0d7de"
COLOURS = ("#1f6feb", "#bf3989", "#2da44e", "#bc4c00", "#8250df", "#6e7781", "#0a8a8a", "#9a6700")

LABELS, RIGHT = 330, 70  # pixels of a bar chart: the column of labels, what the longest bar leaves for its number
ROW, BAR, HEAD, AXIS, GAP = 26, 16, 34, 46, 18
LEFT, LEGEND, HIGH = 62, 210, 300  # of a line chart: the column of ticks, that of the legend, the whole height
TICKS = 5


class Bar(NamedTuple):
    """One row of a bar chart; `spread`: the lowest and the highest of several runs."""

    label: str
    value: float
    spread: tuple[float, float] | None = None
    colour: str = OURS


class Line(NamedTuple):
    """Points (x, y), ascending x. `dash` as in SVG's stroke-dasharray; a line without a label is not in the legend."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: str
    dash: str = ""
    dots: bool = True


class Scale(NamedTuple):
    """One axis: its label and its ends."""

    label: str
    low: float
    high: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Return the place of a value, 0 to 1 between the ends; a value beyond them is placed on them."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.logarithmic else (self.low, self.high)
        place = math.log10(max(value, self.low)) if self.logarithmic else value
        return min(1.0, max(0.0, (place - low) / (high - low)))

    def ticks(self) -> list[float]:
        """Return round values between the ends."""
        if not self.logarithmic:
            return [tick for tick in rounds(self.high) if self.low <= tick <= self.high * 1.001]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = (1,) if len(powers) > 4 else (1, 2, 5) if len(powers) < 4 else (1, 3)
        return [tick for power in powers for step in steps if self.low <= (tick := step * 10.0**power) <= self.high]


def image(height: float, *parts: Sequence[str]) -> str:
    """Return the whole SVG of such a height, holding the parts of charts."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:g}" viewBox="0 0 {WIDTH} {height:g}" '
    style = f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}">'
    paper = f'<rect width="{WIDTH}" height="{height:g}" fill="#fff"/>'
    return "\n".join([head + style, paper, *(line for part in parts for line in part), "</svg>"]) + "\n"


def bars_height(bars: Sequence[Bar]) -> int:
    """Return how high a chart of these bars is."""
    return HEAD + ROW * len(bars) + AXIS


def bars(top: int, title: str, rows: Sequence[Bar], axis: str) -> Iterator[str]:
    """Yield a bar chart whose upper edge is at `top`."""
    ticks = rounds(max(bar.spread[1] if bar.spread else bar.value for bar in rows))
    scale = (WIDTH - LABELS - RIGHT) / ticks[-1]
    bottom = top + HEAD + ROW * len(rows)
    yield text(16, top + 20, title, 'font-size="14" font-weight="600"')
    for tick in ticks:
        x = LABELS + tick * scale
        yield f'<line x1="{x:.1f}" y1="{top + HEAD}" x2="{x:.1f}" y2="{bottom}" stroke="{GRID}"/>'
        yield text(x, bottom + 15, f"{tick:,g}", 'text-anchor="middle"')
    for number, bar in enumerate(rows):
        yield from _bar(top + HEAD + ROW * number, bar, scale)
    yield text(LABELS + (WIDTH - LABELS - RIGHT) / 2, bottom + 34, axis, 'text-anchor="middle"')


def lines(
    left: float, top: float, width: float, height: float, title: str, curves: Sequence[Line], x: Scale, y: Scale, legend: bool = True
) -> Iterator[str]:
    """Yield a line chart in the given rectangle, its legend, if it has one, to the right of it inside."""
    x0, x1 = left + LEFT, left + width - (LEGEND if legend else 16)
    y0, y1 = top + height - AXIS, top + HEAD
    yield text(left + 16, top + 20, title, 'font-size="14" font-weight="600"')
    for tick in x.ticks():
        at = x0 + x.at(tick) * (x1 - x0)
        yield f'<line x1="{at:.1f}" y1="{y1:g}" x2="{at:.1f}" y2="{y0:g}" stroke="{GRID}"/>'
        yield text(at, y0 + 15, f"{tick:,g}", 'text-anchor="middle"')
    for tick in y.ticks():
        at = y0 + y.at(tick) * (y1 - y0)
        yield f'<line x1="{x0:g}" y1="{at:.1f}" x2="{x1:g}" y2="{at:.1f}" stroke="{GRID}"/>'
        yield text(x0 - 6, at + 4, f"{tick:,g}", 'text-anchor="end"')
    yield text((x0 + x1) / 2, y0 + 34, x.label, 'text-anchor="middle"')
    middle = (y0 + y1) / 2
    yield text(left + 14, middle, y.label, f'text-anchor="middle" transform="rotate(-90 {left + 14:g} {middle:g})"')
    shown = 0
    for curve in curves:
        places = [(x0 + x.at(a) * (x1 - x0), y0 + y.at(b) * (y1 - y0)) for a, b in curve.points]
        yield from _curve(curve, places)
        if legend and curve.label:
            yield from _key(curve, x1 + 14, y1 + 8 + 18 * shown)
            shown += 1


def rounds(most: float) -> list[float]:
    """Return round numbers from 0 to the first that is not below `most`, about TICKS of them."""
    rough = most / TICKS if most > 0 else 1.0
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [step * i for i in range(math.ceil(most / step) + 1)] if most > 0 else [0.0, step]


def text(x: float, y: float, words: str, attributes: str) -> str:
    """Return a text at its place."""
    return f'<text x="{x:.1f}" y="{y:g}" {attributes}>{escape(words)}</text>'


def _bar(top: int, bar: Bar, scale: float) -> Iterator[str]:
    middle, y = top + ROW / 2, top + (ROW - BAR) / 2
    end = LABELS + max(bar.value, 0) * scale
    yield text(LABELS - 8, middle + 4, bar.label, 'text-anchor="end"')
    yield f'<rect x="{LABELS}" y="{y:g}" width="{end - LABELS:.1f}" height="{BAR}" fill="{bar.colour}"/>'
    if bar.spread:
        low, high = (LABELS + value * scale for value in bar.spread)
        yield f'<line x1="{low:.1f}" y1="{middle:g}" x2="{high:.1f}" y2="{middle:g}" stroke="{INK}" stroke-width="2"/>'
        end = max(end, high)
    yield text(end + 6, middle + 4, f"{bar.value:,.0f}", 'font-weight="600"')


def _curve(curve: Line, places: Sequence[tuple[float, float]]) -> Iterator[str]:
    dash = f' stroke-dasharray="{curve.dash}"' if curve.dash else ""
    joined = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    yield f'<polyline points="{joined}" fill="none" stroke="{curve.colour}" stroke-width="2"{dash}/>'
    if curve.dots:
        yield from (f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="{curve.colour}"/>' for a, b in places)


def _key(curve: Line, x: float, y: float) -> Iterator[str]:
    dash = f' stroke-dasharray="{curve.dash}"' if curve.dash else ""
    yield f'<line x1="{x:g}" y1="{y:g}" x2="{x + 18:g}" y2="{y:g}" stroke="{curve.colour}" stroke-width="2"{dash}/>'
    yield text(x + 24, y + 4, curve.label, 'font-size="11"')
