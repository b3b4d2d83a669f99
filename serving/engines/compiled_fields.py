"""Request fields that compiled code reads from the JSON bytes, without a Python object for each item."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

COMPILED = "compiled"


class CompiledField(NamedTuple):
    """How a field becomes what its engine computes with: `Annotated[T, Meta(extra={COMPILED: CompiledField(read, convert)})]`.

    `read(raw)` returns it from the field's JSON, or None for JSON that msgspec must decode; `convert(value)` returns it from a T.
    """

    read: Callable[[msgspec.Raw], Any | None]
    convert: Callable[[Any], Any]
