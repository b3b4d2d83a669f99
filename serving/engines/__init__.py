"""The questions that the API can answer. A new one is a folder here (see `engine`) and a line in ENGINES."""

from serving.engines.churn.scorer import CHURN
from serving.engines.emotion.scorer import EMOTION
from serving.engines.engine import Engine, Scorer
from serving.engines.journey.scorer import JOURNEY
from serving.engines.pricing.scorer import PRICING
from serving.engines.purchase.scorer import PURCHASE
from serving.engines.value.scorer import VALUE

__all__ = ["ENGINES", "Engine", "Scorer", "named"]

ENGINES: tuple[Engine, ...] = (
    PURCHASE,
    PRICING,
    VALUE,
    CHURN,
    JOURNEY,
    EMOTION,
)


def named(name: str) -> Engine:
    """Return the engine of this name, which must be one of ENGINES."""
    return next(engine for engine in ENGINES if engine.name == name)
