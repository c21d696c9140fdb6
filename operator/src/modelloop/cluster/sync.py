"""Fills the cache before the first pass and holds it against the API server from time to time.

Watches can die silently and events can be lost; the audit finds what no watch told of, mends it, and tells the
liveness probe when a kind's watch has missed a change for too long.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence

from modelloop.cluster.cache import Key, key_of, version_of
from modelloop.cluster.client import Client, Object
from modelloop.cluster.cluster import Cluster
from modelloop.cluster.resources import CUSTOM, WATCHED, Resource
from modelloop.cluster.telemetry import CACHE_REPAIRS
from modelloop.desired.labels import SELECTOR
from modelloop.errors import ClusterError, NotFoundError

WATCH_LAG = 10.0
"""Seconds that a watch may be behind before the audit calls it missing."""
FIRST_AUDIT = 5.0
"""Seconds after the start of the first audit, when the watches have listed what there is."""

logger = logging.getLogger(__name__)


class Synchronizer:
    """Lists what is watched."""

    def __init__(self, client: Client, cluster: Cluster, namespaces: Sequence[str] = ()) -> None:
        self._client = client
        self._cluster = cluster
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self.dead_watch: str = ""
        """The kind whose watch missed a change, as the last audit found it."""

    async def fill(self) -> None:
        """List every watched kind into the cache; custom resources last, so that their children are known."""
        started = time.monotonic()
        for resource in (*(r for r in WATCHED if r not in CUSTOM), *CUSTOM):
            async for body in self._list(resource):
                self._cluster.observe(resource.kind, body)
        logger.info("cache filled", extra={"seconds": round(time.monotonic() - started, 2)})

    async def audit(self, every: float) -> None:
        """Compare the cache with the API server, forever.

        What was deleted after the cache was filled and before the watches' own lists is told by nobody: the first
        audit comes soon, and says nothing about the watches.
        """
        is_first = True
        while True:
            await asyncio.sleep(min(every, FIRST_AUDIT) if is_first else every)
            try:
                dead = await self._audit_all()
                self.dead_watch = "" if is_first else dead
                is_first = False
            except ClusterError as exc:
                logger.warning("could not audit the cache", extra={"error": str(exc)})

    async def _audit_all(self) -> str:
        dead = ""
        for resource in WATCHED:
            if repaired := await self._audit(resource):
                CACHE_REPAIRS.labels(resource.kind).inc(repaired)
                logger.warning("the watch missed changes", extra={"kind": resource.kind, "objects": repaired})
                dead = resource.kind
        return dead

    async def _audit(self, resource: Resource) -> int:
        suspects = await self._differences(resource)
        if not suspects:
            return 0
        await asyncio.sleep(WATCH_LAG)
        return sum([await self._repair(resource, key, version) for key, version in suspects.items()])

    async def _differences(self, resource: Resource) -> dict[Key, int]:
        """Keys whose newest version isn't in the cache; 0 for those that the server no longer has."""
        cache = self._cluster.cache
        known = cache.keys(resource.kind)
        found: dict[Key, int] = {}
        suspects: dict[Key, int] = {}
        async for body in self._list(resource, metadata=True):
            key, version = key_of(resource.kind, body), version_of(body)
            found[key] = version
            held = cache.get(key)
            if held is None or version_of(held) < version:
                suspects[key] = version
        return suspects | dict.fromkeys(known - found.keys(), 0)

    async def _repair(self, resource: Resource, key: Key, version: int) -> int:
        held = self._cluster.cache.get(key)
        if (version and held is not None and version_of(held) >= version) or (not version and held is None):
            return 0  # the watch has told of it meanwhile
        try:
            body = await self._client.get(resource, key.namespace, key.name)
        except NotFoundError:
            if held is None:
                return 0
            self._cluster.cache.forget(key)
            self._cluster.wake_dependents(key, held)
            return 1
        return int(self._cluster.observe(resource.kind, body))

    async def _list(self, resource: Resource, *, metadata: bool = False) -> AsyncIterator[Object]:
        selector = None if resource in CUSTOM else SELECTOR
        for namespace in self._namespaces:
            async for body in self._client.list(resource, namespace, selector, metadata=metadata):
                yield body
