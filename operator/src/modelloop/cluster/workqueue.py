"""A keyed work queue: deduplicated, one worker at a time per key, backoff on error, timers.

The semantics of client-go's rate-limiting work queue, in asyncio: a key that is added while it is being worked on is
worked on once more afterwards, never at the same time.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from datetime import timedelta
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF = 0.5
MAX_BACKOFF = 120.0

logger = logging.getLogger(__name__)


class WorkQueue(Generic[K]):
    """Runs `work(key)` for keys that were added. `work` returns when the key is to be looked at again."""

    def __init__(self, work: Callable[[K], Awaitable[timedelta | None]], workers: int) -> None:
        self._work = work
        self._workers = workers
        self._ready: deque[K] = deque()
        self._queued: set[K] = set()
        self._running: dict[K, float] = {}
        self._dirty: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.finished = 0
        """Passes that ended, well or not."""
        self.errors = 0

    def add(self, key: K) -> None:
        """Ask for a pass over `key` as soon as a worker is free."""
        if self._stopping:
            return
        if key in self._running:
            self._dirty.add(key)
            return
        if key not in self._queued:
            self._queued.add(key)
            self._ready.append(key)
            self._wake.set()

    def add_after(self, key: K, delay: timedelta) -> None:
        """Ask for a pass over `key` after `delay`; the earliest of several wins."""
        loop = asyncio.get_running_loop()
        when = loop.time() + max(delay.total_seconds(), 0.0)
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(when, self._fire, key)

    def _fire(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def start(self) -> None:
        """Start the workers."""
        self._tasks = [asyncio.create_task(self._worker(), name=f"worker-{n}") for n in range(self._workers)]

    async def stop(self, timeout: float) -> None:
        """Take no more keys, let the passes under way end within `timeout` seconds, then cancel them."""
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        deadline = asyncio.get_running_loop().time() + timeout
        while self._running and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def depth(self) -> int:
        """Keys that wait for a worker."""
        return len(self._ready)

    @property
    def in_progress(self) -> int:
        """Keys that are worked on."""
        return len(self._running)

    def longest_running(self) -> float:
        """Seconds that the slowest pass under way has taken so far."""
        if not self._running:
            return 0.0
        return asyncio.get_running_loop().time() - min(self._running.values())

    async def _worker(self) -> None:
        while True:
            while not self._ready:
                self._wake.clear()
                await self._wake.wait()
            if self._stopping:
                return
            key = self._ready.popleft()
            self._queued.discard(key)
            await self._run(key)

    async def _run(self, key: K) -> None:
        self._running[key] = asyncio.get_running_loop().time()
        try:
            again = await self._work(key)
        except Exception:  # noqa: BLE001 - the outermost loop: any failure is logged and tried again
            self.errors += 1
            self._retry(key)
        else:
            self._failures.pop(key, None)
            if again is not None:
                self.add_after(key, again)
        finally:
            self.finished += 1
            del self._running[key]
            if key in self._dirty:
                self._dirty.discard(key)
                self.add(key)

    def _retry(self, key: K) -> None:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(FIRST_BACKOFF * 2 ** min(failures, 16), MAX_BACKOFF)  # 2**1024 is no float any more
        delay *= random.uniform(0.75, 1.25)  # noqa: S311 - jitter, not cryptography
        logger.exception("reconcile failed", extra={"key": str(key), "retry_in_seconds": round(delay, 2)})
        self.add_after(key, timedelta(seconds=delay))
