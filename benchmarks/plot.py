"""Draws the results as a small SVG: requests per second of each contestant, and where the time of one request of ours goes."""

import json
import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

from benchmarks import readme_numbers

WIDTH, LABELS, RIGHT = 800, 310, 70  # pixels: the whole, the column of labels, what the longest bar leaves for its number
ROW, BAR, HEAD, AXIS, GAP = 26, 16, 34, 46, 18
TICKS = 5
OURS, OTHERS, LINE = "#1f6feb", "#8c959f", "#24292f"


class Bar(NamedTuple):
    """One row of a chart; `spread`: the lowest and the highest of several runs."""

    label: str
    value: float
    spread: tuple[float, float] | None = None


def svg(results: dict[str, Any]) -> str:
    """Return the plot of the results as SVG text."""
    work = results["workload"]
    rates = [_rate(one) for one in results["contestants"].values()]
    costs = [Bar(stage.name, stage.mean_us) for stage in readme_numbers.stages(results)]
    upper = list(_chart(0, f"The whole purchase endpoint, {work['connections']} connections", rates, _rate_axis(work["repeats"])))
    top = _height(rates) + GAP
    lower = list(_chart(top, "One request of revenue-engine, stage by stage", costs, "microseconds, mean of requests one after the other"))
    height = top + _height(costs)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
    style = f'font-family="system-ui, sans-serif" font-size="12" fill="{LINE}">'
    return "\n".join([head + style, f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>', *upper, *lower, "</svg>"]) + "\n"


def _rate(one: dict[str, Any]) -> Bar:
    rate = one["rate"]
    return Bar(one["label"], rate["median"], (rate["lowest"], rate["highest"]))


def _rate_axis(repeats: int) -> str:
    return f"requests per second (median of {repeats}; the line: lowest to highest)"


def _height(bars: Sequence[Bar]) -> int:
    return HEAD + ROW * len(bars) + AXIS


def _chart(top: int, title: str, bars: Sequence[Bar], axis: str) -> Iterator[str]:
    """Yield one bar chart whose upper edge is at `top`; the first bar of several contestants is ours."""
    ticks = _ticks(max(bar.spread[1] if bar.spread else bar.value for bar in bars))
    scale = (WIDTH - LABELS - RIGHT) / ticks[-1]
    bottom = top + HEAD + ROW * len(bars)
    yield _text(16, top + 20, title, 'font-size="14" font-weight="600"')
    for tick in ticks:
        x = LABELS + tick * scale
        yield f'<line x1="{x:.1f}" y1="{top + HEAD}" x2="{x:.1f}" y2="{bottom}" stroke="#d0d7de"/>'
        yield _text(x, bottom + 15, f"{tick:,g}", 'text-anchor="middle"')
    for number, bar in enumerate(bars):
        yield from _bar(top + HEAD + ROW * number, bar, scale, OTHERS if bar.spread and number else OURS)
    yield _text(LABELS + (WIDTH - LABELS - RIGHT) / 2, bottom + 34, axis, 'text-anchor="middle"')


def _bar(top: int, bar: Bar, scale: float, colour: str) -> Iterator[str]:
    middle, y = top + ROW / 2, top + (ROW - BAR) / 2
    end = LABELS + max(bar.value, 0) * scale
    yield _text(LABELS - 8, middle + 4, bar.label, 'text-anchor="end"')
    yield f'<rect x="{LABELS}" y="{y:g}" width="{end - LABELS:.1f}" height="{BAR}" fill="{colour}"/>'
    if bar.spread:
        low, high = (LABELS + value * scale for value in bar.spread)
        yield f'<line x1="{low:.1f}" y1="{middle:g}" x2="{high:.1f}" y2="{middle:g}" stroke="{LINE}" stroke-width="2"/>'
        end = max(end, high)
    yield _text(end + 6, middle + 4, f"{bar.value:,.0f}", 'font-weight="600"')


def _ticks(most: float) -> list[float]:
    """Return round numbers from 0 to the first that is not below `most`, about TICKS of them."""
    rough = most / TICKS if most > 0 else 1.0
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [step * i for i in range(math.ceil(most / step) + 1)] if most > 0 else [0.0, step]


def _text(x: float, y: float, text: str, attributes: str) -> str:
    return f'<text x="{x:.1f}" y="{y:g}" {attributes}>{escape(text)}</text>'


if __name__ == "__main__":
    print(svg(json.loads((readme_numbers.RESULTS / "purchase_endpoint.json").read_text())), end="")
