"""Posts Kubernetes Events from a bounded queue: they inform, they never hold up or fail a reconcile."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

from modelloop.api.common import API_VERSION
from modelloop.cluster.client import Client
from modelloop.cluster.resources import EVENT
from modelloop.decide.plan import Event
from modelloop.errors import ClusterError

QUEUE_SIZE = 1000
MAX_MESSAGE = 1024

logger = logging.getLogger(__name__)


class EventRecorder:
    """Writes Events about custom resources."""

    def __init__(self, client: Client, reporter: str) -> None:
        self._client = client
        self._reporter = reporter
        self._queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(QUEUE_SIZE)
        self.dropped = 0

    def record(self, kind: str, body: dict[str, Any], event: Event) -> None:
        """Queue an Event about the custom resource `body`; dropped and counted when the queue is full."""
        metadata = body["metadata"]
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        posted = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": kind,
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "reason": str(event.reason)[:128],
            "message": event.message[:MAX_MESSAGE],
            "type": "Warning" if event.warning else "Normal",
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
            "source": {"component": "modelloop"},
            "reportingComponent": "modelloop.dev/operator",
            "reportingInstance": self._reporter[:128],
        }
        try:
            self._queue.put_nowait((metadata["namespace"], posted))
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Post what is queued, forever."""
        while True:
            namespace, posted = await self._queue.get()
            try:
                await self._client.create(EVENT, namespace, posted)
            except ClusterError as exc:
                logger.warning("could not post an Event", extra={"namespace": namespace, "error": str(exc)})
            finally:
                self._queue.task_done()

    async def drain(self, timeout: float) -> None:
        """Give queued Events up to `timeout` seconds."""
        try:
            await asyncio.wait_for(self._queue.join(), timeout)
        except TimeoutError:
            logger.info("left Events unposted", extra={"count": self._queue.qsize()})
