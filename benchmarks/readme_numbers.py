"""Turns benchmarks/results/*.json into the numbers of docs/benchmarks.md and of the README, so that none is typed by hand.

    python -m benchmarks.readme_numbers [--check]

Each section is between two marker comments: docs/benchmarks.md has one for each result, README.md has one with five numbers and a plot.
A section without its result is empty. --check writes nothing and ends with exit code 1 when a file shows other numbers.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import results as stored
from benchmarks.machine import ROOT
from benchmarks.stages import stages

README = ROOT / "README.md"
PAGE = ROOT / "docs" / "benchmarks.md"
MEASURES = ("auc", "average_precision", "log_loss", "brier", "ece")

Results = dict[str, Any]


def comparison(results: Results) -> Iterator[str]:
    """Yield the numbers of results/comparison.json as lines of Markdown."""
    yield from (*_rates(results), "", *_conditions(results), "", "![Scores a second](../benchmarks/results/comparison.svg)", "")
    yield from ("![Latency against the offered rate](../benchmarks/results/latency.svg)", "", *_cost(results))


def overload(results: Results) -> Iterator[str]:
    """Yield the numbers of results/overload.json."""
    yield "| offered, times the peak | good/s | share of the peak | of the accepted in time | refused/s | refusal, p99 | memory, MiB |"
    yield "|---|---|---|---|---|---|---|"
    for each in results["offered"]:
        refused = each["refused"]
        p99 = f"{refused['p99_ms']:.1f} ms" if refused["count"] else "none"
        yield (
            f"| {each['times']:g} ({each['seconds']:.0f} s) | {each['goodput']:,.0f} | **{each['goodput_share']:.0%}** "
            f"| {each['in_deadline']:.2%} | {refused['count'] / each['seconds']:,.0f} | {p99} "
            f"| {each['rss_mib'][0]:,.0f} to {each['rss_mib'][1]:,.0f} |"
        )
    without_retry_after = sum(each["refusals_without_retry_after"] for each in results["offered"])
    yield ""
    yield (
        f"Server on one core, load on the other; the peak is {results['peak']:,.0f} answers/s. Every request states a deadline of "
        f"{results['workload']['deadline_ms']} ms and is timed from when it was due. Refusals without `Retry-After`: "
        f"{without_retry_after}. {_made(results)}"
    )
    yield from ("", "![Goodput under overload](../benchmarks/results/overload.svg)")


def promotions(results: Results) -> Iterator[str]:
    """Yield the numbers of results/promotions.json."""
    p99, live = results["p99_ms"], sorted(results["seconds_to_live"])
    requests = sum(each["requests"] for each in results["promoting"])
    yield (
        f"{results['promotions']} promotions of a new bundle under half the peak ({results['offered']:,.0f} requests/s, open loop, "
        f"{requests:,} requests): **{results['failed']} failed**; p99 {p99['promoting']:.2f} ms, in turn without promotions "
        f"{p99['steady']:.2f} ms (medians of {len(results['steady'])} blocks each), so **{results['p99_times_steady']:.2f} times** that. "
        f"One follows the other; each is live after {live[len(live) // 2]:.1f} s. {_made(results)}"
    )


def single_flight(results: Results) -> Iterator[str]:
    """Yield the numbers of results/single_flight.json."""
    counted = results["counted"]
    yield (
        f"{results['callers']:,} callers with one question at once, the cache cold: **{counted['batches_total']:.0f} call of the model** "
        f"for {counted['batched_rows_total']:.0f} row, from the server's own metrics. {_made(results)}"
    )


def kernel_rates(results: Results) -> Iterator[str]:
    """Yield the numbers of results/kernel_rates.json."""
    model = results["model"]
    for part, title in (("forest", "trees"), ("shap", "exact SHAP values")):
        labels, times = results[part]["labels"], results[part]["rows"]
        heads = [label if name == "ours" else f"{label} (times ours)" for name, label in labels.items()]
        yield f"| {title}, µs a call | " + " | ".join(heads) + " |"
        yield "|---" * (len(labels) + 1) + "|"
        for rows, each in times.items():
            others = [f"{_figures(each[name]['median_us'])} (**{each[name]['times_ours']:.1f}**)" for name in labels if name != "ours"]
            cells = [f"{_figures(each['ours']['median_us'])}", *others]
            yield f"| {int(rows):,} row{'s' if rows != '1' else ''} | " + " | ".join(cells) + " |"
        yield ""
    missing = "".join(f" {name} is missing: {why}." for name, why in results["forest"]["missing"].items())
    yield (
        f"{model['trees']} trees of depth {model['depth']}, {model['features']} float32 features, one thread each, in turn in one run, "
        f"median of {model['rounds']}; all agree with XGBoost within 1e-5, ours to the last bit.{missing} {_made(results)}"
    )
    yield from ("", "![Microseconds per row](../benchmarks/results/kernel_rates.svg)")


def costs(results: Results) -> Iterator[str]:
    """Yield the numbers of results/costs.json."""
    whole = results["interactions"]
    few, many = min(whole, key=int), max(whole, key=int)
    yield (
        f"A whole request in process (decode, features, score, SHAP values, actions, encode) costs {whole[few]['median_us']:,.0f} µs with "
        f"{few} and {whole[many]['median_us']:,.0f} µs with {many} interactions. {_made(results)}"
    )
    yield from ("", "![What a score costs](../benchmarks/results/costs.svg)")


def price_rates(results: Results) -> Iterator[str]:
    """Yield the numbers of results/price_rates.json."""
    one, many = results["one"], results["many"]
    yield (
        f"The best of {results['rungs']} prices over {results['draws']} draws of the elasticity takes "
        f"{_figures(one['ours']['median_us'])} µs; vectorised NumPy takes **{one['numpy']['times_ours']:.1f} times** that, SciPy's "
        f"`minimize_scalar` on the same profit **{one['scipy']['times_ours']:.0f} times**. A catalogue of {many['products']:,} products "
        f"takes {many['ours_s']:.1f} s in one call, with {many['grown_mib']:.0f} MiB beside its answer; NumPy, in its best chunks, "
        f"**{many['times_ours']:.1f} times** that. {_made(results)}"
    )


def value_rates(results: Results) -> Iterator[str]:
    """Yield the numbers of results/value_rates.json."""
    ours, theirs = (statistics.median(results["seconds"][name]) for name in ("ours", "lifetimes"))
    yield (
        f"P(alive) and the expected purchases of {results['customers']:,} customers, by BG/NBD on one core: {ours:.2f} s; `lifetimes` "
        f"takes {theirs:.2f} s, **{results['times_ours']:.1f} times** that, and agrees within {results['largest_difference']:.0e}. "
        f"{_made(results)}"
    )


def friction_rates(results: Results) -> Iterator[str]:
    """Yield the numbers of results/friction_rates.json."""
    ours, plain = (statistics.median(results["seconds_a_session"][name]) * 1e6 for name in ("ours", "plain"))
    yield (
        f"Friction in {results['sessions']:,} sessions of {results['events'] / results['sessions']:.0f} events, on one core: {ours:.2f} µs "
        f"a session; the same rules in plain Python take {plain:,.0f} µs, **{results['times_ours']:,.0f} times** that. {_made(results)}"
    )


def gpu_rates(results: Results) -> Iterator[str]:
    """Yield the numbers of results/gpu_rates.json."""
    yield f"| on {results['gpu']} | seconds | times as long: XGBoost on the same GPU | one core |"
    yield "|---|---|---|---|"
    for rows, each in results["forest"].items():
        core = f"**{each['times_one_core']:,.1f}**" if "times_one_core" in each else "-"
        yield f"| trees, {int(rows):,} rows | {each['ours_s']:.5f} | **{each['times_ours']:.2f}** | {core} |"
    counted = {f"{results['customers']:,} customers, {name}": each for name, each in results["lives"].items()}
    counted[f"{results['products']:,} products priced"] = results["prices"]
    counted[f"{results['customers']:,} sessions, friction"] = results["friction"]
    counted |= {f"journeys: {what} sessions": each for what, each in results.get("journeys", {}).items()}  # not in results before them
    for what, each in counted.items():
        yield f"| {what} | {each['gpu_s']:.5f} | - | **{each['times_one_core']:,.1f}** |"
    model, apart = results["model"], max(each["largest_difference"] for each in results["lives"].values())
    yield ""
    yield (
        f"{model['trees']} trees of depth {model['depth']}, {model['features']} features; rows are on the device before and after. The "
        f"GPU's margins are the CPU's bit for bit, lives within {apart:.0e}, prices within "
        f"{results['prices']['largest_difference']:.0e}. {_made(results)}"
    )


def endpoints(results: Results) -> Iterator[str]:
    """Yield the numbers of results/endpoints.json."""
    yield "| endpoint | answers/s, 32 connections | times the purchase endpoint's | p50, one connection |"
    yield "|---|---|---|---|"
    for name, each in results["endpoints"].items():
        yield f"| {name} | {each['rate']:,.0f} | **{each['times_purchase']:.2f}** | {each['p50_ms']:.2f} ms |"
    yield from ("", f"One server with all models, cache off, in turn in one run. {_made(results)}")


def profit(results: Results) -> Iterator[str]:
    """Yield the numbers of results/profit.json."""
    gain = results["engine"] / results["today"] - 1
    yield (
        f"In {len(results['shops'])} simulated shops, {results['products']:,} products together, the engine's prices earn "
        f"**{results['share_of_oracle']:.1%}** of what prices set with the true elasticities would earn, under the same ladder and guard "
        f"rails, and {gain:.1%} more than today's; its 80 % intervals hold {results['interval80_holds']:.1%} of the truths. "
        f"{_made(results)}"
    )
    yield from ("", "![What prices earn](../benchmarks/results/profit.svg)")


def model(results: Results) -> Iterator[str]:
    """Yield the numbers of results/purchase_model.json."""
    metrics = results["metrics"]
    special = metrics["specialists"]
    rows = {
        "**the served model**, all that the table records": metrics,
        "**the served model**, `PageValues` missing": metrics["without_page_values"],
        "the served model, no page statistics at all": metrics["without_page_statistics"],
        "a model trained for all columns alone": special["whole"],
        "a model trained without `PageValues` alone": special["without_page_values"],
    }
    yield "| purchase, UCI online shoppers | AUC | average precision | log loss | Brier | ECE |"
    yield "|---|---|---|---|---|---|"
    for name, figures in rows.items():
        yield f"| {name} | " + " | ".join(f"{figures[key]:.4f}" for key in MEASURES) + " |"
    yield ""
    confidence = metrics["confidence"]["whole"]
    yield (
        f"{metrics['rows']:,} of the data set's 12,330 sessions (the rest is kept apart), {metrics['folds']}-fold, out of fold with the "
        f"calibration inside the fold, seed {metrics['seed']}; ECE: 10 equal-mass bins. `PageValues` is filled in from later transactions: "
        "the figures without it are the honest ones while a session runs. The distance that `confidenceScore` states held for "
        f"{confidence['rows_within']:.1%} of held-out sessions and {confidence['groups_within']} of {confidence['groups']} groups of them. "
        f"`{results['command']}`, "
        f"{results['seconds']:.0f} s on {results['machine']['cores']} cores, {results['date'][:10]}."
    )


def drains(results: Results) -> Iterator[str]:
    """Yield the numbers of results/drains.json."""
    yield (
        f"{results['drains']} drains by rolling update under load, {results['answered']:,} requests, half of them over new connections, no "
        f"retries: **{results['failed']} failed** ({results['machine']['cores']} cores, {results['date'][:10]}, `{results['command']}`)."
    )


def placement(results: Results) -> Iterator[str]:
    """Yield the numbers of results/placement.json."""
    titles = {"pooled": "in processes of their own, as the server places them", "replica": "in the replica"}
    yield "| journey and emotion are answered | purchase alone: p99 | journeys saturated | texts saturated | journeys/s, texts/s |"
    yield "|---|---|---|---|---|"
    for name, each in results["placements"].items():
        rates = [statistics.median(one["slow_rate"] for one in each["rounds"][slow]) for slow in ("journey", "emotion")]
        times = [f"{each['p99_ms'][slow]:.1f} ms, **{each[f'{slow}_p99_times_alone']:.2f} times**" for slow in ("journey", "emotion")]
        yield f"| {titles[name]} | {each['p99_ms']['alone']:.1f} ms | {times[0]} | {times[1]} | {rates[0]:,.0f}, {rates[1]:,.0f} |"
    yield ""
    yield (
        f"The purchase endpoint at half its peak, an open loop, timed from when a request was due, beside "
        f"{results['workload']['callers']} callers of the slow question without a pause; server on one core, load on the other; all rounds "
        f"together. {_made(results)}"
    )


def journey_rates(results: Results) -> Iterator[str]:
    """Yield the numbers of results/journey_rates.json."""
    took = {name: statistics.median(times) * 1e6 for name, times in results["seconds_a_call"].items()}
    yield (
        f"One event more into a session of {results['events']}: {took['event']:.1f} µs, "
        f"**{results['event_times_torch']:.0f} times faster** than eager Torch over the whole session; {results['batch']} sessions at "
        f"once: {took['batch'] / 1000:.2f} ms, **{results['batch_times_torch']:.1f} times faster** than eager Torch on the same batch. One "
        f"network, one core. {_made(results)}"
    )


def journey_encoders(results: Results) -> Iterator[str]:
    """Yield the numbers of results/journey_encoders.json."""
    titles = {"gru": "gated recurrent unit, as served, one alone", "transformer": "causal transformer, two layers, four heads"}
    yield "| encoder of a session, learned by the same loss | AUC after 5 | after 10 | at the end | seconds to learn |"
    yield "|---|---|---|---|---|"
    for name, each in results["encoders"].items():
        means = [statistics.mean(each["auc"][after]) for after in ("5", "10", "all")]
        yield f"| {titles[name]} | " + " | ".join(f"{mean:.4f}" for mean in means) + f" | {statistics.mean(each['seconds']):.0f} |"
    yield "| XGBoost on counts and times | " + " | ".join(f"{results['plain'][after]:.4f}" for after in ("5", "10", "all")) + " | |"
    yield ""
    yield (
        f"{results['sessions']:,} published sessions to learn from, judged by {results['judged_by']:,} others, the mean of "
        f"{results['seeds']} seeds. {_made(results)}"
    )


def text_rates(results: Results) -> Iterator[str]:
    """Yield the numbers of results/text_rates.json."""
    took = {name: statistics.median(times) * 1e3 for name, times in results["seconds_a_text"].items()}
    single, together = (results[f"{name}_times_sentence_transformers"] for name in ("single", "together"))
    yield (
        f"One text after the other: {took['single']:.1f} ms each, **{single:.1f} times faster** than the same encoder through "
        f"`sentence-transformers`; in batches: {took['together']:.1f} ms each, **{together:.1f} times**. Weights have 8 bits: the smallest "
        f"cosine between the quantized and the exact vector of a text is {results['min_cosine']:.3f}. One core. {_made(results)}"
    )


def off_policy(results: Results) -> Iterator[str]:
    """Yield the numbers of results/off_policy.json."""
    titles = {"ips": "IPS", "snips": "SNIPS", "dr": "DR"}
    estimates = {title: results["estimates"][name] for name, title in titles.items()}
    shown = ", ".join(f"{title} {one['value']:.2%} ({one['low']:.2%} to {one['high']:.2%})" for title, one in estimates.items())
    yield (
        f"Open Bandit Dataset, men: from {results['decisions']:,} choices drawn evenly, of which {results['even_rate']:.2%} were clicked, "
        f"the value of Thompson sampling is estimated as {shown}; it earned {results['bandit_rate']:.2%}. {_made(results)}"
    )


SECTIONS: dict[str, Callable[[Results], Iterator[str]]] = {
    "comparison": comparison,
    "overload": overload,
    "promotions": promotions,
    "single_flight": single_flight,
    "endpoints": endpoints,
    "kernel_rates": kernel_rates,
    "costs": costs,
    "value_rates": value_rates,
    "friction_rates": friction_rates,
    "placement": placement,
    "journey_rates": journey_rates,
    "journey_encoders": journey_encoders,
    "text_rates": text_rates,
    "off_policy": off_policy,
    "gpu_rates": gpu_rates,
    "price_rates": price_rates,
    "profit": profit,
    "drains": drains,
    "purchase_model": model,
}


def summary(results: Mapping[str, Results | None]) -> Iterator[str]:
    """Yield the README's five numbers, one line each, and its plot; a line without its result is left out. `results`: by section."""
    lines = {
        "comparison": _rate_line,
        "overload": _overload_line,
        "promotions": _promotions_line,
        "kernel_rates": _kernels_line,
        "profit": _profit_line,
    }
    found = {name: result for name in lines if (result := results[name]) is not None}
    yield from (f"- {lines[name](result)}" for name, result in found.items())
    if found:
        machine, date = _newest(found)
        yield ""
        yield f"{machine['cores']} cores ({machine['cpu']}, {machine['memoryGiB']:g} GiB), {date}; server and load on the same machine."
    if "comparison" in found:
        yield from ("", "![Scores a second](benchmarks/results/comparison.svg)")


def _rate_line(results: Results) -> str:
    ours = results["peers"]["ours"]
    times = results["ratios"]["ours"]["times_the_rate_of"]
    others = ", ".join(
        f"{ratio:.1f} times {_label(results, name).replace(', ', ' with ')}'s" for name, ratio in times.items() if name in PEERS
    )
    return (
        f"**{ours['rate']['median']:,.0f} purchase scores/s**, p50 {ours['p50_ms']['median']:.1f} ms and p99 "
        f"{ours['p99_ms']['median']:.1f} ms with {ours['connections']} connections, the cache off: validation, features, score, SHAP "
        f"values and actions{f'; the rate is {others}, which return the bare model only' if others else ''}."
    )


def _overload_line(results: Results) -> str:
    # Of the longest runs the one with the most offered.
    each = max(results["offered"], key=lambda each: (round(each["seconds"]), each["times"]))
    return (
        f"**{each['goodput_share']:.0%} of the peak** is still answered when {each['times']:g} times the peak is offered; "
        f"{each['in_deadline']:.2%} of the accepted requests are answered before their deadline."
    )


def _promotions_line(results: Results) -> str:
    requests = sum(each["requests"] for each in results["promoting"])
    return f"**{results['failed']} of {requests:,} requests failed** while {results['promotions']} model promotions followed one another."


def _kernels_line(results: Results) -> str:
    trees, shap = (results[part]["rows"]["1"] for part in ("forest", "shap"))
    name, other = next((name, each) for name, each in trees.items() if name != "ours")
    return (
        f"**{_figures(trees['ours']['median_us'])} µs** for one row through {results['model']['trees']} trees, "
        f"{other['times_ours']:.0f} times as fast as {results['forest']['labels'][name]} with the same bits; exact SHAP values in "
        f"{_figures(shap['ours']['median_us'])} µs."
    )


def _profit_line(results: Results) -> str:
    return (
        f"**{results['share_of_oracle']:.1%}** of the profit possible with the true elasticities is earned by the recommended prices in "
        f"{len(results['shops'])} simulated shops."
    )


def _newest(results: Mapping[str, Results]) -> tuple[dict[str, Any], str]:
    """Return the machine and the day of the newest result."""
    newest = max(results.values(), key=lambda each: str(each["date"]))
    return newest["machine"], newest["date"][:10]


def rewrite(text: str, name: str, lines: Iterator[str]) -> str:
    """Return `text` with `lines` between the markers of the section `name`.

    Raises ValueError unless the text has one of each marker, in order.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed or begin in after or end in before + after:
        raise ValueError(f"the text needs one {begin} and, after it, one {end}")
    return "\n".join([f"{before}{begin}", *lines, f"{end}{after}"])


def right_page(text: str) -> str:
    """Return the text of docs/benchmarks.md with the numbers of all results."""
    for name, section in SECTIONS.items():
        result = stored.read(name)
        text = rewrite(text, name, iter(()) if result is None else section(result))
    return text


def right_readme(text: str) -> str:
    """Return the README's text with its five numbers and its plot."""
    return rewrite(text, "numbers", summary({name: stored.read(name) for name in SECTIONS}))


FILES: Mapping[Path, Callable[[str], str]] = {README: right_readme, PAGE: right_page}


def _figures(value: float) -> str:
    """Return a number with four figures, or all that stand before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _rates(results: Results) -> Iterator[str]:
    yield (
        "| server | answers | scores/s (lowest to highest) | p50 / p99, ms | CPU s for 1,000 | memory, MiB | one connection: p50, ms "
        "| rate with p99 up to 10 ms |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    there = [each for each in results["peers"].values() if "failed" not in each]
    for one in sorted(there, key=lambda each: -float(each["rate"]["median"] * each["items"])):
        rate, items = one["rate"], one["items"]
        held = f"{one['rate_at_p99']:,.0f}" if one["sweep"] else "none" if items == 1 else ""
        yield (
            f"| {one['label']} | {QUESTIONS[one['question']]} "
            f"| **{rate['median'] * items:,.0f}** ({rate['lowest'] * items:,.0f} to {rate['highest'] * items:,.0f}) "
            f"| {one['p50_ms']['median']:.1f} / {one['p99_ms']['median']:.1f} | {one['server_cpu_s_per_1000']['median']:.3f} "
            f"| {one['rss_mib']['median']:,.0f} | {one['one_connection']['p50_ms']:.2f} | {held} |"
        )


PEERS = ("triton", "mlserver", "ray_haproxy")  # those that the README's line names
QUESTIONS = {"endpoint": "the whole purchase endpoint", "model": "the bare model", "nothing": "nothing"}


def _conditions(results: Results) -> Iterator[str]:
    work, machine = results["workload"], results["machine"]
    for ours, ratios in results["ratios"].items():
        times = ", ".join(f"{ratio:.1f} times {_label(results, name)}" for name, ratio in ratios["times_the_rate_of"].items())
        if times:
            yield f"{_label(results, ours)} ({QUESTIONS[results['peers'][ours]['question']]}) has the rate of {times}."
    failed = [f"{each['label']} ({each['failed'].splitlines()[0]})" for each in results["peers"].values() if "failed" in each]
    if failed:
        yield f"Not measured: {'; '.join(failed)}."
    yield (
        f"The whole endpoint: validation, features of {work['interactions']} interactions, score, SHAP values, actions. The bare model: "
        f"{work['features']} numbers in, one out. Both {work['trees']} trees of depth {work['depth']}, the cache off unless stated, "
        f"{work['connections']} connections (8 for the batches), "
        f"a replica for each core; median of {work['repeats']} × {work['seconds']:g} s in "
        f"rotation, server and load generator on the same {machine['cores']} cores. {_made(results)}"
    )


def _cost(results: Results) -> Iterator[str]:
    alone = results["peers"]["ours"]["one_connection"]
    yield f"What one request costs, stage by stage, over {alone['requests']:,} requests one after the other:"
    yield ""
    yield "| stage | mean, µs | p50, µs |"
    yield "|---|---|---|"
    for stage in stages(results):
        yield f"| {stage.name} | {stage.mean_us:,.0f} | {'' if stage.p50_us is None else f'{stage.p50_us:,.0f}'} |"
    yield f"| the whole round trip | {alone['mean_ms'] * 1000:,.0f} | {alone['p50_ms'] * 1000:,.0f} |"


def _label(results: Results, name: str) -> str:
    label: str = results["peers"][name]["label"]
    return label


def _made(results: Results) -> str:
    machine = results["machine"]
    return (
        f"{machine['cores']} cores ({machine['cpu']}, {machine['memoryGiB']:g} GiB), Python {results['versions']['python']}, "
        f"{results['date'][:10]}, `{results['command']}`."
    )


def main() -> None:
    """Write the numbers into both files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when a file shows other numbers")
    options = parser.parse_args()
    for file, right in FILES.items():
        shown = file.read_text()
        wanted = right(shown)
        if not options.check:
            file.write_text(wanted)
        elif shown != wanted:
            name = file.relative_to(ROOT)
            sys.exit(f"{name} does not show the numbers of benchmarks/results; run: python -m benchmarks.readme_numbers")


if __name__ == "__main__":
    main()
