"""Decode the bytes of a body into an engine's request: quickly if the body is valid, with every wrong field named if it is not."""

import json
import operator
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr

from serving.errors import InvalidRequestError, NotJSONError, TooLargeError
from serving.ingress.decoding.fields import MAX_PROBLEMS, Found, tree
from serving.ingress.decoding.strict import Path, quick_fields, strict

T = TypeVar("T", bound=msgspec.Struct)

MAX_DIGITS = 4300  # of an integer; Python rejects longer ones
REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what msgspec raises of a body that it refuses

# Stands in place of a number that is out of the range of a double: msgspec converts it into no field type and names this type in the error.
_OutOfRange = type("number out of range", (), {})


class Reread(NamedTuple, Generic[T]):
    """A request that was decoded again leniently, and how often each unknown field occurs in it."""

    request: T
    unknown: Counter[str]


class Decoder(Generic[T]):
    """Decodes the bodies of one engine. `check` raises for what types cannot express."""

    def __init__(self, request: type[T], check: Callable[[Any], None], max_items: int) -> None:
        self._type = request
        self._strict: msgspec.json.Decoder[T] = msgspec.json.Decoder(strict(request))
        self._quick: msgspec.json.Decoder[T] = msgspec.json.Decoder(strict(request, quick=True))
        self._quick_fields = [(_owner(path), path[-1], quick) for path, quick in quick_fields(request)]
        self._split = msgspec.json.Decoder(Annotated[list[msgspec.Raw], Meta(max_length=max_items)])
        self._tree = tree(request)
        self._check = check
        self._max_items = max_items

    def read(self, body: bytes | msgspec.Raw) -> T:
        """Return the request of a valid body without unknown fields. Raises one of REFUSED for any other, which `reread` decodes again."""
        request = self._quickly(body) if self._quick_fields else None
        if request is None:
            return self._checked(self._strict.decode(body))
        self._check(request)
        return request

    def _quickly(self, body: bytes | msgspec.Raw) -> T | None:
        """Return the request with its quick fields read, None where msgspec has to read one of them."""
        request = self._quick.decode(body)
        for owner_of, name, quick in self._quick_fields:
            owner = owner_of(request)
            found = quick.read(getattr(owner, name))
            if found is None:
                return None
            force_setattr(owner, name, found)
        return request

    def _checked(self, request: T) -> T:
        """Return a checked request with its quick fields converted, the same whichever way it was decoded."""
        self._check(request)
        for owner_of, name, quick in self._quick_fields:
            owner = owner_of(request)
            force_setattr(owner, name, quick.convert(getattr(owner, name)))
        return request

    def reread(self, body: bytes | msgspec.Raw, max_problems: int = MAX_PROBLEMS) -> Reread[T]:
        """Return the request of a body with unknown fields.

        Raises NotJSONError, or InvalidRequestError with every wrong field, of which the first `max_problems` are listed.
        """
        again = self.lenient(body, max_problems)
        return Reread(self._checked(again.request), again.unknown)

    def lenient(self, body: bytes | msgspec.Raw, max_problems: int = MAX_PROBLEMS) -> Reread[T]:
        """Return what `reread` does, before the checks that types cannot express and the conversion of quick fields."""
        data, exact = _parse(bytes(body))
        try:
            request = msgspec.convert(data, self._type, str_keys=True)
            if not exact:
                msgspec.json.encode(request)  # a field of any type accepts the mark of a number out of range
        except (msgspec.ValidationError, TypeError) as error:
            raise self._wrong(data, error, max_problems) from error
        unknown: Counter[str] = Counter()
        self._tree.count(data, "", unknown)
        return Reread(request, unknown)

    def _wrong(self, data: Any, error: Exception, max_problems: int) -> InvalidRequestError:
        found = Found(max_problems)
        self._tree.find(data, "", found)
        if not found.problems:
            found.wrong("", str(error) if isinstance(error, msgspec.ValidationError) else "A number is out of range")
        return InvalidRequestError(found.problems, found.more)

    def split(self, body: bytes) -> list[msgspec.Raw]:
        """Return the items of a list as JSON. Raises NotJSONError or TooLargeError for the list as a whole."""
        try:
            raws: list[msgspec.Raw] = self._split.decode(body)
        except msgspec.ValidationError as error:
            raise TooLargeError(f"the list has more than {self._max_items} items; split it") from error
        except REFUSED as error:
            raise _not_json(error, body) from error
        return raws


def _owner(path: Path) -> Callable[[Any], Any]:
    """Return a function of a request that returns the struct with the field at `path`."""
    return operator.attrgetter(".".join(path[:-1])) if path[:-1] else lambda request: request


def is_list(body: bytes) -> bool:
    """Return whether the body, if it is JSON, is a list."""
    return body[:1] == b"[" or (body[:1] in (b" ", b"\n", b"\r", b"\t") and body.lstrip(b" \n\r\t")[:1] == b"[")


def _parse(body: bytes) -> tuple[Any, bool]:
    """Return the body as plain data, and whether every number in it could be read. Raises NotJSONError."""
    try:
        return msgspec.json.decode(body), True
    except msgspec.ValidationError:
        return _parse_loosely(body), False
    except REFUSED as error:
        raise _not_json(error, body) from error


def _parse_loosely(body: bytes) -> Any:
    """Return the body as plain data, with a mark in place of each number out of range, so that its field can be named."""
    try:
        data = json.loads(body.decode(), parse_float=_float, parse_int=_int, parse_constant=_constant)
        json.dumps(data, ensure_ascii=False, default=str).encode()  # half a surrogate pair cannot be encoded
    except (ValueError, RecursionError) as error:
        raise _not_json(error, body) from error
    return data


def _float(text: str) -> Any:
    value = float(text)
    return value if abs(value) != float("inf") else _OutOfRange()


def _int(text: str) -> Any:
    return int(text) if len(text) <= MAX_DIGITS else _OutOfRange()


def _constant(text: str) -> Any:
    raise ValueError(f"JSON is malformed: {text} is no JSON number")


def _not_json(error: Exception, body: bytes) -> NotJSONError:
    if isinstance(error, RecursionError):
        return NotJSONError("the body is nested too deeply")
    if not body.strip(b" \n\r\t"):
        return NotJSONError("the body is empty")
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        return NotJSONError(f"the body is not UTF-8 at byte {wrong.start}")
    return NotJSONError(f"the body is not JSON: {error}"[:300].replace("JSON is malformed: ", ""))
