"""A server on a loopback port, in a thread with an event loop of its own."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvloop

from modelkit.serve.server import Server


@dataclass(frozen=True)
class Loopback:
    """A running server."""

    port: int
    loop: asyncio.AbstractEventLoop
    server: Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """What a signal does."""
        self.loop.call_soon_threadsafe(self.server.stop)


@contextmanager
def running(server: Server) -> Iterator[Loopback]:
    """Start it; at the end it is stopped without draining."""
    loop, started = uvloop.new_event_loop(), threading.Event()
    failures: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            try:
                loop.run_until_complete(server.serve(listener, started.set))
            except BaseException as exc:  # noqa: BLE001 - the test fails with it
                failures.append(exc)
                started.set()
            finally:
                loop.close()

        thread = threading.Thread(target=run)
        port = listener.getsockname()[1]
        thread.start()
        assert started.wait(10)
        assert not failures
        try:
            yield Loopback(port, loop, server)
        finally:
            for _ in range(2):
                if not loop.is_closed():
                    loop.call_soon_threadsafe(server.stop)
            thread.join(20)
            assert not thread.is_alive()
            assert not failures
