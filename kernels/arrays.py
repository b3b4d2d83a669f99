"""Arrays by name: what is laid out once, perhaps in another process, and put together wherever it is asked."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
T = TypeVar("T")


def flatten(name: str, whole: Any) -> dict[str, NDArray[Any]]:
    """Return the fields of a NamedTuple, arrays and numbers, under `name.field`."""
    return {f"{name}.{field}": np.asarray(value) for field, value in whole._asdict().items()}


def unflatten(name: str, kind: type[T], parts: Arrays) -> T:
    """Return the NamedTuple `kind` that was taken apart under `name`. Raises KeyError where it was not."""
    names: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]  # no type says that it is a NamedTuple
    fields = (parts[f"{name}.{field}"] for field in names)
    return kind(*(field if field.ndim else field.item() for field in fields))
