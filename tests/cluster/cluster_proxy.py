"""A reverse proxy between one operator and the API server: counts its writes, kills it at one, and loses events.

Plain HTTP to the operator, the administrator's certificate to the API server, watches streamed. It runs on the event
loop of a `Background`, beside the test.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.cluster.cluster_node import Background

READS = ("GET", "HEAD")


def is_work(write: str) -> bool:
    """Whether a write, method and path, is none of those that the operator makes beside its work."""
    return not any(part in write for part in ("/leases", "/events"))


class Moment(StrEnum):
    """When the operator dies, seen from a write."""

    BEFORE = "before the API server gets the write"
    AFTER = "after the API server has answered, before the operator knows"


@dataclass(kw_only=True)
class Faults:
    """What goes wrong. Every field may be changed while the proxy runs, from any thread."""

    counts: Callable[[str], bool] = is_work
    """Which writes have a number, by method and path."""
    kill_at: int = 0
    """The number of the write at which `kill` is called; 0: never."""
    moment: Moment = Moment.BEFORE
    kill: Callable[[], None] = lambda: None
    """Ends the operator and returns when it is gone."""
    frozen: set[str] = field(default_factory=set)
    """Plural names of resources whose watches stay open and tell nothing any more."""
    drop: Callable[[str, dict[str, object]], bool] = lambda _plural, _event: False
    """Whether an event is lost."""
    delay: Callable[[str], float] = lambda _plural: 0.0
    """Seconds by which events of a resource come late."""
    echo: bool = False
    """After every event, the one before it comes once more: late and stale."""
    refuse: bool = False
    """Whether every connection breaks, as with an API server that is restarted."""
    hang: Callable[[str, str], bool] = lambda _method, _path: False
    """Whether a request is never answered."""


class Proxy:
    """The API server as one operator sees it."""

    def __init__(self, background: Background, server: str, context: ssl.SSLContext, folder: Path) -> None:
        self._background = background
        self._server = server
        self._context = context
        self.faults = Faults()
        self.writes: list[str] = []
        """Every write so far that has a number: method and path."""
        self.watched: set[str] = set()
        """Plural names of resources that were watched so far."""
        self.killed = False
        self._transports: set[asyncio.Transport] = set()
        self.port = background.run(self._start())
        self.kubeconfig = folder / f"proxy-{self.port}.kubeconfig"
        self.kubeconfig.write_text(json.dumps(kubeconfig_for(f"http://127.0.0.1:{self.port}")))

    def close(self) -> None:
        """Close all connections."""
        self._background.run(self._close())

    async def _start(self) -> int:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._context, limit=0))
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # A watch ends with its client; what is on its way to the API server arrives there, see `_forward`.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def _close(self) -> None:
        await self._runner.cleanup()
        # A handler that is ended while its client goes may leave its connection to nobody.
        for transport in self._transports:
            transport.abort()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            self._transports.add(request.transport)
        if self.faults.refuse:
            return self._abort(request)
        if self.faults.hang(request.method, request.path):
            await asyncio.sleep(3600)
        if "watch" in request.query:
            return await self._watch(request)
        return await asyncio.shield(self._forward(request, await request.read()))

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        number = self._count(request)
        mine = number > 0 and number == self.faults.kill_at
        # Before, else whoever waits for the operator's end could take it for one of its own accord, and whoever sees
        # what the write does could take the operator for one that goes on.
        self.killed = self.killed or mine
        if mine and self.faults.moment is Moment.BEFORE:
            return self._kill(request)
        async with self._ask(request, body) as answer:
            payload = await answer.read()
        if mine:
            return self._kill(request)
        return web.Response(status=answer.status, body=payload, content_type=answer.content_type)

    def _count(self, request: web.Request) -> int:
        """The write's number, 0 for what doesn't count."""
        write = f"{request.method} {request.path}"
        if request.method in READS or not self.faults.counts(write):
            return 0
        self.writes.append(write)
        return len(self.writes)

    def _kill(self, request: web.Request) -> web.Response:
        """Kill the operator; the response is for nobody."""
        self.faults.kill()
        return self._abort(request)

    @staticmethod
    def _abort(request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)

    def _ask(self, request: web.Request, body: bytes | None = None) -> "aiohttp.client._RequestContextManager":
        kept = ("Accept", "Content-Type")
        headers = {name: request.headers[name] for name in kept if name in request.headers}
        timeout = aiohttp.ClientTimeout(total=None if "watch" in request.query else 60)
        url = self._server + request.path_qs
        return self._session.request(request.method, url, data=body or None, headers=headers, timeout=timeout)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        plural = request.path.rsplit("/", 1)[-1]
        async with self._ask(request) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            self.watched.add(plural)
            buffer, last = b"", b""
            with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                async for chunk in answer.content.iter_any():
                    *lines, buffer = (buffer + chunk).split(b"\n")
                    for line in lines:
                        await self._pass_on(plural, line, response)
                        if self.faults.echo and last:
                            await self._pass_on(plural, last, response)
                        last = line
        return response

    async def _pass_on(self, plural: str, line: bytes, response: web.StreamResponse) -> None:
        if plural in self.faults.frozen or self.faults.drop(plural, json.loads(line)):
            return
        if delay := self.faults.delay(plural):
            await asyncio.sleep(delay)
        await response.write(line + b"\n")


def kubeconfig_for(server: str, token: str | None = None, authority: str | None = None) -> dict[str, object]:
    """A kubeconfig without certificates: for a proxy, or for a ServiceAccount's token and the server's authority."""
    cluster = {"server": server} | ({"certificate-authority-data": authority} if authority else {})
    user = {"token": token} if token else {}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": "tests", "user": user}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        "current-context": "tests",
    }
