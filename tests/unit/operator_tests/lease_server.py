"""An in-memory API server for one Lease."""

import asyncio
import copy
from collections.abc import Callable
from typing import Any

from modelloop.cluster.resources import Resource
from modelloop.errors import ClusterError, ConflictError, NotFoundError

Object = dict[str, Any]


class LeaseServer:
    """Holds one object; enforces its resourceVersion. Stands in for `modelloop.cluster.client.Client`."""

    def __init__(self) -> None:
        self.body: Object | None = None
        self.down = False
        self.delay = 0.0
        """Seconds from a write to its answer."""
        self.before_replace: Callable[[], None] | None = None
        """Called once before the next replace is looked at."""
        self.writes = 0

    async def get(self, _resource: Resource, _namespace: str, _name: str) -> Object:
        await self._answer()
        if self.body is None:
            raise NotFoundError("no such lease", 404)
        return copy.deepcopy(self.body)

    async def create(self, _resource: Resource, _namespace: str, body: Object) -> Object:
        await self._answer()
        if self.body is not None:
            raise ConflictError("exists", 409)
        return await self._store(body)

    async def replace(self, _resource: Resource, _namespace: str, _name: str, body: Object) -> Object:
        await self._answer()
        if self.before_replace is not None:
            hook, self.before_replace = self.before_replace, None
            hook()
        if self.body is None:
            raise NotFoundError("no such lease", 404)
        if body["metadata"]["resourceVersion"] != self.body["metadata"]["resourceVersion"]:
            raise ConflictError("the object has been modified", 409)
        return await self._store(body)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise ClusterError("connection refused")

    async def _store(self, body: Object) -> Object:
        self.writes += 1
        self.touch(copy.deepcopy(body))
        await asyncio.sleep(self.delay)
        return copy.deepcopy(self.body or {})

    def touch(self, body: Object | None = None) -> None:
        """Store a new state, or somebody's change of an annotation."""
        stored = body or copy.deepcopy(self.body)
        assert stored is not None
        version = int((self.body or stored)["metadata"].get("resourceVersion", "0")) + 1
        stored["metadata"]["resourceVersion"] = str(version)
        self.body = stored

    @property
    def holder(self) -> str:
        return "" if self.body is None else str(self.body["spec"].get("holderIdentity") or "")
