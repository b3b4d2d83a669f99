"""The JSON schemas of requests and answers, in the form that generators of clients read rightly.

msgspec writes a schema for what it accepts. Two things of it mislead generators: `default: null`, for which openapi-typescript makes an
optional field a required one, and answers whose fields are optional for having a default, although every one of them is always sent.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import inspect

Json = dict[str, Any]

_REF = "#/components/schemas/{name}"


def components(requests: Sequence[type[Any]], answers: Sequence[type[Any]]) -> tuple[dict[type[Any], Json], dict[str, Json]]:
    """Return a reference to the schema of each type, and the schemas by name."""
    types = list(dict.fromkeys([*requests, *answers]))
    found, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    always = _always_sent(requests, answers)
    return dict(zip(types, found, strict=True)), {name: _mended(schema, always.get(name, ())) for name, schema in schemas.items()}


def _mended(schema: Json, always: Collection[str]) -> Json:
    """Return the schema of a struct without defaults; its fields that are `always` sent are required."""
    properties = {
        name: {key: value for key, value in one.items() if key != "default"} for name, one in schema.get("properties", {}).items()
    }
    if not properties:
        return schema
    needed = set(schema.get("required", ())) | set(always)
    return {**schema, "properties": properties, "required": [name for name in properties if name in needed]}


def _always_sent(requests: Sequence[type[Any]], answers: Sequence[type[Any]]) -> dict[str, tuple[str, ...]]:
    """Return the fields that every answer has, by the name of the struct; not of those that requests contain too."""
    received = {struct.cls for struct in _structs(requests)}
    return {
        struct.cls.__name__: tuple(field.encode_name for field in struct.fields if field.default is not msgspec.UNSET)
        for struct in _structs(answers)
        if struct.cls not in received and not struct.cls.__struct_config__.omit_defaults
    }


def _structs(types: Sequence[type[Any]]) -> Iterator[inspect.StructType]:
    """Yield the structs in these types, at every depth, each once."""
    seen = set[type[Any]]()
    open_types: list[Any] = list(inspect.multi_type_info(types))
    while open_types:
        one = open_types.pop()
        if isinstance(one, inspect.StructType):
            if one.cls in seen:
                continue
            seen.add(one.cls)
            yield one
            open_types += [field.type for field in one.fields]
        else:
            parts = [getattr(one, name, None) for name in ("type", "item_type", "key_type", "value_type")]
            open_types += [part for part in [*parts, *getattr(one, "types", ()), *getattr(one, "item_types", ())] if part is not None]
