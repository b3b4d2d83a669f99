"""Derive the strict variant of a request type: the same fields, but an unknown field is an error, at every depth.

Engines' types ignore unknown fields, and callers may rely on that. With the strict variant msgspec finds them while it decodes, at no cost
for a request without any. The *quick* variant is strict too, and leaves the fields that have a `CompiledField` as the bytes of the body.
"""

import functools
import operator
import types
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import msgspec

from serving.engines.compiled_fields import COMPILED, CompiledField

T = TypeVar("T", bound=msgspec.Struct)


Path = tuple[str, ...]  # attributes, from a request down


def quick_fields(struct: type[msgspec.Struct], outer: Path = ()) -> list[tuple[Path, CompiledField]]:
    """Return the fields of `struct`, and of its required structs, that have a `CompiledField`, with their paths."""
    found: list[tuple[Path, CompiledField]] = []
    for field in msgspec.structs.fields(struct):
        here = (*outer, field.name)
        if quick := _quick(field.type):
            found.append((here, quick))
        elif _is_struct(plain := _plain(field.type)) and field.required:
            found += quick_fields(plain, here)
    return found


@functools.cache
def strict(struct: type[T], quick: bool = False) -> type[T]:
    """Return the strict variant of `struct`, or the quick one: a subclass of it with the same fields in the same order."""
    config = struct.__struct_config__
    variant = msgspec.defstruct(
        struct.__name__,
        [(f.name, _variant(f.type, (struct,), quick), _default(f)) for f in msgspec.structs.fields(struct)],
        bases=(struct,),
        module=struct.__module__,
        namespace={"__doc__": struct.__doc__},
        forbid_unknown_fields=True,
        kw_only=True,
        tag=config.tag,
        tag_field=config.tag_field,
    )
    return cast(type[T], variant)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory, name=field.encode_name)
    if field.default is not msgspec.NODEFAULT:
        return msgspec.field(default=field.default, name=field.encode_name)
    return msgspec.field(name=field.encode_name)


def _plain(kind: Any) -> Any:
    """Return a type without its metadata, such as the description of the field."""
    return _plain(get_args(kind)[0]) if get_origin(kind) is Annotated else kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _quick(kind: Any) -> CompiledField | None:
    metadata = kind.__metadata__ if get_origin(kind) is Annotated else ()
    return next(
        (each.extra[COMPILED] for each in metadata if isinstance(each, msgspec.Meta) and each.extra and COMPILED in each.extra), None
    )


def _variant(kind: Any, outer: tuple[type, ...], quick: bool) -> Any:
    """Return the type with every Struct in it replaced by its strict variant; one that contains itself is unchanged."""
    if _is_struct(kind):
        return kind if kind in outer else strict(kind, quick)
    if quick and _quick(kind):
        return msgspec.Raw
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return Annotated[(_variant(args[0], outer, quick), *kind.__metadata__)]
    if origin in (Union, types.UnionType):
        return functools.reduce(operator.or_, (_variant(arg, outer, quick) for arg in args))
    if origin in (None, Literal):
        return kind
    return origin[tuple(arg if arg is ... else _variant(arg, outer, quick) for arg in args)]
