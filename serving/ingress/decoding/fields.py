"""Compare a decoded body with its request type, field by field: which fields are unknown, and which are wrong.

msgspec stops at the first error, which is fast; a caller who has to correct a request needs all of them. This comparison is off the hot
path. msgspec still decides which values are valid: each leaf is converted on its own.
"""

import functools
import re
import types
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol, Union, get_args, get_origin

import msgspec

from serving.errors import FieldProblem
from serving.ingress.decoding.wording import worded, worded_for

MAX_PROBLEMS = 100  # listed in one answer
MAX_COUNTED = 1000  # wrong fields of one body that are looked for: to find each takes about two microseconds
MAX_UNKNOWN = 100  # names of unknown fields that are counted on their own
OTHERS = "(other)"  # the name under which the others are counted
ROOT = "$"

_SUFFIX = re.compile(r" - at `\$(.*)`$", re.DOTALL)


class Found:
    """The wrong fields that were found: at most `max_problems` as problems, and `more`, how many others, up to MAX_COUNTED in all."""

    def __init__(self, max_problems: int = MAX_PROBLEMS) -> None:
        self.problems: list[FieldProblem] = []
        self.more = 0
        self._max_problems = max_problems

    @property
    def full(self) -> bool:
        """Whether MAX_COUNTED fields were found: there may be more."""
        return len(self.problems) + self.more >= MAX_COUNTED

    def wrong(self, path: str, detail: str, kind: Any = None, value: Any = None) -> None:
        """Note a wrong field, perhaps with its type and value. msgspec's own path, if `detail` ends with one, continues `path`."""
        if len(self.problems) >= self._max_problems:
            self.more += 1
            return
        inner = _SUFFIX.search(detail)
        if inner is not None:
            path, detail = path + inner[1], detail[: inner.start()]
        detail = worded(detail) if kind is None or inner is not None else worded_for(kind, value, detail)
        self.problems.append(FieldProblem(path.removeprefix(".") or ROOT, detail))


def count_unknown(names: Sequence[str], path: str, unknown: Counter[str]) -> None:
    """Count the unknown fields of one object at `path`: up to MAX_UNKNOWN names on their own, the others as OTHERS."""
    for name in names[:MAX_UNKNOWN]:
        field = f"{path}.{name}".removeprefix(".")
        unknown[field if field in unknown or len(unknown) < MAX_UNKNOWN else OTHERS] += 1
    if len(names) > MAX_UNKNOWN:
        unknown[OTHERS] += len(names) - MAX_UNKNOWN


class TypeNode(Protocol):
    """One type of the tree. `deep`: an object is in it somewhere."""

    deep: bool

    def count(self, value: Any, path: str, unknown: Counter[str]) -> None:
        """Count the unknown fields of `value`, which is valid otherwise, by path without indexes."""

    def find(self, value: Any, path: str, found: Found) -> None:
        """Note every field of `value` that is wrong."""


class Leaf:
    """A type without objects or containers in it, or one that msgspec validates as a whole."""

    deep = False

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def count(self, value: Any, path: str, unknown: Counter[str]) -> None:
        """Do nothing: there are no fields."""

    def find(self, value: Any, path: str, found: Found) -> None:
        """Note the error of msgspec for the value, if there is one."""
        self.accepts(value, path, found)

    def accepts(self, value: Any, path: str, found: Found) -> bool:
        """Return whether msgspec accepts the value; note the error if it does not."""
        try:
            msgspec.convert(value, self._kind, str_keys=True)
        except msgspec.ValidationError as error:
            found.wrong(path, str(error), self._kind, value)
            return False
        return True


class Object:
    """A Struct. Its fields are looked up when they are needed: it may contain itself."""

    deep = True

    def __init__(self, struct: type[msgspec.Struct]) -> None:
        self._struct = struct
        self._whole = Leaf(struct)
        self._shape = Leaf(dict)

    def count(self, value: Any, path: str, unknown: Counter[str]) -> None:
        """Count the fields that the struct does not have, here and below."""
        fields, known = _fields(self._struct), _known(self._struct)
        if not value.keys() <= known:
            count_unknown([name for name in value if name not in known], path, unknown)
        for name, (_, node) in fields.items():
            if node.deep and name in value:
                node.count(value[name], f"{path}.{name}", unknown)

    def find(self, value: Any, path: str, found: Found) -> None:
        """Note the required fields that are missing and the wrong ones."""
        # Most objects of an invalid body are valid, and msgspec is much faster at finding that out.
        if self._whole.accepts(value, path, Found()) or not self._shape.accepts(value, path, found):
            return
        for name, (required, node) in _fields(self._struct).items():
            if name in value:
                node.find(value[name], f"{path}.{name}", found)
            elif required:
                found.wrong(f"{path}.{name}", "Required field is missing")


class Many:
    """A list or a dict; `shape` is its type without the type of its items."""

    def __init__(self, shape: Any, item: TypeNode) -> None:
        self._shape = Leaf(shape)
        self._item = item
        self.deep = item.deep

    def count(self, value: Any, path: str, unknown: Counter[str]) -> None:
        """Count the unknown fields of every item."""
        if self.deep:
            for one in value.values() if isinstance(value, dict) else value:
                self._item.count(one, f"{path}[]", unknown)

    def find(self, value: Any, path: str, found: Found) -> None:
        """Note the wrong items, until MAX_COUNTED fields were found."""
        if not self._shape.accepts(value, path, found):
            return
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            if found.full:
                return
            self._item.find(one, f"{path}[{name}]" if isinstance(name, int) else f"{path}.{name}", found)


class Optional:
    """`X | None`."""

    def __init__(self, node: TypeNode) -> None:
        self._node = node
        self.deep = node.deep

    def count(self, value: Any, path: str, unknown: Counter[str]) -> None:
        """Count the unknown fields, unless the value is null."""
        if value is not None:
            self._node.count(value, path, unknown)

    def find(self, value: Any, path: str, found: Found) -> None:
        """Note what is wrong, unless the value is null."""
        if value is not None:
            self._node.find(value, path, found)


class Tagged:
    """One of several structs, chosen by the tag of the value."""

    deep = True

    def __init__(self, kind: Any, structs: Sequence[type[msgspec.Struct]]) -> None:
        self._whole = Leaf(kind)
        self._field = structs[0].__struct_config__.tag_field
        self._by_tag = {struct.__struct_config__.tag: Object(struct) for struct in structs}

    def _chosen(self, value: Any) -> TypeNode:
        tag = value.get(self._field) if isinstance(value, dict) else None
        return self._by_tag.get(tag, self._whole) if isinstance(tag, str | int) else self._whole

    def count(self, value: Any, path: str, unknown: Counter[str]) -> None:
        """Count the fields that the tagged struct does not have."""
        self._chosen(value).count(value, path, unknown)

    def find(self, value: Any, path: str, found: Found) -> None:
        """Note the wrong fields of the tagged struct, or an unknown tag."""
        self._chosen(value).find(value, path, found)


def tree(kind: Any) -> TypeNode:
    """Return a type as a tree."""
    meta: tuple[Any, ...] = ()
    plain = kind
    while get_origin(plain) is Annotated:
        meta, plain = (*plain.__metadata__, *meta), get_args(plain)[0]
    origin, args = get_origin(plain), get_args(plain)
    if _is_struct(plain):
        return Object(plain)
    if origin in (list, dict):
        return Many(Annotated[(origin, *meta)] if meta else origin, tree(args[-1]))
    if origin in (Union, types.UnionType):
        return _union(kind, [arg for arg in args if arg is not type(None)])
    return Leaf(kind)


def _union(kind: Any, kinds: Sequence[Any]) -> TypeNode:
    if len(kinds) == 1:
        return Optional(tree(kinds[0]))
    return Tagged(kind, kinds) if all(map(_is_struct, kinds)) else Leaf(kind)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


@functools.cache
def _fields(struct: type[msgspec.Struct]) -> Mapping[str, tuple[bool, TypeNode]]:
    return {f.encode_name: (f.required, tree(f.type)) for f in msgspec.structs.fields(struct)}


@functools.cache
def _known(struct: type[msgspec.Struct]) -> frozenset[str]:
    tag = struct.__struct_config__.tag_field
    return frozenset(_fields(struct)) | ({tag} if tag else set())
