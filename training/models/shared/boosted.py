"""What models made of boosted trees have in common once they are trained: how they are loaded, and tuned for a machine."""

from collections.abc import Sequence

from kernels.arrays import Arrays
from kernels.trees.forest import Forest
from kernels.trees.shap import Factors
from training.errors import BundleError
from training.registry.bundle import Bundle


def prepare(bundle: Bundle, file: str, columns: int) -> Arrays:
    """Return the trees in `file` of a verified bundle laid out and checked against XGBoost, for `Forest.of_parts` and `Factors.of_parts`.

    Raises BundleError when they cannot be read, or know another number of columns.
    """
    of = forest(bundle, file, columns)
    return {**of.parts(), **Factors(of.trees).parts()}


def forest(bundle: Bundle, file: str, columns: int) -> Forest:
    """Return the forest in `file` of a verified bundle, laid out and checked against XGBoost. Raises BundleError as `prepare` does."""
    import xgboost as xgb  # which nobody else needs: a replica that is handed its parts saves the memory

    try:
        booster = xgb.Booster(model_file=bytearray(bundle.read(file)))
        if booster.num_features() != columns:
            raise ValueError(f"the trees know {booster.num_features()} features, not {columns}")
        booster.set_param({"nthread": 1, "device": "cpu"})
        return Forest.from_booster(booster)
    except (xgb.core.XGBoostError, KeyError, TypeError, ValueError) as error:
        raise unloadable(bundle, error) from error


def named(prefix: str, of: Forest) -> Arrays:
    """Return a forest's parts under names that no other part has."""
    return {prefix + name: part for name, part in of.parts().items()}


def of_name(prefix: str, parts: Arrays) -> Forest:
    """Return the forest whose parts `named` returned, among others."""
    return Forest.of_parts({name[len(prefix) :]: part for name, part in parts.items() if name.startswith(prefix)})


def unloadable(bundle: Bundle, error: Exception) -> BundleError:
    """Return what to raise of a bundle that cannot be loaded."""
    return BundleError(f"bundle {bundle.path} cannot be loaded: {str(error).splitlines()[0]}; train it again")


class Tuned:
    """How a forest was set for this machine, and why."""

    def __init__(self, forest: Forest) -> None:
        self._forest = forest
        self._chosen: list[str] = []

    def tune(self, live: "Tuned | None" = None) -> Sequence[str]:
        """Return what was chosen and why, a line each: by measuring it, or as `live` did for trees of the same shape."""
        if live is not None and self._forest.tune_like(live._forest):
            self._chosen = live._chosen
            return self._chosen
        timings = self._forest.tune()
        sizes = ", ".join(f"{timing.us_per_row:.2f} us a row at {timing.rows} ({timing.way})" for timing in timings)
        trees = len(self._forest.trees.roots) - 1
        self._chosen = [f"{trees} trees, fewer than {self._forest.few} rows one at a time, more in blocks: {sizes}"]
        return self._chosen
