"""Training curves as SVG: one panel per metric, with one line per fit over the epochs."""

from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, LEFT, TOP, GAP = 340, 200, 56, 34, 40
COLOURS = ("#0b6e99", "#c2410c", "#3f7d20", "#6b3fa0", "#8a6d00", "#a3195b")


def picture(curves: Sequence[Sequence[Mapping[str, float]]], figures: Mapping[str, str]) -> str:
    """Return the SVG of `curves`: for each fit, the metrics of each epoch; figures: the metrics to draw, with their titles."""
    panels = [
        _panel(place, [[epoch[name] for epoch in curve] for curve in curves], title) for place, (name, title) in enumerate(figures.items())
    ]
    width, height = len(figures) * (LEFT + WIDTH + GAP), TOP + HEIGHT + 44
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" fill="#333">'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="#fff"/>', *panels, "</svg>\n"])


def _panel(place: int, lines: Sequence[Sequence[float]], title: str) -> str:
    left = place * (LEFT + WIDTH + GAP) + LEFT
    values = [value for line in lines for value in line]
    low, high = min(values), max(values)
    span, longest = (high - low) or 1.0, max(map(len, lines))

    def at(epoch: int, value: float) -> str:
        return f"{left + WIDTH * epoch / max(1, longest - 1):.1f},{TOP + HEIGHT * (1 - (value - low) / span):.1f}"

    parts = [f'<text x="{left}" y="{TOP - 14}" font-weight="bold">{title}</text>']
    for value in (low, low + span / 2, high):
        y = TOP + HEIGHT * (1 - (value - low) / span)
        parts.append(f'<line x1="{left}" x2="{left + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3f}</text>')
    for number, line in enumerate(lines):
        points = " ".join(at(epoch, value) for epoch, value in enumerate(line))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[number % len(COLOURS)]}" stroke-width="2"/>')
    parts.append(f'<text x="{left}" y="{TOP + HEIGHT + 20}">epoch 1</text>')
    parts.append(f'<text x="{left + WIDTH}" y="{TOP + HEIGHT + 20}" text-anchor="end">{longest}</text>')
    return "\n".join(parts)
