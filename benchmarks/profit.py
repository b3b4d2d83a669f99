"""What the prices earn: `python -m benchmarks.profit`, from the project's root.

Simulated shops, whose true elasticities are known: demand is learned from a year of their sales, the engine prices every product, and what
that earns under the truth is held against what today's prices earn and against an oracle with the true elasticities and has the same ladder
and rails. Writes benchmarks/results/profit.json; `benchmarks.plot` draws it.
"""

import argparse
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.harness import log
from kernels.pricing import ladder as kernel
from serving.engines.pricing.scorer import PricingScorer
from serving.engines.pricing.types import DynamicPricingRequest, PricePolicy, PricingContext
from training.datasets.shop import catalog as shop_catalog
from training.models.pricing import train as elasticity
from training.models.pricing.model import PricingModel
from training.tables import sales as sales_table

SHOPS, QUICK_SHOPS = 10, 2
POLICY = PricePolicy(max_change=0.5, min_margin_share=0.05)


def shop(seed: int) -> dict[str, Any]:
    """Return what one shop's prices earn, a week: today's, the engine's and the oracle's."""
    random = np.random.default_rng(seed)
    catalog = shop_catalog.draw(random)
    sales = sales_table.read(shop_catalog.sales(catalog, random))
    learned = elasticity.fit(sales, ("product", "period"))
    content = elasticity.content(learned)
    scorer = PricingScorer(PricingModel(content, {"currency": shop_catalog.CURRENCY}, "benchmark"))
    sold = content["quantity"]
    requests = [
        DynamicPricingRequest(
            product_id=name,
            context_data=PricingContext(
                current_demand=quantity, competitor_prices=[], inventory_level=1e9, current_price=float(price), unit_cost=float(cost)
            ),
            policy=POLICY,
        )
        for name, quantity, price, cost in zip(sales.products, sold, catalog.price[:, -1], catalog.cost[:, -1], strict=True)
    ]
    columns = scorer.columns(requests)
    chosen = scorer.run(columns).price
    oracle, best = columns.inputs.copy(), np.empty((len(requests), kernel.OUTPUTS))
    oracle[:, kernel.ELASTICITY], oracle[:, kernel.SD] = catalog.elasticity, 0.0
    kernel.prices(columns.ladder, oracle, best)
    current, cost = columns.inputs[:, kernel.PRICE], columns.inputs[:, kernel.COST]

    def earned(price: Any) -> float:
        return round(float(((price - cost) * np.array(sold) * (price / current) ** catalog.elasticity).sum()), 2)

    figures = {"today": earned(current), "engine": earned(chosen), "oracle": earned(best[:, kernel.BEST])}
    posterior = learned.states[None][1].interval80
    held = float(((posterior[:, 0] <= catalog.elasticity) & (catalog.elasticity <= posterior[:, 1])).mean())
    log(f"shop {seed}: {figures}, 80 % intervals contain {held:.1%} of the true elasticities")
    return {"seed": seed, **figures, "share_of_oracle": round(figures["engine"] / figures["oracle"], 4), "interval80_holds": round(held, 4)}


def main() -> None:
    """Price the shops, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer shops; prints, and writes nothing")
    options = parser.parse_args()
    shops = [shop(seed) for seed in range(QUICK_SHOPS if options.quick else SHOPS)]
    whole = {name: round(sum(one[name] for one in shops), 2) for name in ("today", "engine", "oracle")}
    found = {
        "products": shop_catalog.PRODUCTS * len(shops),
        "currency": shop_catalog.CURRENCY,
        "shops": shops,
        **whole,
        "share_of_oracle": round(whole["engine"] / whole["oracle"], 4),
        "interval80_holds": round(float(np.mean([one["interval80_holds"] for one in shops])), 4),
    }
    results.conclude("profit", found, write=not options.quick)


if __name__ == "__main__":
    main()
