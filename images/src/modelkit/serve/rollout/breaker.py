"""Spares requests the detour by a version that fails, and that version more than it can do. No I/O."""

import time
from collections.abc import Callable

MAX_FAILURES = 5
"""In a row; after that, one request per `RETRY_SECONDS` is sent, until one is answered."""
RETRY_SECONDS = 1.0


class Breaker:
    """Says whether the other version may be asked. Used on the event loop."""

    def __init__(self, max_in_flight: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.in_flight = 0
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._failures = 0
        self._next = 0.0

    @property
    def is_open(self) -> bool:
        """Has it failed too often in a row?"""
        return self._failures >= MAX_FAILURES

    def enter(self, *, is_copy: bool = False) -> bool:
        """May one more request be sent? If so, `leave` must follow. Copies leave half of the places free."""
        if self.in_flight >= (self._max_in_flight // 2 if is_copy else self._max_in_flight):
            return False
        if self.is_open:
            now = self._clock()
            if now < self._next:
                return False
            self._next = now + RETRY_SECONDS
        self.in_flight += 1
        return True

    def leave(self, has_answered: bool | None) -> None:
        """The request is over. `has_answered`: None when nobody waited for the answer any more."""
        self.in_flight -= 1
        if has_answered:
            self._failures = 0
        elif has_answered is not None:
            self._failures += 1
            if self._failures == MAX_FAILURES:
                self._next = self._clock() + RETRY_SECONDS
