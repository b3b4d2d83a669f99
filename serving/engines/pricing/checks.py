"""Which pricing requests are refused: by any model, and by a given one."""

import math
import re
from typing import TYPE_CHECKING

from serving.engines.pricing.columns import DEFAULT_POLICY
from serving.engines.pricing.types import DynamicPricingRequest, PricePolicy
from serving.engines.types import invalid_moment, is_valid_moment
from serving.errors import FieldProblem, InvalidRequestError
from training.currencies import DIGITS, minor_unit

if TYPE_CHECKING:
    from training.models.pricing.model import PricingModel

# Attributes that the law protects: no price may depend on them, whatever the consent.
_PROTECTED = re.compile(
    r"(?<![a-z])(gender|sex|male|female|race|racial|ethnic\w*|religio\w*|muslim|jewish|christian|disab\w*|pregnan\w*|nationality|"
    r"sexual\w*|gay|lesbian|age|senior|political\w*|union)(?![a-z])"
)


def check(request: DynamicPricingRequest) -> None:
    """Raise InvalidRequestError for what types cannot express."""
    wrong, policy, context = list[FieldProblem](), request.policy or DEFAULT_POLICY, request.context_data
    for low_field, high_field in (("min_price", "max_price"), ("competitor_low", "competitor_high")):
        low, high = getattr(policy, low_field), getattr(policy, high_field)
        if low is not None and high is not None and low > high:
            other = _camel(high_field)
            wrong.append(FieldProblem(f"policy.{_camel(low_field)}", f"is {low:g}, more than {other}, {high:g}: no price is within both"))
    if context.customer_segment is not None and (found := _PROTECTED.search(context.customer_segment.lower().replace("_", " "))):
        wrong.append(FieldProblem("contextData.customerSegment", f"contains {found[0]!r}: no price may depend on a protected attribute"))
    if request.as_of is not None and not is_valid_moment(request.as_of):
        wrong.append(invalid_moment("asOf"))
    if wrong:
        raise InvalidRequestError(wrong)


def refusal(model: "PricingModel", request: DynamicPricingRequest) -> InvalidRequestError | None:
    """Return an error for what only the model can tell, None where there is nothing wrong.

    A product of unknown price, amounts in different currencies, and prices that cannot be paid in their currency.
    """
    context, wrong = request.context_data, list[FieldProblem]()
    if context.current_price is None and not math.isfinite(model.price[model.place(request.product_id)]):
        needed = f"is required: product {request.product_id} is not in the training data of the model"
        wrong.append(FieldProblem("contextData.currentPrice", needed))
    currency = context.currency or model.currency
    if (
        context.currency
        and model.currency
        and context.currency != model.currency
        and (context.current_price is None or context.unit_cost is None)
    ):
        fix = f"is {context.currency}, the model's prices are in {model.currency}: state currentPrice and unitCost"
        wrong.append(FieldProblem("contextData.currency", fix))
    wrong += [
        FieldProblem(
            f"contextData.competitorPrices[{number}].currency", f"is {one.currency}, the other amounts are in {currency or 'none'}"
        )
        for number, one in enumerate(context.competitor_prices or ())
        if one.currency is not None and currency is not None and one.currency != currency
    ]
    if request.policy is not None:
        wrong += _unpayable(request.policy, currency)
    return InvalidRequestError(wrong) if wrong else None


def _unpayable(policy: PricePolicy, currency: str | None) -> list[FieldProblem]:
    """Return a problem for each amount that prices are made from and that is no multiple of the currency's minor unit."""
    unit = minor_unit(currency)
    if unit is None or currency is None or not (policy.tick or policy.ladder or policy.endings):
        return []
    amounts = [("tick", policy.tick)] if policy.tick else []
    for name, listed in (("ladder", policy.ladder), ("endings", policy.endings)):
        amounts += [(f"{name}[{number}]", amount) for number, amount in enumerate(listed or ())]
    fix = f"no multiple of {unit:g}, the minor unit of {currency}: state one that is, or leave it out"
    wrong = [(name, amount) for name, amount in amounts if round(amount, DIGITS[currency]) != amount]
    return [FieldProblem(f"policy.{name}", f"is {amount:.10g}, {fix}") for name, amount in wrong]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
