"""Read what takes more than one plain decode, so that other requests do not wait for it: lists in slices, large bodies elsewhere."""

import asyncio
import time
from collections import Counter
from typing import Generic, NamedTuple, TypeVar

import msgspec

from serving.errors import DeadlineExceededError, InvalidRequestError, NotJSONError, NotReadyError, OverloadedError, RevenueEngineError
from serving.ingress.decoding.decoder import REFUSED, Decoder, Reread
from serving.ingress.decoding.fields import MAX_PROBLEMS
from serving.ingress.decoding.reading_process import ReadingProcess

T = TypeVar("T", bound=msgspec.Struct)

INLINE_BYTES = 64 * 1024  # a larger body is read again in a process of its own
SLICE_S = 0.0005  # of work for a list, after which other requests are answered

# An item that the server cannot read now is refused with the whole list: it can be sent again.
_WHOLE = (NotJSONError, OverloadedError, DeadlineExceededError, NotReadyError)


class Slices:
    """The slices of one list's work on the event loop."""

    def __init__(self) -> None:
        self._end = time.perf_counter() + SLICE_S

    async def pause(self) -> None:
        """Let other requests be answered where the slice is used up."""
        if time.perf_counter() >= self._end:
            await asyncio.sleep(0)
            self._end = time.perf_counter() + SLICE_S


class Items(NamedTuple, Generic[T]):
    """The items of a list in order, each a request or the error of an invalid one, and how often each unknown field occurs in them."""

    items: list[T | RevenueEngineError]
    unknown: Counter[str]


class BodyReader(Generic[T]):
    """Reads the bodies of one engine that its decoder did not read at once. request: the type of a body."""

    def __init__(self, request: type[T], decoder: Decoder[T], process: ReadingProcess) -> None:
        self._request, self._decoder, self._process = request, decoder, process

    async def reread(self, body: bytes | msgspec.Raw, deadline: float, max_problems: int = MAX_PROBLEMS) -> Reread[T]:
        """Return what `Decoder.reread` returns; it raises that method's errors and those of `ReadingProcess.read`."""
        if memoryview(body).nbytes <= INLINE_BYTES:
            return self._decoder.reread(body, max_problems)
        clean = await self._process.read(self._request, bytes(body), max_problems=max_problems, deadline=deadline)
        return Reread(self._decoder.read(clean.body), clean.unknown)

    async def items(self, raws: list[msgspec.Raw], deadline: float, slices: Slices) -> Items[T]:
        """Return the items of a list. Of all its wrong fields MAX_PROBLEMS are listed, and the first of each item.

        Raises NotJSONError for an item that is not JSON, and the errors of `ReadingProcess.read` that are not the item's.
        """
        found = Items[T]([], Counter())
        left = MAX_PROBLEMS
        for raw in raws:
            item = await self._item(raw, deadline, found.unknown, max(1, left))
            if isinstance(item, InvalidRequestError):
                left -= len(item.problems)
            found.items.append(item)
            await slices.pause()
        return found

    async def _item(self, raw: msgspec.Raw, deadline: float, unknown: Counter[str], max_problems: int) -> T | RevenueEngineError:
        try:
            try:
                return self._decoder.read(raw)
            except REFUSED:
                again = await self.reread(raw, deadline, max_problems)
        except _WHOLE:
            raise
        except RevenueEngineError as error:
            return error
        unknown.update(again.unknown)
        return again.request
