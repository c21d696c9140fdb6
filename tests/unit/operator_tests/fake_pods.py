"""Servers on this host that stand in for pods and for a Prometheus: slow, huge, broken or encrypted as told."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Answer:
    """What a server says to every request, and what it was asked."""

    body: bytes = b""
    status: int = 200
    delay: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    """Path, method and form fields of each request."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The one answer."""
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.asked.append({"path": request.path, "method": request.method, **form})
        await asyncio.sleep(self.delay)
        return web.Response(body=self.body, status=self.status, headers=self.headers)


async def endless(request: web.Request) -> web.StreamResponse:
    """An answer without end."""
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        while True:
            await response.write(b" " * 65_536)
    except ConnectionError:
        return response


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[int]:
    """Serve `handler` at every path of a port of this host; gives the port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=tls)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
