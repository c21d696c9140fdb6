"""Asks the pods of stable versions what they report of the rollout under way, and wakes its ModelDeployment.

Reports are held in memory only, and only as long as they are fresh: after a restart the pods, which count, are asked
again. No decision is taken here, and no pass waits for a pod.
"""

import asyncio
import json
import math
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn

import aiohttp

from modelkit.contract.codec import from_plain
from modelkit.contract.environment import HTTP_PORT
from modelkit.contract.route import ROUTE_REPORT_PATH, RouteReport
from modelloop.api.analysis import Analysis
from modelloop.api.common import parse_duration
from modelloop.cluster.asking import CONCURRENCY, Turns, keep_asking, open_session, read_page
from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.cluster import Object, utc_now
from modelloop.cluster.parse import find_status
from modelloop.cluster.telemetry import REPORT_SCRAPES, ROLLOUTS_RUNNING
from modelloop.decide.route import ObservedReport
from modelloop.desired.labels import DIGEST, ROUTE_REVISION_ANNOTATION
from modelloop.desired.names import digest_label, route_name
from modelloop.desired.route import host_port

EVERY = 1.0
"""Seconds between two questions to the same pod."""
SLOWEST = 4.0
"""Seconds between two questions to a pod that doesn't answer."""
TIMEOUT = 2.0
FRESH = timedelta(seconds=10)
MAX_BYTES = 262_144
MEASURED_STATES = ("Stepping", "Paused", "Promoting", "Baking")


@dataclass(frozen=True, slots=True)
class Target:
    """A Ready pod of a stable version."""

    key: Key
    """Of its ModelDeployment."""
    pod: str
    uid: str
    digest_label: str
    url: str
    interval: float
    """Seconds between two looks of the analysis."""


@dataclass(slots=True)
class _News:
    """What a ModelDeployment was last woken for."""

    time: float = -math.inf
    failures: int = 0
    is_urgent: bool = False
    """There was news since that shouldn't wait for the next look."""


class ReportScraper:
    """Knows what the pods of every rollout under way report."""

    def __init__(
        self,
        cache: Cache,
        wake: Callable[[Key], None],
        *,
        port: int = HTTP_PORT,
        every: float = EVERY,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.port = port
        self._cache = cache
        self._wake = wake
        self._clock = clock
        self._every = every
        self._turns: Turns[Key, Target] = Turns(self._ask, REPORT_SCRAPES, lambda _: every, SLOWEST)
        self._reports: dict[Key, dict[str, ObservedReport]] = {}
        self._news: dict[Key, _News] = {}

    def find_reports(self, key: Key) -> tuple[ObservedReport, ...]:
        """What the pods of a ModelDeployment have said in the last ten seconds, by name."""
        now = self._clock()
        reports = self._reports.get(key, {})
        return tuple(report for _, report in sorted(reports.items()) if now - report.time < FRESH)

    async def run(self) -> None:
        """Ask, forever."""
        limit = asyncio.Semaphore(CONCURRENCY)
        await keep_asking(open_session(TIMEOUT), self._every / 4, lambda session: self._begin(session, limit))

    async def ask_all(self, session: aiohttp.ClientSession, limit: asyncio.Semaphore) -> None:
        """Ask every pod whose turn it is, and forget those that are gone."""
        await asyncio.gather(*self._begin(session, limit))

    def _begin(self, session: aiohttp.ClientSession, limit: asyncio.Semaphore) -> list[Coroutine[Any, Any, None]]:
        rollouts = dict(find_rollouts(self._cache))
        ROLLOUTS_RUNNING.set(len(rollouts))
        targets = {
            Key("Pod", key.namespace, target.pod): target
            for key, body in rollouts.items()
            for target in find_targets(self._cache, key, body, self.port)
        }
        for key in self._reports.keys() - rollouts.keys():
            del self._reports[key]
        for key in self._news.keys() - rollouts.keys():
            del self._news[key]
        for key, reports in self._reports.items():
            for pod in list(reports):
                if Key("Pod", key.namespace, pod) not in targets:
                    del reports[pod]
        return self._turns.begin(session, limit, targets)

    async def _ask(self, session: aiohttp.ClientSession, pod: Key, target: Target) -> None:
        # Its certificate is for the names that clients use, not for a pod's address, and what is asked for is no
        # secret: encrypted because the pod speaks nothing else, and not verified.
        report = parse_report(await read_page(session, target.url, MAX_BYTES, verify=False))
        if digest_label(report.digest) != target.digest_label:
            raise ValueError(f"a report of version {report.digest}; expected {target.digest_label}")
        reports = self._reports.setdefault(target.key, {})
        old = reports.get(pod.name)
        reports[pod.name] = ObservedReport(pod=pod.name, time=self._clock(), report=report)
        self._tell(target, None if old is None else old.report, report)

    def _tell(self, target: Target, old: RouteReport | None, new: RouteReport) -> None:
        """Wake the ModelDeployment for news, once in an interval; at once for failures and for another route.

        At once is no more often than pods are asked. A pod that follows another route than it should is such news too.
        """
        news = self._news.setdefault(target.key, _News())
        now = time.monotonic()
        failures = sum(_failures(item.report) for item in self._reports[target.key].values())
        is_changed = old is None or _route(old) != _route(new)
        is_behind = self._wanted_revision(target.key) not in ("", new.revision) and not new.problem
        news.is_urgent = news.is_urgent or is_changed or is_behind or failures > news.failures
        # Another measurement counts anew.
        news.failures = min(news.failures, failures)
        is_news = news.is_urgent or (old is not None and _counts(old) != _counts(new))
        wait = self._every if news.is_urgent else target.interval
        if is_news and now - news.time >= wait - self._every / 2:
            self._news[target.key] = _News(now, failures)
            self._wake(target.key)

    def _wanted_revision(self, key: Key) -> str:
        """Of the route that pods are to follow; empty while there is none."""
        route = self._cache.get(Key("ConfigMap", key.namespace, route_name(key.name))) or {"metadata": {}}
        revision: str = route["metadata"].get("annotations", {}).get(ROUTE_REVISION_ANNOTATION, "")
        return revision


def _route(report: RouteReport) -> tuple[str, str, str, str]:
    return report.revision, report.measurement, report.other, report.problem


def _counts(report: RouteReport) -> tuple[int, int, int]:
    return report.other_side.asked, report.pairs.requests, report.labels.rows


def _failures(report: RouteReport) -> int:
    return sum(report.other_side.failures.values()) + report.pairs.failed


def parse_report(text: bytes) -> RouteReport:
    """A pod's report; raises ValueError when it isn't one or has a number that no count can be."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"the number {constant}")

    plain = json.loads(text, parse_constant=refuse)
    _require_numbers(plain)
    return from_plain(RouteReport, plain)


def _require_numbers(plain: Any) -> None:
    """Raises ValueError for a whole number below zero and one that is too large to be a number."""
    if isinstance(plain, dict | list):
        for item in plain.values() if isinstance(plain, dict) else plain:
            _require_numbers(item)
    elif isinstance(plain, float) and not math.isfinite(plain):
        raise ValueError("a number that is too large")
    elif isinstance(plain, int) and not 0 <= plain < 2**63:
        raise ValueError("a count below zero, or one that is too large")


def find_rollouts(cache: Cache) -> Iterator[tuple[Key, Object]]:
    """The ModelDeployments of the cache whose versions are measured."""
    for key, body in cache.all("ModelDeployment"):
        rollout = (body.get("status") or {}).get("rollout") or {}
        if rollout.get("state") in MEASURED_STATES and "deletionTimestamp" not in body["metadata"]:
            yield key, body


def read_interval(body: Object) -> float:
    """Seconds between two looks of the analysis. Asked for too often to read the whole spec for it."""
    analysis = (body["spec"].get("rollout") or {}).get("analysis") or {}
    return parse_duration(analysis.get("interval", Analysis().interval)).total_seconds()


def find_targets(cache: Cache, key: Key, body: Object, port: int = HTTP_PORT) -> Iterator[Target]:
    """The Ready pods of a ModelDeployment's stable version."""
    stable = body["status"].get("stable")
    if stable is None:
        return
    label = digest_label(stable["digest"])
    interval = read_interval(body)
    scheme = "https" if body["spec"].get("tls") else "http"
    for pod in cache.children(key, "Pod"):
        metadata, status = pod["metadata"], pod.get("status", {})
        address = status.get("podIP")
        is_ready = find_status(status.get("conditions", []), "Ready").get("status") == "True"
        if metadata["labels"].get(DIGEST) == label and is_ready and address and "deletionTimestamp" not in metadata:
            yield Target(
                key=key,
                pod=metadata["name"],
                uid=metadata["uid"],
                digest_label=label,
                url=f"{scheme}://{host_port(address, port)}{ROUTE_REPORT_PATH}",
                interval=interval,
            )
