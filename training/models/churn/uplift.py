"""Treatment effects: by how much each arm of an experiment raises the probability that a customer stays.

uplift.json      the arm without treatment, and the others with their average effects, 0 where the experiment shows none
uplift-N.ubj     the trees of arm N's effect, where held-out rows showed that it differs between customers
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Arrays
from kernels.trees.forest import Forest
from kernels.types import F32, F64
from training.models.shared import boosted
from training.registry.bundle import Bundle

UPLIFT = "uplift.json"


def trees_of(place: int) -> str:
    """Return the name of the file with the trees of an arm."""
    return f"uplift-{place}.ubj"


@dataclass(frozen=True, slots=True)
class TreatmentArm:
    """A treatment: its name, and its average effect on the probability of staying, 0 where the experiment shows none."""

    name: str
    average: float


class TreatmentEffects:
    """The effects of arms. Row i of its effects depends on row i of X alone."""

    def __init__(self, arms: Sequence[TreatmentArm], forests: Mapping[int, Forest]) -> None:
        self.arms = tuple(arms)
        self._forests = forests

    @classmethod
    def prepare(cls, bundle: Bundle, columns: int) -> Arrays:
        """Return the trees of a bundle's effects, flattened and checked, under unique names; empty without any."""
        if UPLIFT not in bundle.manifest["files"]:
            return {}
        parts = dict[str, NDArray[Any]]()
        for place, arm in enumerate(bundle.json(UPLIFT)["arms"]):
            if arm["differs"]:
                parts |= boosted.named(trees_of(place), boosted.forest(bundle, trees_of(place), columns))
        return parts

    @classmethod
    def load(cls, bundle: Bundle, parts: Arrays) -> "TreatmentEffects | None":
        """Return the effects in a bundle, None where it was trained without an experiment; parts: the result of `prepare`."""
        if UPLIFT not in bundle.manifest["files"]:
            return None
        arms, forests = list[TreatmentArm](), dict[int, Forest]()
        for place, arm in enumerate(bundle.json(UPLIFT)["arms"]):
            arms.append(TreatmentArm(str(arm["name"]), float(arm["average"])))
            if arm["differs"]:
                forests[place] = boosted.of_name(trees_of(place), parts)
        return cls(arms, forests)

    def of(self, X: F32) -> F64:
        """Return by how much each arm raises the probability of staying, float64 [n, arms], for X float32 [n, features]."""
        found = np.empty((len(X), len(self.arms)))
        for place, arm in enumerate(self.arms):
            forest = self._forests.get(place)
            found[:, place] = arm.average if forest is None else np.clip(forest.margin(X).astype(np.float64), -1, 1)
        return found


def content(control: str, arms: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the content of uplift.json; arms: as in metrics.json. The average of an arm is 0 where it is not significant."""
    served = [{"name": arm["name"], "average": arm["average"] if arm["significant"] else 0.0, "differs": arm["differs"]} for arm in arms]
    return {"control": control, "arms": served}
