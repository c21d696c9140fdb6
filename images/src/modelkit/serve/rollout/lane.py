"""The way to the pods of the other version, by either protocol, and how much of it may be used. On the event loop."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from modelkit.contract.route import ERROR, REFUSED, TIMEOUT, UNREACHABLE, PeerConfig
from modelkit.serve.rollout.breaker import Breaker
from modelkit.serve.rollout.grpc_peer import GrpcPeer
from modelkit.serve.rollout.http_peer import HttpPeer
from modelkit.serve.rollout.rules import parse_place
from modelkit.serve.rollout.trust import Trust
from modelkit.serve.rollout.verdict import ANSWERED, Verdict

logger = logging.getLogger(__name__)

REACH_SECONDS = 10.0
"""For the first connection: a Service's address leads nowhere until the node has heard of the pods behind it."""
_TRY_SECONDS = 0.3
_PAUSE_SECONDS = 0.05
PATIENCE = 0.5
"""A client that goes away after so much of the other version's time was kept waiting by it: that is no answer."""


class Lane:
    """The other version as this pod reaches it."""

    def __init__(self, digest: str, config: PeerConfig, trust: Trust | None, max_in_flight: int) -> None:
        self.digest = digest
        self.config = config
        self.breaker = Breaker(max_in_flight)
        self._trust = trust
        self._http: HttpPeer | None = None
        self._grpc: GrpcPeer | None = None
        self._is_reached = False
        self._reaching: asyncio.Task[None] | None = None

    def reach(self) -> bool:
        """Whether there was a connection once, or none in time; the first call begins to try."""
        if not self._is_reached and self._reaching is None:
            self._reaching = asyncio.get_running_loop().create_task(self._reach())
        return self._is_reached

    @property
    def http(self) -> HttpPeer:
        """By REST."""
        if self._http is None:
            self._http = HttpPeer(self.config.http, self._trust)
        return self._http

    @property
    def grpc(self) -> GrpcPeer:
        """By gRPC; made when the first call needs it."""
        if self._grpc is None:
            self._grpc = GrpcPeer(self.config.grpc, self._trust)
        return self._grpc

    async def ask(
        self, send: Callable[[], Awaitable[Verdict]], seconds: float, *, is_copy: bool = False
    ) -> Verdict | None:
        """The verdict of `send`; None when the other version may not be asked now. Raises nothing but cancellation."""
        breaker = self.breaker
        if not self.reach() or not breaker.enter(is_copy=is_copy):
            return None
        start = time.perf_counter()
        has_answered: bool | None = None
        was_open = breaker.is_open
        try:
            verdict = await self._send(send, seconds)
            has_answered = verdict.kind in (ANSWERED, REFUSED)
            return replace(verdict, seconds=time.perf_counter() - start)
        finally:
            if has_answered is None and time.perf_counter() - start >= PATIENCE * seconds:
                has_answered = False
            breaker.leave(has_answered)
            if breaker.is_open != was_open:
                text = "the other version fails; it is asked less often" if breaker.is_open else "it answers again"
                logger.warning(text, extra={"digest": self.digest})

    async def close(self) -> None:
        """Ask no more; what is under way may end."""
        if self._reaching is not None:
            self._reaching.cancel()
        if self._http is not None:
            self._http.close()
        if self._grpc is not None:
            await self._grpc.close()

    async def renew(self) -> None:
        """Connect anew, because the certificates have changed."""
        http, grpc, self._http, self._grpc = self._http, self._grpc, None, None
        if http is not None:
            http.close()
        if grpc is not None:
            await grpc.close()

    async def _reach(self) -> None:
        host, port = parse_place(self.config.http)
        end = time.monotonic() + REACH_SECONDS
        while time.monotonic() < end:
            try:
                async with asyncio.timeout(_TRY_SECONDS):
                    _, writer = await asyncio.open_connection(host, port)
            except (OSError, TimeoutError):
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                writer.close()
                break
        self._is_reached = True

    async def _send(self, send: Callable[[], Awaitable[Verdict]], seconds: float) -> Verdict:
        try:
            async with asyncio.timeout(seconds):
                return await send()
        except TimeoutError:
            return Verdict(TIMEOUT)
        except OSError:
            return Verdict(UNREACHABLE)
        except Exception:  # noqa: BLE001 - whatever it was, the client gets this version's answer
            return Verdict(ERROR)
