"""Answers /healthz, /readyz and /metrics. Liveness sees what kopf's own probe doesn't: a dead watch, a stuck queue."""

import asyncio
import logging
import time
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.cluster import utc_now
from modelloop.cluster.events import EventRecorder
from modelloop.cluster.resources import WATCHED
from modelloop.cluster.state_metrics import copy_states, render_states
from modelloop.cluster.sync import Synchronizer
from modelloop.cluster.telemetry import CACHE_OBJECTS, EVENTS_DROPPED, QUEUE_DEPTH, QUEUE_RUNNING
from modelloop.cluster.workqueue import WorkQueue

STUCK_SECONDS = 120.0
"""A pass makes a handful of calls, each bounded by 30 s."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Health:
    """What the probes look at."""

    queue: WorkQueue[Key]
    synchronizer: Synchronizer
    cache: Cache
    recorder: EventRecorder
    active: bool = False
    """Holds the Lease and has filled the cache."""
    standby: bool = True
    _progress: tuple[int, float] = field(default_factory=lambda: (0, time.monotonic()))

    def problem(self) -> str:
        """Why the process should be restarted; empty when it is well."""
        if self.queue.longest_running() > STUCK_SECONDS:
            return f"a reconcile has been running for {self.queue.longest_running():.0f} s"
        finished, since = self._progress
        if self.queue.finished != finished or not self.queue.depth:
            self._progress = (self.queue.finished, time.monotonic())
        elif time.monotonic() - since > STUCK_SECONDS:
            return f"{self.queue.depth} keys wait and none was finished for {STUCK_SECONDS:.0f} s"
        if self.synchronizer.dead_watch:
            return f"the watch of {self.synchronizer.dead_watch} missed changes"
        return ""


class HealthServer:
    """The operator's HTTP side."""

    def __init__(self, health: Health, host: str, port: int) -> None:
        self._health = health
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        self._host, self._port = host, port

    async def start(self) -> None:
        """Listen."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        problem = self._health.problem()
        if problem:
            logger.error("not healthy", extra={"problem": problem})
        return web.Response(text=(problem or "ok") + "\n", status=503 if problem else 200)

    async def _readyz(self, _request: web.Request) -> web.Response:
        # A standby is ready too: it is there to take over.
        ready = self._health.standby or self._health.active
        return web.Response(text=("ok" if ready else "filling the cache") + "\n", status=200 if ready else 503)

    async def _metrics(self, _request: web.Request) -> web.Response:
        QUEUE_DEPTH.set(self._health.queue.depth)
        QUEUE_RUNNING.set(self._health.queue.in_progress)
        EVENTS_DROPPED.set(self._health.recorder.dropped)
        for resource in WATCHED:
            CACHE_OBJECTS.labels(resource.kind).set(self._health.cache.count(resource.kind))
        # Of thousands of objects it takes longer than a probe should have to wait.
        states = await asyncio.to_thread(render_states, copy_states(self._health.cache), utc_now())
        return web.Response(body=generate_latest() + states, headers={"Content-Type": CONTENT_TYPE_LATEST})
