"""Asks the pods of runs under way how far they are, and wakes a training when there is news.

What a pod says is an observation like any other: it is held in memory only, and the decision whether it is worth a
write is taken elsewhere. A pod that doesn't answer is asked less and less often; nothing waits for it.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import aiohttp

from modelkit.contract.environment import METRICS_PORT
from modelkit.contract.exchange import CUSTOM, STAGE
from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.cluster import Object, utc_now
from modelloop.cluster.telemetry import SCRAPES
from modelloop.decide.runs import ScrapedProgress
from modelloop.desired.labels import COMPONENT, TRAINING

EVERY = 3.0
"""Seconds between two questions to the same pod."""
SLOWEST = 60.0
"""Seconds between two questions to a pod that doesn't answer."""
TIMEOUT = 2.0
CONCURRENCY = 32
MAX_BYTES = 65_536
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"

_RATIO = re.compile(r"^modelloop_training_progress_ratio(?:\{\})? (\S+)", re.MULTILINE)
_ETA = re.compile(r"^modelloop_training_eta_seconds(?:\{\})? (\S+)", re.MULTILINE)
_STAGE = re.compile(r'^modelloop_training_stage_info\{stage="([A-Za-z]{1,32})"\} 1(?:\.0)?\s*$', re.MULTILINE)
_MAX_ETA = 366 * 86_400.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """A pod that trains."""

    key: Key
    """Of its ModelTraining."""
    job: str
    pod: str
    address: str


@dataclass(slots=True)
class _Record:
    pod: str
    due: float = 0.0
    failures: int = 0
    progress: ScrapedProgress | None = None


@dataclass(slots=True)
class ProgressScraper:
    """Knows the progress of every run whose pod answers."""

    cache: Cache
    wake: Callable[[Key], None]
    port: int = field(default_factory=lambda: METRICS_PORT)
    every: float = EVERY
    clock: Callable[[], datetime] = utc_now
    _records: dict[str, _Record] = field(default_factory=dict)

    def find(self, job: str) -> ScrapedProgress | None:
        """What the pod of a run's Job said last."""
        record = self._records.get(job)
        return record.progress if record is not None else None

    async def run(self) -> None:
        """Ask, forever."""
        limit = asyncio.Semaphore(CONCURRENCY)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        # No proxy of the environment: pods are reached directly or not at all.
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            while True:
                await self.ask_all(session, limit)
                await asyncio.sleep(self.every / 3)

    async def ask_all(self, session: aiohttp.ClientSession, limit: asyncio.Semaphore) -> None:
        """Ask every pod whose turn it is, and forget those that are gone."""
        targets = find_targets(self.cache)
        now = time.monotonic()
        jobs = {target.job for target in targets}
        for job in self._records.keys() - jobs:
            del self._records[job]
        due = []
        for target in targets:
            record = self._records.get(target.job)
            if record is None or record.pod != target.pod:
                record = self._records[target.job] = _Record(target.pod)
            if record.due <= now:
                due.append((target, record))
        await asyncio.gather(*(self._ask(session, limit, target, record) for target, record in due))

    async def _ask(
        self, session: aiohttp.ClientSession, limit: asyncio.Semaphore, target: Target, record: _Record
    ) -> None:
        host = f"[{target.address}]" if ":" in target.address else target.address
        async with limit:
            try:
                text = await _fetch(session, f"http://{host}:{self.port}/metrics")
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
                SCRAPES.labels("failed").inc()
                logger.debug("no progress", extra={"pod": target.pod, "error": f"{type(exc).__name__}: {exc}"})
                record.failures += 1
                record.due = time.monotonic() + min(self.every * 2.0 ** min(record.failures, 10), SLOWEST)
                return
        SCRAPES.labels("done").inc()
        record.failures, record.due = 0, time.monotonic() + self.every
        found = parse_progress(text, self.clock())
        old, record.progress = record.progress, found
        if found is not None and (old is None or (old.percent, old.stage) != (found.percent, found.stage)):
            self.wake(target.key)


async def _fetch(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url, allow_redirects=False) as answer:
        answer.raise_for_status()
        chunks = bytearray()
        async for chunk in answer.content.iter_chunked(MAX_BYTES):
            chunks += chunk
            if len(chunks) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
    return chunks.decode(errors="replace")


def find_targets(cache: Cache) -> list[Target]:
    """Pods of the cache that train right now."""
    targets = []
    for key, pod in cache.all("Pod"):
        labels, status = pod["metadata"].get("labels", {}), pod.get("status", {})
        job, training = labels.get(JOB_NAME_LABEL), labels.get(TRAINING)
        if labels.get(COMPONENT) != "trainer" or not job or not training or not status.get("podIP"):
            continue
        is_wanted = status.get("phase") in ("Pending", "Running") and "deletionTimestamp" not in pod["metadata"]
        if is_wanted and _is_running(pod):
            owner = Key("ModelTraining", key.namespace, training)
            targets.append(Target(key=owner, job=f"{key.namespace}/{job}", pod=key.name, address=status["podIP"]))
    return targets


def _is_running(pod: Object) -> bool:
    """Whether a container runs that answers: the trainer's, or one of a custom training's steps before it."""
    statuses = pod["status"].get("containerStatuses") or []
    steps = [item for item in pod["status"].get("initContainerStatuses") or [] if item.get("name") in (STAGE, CUSTOM)]
    return any("running" in (status.get("state") or {}) for status in (*statuses, *steps))


def parse_progress(text: str, now: datetime) -> ScrapedProgress | None:
    """What a page of metrics says of a run; None when it says nothing of use. `now` is the time of the page."""
    ratio = _number(_RATIO.search(text))
    if ratio is None:
        return None
    stage = _STAGE.search(text)
    eta = _number(_ETA.search(text))
    return ScrapedProgress(
        # Down, so that 100 is only said of what is done.
        percent=int(min(max(ratio, 0.0), 1.0) * 100 + 1e-9),
        stage=stage[1] if stage else "",
        time=now,
        eta_seconds=eta if eta is not None and 0 <= eta <= _MAX_ETA else None,
    )


def _number(match: re.Match[str] | None) -> float | None:
    if match is None:
        return None
    try:
        value = float(match[1])
    except ValueError:
        return None
    return value if value == value else None  # NaN
