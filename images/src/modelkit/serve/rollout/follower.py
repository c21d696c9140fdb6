"""Follows the mounted route: has a router while there is a rule for this version, counts, and reports.

A companion of the server (see server.Companion), on its event loop.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from modelkit.contract.codec import dumps
from modelkit.contract.config import TlsConfig
from modelkit.contract.route import RouteConfig, RouteReport, RuleConfig
from modelkit.serve.batch import Features
from modelkit.serve.feedback import Label
from modelkit.serve.metrics import COUNTED_ROUTES, ServerMetrics
from modelkit.serve.rollout.comparison import Comparison
from modelkit.serve.rollout.label_relay import LabelRelay
from modelkit.serve.rollout.lane import Lane
from modelkit.serve.rollout.measurement import Measurement
from modelkit.serve.rollout.metrics import RouteMetrics, RouteState
from modelkit.serve.rollout.pairs import Scale
from modelkit.serve.rollout.route_file import Found, RouteFile
from modelkit.serve.rollout.router import Router
from modelkit.serve.rollout.trust import Trust

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
_TRUST_SECONDS = 2.0


class Follower:
    """The pod's part in rollouts."""

    def __init__(
        self,
        path: Path,
        digest: str,
        features: Features,
        scale: Scale,
        metrics: ServerMetrics,
        *,
        max_in_flight: int,
        tls: TlsConfig | None = None,
        own_ip: str = "",
        is_relay: bool = False,
    ) -> None:
        """`digest`: of this version. `is_relay`: it answers by a protocol of its own, which can't be shared."""
        self.router: Router | None = None
        """While a rule is in effect."""
        self._file = RouteFile(path, frozenset(features.names))
        self._digest = digest
        self._features = features
        self._scale = scale
        self._metrics = metrics
        self._max_in_flight = max_in_flight
        self._tls = tls
        self._is_relay = is_relay
        self._config: RouteConfig | None = None
        self._problem = ""
        self._trust: Trust | None = None
        self._trust_due = 0.0
        self._counts = RouteMetrics(metrics.registry, self._read_state)
        self._comparison = Comparison(self._counts)
        self._labels = LabelRelay(self._counts, own_ip)
        self._measurement = Measurement("", time.monotonic(), scale, self._counts)
        self._counted = metrics.read_answers(COUNTED_ROUTES)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._retired: list[Router] = []

    @property
    def is_leaving(self) -> bool:
        """Should clients come back to another version's pods?"""
        return self.router is not None and self.router.rule.is_leaving

    async def start(self) -> None:
        """Look at the route, and go on looking."""
        self._loop = asyncio.get_running_loop()
        self.refresh()
        self._task = self._loop.create_task(self._follow())

    async def wait_closed(self, seconds: float) -> None:
        """Requests that the other version answers get their answers first; the rest ends after `seconds`."""
        if self._task is not None:
            self._task.cancel()
        self._labels.close()
        routers = [*self._retired, *([] if self.router is None else [self.router])]
        await asyncio.gather(*(router.wait_closed(seconds) for router in routers))
        if self.router is not None:
            await self.router.lane.close()

    def refresh(self) -> None:
        """Look at the route now; what has changed is in effect when this returns."""
        if self._trust is not None and time.monotonic() >= self._trust_due:
            self._trust_due = time.monotonic() + _TRUST_SECONDS
            if self._trust.refresh() and self.router is not None:
                self._spawn(self.router.lane)
        if self._file.refresh():
            self._apply(self._file.found)

    @property
    def is_labelling(self) -> bool:
        """Are labels wanted?"""
        return self.router is not None and self.router.rule.compare > 0

    def tell(self, labels: Sequence[Label], authorization: bytes | None, *, is_passed_on: bool) -> None:
        """Labels that were accepted, or that another pod has passed on. Thread-safe."""
        if self.is_labelling and self._loop is not None:
            self._loop.call_soon_threadsafe(self._join, labels, authorization, is_passed_on)

    def report(self) -> RouteReport:
        """What the operator reads."""
        self._count()
        config, measured = self._config, self._measurement
        return RouteReport(
            digest=self._digest,
            revision="" if config is None else config.revision,
            problem=self._problem,
            measurement=measured.name,
            other="" if self.router is None else self.router.rule.other,
            is_classification=self._scale.classes is not None,
            seconds=time.monotonic() - measured.since,
            own_side=measured.own.report(),
            other_side=measured.other.report(),
            pairs=measured.pairs.report(),
            labels=measured.labels.report(),
        )

    def render_report(self) -> bytes:
        """The report as JSON."""
        return dumps(self.report()).encode()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                self.refresh()
            except Exception as exc:  # noqa: BLE001 - the loop's outermost: it must outlive any file
                logger.error("the route could not be looked at", extra={"error": type(exc).__name__})

    def _apply(self, found: Found) -> None:
        self._count()
        config, problem = found.config, found.problem
        rule = None if config is None else config.rules.get(self._digest)
        if rule is not None and self._is_relay:
            rule, problem = None, "requests of a runtime with the protocol Raw can't be answered by another version"
        if rule is not None and self._tls is not None and self._trust is None:
            try:
                self._trust = Trust(self._tls)
            except (OSError, ValueError) as exc:
                config, rule, problem = None, None, f"the pods' certificate can't be read ({type(exc).__name__})"
        self._config, self._problem = config, problem
        if not problem or config is not None:
            self._begin("" if config is None else config.measurement)
        self._follow_rule(config, rule)
        logger.info(
            "the route has changed",
            extra={"revision": "" if config is None else config.revision, "weight": 0 if rule is None else rule.weight},
        )

    def _begin(self, measurement: str) -> None:
        if measurement != self._measurement.name:
            self._measurement = Measurement(measurement, time.monotonic(), self._scale, self._counts)

    def _follow_rule(self, config: RouteConfig | None, rule: RuleConfig | None) -> None:
        old = self.router
        if config is None or rule is None:
            self.router = None
            lane = None
        elif old is not None and (old.rule, old.lane.config) == (rule, config.peers[rule.other]):
            lane = old.lane
        else:
            lane = self._lane(old, rule.other, config)
            self.router = Router(rule, lane, self._features, self._comparison, lambda: self._measurement)
            self._retire(old)
        if lane is None:
            self._retire(old)
        if old is not None and old.lane is not lane:
            self._spawn(old.lane, is_end=True)
        if not self.is_labelling or (old is not None and rule is not None and old.rule.other != rule.other):
            self._comparison.memory.clear()
        self._labels.follow(() if config is None or not self.is_labelling else config.labels, self._trust)

    def _lane(self, old: Router | None, digest: str, config: RouteConfig) -> Lane:
        peer = config.peers[digest]
        if old is not None and (old.lane.digest, old.lane.config) == (digest, peer):
            return old.lane
        lane = Lane(digest, peer, self._trust, self._max_in_flight)
        lane.reach()
        return lane

    def _retire(self, router: Router | None) -> None:
        self._retired = [found for found in self._retired if found.is_busy]
        if router is not None:
            self._retired.append(router)

    def _spawn(self, lane: Lane, *, is_end: bool = False) -> None:
        task = asyncio.get_running_loop().create_task(lane.close() if is_end else lane.renew())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _count(self) -> None:
        """Take over what /metrics has counted, as far as no router has counted it."""
        counted = self._metrics.read_answers(COUNTED_ROUTES)
        if self.router is None:
            self._measurement.own.add(counted.since(self._counted))
        self._counted = counted

    def _join(self, labels: Sequence[Label], authorization: bytes | None, is_passed_on: bool) -> None:
        unknown = self._comparison.join(self._measurement, labels)
        if not is_passed_on:
            self._labels.offer(unknown, authorization)

    def _read_state(self) -> RouteState:
        config, router = self._config, self.router
        if config is None:
            return RouteState()
        if router is None:
            return RouteState(config.revision)
        return RouteState(config.revision, router.rule.other, router.rule.weight)
