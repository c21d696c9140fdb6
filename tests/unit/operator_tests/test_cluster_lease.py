"""The Lease: one active operator, whoever crashes, is slow or is cut off."""

import asyncio

import pytest

from modelloop.cluster import lease as lease_module
from modelloop.cluster.lease import LEASE_SECONDS, RENEW_DEADLINE, RETRY_SECONDS, Lease
from modelloop.errors import LeaseLostError
from tests.unit.operator_tests.fake_clock import run
from tests.unit.operator_tests.lease_server import LeaseServer


class LoopTime:
    """Stands in for the module `time`: the loop's clock, which tests move."""

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()


@pytest.fixture(autouse=True)
def _use_the_loops_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "time", LoopTime)


def candidate(server: LeaseServer, identity: str) -> Lease:
    return Lease(server, "modelloop-system", identity)  # type: ignore[arg-type]


def test_the_first_one_takes_it_and_the_second_waits() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        server = LeaseServer()
        first, second = candidate(server, "a"), candidate(server, "b")
        await first.acquire()
        keeping = asyncio.create_task(first.keep())
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(20 * LEASE_SECONDS)
        assert (first.held, second.held) == (True, False)
        assert not waiting.done()
        assert not keeping.done()
        assert server.holder == "a"
        assert server.body is not None
        assert server.body["spec"]["leaseTransitions"] == 0

    run(scenario)


def test_two_that_start_together_do_not_both_get_it() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        server = LeaseServer()
        leases = [candidate(server, name) for name in "abc"]
        tasks = [asyncio.create_task(lease.acquire()) for lease in leases]
        await asyncio.sleep(RETRY_SECONDS / 2)
        assert sum(lease.held for lease in leases) == 1
        assert sum(task.done() for task in tasks) == 1

    run(scenario)


def test_after_a_crash_the_other_one_takes_over_when_the_lease_has_expired_and_not_before() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        server = LeaseServer()
        first, second = candidate(server, "a"), candidate(server, "b")
        await first.acquire()
        began = loop.time()
        await second.acquire()
        assert LEASE_SECONDS <= loop.time() - began <= LEASE_SECONDS + 2 * RETRY_SECONDS
        assert server.holder == "b"
        assert server.body is not None
        assert server.body["spec"]["leaseTransitions"] == 1

    run(scenario)


def test_a_clock_of_the_holder_that_is_wrong_by_years_changes_nothing() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        server = LeaseServer()
        first, second = candidate(server, "a"), candidate(server, "b")
        await first.acquire()
        assert server.body is not None
        server.body["spec"]["renewTime"] = "1999-01-01T00:00:00.000000Z"
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(LEASE_SECONDS - 2 * RETRY_SECONDS)
        assert not waiting.done()

    run(scenario)


def test_a_lease_that_was_given_up_is_taken_at_once() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        server = LeaseServer()
        first, second = candidate(server, "a"), candidate(server, "b")
        await first.acquire()
        await first.release()
        assert server.holder == ""
        began = loop.time()
        await second.acquire()
        assert loop.time() - began < 1
        await first.release()
        assert server.holder == "b", "who doesn't hold it can't give it up"

    run(scenario)


def test_a_restarted_container_of_the_same_pod_goes_on_at_once() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        server = LeaseServer()
        await candidate(server, "a").acquire()
        began = loop.time()
        await candidate(server, "a").acquire()
        assert loop.time() - began < 1

    run(scenario)


def test_when_another_one_took_it_the_holder_ends() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        server = LeaseServer()
        first = candidate(server, "a")
        await first.acquire()
        assert server.body is not None
        server.touch(server.body | {"spec": server.body["spec"] | {"holderIdentity": "b"}})
        began = loop.time()
        with pytest.raises(LeaseLostError):
            await first.keep()
        assert loop.time() - began <= 2 * RETRY_SECONDS
        assert not first.held
        assert server.holder == "b"

    run(scenario)


def test_an_api_server_that_cannot_be_reached_costs_the_lease_before_another_one_may_take_it() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        server = LeaseServer()
        first = candidate(server, "a")
        await first.acquire()
        began = loop.time()
        server.down = True
        with pytest.raises(LeaseLostError):
            await first.keep()
        assert RENEW_DEADLINE <= loop.time() - began < LEASE_SECONDS

    run(scenario)


def test_a_short_outage_costs_nothing() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        server = LeaseServer()
        first = candidate(server, "a")
        await first.acquire()
        keeping = asyncio.create_task(first.keep())
        for _ in range(5):
            await asyncio.sleep(10 * RETRY_SECONDS)
            server.down = True
            await asyncio.sleep(RENEW_DEADLINE - 2 * RETRY_SECONDS)
            server.down = False
        assert not keeping.done()
        assert first.held

    run(scenario)


def test_somebody_who_edits_the_lease_does_not_end_the_operator() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        server = LeaseServer()
        first = candidate(server, "a")
        await first.acquire()
        keeping = asyncio.create_task(first.keep())
        for _ in range(5):
            server.before_replace = server.touch
            await asyncio.sleep(3 * RETRY_SECONDS)
        assert not keeping.done()
        assert server.holder == "a"

    run(scenario)


def test_a_lease_that_somebody_deletes_is_made_again() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        server = LeaseServer()
        first = candidate(server, "a")
        await first.acquire()
        keeping = asyncio.create_task(first.keep())
        await asyncio.sleep(RETRY_SECONDS)
        server.body = None
        await asyncio.sleep(2 * RETRY_SECONDS)
        assert not keeping.done()
        assert server.holder == "a"

    run(scenario)


@pytest.mark.parametrize("delay", [0.0, 3.0, 5.0, 7.0, 7.9, 9.0, 30.0])
def test_two_are_never_active_together_however_slow_the_answers_are(delay: float) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        server = LeaseServer()
        first, second = candidate(server, "a"), candidate(server, "b")
        await first.acquire()
        took: dict[str, float] = {}

        async def keep() -> None:
            try:
                await first.keep()
            except LeaseLostError:
                took["ended"] = loop.time()

        async def take_over() -> None:
            await second.acquire()
            took["taken over"] = loop.time()

        keeping, waiting = asyncio.create_task(keep()), asyncio.create_task(take_over())
        server.delay = delay
        before = server.writes
        while server.writes == before:
            await asyncio.sleep(0.1)
        # A renewal is stored and its answer is on its way. From here on nothing of the holder's gets through any more.
        cut_off = LeaseServer()
        cut_off.down = True
        first._client = cut_off  # type: ignore[assignment]
        server.delay = 0.0
        await asyncio.gather(keeping, waiting)
        assert took["ended"] < took["taken over"]

    run(scenario)


def test_giving_up_a_lease_on_a_dead_api_server_does_not_fail() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        server = LeaseServer()
        first = candidate(server, "a")
        await first.acquire()
        server.down = True
        await first.release()
        assert not first.held

    run(scenario)
