"""All open connections of a listener: how many there may be, whose time is over, and their end.

One coarse timer looks at all of them, because a timer for every request costs more than a small model's answer.
"""

import asyncio
from typing import Protocol

from modelkit.contract.config import LimitsConfig

KEEP_ALIVE_SECONDS = 75.0
"""Longer than usual proxies and clients keep an idle connection, so that they, not we, close it."""
WRITE_SECONDS = 30.0
"""A client that doesn't read its answers for so long is cut off."""
LINGER_SECONDS = 2.0
_TICKS = 8
"""How often a limit's time is looked at while it runs."""
_LONGEST_TICK, _SHORTEST_TICK = 1.0, 0.02


class Timed(Protocol):
    """A connection as the hub sees it."""

    deadline: float
    """On the loop's clock; infinite for none."""

    def expire(self) -> None:
        """The deadline is over."""

    def leave(self) -> None:
        """Close as soon as nothing is in flight."""

    def abort(self) -> None:
        """Close now."""


class Hub:
    """The connections of one listener. Used on its event loop only."""

    def __init__(self, limits: LimitsConfig) -> None:
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.is_closing = False
        """Nothing new is accepted, and connections end after their last answer."""
        self.connections: set[Timed] = set()
        self.idle: dict[Timed, None] = {}
        """Those for which no complete head has come, the one that waits longest first."""
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        shortest = min(limits.header_seconds, limits.body_seconds, LINGER_SECONDS)
        self._tick = max(_SHORTEST_TICK, min(_LONGEST_TICK, shortest / _TICKS))
        self._timer = self.loop.call_later(self._tick, self._sweep)

    def add(self, connection: Timed) -> bool:
        """Whether there is room for `connection`, if need be in the place of the one that has been idle longest."""
        if self.is_closing:
            return False
        if len(self.connections) >= self.limits.max_connections:
            if not self.idle:
                return False
            oldest = next(iter(self.idle))
            oldest.abort()
            self.remove(oldest)
        self.connections.add(connection)
        self.idle[connection] = None
        self._is_empty.clear()
        return True

    def count(self) -> int:
        """Open connections."""
        return len(self.connections)

    def remove(self, connection: Timed) -> None:
        """The connection is gone; a second time does nothing."""
        self.connections.discard(connection)
        self.idle.pop(connection, None)
        if not self.connections:
            self._is_empty.set()

    async def close(self, seconds: float) -> None:
        """End idle connections now, the others after their answers; after `seconds`, all."""
        self.is_closing = True
        for connection in list(self.connections):
            connection.leave()
        try:
            async with asyncio.timeout(seconds):
                await self._is_empty.wait()
        except TimeoutError:
            self.abort()
        self._timer.cancel()

    def abort(self) -> None:
        """End all connections now."""
        for connection in list(self.connections):
            connection.abort()
            self.remove(connection)

    def _sweep(self) -> None:
        # First: whatever goes wrong with one connection, the others keep their limits.
        self._timer = self.loop.call_later(self._tick, self._sweep)
        now = self.loop.time()
        for connection in [found for found in self.connections if found.deadline <= now]:
            connection.expire()
