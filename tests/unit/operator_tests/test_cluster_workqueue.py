"""The work queue: once per key, one at a time, again after a failure, and a stop that waits."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from modelloop.cluster.workqueue import FIRST_BACKOFF, MAX_BACKOFF, WorkQueue
from tests.unit.operator_tests.fake_clock import run

Loop = asyncio.AbstractEventLoop


class Work:
    """Records the passes; `act` may be replaced by a test."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.began: list[tuple[str, float]] = []
        self.running: set[str] = set()
        self.most = 0
        self.seconds = 0.0
        self.act: Callable[[str], Awaitable[timedelta | None]] = self.nothing

    async def nothing(self, _key: str) -> timedelta | None:
        return None

    async def __call__(self, key: str) -> timedelta | None:
        assert key not in self.running, "two passes over one key at a time"
        self.began.append((key, self.loop.time()))
        self.running.add(key)
        self.most = max(self.most, len(self.running))
        try:
            await asyncio.sleep(self.seconds)
            return await self.act(key)
        finally:
            self.running.discard(key)

    def times(self, key: str) -> list[float]:
        return [when for name, when in self.began if name == key]


def start(loop: Loop, workers: int = 2) -> tuple[WorkQueue[str], Work]:
    work = Work(loop)
    queue: WorkQueue[str] = WorkQueue(work, workers)
    queue.start()
    return queue, work


def test_a_key_that_waits_already_is_not_queued_twice() -> None:
    async def scenario(loop: Loop) -> None:
        queue, work = start(loop)
        for _ in range(10):
            queue.add("a")
        assert queue.depth == 1
        await asyncio.sleep(1)
        assert work.times("a") == [0.0]
        assert (queue.finished, queue.depth, queue.in_progress) == (1, 0, 0)

    run(scenario)


def test_a_key_that_is_added_while_it_is_worked_on_is_worked_on_once_more_afterwards() -> None:
    async def scenario(loop: Loop) -> None:
        queue, work = start(loop)
        work.seconds = 5
        queue.add("a")
        await asyncio.sleep(1)
        assert queue.in_progress == 1
        assert queue.longest_running() == pytest.approx(1)
        for _ in range(3):
            queue.add("a")
        await asyncio.sleep(20)
        assert work.times("a") == [0.0, 5.0]

    run(scenario)


def test_different_keys_run_side_by_side_up_to_the_number_of_workers() -> None:
    async def scenario(loop: Loop) -> None:
        queue, work = start(loop, workers=3)
        work.seconds = 1
        for key in "abcdefg":
            queue.add(key)
        await asyncio.sleep(10)
        assert work.most == 3
        assert [key for key, _ in work.began] == list("abcdefg")
        assert max(when for _, when in work.began) == 2.0

    run(scenario)


def test_failures_are_tried_again_ever_later_and_a_success_resets_that(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    async def scenario(loop: Loop) -> None:
        queue, work = start(loop)
        failing = True

        async def act(key: str) -> timedelta | None:
            if failing:
                raise RuntimeError("the API server is away")
            return None

        work.act = act
        queue.add("a")
        await asyncio.sleep(2000)
        times = work.times("a")
        gaps = [after - before for before, after in itertools.pairwise(times)]
        for number, gap in enumerate(gaps):
            expected = min(FIRST_BACKOFF * 2**number, MAX_BACKOFF)
            assert 0.75 * expected <= gap <= 1.25 * expected + 1e-6
        assert len(gaps) > 10
        assert queue.errors == queue.finished == len(times)
        failing = False
        await asyncio.sleep(2 * MAX_BACKOFF)
        failing = True
        count = len(work.times("a"))
        queue.add("a")
        await asyncio.sleep(2 * FIRST_BACKOFF)
        assert len(work.times("a")) >= count + 2

    run(scenario)


def test_a_key_that_fails_for_weeks_is_still_tried(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    async def scenario(loop: Loop) -> None:
        queue, work = start(loop, workers=1)

        async def act(key: str) -> timedelta | None:
            raise RuntimeError("the API server is away")

        work.act = act
        queue.add("a")
        await asyncio.sleep(14 * 24 * 3600)
        count = len(work.began)
        await asyncio.sleep(10 * MAX_BACKOFF)
        assert len(work.began) > count

    run(scenario)


def test_a_failure_of_one_key_does_not_hold_up_another(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    async def scenario(loop: Loop) -> None:
        queue, work = start(loop, workers=1)

        async def act(key: str) -> timedelta | None:
            if key == "bad":
                raise RuntimeError("no")
            return None

        work.act = act
        queue.add("bad")
        queue.add("good")
        await asyncio.sleep(0.1)
        assert work.times("good") == [0.0]

    run(scenario)


def test_a_change_that_arrives_during_a_failing_pass_is_looked_at_at_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    async def scenario(loop: Loop) -> None:
        queue, work = start(loop)
        work.seconds = 1

        async def act(key: str) -> timedelta | None:
            if len(work.began) == 1:
                raise RuntimeError("once")
            return None

        work.act = act
        queue.add("a")
        await asyncio.sleep(0.5)
        queue.add("a")
        await asyncio.sleep(0.7)
        assert work.times("a") == [0.0, 1.0]

    run(scenario)


def test_a_pass_that_asks_for_it_is_repeated_after_its_delay() -> None:
    async def scenario(loop: Loop) -> None:
        queue, work = start(loop)

        async def act(key: str) -> timedelta | None:
            return timedelta(seconds=10) if len(work.began) < 3 else None

        work.act = act
        queue.add("a")
        await asyncio.sleep(100)
        assert work.times("a") == [0.0, 10.0, 20.0]

    run(scenario)


def test_a_delay_of_nothing_is_a_pass_at_once() -> None:
    async def scenario(loop: Loop) -> None:
        queue, work = start(loop)

        async def act(key: str) -> timedelta | None:
            return timedelta(0) if len(work.began) < 3 else None

        work.act = act
        queue.add("a")
        await asyncio.sleep(0.1)
        assert work.times("a") == [0.0, 0.0, 0.0]

    run(scenario)


@pytest.mark.parametrize("delays", [(30, 10, 20), (10, 20, 30), (20, 10)], ids=str)
def test_the_earliest_of_several_timers_wins(delays: tuple[int, ...]) -> None:
    async def scenario(loop: Loop) -> None:
        queue, work = start(loop)
        for delay in delays:
            queue.add_after("a", timedelta(seconds=delay))
        await asyncio.sleep(100)
        assert work.times("a") == [10.0]
        assert queue._timers == {}

    run(scenario)


def test_stopping_lets_passes_end_and_begins_no_more() -> None:
    async def scenario(loop: Loop) -> None:
        queue, work = start(loop, workers=1)
        work.seconds = 3
        ended: list[str] = []

        async def act(key: str) -> timedelta | None:
            ended.append(key)
            return timedelta(seconds=1)

        work.act = act
        queue.add("a")
        queue.add("b")
        queue.add_after("c", timedelta(seconds=4))
        await asyncio.sleep(1)
        await queue.stop(timeout=10)
        assert 3.0 <= loop.time() <= 3.1
        queue.add("d")
        queue.add_after("e", timedelta(0))
        await asyncio.sleep(50)
        assert ended == ["a"]
        assert [key for key, _ in work.began] == ["a"]

    run(scenario)


def test_stopping_does_not_wait_longer_than_it_may() -> None:
    async def scenario(loop: Loop) -> None:
        queue, work = start(loop)
        work.seconds = 1000
        queue.add("a")
        await asyncio.sleep(1)
        await queue.stop(timeout=4)
        assert 5.0 <= loop.time() <= 5.1
        assert work.running == set()

    run(scenario)


def test_nothing_is_remembered_of_keys_that_are_done() -> None:
    async def scenario(loop: Loop) -> None:
        queue, work = start(loop)

        async def act(key: str) -> timedelta | None:
            return timedelta(seconds=1) if len(work.times(key)) < 2 else None

        work.act = act
        for number in range(100):
            queue.add(str(number))
        await asyncio.sleep(10)
        assert queue.finished == 200
        for held in (queue._timers, queue._failures, queue._queued, queue._dirty, queue._running):
            assert not held

    run(scenario)
