"""How a server stops: what is asked is answered, who is idle is sent away, who waits too long is cut off."""

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from modelkit.contract.config import LimitsConfig
from modelkit.serve.drain import Drain
from modelkit.serve.server import Server
from tests.unit.serve.conftest import Serve, slow_down
from tests.unit.serve.serve_models import iris
from tests.unit.serve.serve_sockets import (
    BODY,
    GET,
    HEAD,
    connect,
    parse_replies,
    post,
    read_all,
    read_replies,
    statuses,
)

READY = b"GET /v2/health/ready HTTP/1.1\r\nHost: pod\r\n\r\n"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def is_closed(port: int) -> bool:
    try:
        connect(port).close()
    except ConnectionError:
        return True
    return False


def test_while_draining_everything_is_answered_and_connections_end(serve: Serve) -> None:
    served = serve(iris(), drain_seconds=60.0)
    port = served.loopback.port
    with connect(port) as kept, connect(port) as idle:
        kept.sendall(READY)
        assert statuses(read_replies(kept, 1)) == [200]
        served.loopback.stop()
        wait_until(lambda: served.app.is_draining)
        # All that a client sent at once is answered, and only the last answer ends the connection.
        kept.sendall(READY + post() + GET)
        replies = parse_replies(read_all(kept))
        assert statuses(replies) == [503, 200, 200]
        assert ["connection" in reply.headers for reply in replies] == [False, False, True]
        # One that was idle all the time is still served, and so is a new one.
        idle.sendall(post())
        assert statuses(parse_replies(read_all(idle))) == [200]
        with connect(port) as new:
            new.sendall(post())
            assert statuses(parse_replies(read_all(new))) == [200]
        served.loopback.stop()
        wait_until(lambda: is_closed(port))


def test_after_draining_what_is_in_flight_is_finished_and_the_idle_are_sent_away(serve: Serve) -> None:
    served = serve(iris(), drain_seconds=0.05)
    port = served.loopback.port
    release = slow_down(served)
    with connect(port) as busy, connect(port) as idle, connect(port) as half:
        busy.sendall(post())
        idle.sendall(GET)
        read_replies(idle, 1)
        half.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY))
        wait_until(lambda: served.app.engine.active == 1)
        served.loopback.stop()
        assert idle.recv(10) == b""
        wait_until(lambda: is_closed(port))
        half.sendall(BODY)
        wait_until(lambda: served.app.engine.active == 2)
        release.set()
        for connection in (busy, half):
            (reply,) = parse_replies(read_all(connection))
            assert (reply.status, reply.headers["connection"]) == (200, "close")


def test_a_second_signal_ends_the_drain(serve: Serve) -> None:
    served = serve(iris(), drain_seconds=60.0)
    served.loopback.stop()
    served.loopback.stop()
    wait_until(lambda: is_closed(served.loopback.port))


def test_what_takes_too_long_to_finish_is_cut_off(serve: Serve) -> None:
    served = serve(iris(), limits=LimitsConfig(body_seconds=20, inference_seconds=0.2))
    with connect(served.loopback.port) as half:
        half.sendall(HEAD + b"Content-Length: 5\r\n\r\n")
        time.sleep(0.05)
        start = time.monotonic()
        served.loopback.stop()
        with suppress(ConnectionError):
            assert half.recv(10) == b""
        assert 0.1 < time.monotonic() - start < 5


def test_whoever_wants_to_know_of_the_drain_is_told_once() -> None:
    drain, told = Drain(), list[str]()
    drain.on_drain(lambda: told.append("early"))
    assert not drain.is_draining
    drain.begin()
    drain.begin()
    drain.on_drain(lambda: told.append("late"))
    assert told == ["early", "late"]
    assert drain.is_draining


@pytest.mark.parametrize("signals", [1, 2])
def test_companions_start_with_the_server_and_end_with_it(serve: Serve, signals: int) -> None:
    class Companion:
        def __init__(self) -> None:
            self.steps = list[str]()

        async def start(self) -> None:
            self.steps.append("start")

        async def wait_closed(self, seconds: float) -> None:
            self.steps.append(f"closed within {seconds:g} s")

    served, companion = serve(iris()), Companion()
    server = Server(served.app, LimitsConfig(inference_seconds=7), drain_seconds=0.01, companions=[companion])

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def stop() -> None:
                for _ in range(signals):
                    server.stop()

            await server.serve(listener, stop)

    asyncio.run(run())
    assert companion.steps == ["start", "closed within 7 s"]
