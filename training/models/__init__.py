"""One file per model. MODELS says what `revenue-engine train TASK` runs; a model's module is imported when it is used."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.registry.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be trained, by the names of two modules: the one with its `train`, and the one that knows its tables.

    options: what `train` takes beside them. simulated: the simulated shop has a table for it, so that a fresh machine gets a default model.
    packaged: the folder beside this file with the bundle that is the default.
    """

    module: str
    table_module: str
    options: tuple[str, ...] = ()
    simulated: bool = True
    packaged: str | None = None

    def train(
        self, data: Path, out: Path, *, mapping: Mapping[str, Any], seed: int, progress: Callable[[str, float], None], **options: Any
    ) -> "Bundle":
        """Fit on the table in `data`, evaluate, write the bundle into `out` and return it; `progress` hears what is done, 0 to 1.

        options: of those that `self.options` names.
        """
        bundle: Bundle = import_module(self.module).train(data, out, mapping=mapping, seed=seed, progress=progress, **options)
        return bundle

    @property
    def default(self) -> Path | None:
        """The bundle that comes with the package, None where none does."""
        return None if self.packaged is None else Path(__file__).parent / self.packaged

    @property
    def table(self) -> ModuleType:
        """Return the module that knows the model's tables: FIELDS, TOGETHER, number_columns, resolve."""
        return import_module(self.table_module)


MODELS: Mapping[str, Model] = {
    "purchase": Model("training.models.purchase.train", "training.tables.sessions"),
    "pricing": Model("training.models.pricing.train", "training.tables.sales", options=("effects",)),
    "value": Model("training.models.value.train", "training.tables.purchases", options=("split", "end", "score"), simulated=False),
    "churn": Model("training.models.churn.train", "training.tables.customers", options=("positive", "control"), simulated=False),
    "journey": Model("training.models.journey.train", "training.tables.journeys", simulated=False),
    "emotion": Model(
        "training.models.emotion.train", "training.tables.texts", options=("full",), simulated=False, packaged="emotion/default"
    ),
}
