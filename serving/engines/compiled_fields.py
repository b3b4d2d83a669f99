"""Fields that are read without an object for each of their items."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

QUICK = "quick"


class Quick(NamedTuple):
    """How a field becomes what its engine reckons with: `Annotated[T, Meta(extra={QUICK: Quick(read, convert)})]`.

    `read(raw)` makes it from the field's JSON, or returns None where msgspec has to look; `convert(value)` makes it from a T.
    """

    read: Callable[[msgspec.Raw], Any | None]
    convert: Callable[[Any], Any]
