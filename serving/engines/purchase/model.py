"""The interface between the purchase scorer and the trained model."""

from collections.abc import Sequence
from typing import Any, Protocol

from kernels.types import F32, F64
from training.features import Vocabulary


class PurchaseScoresProtocol(Protocol):
    """The scores of n sessions: float64 [n] each."""

    @property
    def margin(self) -> F64:
        """Return the calibrated log-odds."""

    @property
    def probability(self) -> F64:
        """Return 1 / (1 + exp(-margin))."""

    @property
    def confidence(self) -> F64:
        """Return how well the training data determine the probability, 0 to 1."""


class PurchaseModelProtocol(Protocol):
    """A trained purchase model: training.models.purchase.model.PurchaseModel, or a simple one in tests."""

    @property
    def version(self) -> str:
        """Return the version of the bundle."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Return the category values seen in training."""

    @property
    def order_value(self) -> float:
        """Return the average order value of the training data, in `currency`."""

    @property
    def currency(self) -> str:
        """Return the ISO 4217 code."""

    @property
    def used(self) -> frozenset[str]:
        """Return the names of the features that the score depends on."""

    def tune(self, live: Any = None) -> Sequence[str]:
        """Choose the fastest implementation, by measuring or as `live` did, and return what was chosen and why."""

    def base_rate(self, device: str | None, hour: float) -> tuple[float, float]:
        """Return the share of sessions on this device at this hour that buy, and the confidence of that share."""

    def score(self, X: F32) -> PurchaseScoresProtocol:
        """Return the scores of float32 [n, features]."""

    def shap(self, X: F32) -> tuple[F64, float]:
        """Return exact SHAP values of the margin, float64 [n, features], and its bias."""
