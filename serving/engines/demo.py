"""Demonstration models: those learned from a simulated shop, whose answers state it (`basis: "demo"`)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import force_setattr

from kernels.arrays import Arrays
from serving.engines.engine import Engine, Scorer
from serving.settings import Settings
from training.errors import BundleError

if TYPE_CHECKING:
    from training.registry.bundle import Bundle

DEMO = "demo"


class DemoScorer:
    """A scorer whose answers have `basis: "demo"`. Whatever does not make answers is the scorer's own, without a further call."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.version, self.refusal = scorer.version, scorer.refusal
        self.columns, self.without_explanations, self.run, self.table = (
            scorer.columns,
            scorer.without_explanations,
            scorer.run,
            scorer.table,
        )

    def __getattr__(self, name: str) -> Any:
        """Return what an engine's scorer has beside the methods of `Scorer`, such as the states of remembered sessions."""
        return getattr(self.scorer, name)

    def tune(self, live: Scorer | None = None) -> Sequence[str]:
        """Return what was chosen for this machine and why."""
        return self.scorer.tune(undecorated(live))

    def base_rate(self, request: Any) -> Any | None:
        """Return the scorer's base rate, marked, None where it has none."""
        row = self.scorer.base_rate(request)
        return None if row is None else _marked([row])[0]

    def rows(self, requests: Sequence[Any], predictions: Any) -> list[Any]:
        """Return the scorer's responses, marked."""
        return _marked(self.scorer.rows(requests, predictions))

    def output_columns(self, predictions: Any) -> dict[str, Any]:
        """Return the scorer's output columns, and `basis`."""
        columns = self.scorer.output_columns(predictions)
        return {**columns, "basis": [DEMO] * len(columns["modelVersion"])}


def load(engine: Engine, bundle: "Bundle", settings: Settings, arrays: Arrays | None = None) -> Scorer:
    """Return the scorer of a bundle. Raises what `Engine.load` does, and BundleError for a demonstration model where none is allowed."""
    if not bundle.simulated:
        return engine.load(bundle, settings, arrays)
    if not settings.models.allow_demo:
        raise BundleError(
            f"bundle {bundle.path} was learned from a simulated shop, and models.allow_demo is false: train on your own data, "
            "or set it to true"
        )
    return DemoScorer(engine.load(bundle, settings, arrays))


def notice(tasks: Sequence[str], allowed: bool) -> str:
    """Return the line at the start of a server of which these questions have a demonstration model."""
    named = ", ".join(tasks)
    if not allowed:
        return f"WARNING: {named}: the model was learned from a simulated shop and is refused, as models.allow_demo is false"
    return (
        f"WARNING: DEMO MODELS answer {named}: they were learned from a simulated shop and say nothing about yours (basis: demo). "
        "Train on your own data, or refuse them with models.allow_demo: false"
    )


def is_demo(scorer: Scorer | None) -> bool:
    """Return whether a model is for demonstration."""
    return isinstance(scorer, DemoScorer)


def undecorated(scorer: Scorer | None) -> Scorer | None:
    """Return the engine's own scorer."""
    return scorer.scorer if isinstance(scorer, DemoScorer) else scorer


def _marked(rows: list[Any]) -> list[Any]:
    for row in rows:
        force_setattr(row, "basis", DEMO)  # the row is new: no other reference to it is there to see it change
    return rows
