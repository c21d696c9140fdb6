"""An event loop whose time passes at once: sleeping costs nothing and its length is exact."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class FakeClock(asyncio.SelectorEventLoop):
    """Goes to the time of the next timer as soon as nothing else is left to do."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready:  # type: ignore[attr-defined]
            timers = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
            self._now = max(self._now, min(timers, default=self._now))
        super()._run_once()  # type: ignore[misc]


def run(scenario: Callable[[asyncio.AbstractEventLoop], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine function on a loop with a fake clock; what it leaves running is cancelled."""

    async def bounded() -> None:
        async with asyncio.timeout(10_000_000):
            await scenario(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=FakeClock) as runner:
        runner.run(bounded())
