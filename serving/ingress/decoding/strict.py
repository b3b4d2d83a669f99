"""A request type's strict twin: the same fields, but a field that it does not know is an error, at every depth.

Engines' types ignore unknown fields, as callers may rely on. The twin lets msgspec notice them while it decodes, which costs a request
without any of them nothing. The *quick* twin is strict too, and leaves the fields that have a `CompiledField` as they stand in the body.
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
    """Return the fields of `struct`, and of what must be in it, that have a `CompiledField`, and where they are."""
    found: list[tuple[Path, CompiledField]] = []
    for field in msgspec.structs.fields(struct):
        here = (*outer, field.name)
        if quick := _quick(field.type):
            found.append((here, quick))
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct) and field.required:
            found += quick_fields(field.type, here)
    return found


@functools.cache
def strict(struct: type[T], quick: bool = False) -> type[T]:
    """Return the strict twin of `struct`, or the quick one: a subclass of it with the same fields in the same order."""
    config = struct.__struct_config__
    twin = msgspec.defstruct(
        struct.__name__,
        [(f.name, _twin(f.type, (struct,), quick), _default(f)) for f in msgspec.structs.fields(struct)],
        bases=(struct,),
        module=struct.__module__,
        namespace={"__doc__": struct.__doc__},
        forbid_unknown_fields=True,
        kw_only=True,
        tag=config.tag,
        tag_field=config.tag_field,
    )
    return cast(type[T], twin)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory, name=field.encode_name)
    if field.default is not msgspec.NODEFAULT:
        return msgspec.field(default=field.default, name=field.encode_name)
    return msgspec.field(name=field.encode_name)


def _quick(kind: Any) -> CompiledField | None:
    metadata = kind.__metadata__ if get_origin(kind) is Annotated else ()
    return next(
        (each.extra[COMPILED] for each in metadata if isinstance(each, msgspec.Meta) and each.extra and COMPILED in each.extra), None
    )


def _twin(kind: Any, outer: tuple[type, ...], quick: bool) -> Any:
    """Return the type with every Struct in it replaced by its twin; one that contains itself stays as it is."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind if kind in outer else strict(kind, quick)
    if quick and _quick(kind):
        return msgspec.Raw
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return Annotated[(_twin(args[0], outer, quick), *kind.__metadata__)]
    if origin in (Union, types.UnionType):
        return functools.reduce(operator.or_, (_twin(arg, outer, quick) for arg in args))
    if origin in (None, Literal):
        return kind
    return origin[tuple(arg if arg is ... else _twin(arg, outer, quick) for arg in args)]
