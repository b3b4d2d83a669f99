"""An encoded answer, and the callbacks by which it reaches its caller."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from serving.engines.types import Degradation

CacheState = Literal["hit", "hit-shared", "miss", "joined", "bypass", "off", "stale"]


class Answer(NamedTuple):
    """An encoded answer: where it came from, its age, the seconds of each stage (zero where none was run for it), and its degradation."""

    body: bytes
    state: CacheState
    age_s: float
    features_s: float = 0.0
    queue_s: float = 0.0
    model_s: float = 0.0
    encode_s: float = 0.0
    degradation: Degradation = "none"


Done = Callable[[Answer | Exception], None]
Cancel = Callable[[], object]
