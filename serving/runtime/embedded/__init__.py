"""The engines that a node starts itself where no address is configured, in the order in which they start; they stop in reverse."""

from serving.runtime.embedded.engine import EmbeddedEngine, RunningEngine
from serving.runtime.embedded.valkey import FEATURE_STORE, SHARED_CACHE

__all__ = ["EMBEDDED", "EmbeddedEngine", "RunningEngine"]

EMBEDDED: tuple[EmbeddedEngine, ...] = (SHARED_CACHE, FEATURE_STORE)
