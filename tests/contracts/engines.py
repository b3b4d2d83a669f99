"""What every engine must do, whatever its question. A new engine is held against this without a line here: all follows from its types."""

import copy
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from serving.engines import ENGINES, Engine, Scorer
from serving.engines.demo import DemoScorer

Body = dict[str, Any]
Path = tuple[str, ...]
AS_OF = "2026-11-20T20:00:00Z"
# What an answer takes from the clock; more of it where the request does not say as of when it is.
_TIMESTAMP, _NOW = rb',?"timestamp":"[^"]*"', rb',?"(?:timestamp|asOf|validUntil|firstPurchaseAt|lastPurchaseAt)":"[^"]*"'


def optional_paths(kind: type[msgspec.Struct]) -> Iterator[Path]:
    """Yield the JSON path of every optional field at every depth; "[]" stands for the items of a list."""
    yield from (path for path, required in field_paths(kind) if not required)


def field_paths(kind: type[msgspec.Struct]) -> Iterator[tuple[Path, bool]]:
    """Yield the JSON path of every field at every depth, and whether it is required."""
    yield from _fields(inspect.type_info(kind), ())


def _fields(info: inspect.Type, path: Path) -> Iterator[tuple[Path, bool]]:
    if isinstance(info, inspect.Metadata):
        yield from _fields(info.type, path)
    elif isinstance(info, inspect.UnionType):
        for one in info.types:
            yield from _fields(one, path)
    elif isinstance(info, inspect.ListType | inspect.CollectionType):
        yield from _fields(info.item_type, (*path, "[]"))
    elif isinstance(info, inspect.StructType):
        for field in info.fields:
            yield (*path, field.encode_name), field.required
            yield from _fields(field.type, (*path, field.encode_name))


def objects(body: Any) -> Iterator[Body]:
    """Yield every JSON object in `body`, itself included."""
    if isinstance(body, dict):
        yield body
    for one in body.values() if isinstance(body, dict) else body if isinstance(body, list) else ():
        yield from objects(one)


def parents(body: Any, path: Path) -> Iterator[Body]:
    """Yield the objects in `body` that have, or could have, the last field of `path`."""
    if isinstance(body, list):
        for one in body:
            yield from parents(one, path[1:] if path[0] == "[]" else path)
    elif isinstance(body, dict):
        if len(path) == 1:
            yield body
        else:
            yield from parents(body.get(path[0]), path[1:])


def changed(body: Body, path: Path, change: Callable[[Body, str], Any]) -> Body:
    """Return a copy of `body` with `change(parent, field)` applied wherever `path` leads."""
    copied = copy.deepcopy(body)
    for parent in parents(copied, path):
        change(parent, path[-1])
    return copied


def without(parent: Body, field: str) -> None:
    """Remove the field if it is there."""
    parent.pop(field, None)


def null(parent: Body, field: str) -> None:
    """Say that the field is null."""
    parent[field] = None


def numbered(body: Body) -> Iterator[Body]:
    """Yield copies of `body` in each of which one number is another one: what scores differently must stay apart."""
    count = sum(isinstance(value, int | float) for one in objects(body) for value in one.values())
    for nth in range(count):
        copied = copy.deepcopy(body)
        places = [(one, name) for one in objects(copied) for name, value in one.items() if isinstance(value, int | float)]
        one, name = places[nth]
        one[name] = type(one[name])(one[name] / 2)
        yield copied


def base(engine: Engine) -> Body:
    """Return the example as of a fixed moment, where the engine takes one."""
    body = copy.deepcopy(dict(engine.example))
    return body | {"asOf": AS_OF} if "as_of" in engine.request.__struct_fields__ else body


def requests(engine: Engine) -> list[Any]:
    """Return many different requests: the example, and the example with every optional field missing, and every number changed, in turn."""
    body = base(engine)
    bodies = [body, *(changed(body, path, without) for path in optional_paths(engine.request)), *numbered(body)]
    distinct = {msgspec.json.encode(one): one for one in bodies}
    return [msgspec.convert(one, engine.request) for one in distinct.values()]


def score(scorer: Scorer, asked: Sequence[Any]) -> list[bytes]:
    """Return the encoded answers, less the moment at which they were computed."""
    encoded = [msgspec.json.encode(row) for row in scorer.rows(asked, scorer.run(scorer.columns(asked)))]
    return [
        re.sub(_NOW if getattr(request, "as_of", None) is None else _TIMESTAMP, b"", one)
        for request, one in zip(asked, encoded, strict=True)
    ]


@pytest.fixture(params=ENGINES, ids=[engine.name for engine in ENGINES])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Every engine in turn."""
    one: Engine = request.param
    return one


class TableContract:
    """What the table promises of its engines, without a model."""

    def test_the_example_is_a_valid_request_in_plain_json(self, engine: Engine) -> None:
        encoded = msgspec.json.encode(engine.example)
        assert msgspec.json.decode(encoded) == engine.example
        engine.check(msgspec.json.decode(encoded, type=engine.request))

    def test_names_and_routes_are_those_of_one_engine_only(self, engine: Engine) -> None:
        assert [other for other in ENGINES if other.name == engine.name or other.route == engine.route] == [engine]
        assert re.fullmatch(r"[a-z]+", engine.name)
        assert re.fullmatch(r"/v1/[a-z]+(-[a-z]+)*", engine.route)

    def test_every_field_is_camel_case_at_every_depth(self, engine: Engine) -> None:
        _, components = msgspec.json.schema_components([engine.request, engine.response])
        fields = [field for schema in components.values() for field in schema.get("properties", {})]
        assert len(fields) > 3
        assert [field for field in fields if not re.fullmatch(r"[a-z][a-zA-Z0-9]*", field)] == []

    def test_null_equals_absent_in_every_optional_field(self, engine: Engine) -> None:
        body = base(engine)
        for path in optional_paths(engine.request):
            absent = msgspec.convert(changed(body, path, without), engine.request)
            assert msgspec.convert(changed(body, path, null), engine.request) == absent, path

    def test_null_is_not_a_value_of_a_required_field(self, engine: Engine) -> None:
        for field in msgspec.structs.fields(engine.request):
            if field.required:
                with pytest.raises(msgspec.ValidationError, match=field.encode_name):
                    msgspec.convert(base(engine) | {field.encode_name: None}, engine.request)

    def test_unknown_fields_are_harmless_at_every_depth(self, engine: Engine) -> None:
        body = base(engine)
        stranger = copy.deepcopy(body)
        # Only what has fields can have unknown ones: a mapping's keys are the caller's.
        for one in [parent for path, _ in field_paths(engine.request) for parent in parents(stranger, path)]:
            one["aFieldOfTomorrow"] = {"deep": [1, {"er": None}]}
        assert msgspec.convert(stranger, engine.request) == msgspec.convert(body, engine.request)


class EngineContract:
    """Subclass it with a fixture `scorer`: a loaded model of the engine."""

    def test_a_batch_of_one_equals_the_row_in_a_batch_of_many_to_the_bit(self, engine: Engine, scorer: Scorer) -> None:
        asked = requests(engine)
        together = score(scorer, asked)
        assert len(set(together)) > 3, "the requests must differ in their answers, or this shows nothing"
        assert [score(scorer, [one])[0] for one in asked] == together

    def test_answers_come_in_the_order_of_the_requests(self, engine: Engine, scorer: Scorer) -> None:
        asked = requests(engine)
        assert score(scorer, asked[::-1]) == score(scorer, asked)[::-1]

    def test_the_same_request_has_the_same_answer_again(self, engine: Engine, scorer: Scorer) -> None:
        asked = requests(engine)[:1] * 3
        assert len(set(itertools.chain(score(scorer, asked), score(scorer, asked)))) == 1

    def test_no_requests_give_no_answers(self, scorer: Scorer) -> None:
        assert score(scorer, []) == []

    def test_every_answer_is_a_response_that_comes_back_whole(self, engine: Engine, scorer: Scorer) -> None:
        asked = requests(engine)
        for row in scorer.rows(asked, scorer.run(scorer.columns(asked))):
            assert type(row) is engine.response
            encoded = msgspec.json.encode(row)
            assert msgspec.json.decode(encoded, type=engine.response) == row

    def test_every_answer_names_the_version_of_its_model(self, engine: Engine, scorer: Scorer) -> None:
        assert scorer.version
        answers = [msgspec.json.decode(one) for one in score(scorer, requests(engine))]
        assert {answer["modelVersion"] for answer in answers} == {scorer.version}

    def test_every_answer_of_a_demonstration_model_states_it_and_is_otherwise_the_same(self, engine: Engine, scorer: Scorer) -> None:
        asked = requests(engine)
        demonstrated = DemoScorer(scorer)
        rows = demonstrated.rows(asked, demonstrated.run(demonstrated.columns(asked)))
        assert rows
        assert {row.basis for row in rows} == {"demo"}
        plain = scorer.rows(asked, scorer.run(scorer.columns(asked)))
        assert "demo" not in {row.basis for row in plain}
        again = [msgspec.structs.replace(row, basis=other.basis) for row, other in zip(rows, plain, strict=True)]
        assert list(map(type(self)._lasting, again)) == list(map(type(self)._lasting, plain))
        assert set(demonstrated.output_columns(demonstrated.run(demonstrated.columns(asked)))["basis"]) == {"demo"}

    @staticmethod
    def _lasting(row: Any) -> bytes:
        """Return an answer without what it takes from the clock."""
        return re.sub(_NOW, b"", msgspec.json.encode(row))

    def test_a_batch_job_gets_a_value_for_each_row_in_every_column(self, engine: Engine, scorer: Scorer) -> None:
        asked = requests(engine)
        columns = scorer.output_columns(scorer.run(scorer.columns(asked)))
        assert {name: len(column) for name, column in columns.items()} == dict.fromkeys(columns, len(asked))
        assert set(columns["modelVersion"]) == {scorer.version}
