"""One active operator: a coordination Lease, as in client-go's leader election (15/10/2 seconds).

Times of other holders are never trusted: a Lease counts as expired when it hasn't changed for its duration by this
process's own clock.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

from modelloop.cluster.client import Client
from modelloop.cluster.resources import LEASE
from modelloop.errors import ClusterError, ConflictError, LeaseLostError, NotFoundError

LEASE_SECONDS = 15
RENEW_DEADLINE = 10.0
RETRY_SECONDS = 2.0
NAME = "modelloop-operator"

logger = logging.getLogger(__name__)


class Lease:
    """Holds the Lease while the process is the active operator."""

    def __init__(self, client: Client, namespace: str, identity: str) -> None:
        self._client = client
        self._namespace = namespace
        self._identity = identity
        self._seen: tuple[str, float] = ("", 0.0)
        self._renewed = 0.0
        """When the last successful renewal was asked for: others may count from then on, not from its answer."""
        self.held = False

    async def acquire(self) -> None:
        """Wait until this process holds the Lease."""
        announced = False
        while True:
            asked = time.monotonic()
            try:
                if await self._try_take():
                    self.held, self._renewed = True, asked
                    logger.info("holding the lease", extra={"identity": self._identity})
                    return
            except ClusterError as exc:
                logger.warning("could not take the lease", extra={"error": str(exc)})
            if not announced:
                logger.info("another operator holds the lease; waiting")
                announced = True
            await asyncio.sleep(RETRY_SECONDS)

    async def keep(self) -> None:
        """Renew until it fails; raises LeaseLostError, after which the process must end at once."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            asked = time.monotonic()
            try:
                async with asyncio.timeout(RENEW_DEADLINE - (asked - self._renewed)):
                    if not await self._try_take():
                        break
                self._renewed = asked
            except (ClusterError, TimeoutError) as exc:
                logger.warning("could not renew the lease", extra={"error": str(exc)})
                if time.monotonic() - self._renewed >= RENEW_DEADLINE:
                    break
        self.held = False
        raise LeaseLostError("another operator holds the lease, or the API server couldn't be reached to renew it")

    async def release(self) -> None:
        """Give the Lease up, so that a successor needn't wait for it to expire."""
        if not self.held:
            return
        self.held = False
        try:
            body = await self._client.get(LEASE, self._namespace, NAME)
            if body["spec"].get("holderIdentity") == self._identity:
                body["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._client.replace(LEASE, self._namespace, NAME, body)
        except ClusterError as exc:
            logger.warning("could not release the lease", extra={"error": str(exc)})

    async def _try_take(self) -> bool:
        try:
            body = await self._client.get(LEASE, self._namespace, NAME)
        except NotFoundError:
            return await self._create()
        spec = body.get("spec", {})
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._identity) and not self._is_expired(body, spec):
            return False
        changed = holder != self._identity
        spec = {
            **spec,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": _now(),
            "acquireTime": _now() if changed else spec.get("acquireTime", _now()),
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + int(changed),
        }
        # A ConflictError is no defeat yet: somebody may have edited the object. The next try sees who holds it.
        await self._client.replace(LEASE, self._namespace, NAME, {**body, "spec": spec})
        return True

    def _is_expired(self, body: dict[str, Any], spec: dict[str, Any]) -> bool:
        version, since = self._seen
        if version != body["metadata"]["resourceVersion"]:
            self._seen = (body["metadata"]["resourceVersion"], time.monotonic())
            return False
        return time.monotonic() - since >= float(spec.get("leaseDurationSeconds") or LEASE_SECONDS)

    async def _create(self) -> bool:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": NAME, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": LEASE_SECONDS,
                "acquireTime": _now(),
                "renewTime": _now(),
                "leaseTransitions": 0,
            },
        }
        try:
            await self._client.create(LEASE, self._namespace, body)
        except ConflictError:
            return False
        return True


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
