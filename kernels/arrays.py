"""NamedTuples of arrays as flat dicts of arrays, to move them between processes without laying them out again."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
T = TypeVar("T")


def flatten(name: str, whole: Any) -> dict[str, NDArray[Any]]:
    """Return the fields of a NamedTuple, arrays and numbers, as arrays named `name.field`."""
    return {f"{name}.{field}": np.asarray(value) for field, value in whole._asdict().items()}


def unflatten(name: str, kind: type[T], parts: Arrays) -> T:
    """Return the NamedTuple `kind` that was flattened under `name`. Raises KeyError for a missing field."""
    names: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]  # a NamedTuple cannot be required by a type
    fields = (parts[f"{name}.{field}"] for field in names)
    return kind(*(field if field.ndim else field.item() for field in fields))
