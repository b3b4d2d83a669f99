"""A circuit breaker: when not to call a store that does not answer."""

from collections.abc import Callable


class Breaker:
    """A circuit breaker. It opens when failures outweigh answers, and lets one probe through after a back-off that doubles."""

    LIMIT = 5.0  # failures in a row that open it
    LEAK = 0.1  # an answer undoes so much of a failure: more than one failure in ten calls opens it, so a flapping store does too
    FIRST_S, LONGEST_S = 0.5, 10.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self.opened = 0
        self.is_open = False
        self._clock = clock
        self._level = 0.0
        self._backoff_s = self.FIRST_S
        self._retry_at = 0.0

    def answered(self) -> None:
        """Note that a call was answered in time."""
        self._level = max(0.0, self._level - self.LEAK)
        if self._level == 0.0:
            self._backoff_s = self.FIRST_S

    def failed(self) -> None:
        """Note that a call was not answered in time, and open when that is one too many."""
        self._level += 1.0
        if not self.is_open and self._level >= self.LIMIT:
            self.open()

    def open(self) -> None:
        """Let nothing through until the back-off is over; the next one is twice as long."""
        self.opened += not self.is_open
        self.is_open = True
        self._retry_at = self._clock() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, self.LONGEST_S)

    def close(self) -> None:
        """Let calls through again, on probation: one failure opens it."""
        self.is_open = False
        self._level = self.LIMIT - 1.0

    def due(self) -> bool:
        """Return whether it is open and the time for a probe has come."""
        return self.is_open and self._clock() >= self._retry_at
