"""`revenue-engine explain`: why two answers differ."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.commands.options import Json, Quiet, Report, Seed, aligned, choices

if TYPE_CHECKING:
    from serving.commands.explanation.differences import Differences, FactorDifference, FieldDifference
    from serving.engines import Engine

MAX_BYTES = 16 * 1024 * 1024  # of a file
_FILE = "An answer of the API, or one line of an answer to a list."
_WIDTH = 60  # letters of a value in a line


def explain(
    ctx: typer.Context,
    one: Annotated[Path, typer.Argument(metavar="A.json", help=_FILE, show_default=False)],
    other: Annotated[Path, typer.Argument(metavar="B.json", help="Another answer to the same question.", show_default=False)],
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Report:
    """Explain why two answers differ.

    Which model, inputs, factors and missing features are not the same, and by how much.
    """
    choices(ctx, seed, as_json, quiet)
    from serving.commands.explanation import differences

    a, b = _read(one), _read(other)
    question = _question(a, one)
    if (of_b := _question(b, other)).name != question.name:
        raise typer.BadParameter(f"{one} is an answer of {question.name}, {other} one of {of_b.name}; compare answers of one question")
    found = differences.of(a, b)
    return Report(f"{question.name}: {_sentence(found)}", lines=_lines(found), data={"question": question.name, **_data(found)})


def _read(path: Path) -> dict[str, Any]:
    """Return the one answer in a file. Raises BadParameter (exit code 2) for anything else."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_BYTES))
    except OSError as error:
        raise typer.BadParameter(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise typer.BadParameter(f"{path}: is not JSON: {error}; give one answer of the API") from None
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if not isinstance(content, dict):
        raise typer.BadParameter(f"{path}: is {'a list' if isinstance(content, list) else 'no object'}; give one answer of the API")
    if str(content.get("type", "")).startswith("/problems/"):
        raise typer.BadParameter(f"{path}: is an error, {content.get('title')!r}: {content.get('detail')}; give an answer")
    return content


def _question(answer: Mapping[str, Any], path: Path) -> "Engine":
    """Return the question that an answer is of: the one with the most of its fields. Raises BadParameter where none has its score."""
    from msgspec.structs import fields

    from serving.engines import ENGINES

    names = {engine.name: {field.encode_name for field in fields(engine.response)} for engine in ENGINES}
    best = max(ENGINES, key=lambda engine: (len(names[engine.name] & answer.keys()), -len(names[engine.name])))
    if "modelVersion" not in answer or len(names[best.name] & answer.keys()) * 2 < len(names[best.name]):
        raise typer.BadParameter(
            f"{path}: is no answer of {', '.join(engine.route for engine in ENGINES)}; it has {', '.join(list(answer)[:8])}"
        )
    return best


def _sentence(found: "Differences") -> str:
    if not (found.ids or found.reasons or found.factors or found.only_a or found.only_b or found.results):
        return "the answers are the same; only the time at which they were computed may differ"
    why = found.why()
    return f"the answers differ: {'; '.join(why)}" if why else "the answers differ, and nothing in them is a reason"


def _lines(found: "Differences") -> list[str]:
    """Return the differences as lines: what the score is, why, and what else."""
    scores = [one for one in found.results if one.difference is not None and "." not in one.field and "[" not in one.field]
    others = [one for one in found.results if one not in scores]
    missing = [("missing in A alone", ", ".join(found.only_a)), ("missing in B alone", ", ".join(found.only_b))]
    parts = {
        "RESULT": [_field(one) for one in scores],
        "REASON": [_field(one) for one in (*found.ids, *found.reasons)],
        "FACTOR": [_factor(one) for one in found.factors],
        "FEATURES": [(name, names, "", "") for name, names in missing if names],
        "ALSO": [_field(one) for one in others],
    }
    heads = {
        "RESULT": ("RESULT", "A", "B", "B - A"),
        "REASON": ("REASON", "A", "B", ""),
        "FACTOR": ("FACTOR", "VALUE IN A -> B", "CONTRIBUTION IN A -> B", "B - A"),
        "FEATURES": ("FEATURES", "", "", ""),
        "ALSO": ("ALSO", "A", "B", "B - A"),
    }
    rows = [line for name, part in parts.items() if part for line in (*aligned([heads[name], *part]), "")]
    return rows[:-1]


def _field(one: "FieldDifference") -> tuple[str, str, str, str]:
    return one.field, _shown(one.a), _shown(one.b), "" if one.difference is None else f"{one.difference:+.6g}"


def _factor(one: "FactorDifference") -> tuple[str, str, str, str]:
    listed = [("not listed" if value is None else f"{value:+.4f}") for value in (one.contribution_a, one.contribution_b)]
    values = [
        "not listed" if part is None else _shown(value)
        for value, part in ((one.value_a, one.contribution_a), (one.value_b, one.contribution_b))
    ]
    both = values[0] if values[0] == values[1] else " -> ".join(values)
    return one.factor, both, " -> ".join(listed), "" if one.difference is None else f"{one.difference:+.4f}"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    text = f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."


def _data(found: "Differences") -> dict[str, Any]:
    return {
        "same": not (found.ids or found.reasons or found.factors or found.only_a or found.only_b or found.results),
        "why": found.why(),
        "ids": [one._asdict() for one in found.ids],
        "reasons": [one._asdict() for one in found.reasons],
        "factors": [
            {
                "factor": one.factor,
                "valueA": one.value_a,
                "valueB": one.value_b,
                "contributionA": one.contribution_a,
                "contributionB": one.contribution_b,
                "difference": one.difference,
            }
            for one in found.factors
        ],
        "missing": {"a": list(found.only_a), "b": list(found.only_b)},
        "results": [{**one._asdict(), "difference": one.difference} for one in found.results],
    }
