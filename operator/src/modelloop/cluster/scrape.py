"""Asks the pods of runs under way how far they are, and wakes a training when there is news.

What a pod says is an observation like any other: it is held in memory only, and the decision whether it is worth a
write is taken elsewhere. A pod that doesn't answer is asked less and less often; nothing waits for it.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp

from modelkit.contract.environment import METRICS_PORT
from modelkit.contract.exchange import CUSTOM, STAGE
from modelloop.cluster.asking import CONCURRENCY, Turns, keep_asking, open_session, read_page
from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.cluster import Object, utc_now
from modelloop.cluster.telemetry import SCRAPES
from modelloop.decide.runs import ScrapedProgress
from modelloop.desired.labels import COMPONENT, TRAINING
from modelloop.desired.route import host_port

EVERY = 3.0
"""Seconds between two questions to the same pod."""
SLOWEST = 60.0
"""Seconds between two questions to a pod that doesn't answer."""
TIMEOUT = 2.0
MAX_BYTES = 65_536
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"

_RATIO = re.compile(r"^modelloop_training_progress_ratio(?:\{\})? (\S+)", re.MULTILINE)
_ETA = re.compile(r"^modelloop_training_eta_seconds(?:\{\})? (\S+)", re.MULTILINE)
_STAGE = re.compile(r'^modelloop_training_stage_info\{stage="([A-Za-z]{1,32})"\} 1(?:\.0)?\s*$', re.MULTILINE)
_MAX_ETA = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class Target:
    """A pod that trains."""

    key: Key
    """Of its ModelTraining."""
    job: str
    pod: str
    address: str


class ProgressScraper:
    """Knows the progress of every run whose pod answers."""

    def __init__(
        self,
        cache: Cache,
        wake: Callable[[Key], None],
        *,
        port: int | None = None,
        every: float = EVERY,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        # Looked up now: a default of the signature would be that of the import.
        self.port = METRICS_PORT if port is None else port
        self._cache = cache
        self._wake = wake
        self._clock = clock
        self._every = every
        self._turns: Turns[str, Target] = Turns(self._ask, SCRAPES, lambda _: every, SLOWEST)
        self._found: dict[str, tuple[str, ScrapedProgress | None]] = {}

    def find(self, job: str) -> ScrapedProgress | None:
        """What the pod of a run's Job said last."""
        return self._found.get(job, ("", None))[1]

    async def run(self) -> None:
        """Ask, forever."""
        limit = asyncio.Semaphore(CONCURRENCY)
        await keep_asking(open_session(TIMEOUT), self._every / 3, lambda session: self._begin(session, limit))

    async def ask_all(self, session: aiohttp.ClientSession, limit: asyncio.Semaphore) -> None:
        """Ask every pod whose turn it is, and forget those that are gone."""
        await asyncio.gather(*self._begin(session, limit))

    def _begin(self, session: aiohttp.ClientSession, limit: asyncio.Semaphore) -> list[Coroutine[Any, Any, None]]:
        targets = {target.job: target for target in find_targets(self._cache)}
        for job, (pod, _) in list(self._found.items()):
            if job not in targets or targets[job].pod != pod:
                del self._found[job]
        return self._turns.begin(session, limit, targets)

    async def _ask(self, session: aiohttp.ClientSession, job: str, target: Target) -> None:
        page = await read_page(session, f"http://{host_port(target.address, self.port)}/metrics", MAX_BYTES)
        found = parse_progress(page.decode(errors="replace"), self._clock())
        old = self.find(job)
        self._found[job] = (target.pod, found)
        if found is not None and (old is None or (old.percent, old.stage) != (found.percent, found.stage)):
            self._wake(target.key)


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
