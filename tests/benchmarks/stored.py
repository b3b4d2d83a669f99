"""Made-up results, as the benchmarks store them, for the tests of what is made from them."""


def peer(label, rate, question="model", items=1, sweep=True):
    spread = {"median": rate, "lowest": rate - 10, "highest": rate + 10}
    runs = [
        {"offered": share * rate, "p50_ms": share, "p99_ms": 4 * share, "p999_ms": 9 * share, "errors": {}, "requests": 9}
        for share in (0.5, 1.0, 3.0)
    ]
    return {
        "label": label,
        "question": question,
        "items": items,
        "connections": 32,
        "versions": {},
        **dict.fromkeys(("rate", "p50_ms", "p99_ms", "server_cpu_s_per_1000", "rss_mib"), spread),
        "one_connection": {"requests": 1000, "mean_ms": 1.0, "p50_ms": 0.9, "p99_ms": 2.0, "stages": {}},
        "sweep": runs if sweep else [],
        "rate_at_p99": rate if sweep else 0.0,
        "repeats": [],
    }


def about(name):
    return {
        "date": "2026-11-22T10:00:00Z",
        "command": f"python -m benchmarks.{name}",
        "machine": {"cpu": "A Processor", "cores": 2, "memoryGiB": 23.5},
        "versions": {"python": "3.11.9"},
    }


def comparison():
    ours = peer("ours & theirs", 1234.4, "endpoint")
    ours["one_connection"]["stages"] = {"parse": {"mean_ms": 0.05, "p50_ms": 0.04}, "model": {"mean_ms": 0.45, "p50_ms": 0.44}}
    return {
        **about("comparison"),
        "workload": {"interactions": 20, "connections": 32, "seconds": 5.0, "repeats": 3, "trees": 200, "depth": 6, "features": 17},
        "ratios": {"ours": {"times_the_rate_of": {"other": 8.23}, "share_of_the_p50_of": {"other": 0.5}}},
        "peers": {
            "ours": ours,
            "ours_batch": peer("in batches", 40.0, "endpoint", items=100, sweep=False),
            "other": peer("another", 150.0),
            "gone": {"label": "a third", "failed": "it would not start\nat all"},
        },
    }


def overload():
    refused = {"count": 600, "without_retry_after": 0, "p50_ms": 0.5, "p99_ms": 1.5}
    none = {"count": 0, "without_retry_after": 0}
    offered = [
        {
            "times": 1.0,
            "seconds": 12.0,
            "goodput": 990.0,
            "goodput_share": 0.99,
            "in_deadline": 1.0,
            "refused": none,
            "rss_mib": [100, 101],
        },
        {
            "times": 2.0,
            "seconds": 60.0,
            "goodput": 870.0,
            "goodput_share": 0.87,
            "in_deadline": 0.9995,
            "refused": refused,
            "rss_mib": [101, 102],
        },
    ]
    offered = [{**each, "refusals_without_retry_after": each["refused"]["without_retry_after"]} for each in offered]
    return {**about("overload"), "workload": {"deadline_ms": 100}, "peak": 1000.0, "offered": offered}


def promotions():
    return {
        **about("promotions"),
        "promotions": 100,
        "offered": 500.0,
        "seconds_to_live": [1.5, 0.5, 1.0],
        "failed": 0,
        "steady": [{"p99_ms": 1.5}, {"p99_ms": 2.5}],
        "promoting": [{"requests": 5000, "p99_ms": 2.4}, {"requests": 5000, "p99_ms": 2.4}],
        "p99_ms": {"steady": 2.0, "promoting": 2.4},
        "p99_times_steady": 1.2,
    }


def single_flight():
    return {**about("single_flight"), "callers": 1000, "counted": {"batches_total": 1.0, "batched_rows_total": 1.0}}


def kernel_rates():
    def at(ours, other):
        return {"ours": {"median_us": ours, "times_ours": 1.0}, "xgboost": {"median_us": other, "times_ours": round(other / ours, 2)}}

    part = {"labels": {"ours": "revenue-engine", "xgboost": "XGBoost 9"}, "rows": {"1": at(5.0, 400.0), "1024": at(900.0, 5_000.0)}}
    model = {"trees": 200, "depth": 6, "features": 17, "rounds": 9}
    return {**about("kernel_rates"), "model": model, "forest": {**part, "missing": {"another": "no wheel"}}, "shap": part}


def costs():
    def at(ours):
        return {rows: {"ours": {"median_us": ours}, "xgboost": {"median_us": 400.0}} for rows in ("1", "1024")}

    trees = {what: {"2": at(3.0), "10": at(9.0)} for what in ("trees", "depth", "features")}
    return {**about("costs"), "trees": trees, "interactions": {"0": {"median_us": 20.0}, "200": {"median_us": 60.0}}}


def price_rates():
    one = {"ours": {"median_us": 3.0, "times_ours": 1.0}, "numpy": {"median_us": 30.0, "times_ours": 10.0}}
    one["scipy"] = {"median_us": 210.0, "times_ours": 70.0}
    many = {"products": 1_000_000, "ours_s": 1.25, "numpy_s": 15.0, "numpy_chunk": 16, "times_ours": 12.0, "grown_mib": 0.4}
    return {**about("price_rates"), "rungs": 64, "draws": 64, "one": one, "many": many}


def profit():
    shops = [{"seed": seed} for seed in range(10)]
    whole = {"today": 1000.0, "engine": 1100.0, "oracle": 1120.0, "share_of_oracle": 0.9821, "interval80_holds": 0.791}
    return {**about("profit"), "products": 2000, "currency": "EUR", "shops": shops, **whole}
