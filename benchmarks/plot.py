"""Draws the results: `python -m benchmarks.plot` writes an SVG beside each JSON of benchmarks/results that has one.

comparison.svg         scores per second of each peer, and where the time of one request of ours goes
latency.svg         the 99th percentile against the offered rate
overload.svg        goodput at 1 to 5 times the peak
kernel_rates.svg    microseconds per row against rows, trees and SHAP values
costs.svg           cost against trees, depth, features, interactions
profit.svg          what prices earn in simulated shops: today's, the engine's, and those of an oracle with the true elasticities
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import results
from benchmarks.stages import stages
from benchmarks.svg import COLOURS, GAP, HIGH, INK, OTHERS, OURS, WIDTH, Bar, Line, Scale, bars, bars_height, image, lines

Results = Mapping[str, Any]

P99_MS = 10.0


def comparison(found: Results) -> str:
    """Return the bars: scores per second of all, and the stages of one request of ours."""
    work = found["workload"]
    there = [(name, each) for name, each in found["peers"].items() if "failed" not in each]
    rates = sorted((_rate(name, each) for name, each in there), key=lambda bar: -bar.value)
    axis = f"scores per second (median of {work['repeats']}; the line: lowest to highest)"
    upper = bars(0, f"Scores per second, {work['connections']} connections, server and load on the same cores", rates, axis)
    top = bars_height(rates) + GAP
    costs = [Bar(stage.name, stage.mean_us) for stage in stages(found)]
    lower = bars(top, "One request of the whole endpoint, stage by stage", costs, "microseconds, mean of requests one after the other")
    return image(top + bars_height(costs), list(upper), list(lower))


def latency(found: Results) -> str:
    """Return the lines: 99th percentile against offered rate; of the whole endpoint the median and the 99.9th percentile, too."""
    swept = {name: each for name, each in found["peers"].items() if each.get("sweep")}
    points = [(run["offered"], run["p99_ms"]) for each in swept.values() for run in each["sweep"] if run["p99_ms"]]
    curves = [
        Line(f"{each['label']}", _points(each["sweep"], "p99_ms"), COLOURS[number % len(COLOURS)])
        for number, (_, each) in enumerate(swept.items())
    ]
    if "ours" in swept:
        ours = swept["ours"]
        curves += [
            Line(f"{ours['label']}, p99.9", _points(ours["sweep"], "p999_ms"), OURS, "2 3", dots=False),
            Line(f"{ours['label']}, p50", _points(ours["sweep"], "p50_ms"), OURS, "6 3", dots=False),
        ]
    x = Scale("requests offered per second (Poisson)", *_ends([rate for rate, _ in points]), logarithmic=True)
    lowest = [value for curve in curves for _, value in curve.points]
    y = Scale("milliseconds", *_ends([*lowest, P99_MS]), logarithmic=True)
    limit = Line("10 ms", [(x.low, P99_MS), (x.high, P99_MS)], INK, "1 3", dots=False)
    title = "99th percentile of the latency against the offered rate, open loop"
    return image(HIGH + 60, list(lines(0, 0, WIDTH, HIGH + 60, title, [*curves, limit], x, y)))


def overload(found: Results) -> str:
    """Return the lines: goodput and what was refused, against what was offered, in shares of the peak."""
    offered = found["offered"]
    most = max(each["times"] for each in offered)
    curves = [
        Line("good: right, in time", [(0, 0), *((each["times"], each["goodput_share"]) for each in offered)], OURS),
        Line("what could be", [(0, 0), (1, 1), (most, 1)], OTHERS, "4 3", dots=False),
        Line("refused with Retry-After", [(each["times"], _refused(each) / found["peak"]) for each in offered], COLOURS[3]),
    ]
    x, y = Scale("offered, times the peak", 0, most), Scale("share of the peak", 0, max(1.2, max(b for _, b in curves[2].points)))
    title = f"Overload: server on one core, the load on the other, peak {found['peak']:,.0f}/s"
    return image(HIGH, list(lines(0, 0, WIDTH, HIGH, title, curves, x, y)))


def kernel_rates(found: Results) -> str:
    """Return the lines: microseconds per row against the number of rows, of the trees and of the SHAP values."""
    parts = []
    for number, (part, title) in enumerate((("forest", "Trees: microseconds per row"), ("shap", "SHAP values: microseconds per row"))):
        times, labels = found[part]["rows"], found[part]["labels"]
        curves = [
            Line(label, [(int(rows), each[name]["median_us"] / int(rows)) for rows, each in times.items() if name in each], COLOURS[place])
            for place, (name, label) in enumerate(labels.items())
        ]
        x = Scale("rows at a time", 1, max(map(int, times)), logarithmic=True)
        y = Scale("µs per row, one thread", *_ends([value for curve in curves for _, value in curve.points]), logarithmic=True)
        parts.append(list(lines(0, HIGH * number, WIDTH, HIGH, title, curves, x, y)))
    return image(2 * HIGH, *parts)


def costs(found: Results) -> str:
    """Return four small charts: what a score costs against trees, depth, features and interactions."""
    half = WIDTH / 2
    parts = []
    for number, (what, times) in enumerate(found["trees"].items()):
        curves = [
            Line("", [(int(value), each["1"]["ours"]["median_us"]) for value, each in times.items()], OURS),
            Line("", [(int(value), each["1"]["xgboost"]["median_us"]) for value, each in times.items()], OTHERS),
        ]
        parts.append(_small(half * (number % 2), HIGH * (number // 2), half, f"One row against {what} (gray: XGBoost)", curves, what))
    whole = [(int(number), times["median_us"]) for number, times in found["interactions"].items()]
    curves = [Line("", whole, OURS)]
    parts.append(_small(half, HIGH, half, "A whole request in process", curves, "interactions in the request", logarithmic=False))
    return image(2 * HIGH, *parts)


def profit(found: Results) -> str:
    """Return the bars: what each kind of price earns a week in all shops together."""
    labels = {"today": "today's prices", "engine": "revenue-engine", "oracle": "oracle with the true elasticities"}
    earned = [Bar(label, found[name], None, OURS if name == "engine" else OTHERS) for name, label in labels.items()]
    title = f"Profit a week under the truth, {found['products']:,} products of {len(found['shops'])} simulated shops"
    return image(bars_height(earned), list(bars(0, title, earned, f"{found['currency']}, same ladder and rails")))


def _small(left: float, top: float, width: float, title: str, curves: Sequence[Line], what: str, logarithmic: bool = True) -> list[str]:
    values = [value for curve in curves for _, value in curve.points]
    x = Scale(what, 0, max(value for curve in curves for value, _ in curve.points))
    y = Scale("µs", *_ends(values), logarithmic=True) if logarithmic else Scale("µs", 0, max(values))
    return list(lines(left, top, width, HIGH, title, curves, x, y, legend=False))


def _rate(name: str, each: Results) -> Bar:
    rate, items = each["rate"], each["items"]
    question = " (whole endpoint)" if each["question"] == "endpoint" else "" if name in ("ours_model", "noop") else " (bare model)"
    colour = OURS if name.startswith("ours") else OTHERS
    return Bar(each["label"] + question, rate["median"] * items, (rate["lowest"] * items, rate["highest"] * items), colour)


def _refused(each: Results) -> float:
    return float(each["refused"]["count"] / each["seconds"])


def _points(swept: Sequence[Results], figure: str) -> list[tuple[float, float]]:
    return [(run["offered"], run[figure]) for run in swept if run[figure]]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Return a little less than the least and a little more than the most."""
    return min(values) * 0.8, max(values) * 1.25


PLOTS: Mapping[str, tuple[str, Callable[[Results], str]]] = {
    "comparison": ("comparison", comparison),
    "latency": ("comparison", latency),
    "overload": ("overload", overload),
    "kernel_rates": ("kernel_rates", kernel_rates),
    "costs": ("costs", costs),
    "profit": ("profit", profit),
}


def main() -> None:
    """Draw what there is."""
    for name, (result, draw) in PLOTS.items():
        if (found := results.read(result)) is not None:
            (results.FOLDER / f"{name}.svg").write_text(draw(found))
            print(f"wrote benchmarks/results/{name}.svg", file=sys.stderr)


if __name__ == "__main__":
    main()
