"""One folder per model. MODELS has what `revenue-engine train TASK` and `batch TASK` run; a model's module is imported when it is used."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.models.options import Option

if TYPE_CHECKING:
    from training.evaluation.judged import Judged
    from training.registry.bundle import Bundle
    from training.tables.cells import CellOptions
    from training.tables.table import TableKind


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be trained, by the names of two modules: the one with its `train`, and the one with the `TABLE` that it reads.

    summary: the question, in a line of `revenue-engine train --help`. train_options: what `train` takes beside the common arguments;
    batch_options: what `TABLE.join` takes. simulated: the simulated shop has a table for it, so that a fresh machine gets a default model.
    packaged: the folder beside this file with the bundle that is the default. evaluation: the module with `judge`, which predicts a table
    with labels; "" where there is none, for the reason `no_evaluation`. evaluate_options: what `judge` takes beside the common arguments.
    """

    summary: str
    module: str
    table_module: str
    train_options: tuple[Option, ...] = ()
    batch_options: tuple[Option, ...] = ()
    simulated: bool = True
    packaged: str | None = None
    evaluation: str = ""
    evaluate_options: tuple[Option, ...] = ()
    no_evaluation: str = "its table has no label that a prediction could be compared with"

    def train(
        self,
        data: Path,
        out: Path,
        *,
        mapping: Mapping[str, Any],
        cells: "CellOptions | None" = None,
        seed: int,
        progress: Callable[[str, float], None],
        **options: Any,
    ) -> "Bundle":
        """Fit on the table in `data`, evaluate, write the bundle into `out` and return it.

        cells: how cells are read where the table alone does not decide it, None for the default. progress: called with what is being done,
        and how much of all is done, 0 to 1; options: those of `self.train_options`.
        """
        given = {} if cells is None else {"cells": cells}
        bundle: Bundle = import_module(self.module).train(data, out, mapping=mapping, seed=seed, progress=progress, **given, **options)
        return bundle

    def judge(
        self, bundle: "Bundle", data: Path, *, mapping: Mapping[str, Any], cells: "CellOptions | None" = None, **options: Any
    ) -> "Judged":
        """Return the predictions of a bundle for the table in `data`, beside what happened.

        cells: as for `train`; options: those of `self.evaluate_options`.
        """
        given = {} if cells is None else {"cells": cells}
        judged: Judged = import_module(self.evaluation).judge(bundle, data, mapping=mapping, **given, **options)
        return judged

    @property
    def default(self) -> Path | None:
        """Return the bundle that comes with the package, None where none does."""
        return None if self.packaged is None else Path(__file__).parent / self.packaged

    @property
    def table(self) -> "TableKind":
        """Return the table that the model learns from and scores."""
        table: TableKind = import_module(self.table_module).TABLE
        return table


MODELS: Mapping[str, Model] = {
    "purchase": Model(
        "Will this session buy?",
        "training.models.purchase.train",
        "training.tables.sessions",
        evaluation="training.models.purchase.evaluate",
    ),
    "pricing": Model(
        "Which price earns the most?",
        "training.models.pricing.train",
        "training.tables.sales",
        train_options=(
            Option("effects", "Fixed effects, of product,store,period. [default: those that the table has]", metavar="LIST", several=True),
        ),
        no_evaluation="a row of sales has no label of an elasticity; train on the table, and compare the elasticities in metrics.json",
    ),
    "value": Model(
        "What is this customer worth?",
        "training.models.value.train",
        "training.tables.purchases",
        train_options=(
            Option("split", "The last day to learn from. [default: the last]", metavar="DAY"),
            Option("end", "The last day to compare with. [default: the last]", metavar="DAY"),
            Option("score", "Write every customer's value into this file, .csv or .parquet.", kind=Path, metavar="FILE"),
            Option("model", "Serve this model: bg_nbd, mbg_nbd, pareto_nbd or nbd. [default: the best]", metavar="NAME"),
        ),
        simulated=False,
        evaluation="training.models.value.evaluate",
        evaluate_options=(
            Option("split", "Value: the last day that is known to the model.", metavar="DAY"),
            Option("end", "Value: the last day to compare with. [default: the last]", metavar="DAY"),
        ),
    ),
    "churn": Model(
        "Is this customer leaving?",
        "training.models.churn.train",
        "training.tables.customers",
        train_options=(
            Option("positive", "The label of customers who left. [default: Yes, True or 1]", metavar="TEXT"),
            Option("control", "The arm of `treatment` to which nothing was done.", metavar="TEXT"),
        ),
        simulated=False,
        evaluation="training.models.churn.evaluate",
    ),
    "journey": Model(
        "What should happen next in this session?",
        "training.models.journey.train",
        "training.tables.journeys",
        batch_options=(
            Option(
                "first",
                "Score each session as of its K-th event; a session with fewer events has ended after its last.",
                kind=int,
                metavar="K",
                minimum=1,
            ),
        ),
        simulated=False,
        evaluation="training.models.journey.evaluate",
        evaluate_options=(
            Option("first", "Journey: judge each session as of its K-th event. [default: its last]", kind=int, metavar="K", minimum=1),
        ),
    ),
    "emotion": Model(
        "How does this customer feel?",
        "training.models.emotion.train",
        "training.tables.texts",
        train_options=(Option("full", "Fine-tune the whole encoder, not the head alone; takes four times as long.", kind=bool),),
        simulated=False,
        packaged="emotion/default",
        evaluation="training.models.emotion.evaluate",
    ),
}
