"""Plots of an evaluation as SVG: calibration and lift, one line for each model."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from kernels.types import F64
from training.evaluation import metrics
from training.evaluation.curves import COLOURS
from training.evaluation.judged import Judged
from training.evaluation.ranking import means_of_ties

SIZE, LEFT, TOP, BELOW = 300, 64, 40, 48
LEGEND_ROW = 16
TICKS = 4
POINTS = 200  # of a lift curve

Points = Sequence[tuple[float, float]]


def calibration(models: Mapping[str, Judged], data: str) -> str:
    """Return the calibration of each model: mean prediction and mean outcome of bins of equal size. A calibrated one is on the diagonal."""
    lines = {name: [(row["stated"], row["observed"]) for row in metrics.reliability(*judged.plot)] for name, judged in models.items()}
    top = _rounded_up(max(value for points in lines.values() for point in points for value in point))
    return _picture(f"Calibration on {data}", "mean prediction", "mean outcome", lines, top, top, diagonal=True, dots=True)


def lift(models: Mapping[str, Judged], data: str) -> str:
    """Return the lift of each model: the share of outcomes that the top share of rows has, ranked by prediction; ties count together."""
    lines = {name: lift_points(*judged.plot) for name, judged in models.items()}
    return _picture(f"Lift on {data}", "share of rows, highest prediction first", "share of outcomes", lines, 1.0, 1.0, diagonal=True)


def lift_points(y: F64, p: F64) -> list[tuple[float, float]]:
    """Return (share of rows, share of outcomes) of the rows with the highest predictions p [n], at most POINTS of them, from (0, 0)."""
    total = y.sum()
    if len(y) == 0 or total <= 0:
        return [(0.0, 0.0), (1.0, 1.0)]
    captured = np.concatenate(([0.0], np.cumsum(means_of_ties(p, y)))) / total
    places = np.unique(np.linspace(0, len(y), min(POINTS, len(y)) + 1).astype(np.int64))
    return [(place / len(y), float(captured[place])) for place in places.tolist()]


def _picture(
    title: str, across: str, up: str, lines: Mapping[str, Points], right: float, top: float, *, diagonal: bool, dots: bool = False
) -> str:
    """Return an SVG with both axes from 0: to `right`, and to `top`."""
    width, height = LEFT + SIZE + 24, TOP + SIZE + BELOW + LEGEND_ROW * len(lines)

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + SIZE * x / right, TOP + SIZE * (1 - y / top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" fill="#333">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="{TOP - 16}" font-weight="bold">{escape(title)}</text>',
    ]
    for tick in range(TICKS + 1):
        share = tick / TICKS
        x, y = at(share * right, share * top)
        parts += [
            f'<line x1="{LEFT}" x2="{LEFT + SIZE}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{share * top:.3g}</text>',
            f'<text x="{x:.1f}" y="{TOP + SIZE + 16}" text-anchor="middle">{share * right:.3g}</text>',
        ]
    parts.append(f'<text x="{LEFT + SIZE / 2}" y="{TOP + SIZE + 34}" text-anchor="middle">{escape(across)}</text>')
    parts.append(f'<text transform="translate(14 {TOP + SIZE / 2}) rotate(-90)" text-anchor="middle">{escape(up)}</text>')
    if diagonal:
        end = min(right, top)
        (x1, y1), (x2, y2) = at(0, 0), at(end, end)
        parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#999" stroke-dasharray="4 4"/>')
    for number, (name, points) in enumerate(lines.items()):
        colour, row = COLOURS[number % len(COLOURS)], TOP + SIZE + BELOW + LEGEND_ROW * number
        placed = [at(x, y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed if dots]
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + 20}" y1="{row}" y2="{row}" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + 26}" y="{row + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _rounded_up(value: float) -> float:
    """Return the least of 1, 2, 2.5, 5 and 10 times a power of ten that is not below `value`."""
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * power >= value * (1 - 1e-12))
