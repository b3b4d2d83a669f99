"""Why two answers of one question differ: their models, inputs, factors and missing fields, and what follows from them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

FACTOR = ("name", "contribution")  # the fields of a factor
MISSING = "missingFeatures"
TIMESTAMP, AS_OF = "timestamp", "asOf"
NOT_COMPARED = (TIMESTAMP,)
IDS = ("customerId", "sessionId", "productId")
# Fields that are no result of the score but a reason for it, and what another value means.
REASONS: Mapping[str, str] = {
    "modelVersion": "another model",
    "degradation": "another degradation: what there was time for",
    "basis": "another basis: where what is known came from",
    "asOf": "another moment",
    "horizon": "another horizon",
    "predictionHorizon": "another horizon",
    "discountRate": "another discount rate",
    "objective": "another objective",
    "currency": "another currency",
    "insufficientData": "another model, or one that was learned from other data",
    "ignored": "other fields that are not used",
    "remarks": "other remarks on the input",
}
_KEYS = ("name", "rule", "step", "action", "state", "kind")  # the field that tells the items of a list apart


class FieldDifference(NamedTuple):
    """A field with another value. a, b: None where it is absent or null."""

    field: str
    a: Any
    b: Any

    @property
    def difference(self) -> float | None:
        """Return b - a of two numbers."""
        return float(self.b - self.a) if _is_number(self.a) and _is_number(self.b) else None


class FactorDifference(NamedTuple):
    """A factor with another value or contribution; None where an answer does not list it."""

    factor: str
    value_a: Any
    value_b: Any
    contribution_a: float | None
    contribution_b: float | None

    @property
    def difference(self) -> float | None:
        """Return the difference of the contributions, None where one is not listed."""
        return None if self.contribution_a is None or self.contribution_b is None else self.contribution_b - self.contribution_a

    @property
    def is_input(self) -> bool:
        """Return whether both answers list the factor, with other values."""
        return self.difference is not None and self.value_a != self.value_b


@dataclass(frozen=True, slots=True)
class Differences:
    """How answer b differs from answer a.

    ids: what the answers are about; reasons: fields of REASONS; factors: by size of the difference, those that only one lists last; only_a,
    only_b: features that are missing in one alone; results: all other fields.
    """

    ids: tuple[FieldDifference, ...]
    reasons: tuple[FieldDifference, ...]
    factors: tuple[FactorDifference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    results: tuple[FieldDifference, ...]

    def why(self) -> list[str]:
        """Return the reasons in words, most general first; empty where the answers contain none."""
        found = [f"they are about another {one.field.removesuffix('Id')}" for one in self.ids]
        found += [REASONS[one.field] for one in self.reasons]
        for answer, names in (("A", self.only_a), ("B", self.only_b)):
            if names:
                found.append(f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} missing in {answer} alone")
        if inputs := [one.factor for one in self.factors if one.is_input]:
            found.append(f"other inputs: {', '.join(inputs)}")
        return list(dict.fromkeys(found))


def of(a: Mapping[str, Any], b: Mapping[str, Any]) -> Differences:
    """Return the differences of two answers of one question, as JSON objects."""
    lists = [name for name in a if _are_factors(a[name]) or _are_factors(b.get(name))]
    reasons = [name for name in REASONS if name != AS_OF or not (_is_now(a) and _is_now(b))]
    apart = {*NOT_COMPARED, *IDS, *REASONS, *lists, MISSING}
    missing_a, missing_b = (list(one.get(MISSING) or ()) for one in (a, b))
    return Differences(
        ids=tuple(_fields(a, b, IDS)),
        reasons=tuple(_fields(a, b, reasons)),
        factors=tuple(one for name in lists for one in _factors(a.get(name) or (), b.get(name) or ())),
        only_a=tuple(name for name in missing_a if name not in missing_b),
        only_b=tuple(name for name in missing_b if name not in missing_a),
        results=tuple(_results(a, b, apart)),
    )


def _fields(a: Mapping[str, Any], b: Mapping[str, Any], names: Sequence[str]) -> Iterator[FieldDifference]:
    return (FieldDifference(name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name))


def _results(a: Mapping[str, Any], b: Mapping[str, Any], apart: set[str]) -> Iterator[FieldDifference]:
    """Yield the fields with another value, numbers first."""
    flat_a, flat_b = ({path: value for path, value in _leaves(one, "") if path.partition(".")[0] not in apart} for one in (a, b))
    paths = [path for path in dict.fromkeys((*flat_a, *flat_b)) if path.partition("[")[0] not in apart]
    found = [FieldDifference(path, flat_a.get(path), flat_b.get(path)) for path in paths if flat_a.get(path) != flat_b.get(path)]
    return iter(sorted(found, key=lambda one: (one.difference is None, "." in one.field or "[" in one.field)))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the values in a JSON value with their paths; the items of a list of objects by what tells them apart."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        key = next(
            (key for key in _KEYS if all(key in item for item in value) and len({str(item[key]) for item in value}) == len(value)), None
        )
        for place, item in enumerate(value):
            yield from _leaves(item, f"{path}[{place if key is None else item[key]}]")
    else:
        yield path, value


def _factors(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> list[FactorDifference]:
    """Return the factors of two lists that differ."""
    by_a, by_b = ({one["name"]: one for one in rows} for rows in (a, b))
    found = []
    for name in dict.fromkeys((*by_a, *by_b)):
        one, other = by_a.get(name, {}), by_b.get(name, {})
        if (one.get("value"), one.get("contribution")) != (other.get("value"), other.get("contribution")):
            found.append(FactorDifference(name, one.get("value"), other.get("value"), one.get("contribution"), other.get("contribution")))
    return sorted(found, key=lambda one: (one.difference is None, -abs(one.difference or 0.0)))


def _are_factors(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) and all(field in one for field in FACTOR) for one in value)
    )


def _is_now(answer: Mapping[str, Any]) -> bool:
    """Return whether an answer is as of the moment at which it was computed, which its request did not choose."""
    return answer.get(AS_OF) is not None and answer.get(AS_OF) == answer.get(TIMESTAMP)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
