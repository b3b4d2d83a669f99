"""Loading of the boosted trees of a bundle, and tuning for a machine, for every model with trees."""

from collections.abc import Sequence

from kernels.arrays import Arrays
from kernels.trees.forest import Forest
from kernels.trees.shap import TreeShap
from training.errors import BundleError
from training.registry.bundle import Bundle


def prepare(bundle: Bundle, file: str, columns: int) -> Arrays:
    """Return the trees in `file` of a verified bundle flattened and checked against XGBoost, for `Forest.of_parts` and `TreeShap.of_parts`.

    Raises BundleError for trees that cannot be read, and for another number of columns.
    """
    of = forest(bundle, file, columns)
    return {**of.parts(), **TreeShap(of.trees).parts()}


def forest(bundle: Bundle, file: str, columns: int) -> Forest:
    """Return the forest in `file` of a verified bundle, flattened and checked against XGBoost. Raises BundleError as `prepare` does."""
    import xgboost as xgb  # only here: a replica that gets prepared arrays saves the memory

    try:
        booster = xgb.Booster(model_file=bytearray(bundle.read(file)))
        if booster.num_features() != columns:
            raise ValueError(f"the trees have {booster.num_features()} features, not {columns}")
        booster.set_param({"nthread": 1, "device": "cpu"})
        return Forest.from_booster(booster)
    except (xgb.core.XGBoostError, KeyError, TypeError, ValueError) as error:
        raise unloadable(bundle, error) from error


def named(prefix: str, of: Forest) -> Arrays:
    """Return a forest's arrays under names with a prefix."""
    return {prefix + name: part for name, part in of.parts().items()}


def of_name(prefix: str, parts: Arrays) -> Forest:
    """Return the forest of the arrays with this prefix, as `named` returned them."""
    return Forest.of_parts({name[len(prefix) :]: part for name, part in parts.items() if name.startswith(prefix)})


def unloadable(bundle: Bundle, error: Exception) -> BundleError:
    """Return the error for a bundle that cannot be loaded."""
    return BundleError(f"bundle {bundle.path} cannot be loaded: {str(error).splitlines()[0]}; train the model again")


class ForestTuning:
    """The settings of a forest for this machine, and the measurements that led to them."""

    def __init__(self, forest: Forest) -> None:
        self._forest = forest
        self._chosen: list[str] = []

    def tune(self, live: "ForestTuning | None" = None) -> Sequence[str]:
        """Return the settings chosen and why, one line each: measured, or those of `live` for trees of the same shape."""
        if live is not None and self._forest.tune_like(live._forest):
            self._chosen = live._chosen
            return self._chosen
        timings = self._forest.tune()
        sizes = ", ".join(f"{timing.us_per_row:.2f} us per row at {timing.rows} ({timing.way})" for timing in timings)
        trees = len(self._forest.trees.roots) - 1
        self._chosen = [f"{trees} trees, fewer than {self._forest.min_block_rows} rows one at a time, more in blocks: {sizes}"]
        return self._chosen
