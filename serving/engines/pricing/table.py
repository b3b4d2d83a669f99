"""Rows of a catalogue, with columns named as for training, as pricing requests."""

import math
from typing import TYPE_CHECKING, Any

from serving.engines.pricing.types import MIN_PRICE, CompetitorPrice, DynamicPricingRequest, PricingContext
from training.errors import CellError
from training.tables import cells
from training.tables.cells import EMPTY_ONLY
from training.tables.sales import ONE

if TYPE_CHECKING:
    from training.models.pricing.model import PricingModel

_MAX = 1e9


def column(frame: Any, name: str, low: float, otherwise: float | None = None) -> list[float | None]:
    """Return a column of numbers, `otherwise` where there is none. Raises CellError for a number below `low` or above 1e9."""
    if name not in frame.columns:
        return [otherwise] * len(frame)
    values = [None if value is None or value != value else float(value) for value in frame[name].to_list()]
    wrong = next((row for row, value in enumerate(values) if value is not None and not low <= value <= _MAX), None)
    if wrong is not None:
        raise CellError(wrong, name, values[wrong], f"is not in the range {low:g} to {_MAX:g}; correct it, or leave it empty")
    return [otherwise if value is None else value for value in values]


def texts(frame: Any, name: str, otherwise: str) -> list[str]:
    """Return a column of ids, `otherwise` where there is none; no word is blank here, a batch job has removed them."""
    if name not in frame.columns:
        return [otherwise] * len(frame)
    return cells.ids(frame[name], EMPTY_ONLY).fill_null(otherwise).to_list()


def requests(frame: Any, model: "PricingModel") -> list[DynamicPricingRequest]:
    """Return a request for each row of a table (polars or pandas).

    Raises CellError for a number outside its range, and for a product without a price of which the model has none either.
    """
    rows = len(frame)
    products, prices = texts(frame, "product", ONE), column(frame, "price", MIN_PRICE)
    for row, (product, price) in enumerate(zip(products, prices, strict=True)):
        if price is None and not math.isfinite(model.price[model.place(product)]):
            raise CellError(row, "price", None, f"is no price, and is needed: product {product} is not in the training data of the model")
    names = [name for name in (*model.competitors, "competitorPrice") if name in frame.columns]
    competitors = zip(*(column(frame, name, MIN_PRICE) for name in names), strict=True) if names else [()] * rows
    made = zip(
        products,
        prices,
        column(frame, "quantity", 0.0, 0.0),
        column(frame, "cost", 0.0),
        column(frame, "stock", 0.0, _MAX),
        competitors,
        strict=True,
    )
    return [
        DynamicPricingRequest(
            product_id=product,
            context_data=PricingContext(
                current_demand=quantity or 0.0,
                competitor_prices=[CompetitorPrice(competitor=n, price=p) for n, p in zip(names, others, strict=True) if p is not None],
                inventory_level=_MAX if stock is None else stock,
                current_price=price,
                unit_cost=cost,
            ),
        )
        for product, price, quantity, cost, stock, others in made
    ]
