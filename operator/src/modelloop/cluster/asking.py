"""Asks others over HTTP, in turns: bounded in time, size and number, and never waited for by a reconcile pass.

Who doesn't answer is asked less and less often. What answers say is an observation, held in memory only.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import aiohttp
from prometheus_client import Counter

CONCURRENCY = 32
FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError)
"""How a question may end without an answer; the last one of JSON that is nested without end."""

K = TypeVar("K")
T = TypeVar("T")

logger = logging.getLogger(__name__)


def open_session(timeout: float, connector: aiohttp.BaseConnector | None = None) -> aiohttp.ClientSession:
    """A session whose questions end within `timeout` seconds.

    Without a proxy of the environment: who is asked is reached directly or not at all.
    """
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout),
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        connector=connector,
    )


async def read_page(session: aiohttp.ClientSession, url: str, most: int, *, verify: bool = True) -> bytes:
    """What is answered with 200 at a URL, which is never left; raises one of FAILURES."""
    async with session.get(url, allow_redirects=False, ssl=verify) as answer:
        if answer.status != 200:
            raise ValueError(f"answers {answer.status}")
        return await read_body(answer, most)


async def read_body(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """The body of an answer; raises ValueError when it is larger than `most` bytes."""
    chunks = bytearray()
    async for chunk in answer.content.iter_chunked(65_536):
        chunks += chunk
        if len(chunks) > most:
            raise ValueError(f"more than {most} bytes")
    return bytes(chunks)


@dataclass(slots=True)
class _Turn(Generic[T]):
    target: T
    due: float = 0.0
    failures: int = 0
    is_asked: bool = False


@dataclass(slots=True)
class Turns(Generic[K, T]):
    """Whose turn it is."""

    ask: Callable[[aiohttp.ClientSession, K, T], Awaitable[None]]
    """Asks and keeps the answer; raises one of FAILURES when there is none."""
    counter: Counter
    """By outcome."""
    every: Callable[[T], float]
    """Seconds between two questions to one target."""
    slowest: float
    """The same while it doesn't answer, which are doubled from one question to the next up to this."""
    turns: dict[K, _Turn[T]] = field(default_factory=dict)

    def begin(
        self, session: aiohttp.ClientSession, limit: asyncio.Semaphore, targets: Mapping[K, T]
    ) -> list[Coroutine[Any, Any, None]]:
        """The questions that are due, for the caller to run. Forgets who isn't among the targets any more."""
        for key in self.turns.keys() - targets.keys():
            del self.turns[key]
        now = time.monotonic()
        due = []
        for key, target in targets.items():
            turn = self.turns.get(key)
            if turn is None or turn.target != target:
                turn = self.turns[key] = _Turn(target)
            if turn.due <= now and not turn.is_asked:
                turn.is_asked = True
                due.append(self._take(session, limit, key, turn))
        return due

    async def _take(self, session: aiohttp.ClientSession, limit: asyncio.Semaphore, key: K, turn: _Turn[T]) -> None:
        every = self.every(turn.target)
        async with limit:
            try:
                await self.ask(session, key, turn.target)
            except FAILURES as exc:
                self.counter.labels("failed").inc()
                logger.debug("no answer", extra={"asked": str(key), "error": f"{type(exc).__name__}: {exc}"})
                turn.failures += 1
                wait = min(every * 2.0 ** min(turn.failures, 10), max(self.slowest, every))
            else:
                self.counter.labels("done").inc()
                turn.failures, wait = 0, every
        turn.due, turn.is_asked = time.monotonic() + wait, False


async def keep_asking(
    session: aiohttp.ClientSession,
    pause: float,
    begin: Callable[[aiohttp.ClientSession], list[Coroutine[Any, Any, None]]],
) -> None:
    """Run the questions that `begin` gives every `pause` seconds, forever. A slow one holds up no other."""
    async with session, asyncio.TaskGroup() as group:
        while True:
            for question in begin(session):
                group.create_task(question)
            await asyncio.sleep(pause)
