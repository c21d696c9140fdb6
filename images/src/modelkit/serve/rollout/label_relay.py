"""Tells other pods the labels of requests that this pod doesn't know. In the background, on the event loop.

Only statistics depend on it: what finds no room in the queue, or no pod that listens, is dropped and counted.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import orjson

from modelkit.serve.errors import RuntimeAnswerError
from modelkit.serve.feedback import Label
from modelkit.serve.head import HOP
from modelkit.serve.rollout.breaker import Breaker
from modelkit.serve.rollout.http_peer import HttpPeer
from modelkit.serve.rollout.marks import SET
from modelkit.serve.rollout.metrics import RouteMetrics
from modelkit.serve.rollout.rules import parse_place
from modelkit.serve.rollout.trust import Trust

MAX_ITEMS = 1_000
MAX_BYTES = 8 * 1024 * 1024
_TIMEOUT_SECONDS = 2.0
_MAX_IN_FLIGHT = 2
PASSED_ON, DROPPED = "PassedOn", "Dropped"

_Item = tuple[bytes, bytes | None, int]


class LabelRelay:
    """Passes labels on to the pods of RouteConfig.labels."""

    def __init__(self, metrics: RouteMetrics, own_ip: str) -> None:
        """`own_ip`: of this pod, where it is known, so that it doesn't tell itself."""
        self._metrics = metrics
        self._own_ip = own_ip
        self._targets: dict[str, tuple[HttpPeer, Breaker]] = {}
        self._queue: deque[_Item] = deque()
        self._bytes = 0
        self._worker: asyncio.Task[None] | None = None

    def follow(self, places: Sequence[str], trust: Trust | None) -> None:
        """Tell these pods from now on."""
        wanted = [place for place in places if parse_place(place)[0] != self._own_ip]
        for place in self._targets.keys() - set(wanted):
            self._targets.pop(place)[0].close()
        for place in wanted:
            if place not in self._targets:
                self._targets[place] = (HttpPeer(place, trust), Breaker(_MAX_IN_FLIGHT))

    def offer(self, labels: Sequence[Label], authorization: bytes | None) -> None:
        """Queue labels, with the token that they came with."""
        if not labels or not self._targets:
            return
        body = render_labels(labels)
        if len(self._queue) >= MAX_ITEMS or self._bytes + len(body) > MAX_BYTES:
            self._metrics.count_labels(DROPPED, len(labels))
            return
        self._queue.append((body, authorization, len(labels)))
        self._bytes += len(body)
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    def close(self) -> None:
        """Stop; what is queued is dropped."""
        if self._worker is not None:
            self._worker.cancel()
        self.follow((), None)

    async def _work(self) -> None:
        try:
            while self._queue:
                body, authorization, rows = self._queue.popleft()
                self._bytes -= len(body)
                headers = [(HOP, SET)] if authorization is None else [(HOP, SET), (b"authorization", authorization)]
                sent = [self._tell(peer, breaker, body, headers) for peer, breaker in self._targets.values()]
                is_told = any(await asyncio.gather(*sent))
                self._metrics.count_labels(PASSED_ON if is_told else DROPPED, rows)
        finally:
            self._worker = None

    async def _tell(self, peer: HttpPeer, breaker: Breaker, body: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
        if not breaker.enter():
            return False
        status = 0
        try:
            with suppress(OSError, RuntimeAnswerError):
                status = await peer.post(b"/feedback", body, headers, _TIMEOUT_SECONDS)
        finally:
            breaker.leave(status > 0)
        return 200 <= status < 300


def render_labels(labels: Iterable[Label]) -> bytes:
    """A /feedback body with those labels; of one row's several, the first."""
    rows: dict[str, dict[int, Any]] = {}
    for label in labels:
        rows.setdefault(label.id, {}).setdefault(label.row, label.value)
    items = [
        {"id": name, "label": [values.get(row) for row in range(max(values) + 1)]} for name, values in rows.items()
    ]
    return orjson.dumps(items)
