"""Listens, and stops without losing a request.

On SIGTERM the pod says that it isn't ready and goes on answering for `drain_seconds`, asking every client to close
its connection, because endpoints and proxies forget the pod only after a while. Then it stops accepting, finishes
what is in flight and returns. A second signal ends the wait.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import uvloop

from modelkit.contract.config import LimitsConfig
from modelkit.serve.app import App, log_failure
from modelkit.serve.auth import Auth
from modelkit.serve.connection import Connection
from modelkit.serve.hub import LINGER_SECONDS, Hub
from modelkit.serve.tls import Certificate

logger = logging.getLogger(__name__)

_BACKLOG = 2048
_REFRESH_SECONDS = 2.0
"""How often mounted Secrets are looked at. The kubelet itself takes a minute."""


class Companion(Protocol):
    """Something else that listens in this process, on the same event loop and with the same drain.

    What should happen when draining begins, it registers with `service.drain.on_drain`.
    """

    async def start(self) -> None:
        """Listen."""

    async def wait_closed(self, seconds: float) -> None:
        """Stop accepting, finish what is in flight, end the rest after `seconds`."""


class Server:
    """One listener for one app."""

    def __init__(
        self,
        app: App,
        limits: LimitsConfig,
        *,
        drain_seconds: float,
        certificate: Certificate | None = None,
        auth: Auth | None = None,
        companions: Sequence[Companion] = (),
        refresh_seconds: float = _REFRESH_SECONDS,
    ) -> None:
        self._app = app
        self._limits = limits
        self._drain_seconds = drain_seconds
        self._certificate = certificate
        self._auth = auth
        self._companions = companions
        self._refresh_seconds = refresh_seconds
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event

    def run(self, listener: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.serve(listener, lambda: self._handle_signals(runner.get_loop())))

    async def serve(self, listener: socket.socket, started: Callable[[], None]) -> None:
        """Serve until `stop`, then drain. `started` is called once clients are answered."""
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(_log_unhandled)
        app, hub = self._app, Hub(self._limits)
        app.watch_connections(hub.count)
        context = None if self._certificate is None else self._certificate.context
        server = await self._loop.create_server(
            lambda: Connection(app, hub),
            sock=listener,
            backlog=_BACKLOG,
            ssl=context,
            ssl_handshake_timeout=None if context is None else self._limits.header_seconds,
            ssl_shutdown_timeout=None if context is None else LINGER_SECONDS,
        )
        for companion in self._companions:
            await companion.start()
        refreshing = self._loop.create_task(self._refresh())
        started()
        await self._stopping.wait()
        server.close()
        seconds = self._limits.inference_seconds
        await asyncio.gather(hub.close(seconds), *(companion.wait_closed(seconds) for companion in self._companions))
        refreshing.cancel()

    def stop(self) -> None:
        """Begin to drain; a second time, stop now. On the event loop."""
        if self._app.drain.is_draining:
            self._stopping.set()
            return
        self._app.drain.begin()
        self._loop.call_later(self._drain_seconds, self._stopping.set)

    def _handle_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    async def _refresh(self) -> None:
        """Follow mounted Secrets."""
        while self._certificate is not None or self._auth is not None:
            await asyncio.sleep(self._refresh_seconds)
            if self._certificate is not None:
                self._certificate.refresh()
            if self._auth is not None:
                self._auth.refresh()


def bind(port: int) -> socket.socket:
    """A listening socket on all addresses, IPv6 and IPv4 where the host has both; port 0 takes a free one."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    return socket.create_server(("", port), backlog=_BACKLOG)


def _log_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's own handler would write the error's message, which may hold a value."""
    del loop
    error = context.get("exception")
    if isinstance(error, BaseException) and not isinstance(error, ConnectionError | TimeoutError):
        log_failure(error, "")
