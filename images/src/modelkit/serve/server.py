"""uvicorn with a stop that loses no request.

On SIGTERM the pod says that it isn't ready and goes on answering for `drain_seconds`, asking every client to close
its connection, because endpoints and proxies forget the pod only after a while. Then it stops accepting, finishes
what is in flight and returns. A second signal ends the wait.
"""

import logging
import socket
import time
from types import FrameType

import uvicorn

from modelkit.serve.app import App

logger = logging.getLogger(__name__)

_KEEP_ALIVE_SECONDS = 75
"""Longer than usual proxies and clients keep an idle connection, so that they, not we, close it."""
_BACKLOG = 2048


class DrainingServer(uvicorn.Server):
    """One uvicorn server for one app."""

    def __init__(self, app: App, *, drain_seconds: float, finish_seconds: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type,unused-ignore]
                http="httptools",
                loop="uvloop",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(1, round(finish_seconds)),
                backlog=_BACKLOG,
            )
        )
        self._app = app
        self._drain_seconds = drain_seconds
        self._exit_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; uvicorn's own handler would stop accepting at once and end with the signal."""
        del sig, frame
        if self._exit_at is not None:
            self.should_exit = True
            return
        self._app.drain.begin()
        self._exit_at = time.monotonic() + self._drain_seconds

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if self._exit_at is not None and time.monotonic() >= self._exit_at:
            self.should_exit = True
        stop: bool = await super().on_tick(counter)
        return stop


def bind(port: int) -> socket.socket:
    """A listening socket on all addresses, IPv6 and IPv4 where the host has both; port 0 takes a free one."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    return socket.create_server(("", port), backlog=_BACKLOG)
