"""Write what /metrics counts of clients' requests to the store, minute by minute: a monitor can't ask every pod.

The request path does nothing for it. A thread looks at the counts of `ServerMetrics`, which only grow, about every
flush interval and at the end of every minute, and adds what is new to the minute in which the interval began. So a
request counts once whatever the clock does; a store that hangs may delay a look by its time limit, and then some
requests count in the minute before theirs.

One object holds an hour of this process and is written over while the hour lasts, so a store that fails loses nothing:
the next attempt writes everything.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import sub
from typing import Protocol

from modelkit.contract.codec import dumps
from modelkit.contract.files import capture_hour
from modelkit.contract.service import FORMAT, ServiceHour, ServiceMinute, http_status, is_timed
from modelkit.errors import StoreError
from modelkit.store.segments import SegmentNames
from modelkit.store.store import Store

logger = logging.getLogger(__name__)

SUFFIX = ".json"
MAX_HOURS = 48
"""Hours that wait for the store: of more the oldest is lost."""
_MINUTE = 60.0
_FIRST_RETRY = 0.5
_LAST_RETRY = 60.0
"""Seconds between attempts, doubled from the flush interval to the last."""

Times = Mapping[int | str, list[int]]
"""Requests so far, by code and by bucket of LATENCY_BOUNDS."""


@dataclass(slots=True)
class _Hour:
    """One hour that is counted."""

    path: str
    start: datetime
    minutes: dict[int, dict[int, dict[int, int]]] = field(default_factory=dict)
    """Requests by minute, HTTP status and bucket."""
    is_changed: bool = False


class MinuteBook:
    """The minutes of the hours that aren't wholly written yet. Not thread-safe."""

    def __init__(self, names: SegmentNames, digest: str, version: int) -> None:
        self._names = names
        self._digest = digest
        self._version = version
        self._hours: dict[str, _Hour] = {}
        self._counted: Times = {}

    def add(self, times: Times, moment: datetime) -> None:
        """Count what came since the last call under the minute of `moment`."""
        empty: list[int] = []
        for code, counts in times.items():
            before = self._counted.get(code, empty)
            new = list(map(sub, counts, before)) if before else counts
            if any(new):
                self._add(http_status(code), new, moment)
        self._counted = times

    def changed(self) -> dict[str, bytes]:
        """The objects that must be written, by their paths, oldest hour first."""
        return {hour.path: self._render(hour) for _, hour in sorted(self._hours.items()) if hour.is_changed}

    def wrote(self, path: str, now: datetime) -> None:
        """The object is in the store as it was last given by `changed`; an hour that is over is forgotten."""
        current = capture_hour(now)
        for name, hour in tuple(self._hours.items()):
            if hour.path == path:
                hour.is_changed = False
            if name != current and not hour.is_changed:
                # Should the clock come back to it, that is another object.
                del self._hours[name]

    def _add(self, status: int, counts: list[int], moment: datetime) -> None:
        hour = self._open(moment)
        found = hour.minutes.setdefault(moment.minute, {}).setdefault(status, {})
        for bucket, count in enumerate(counts):
            if count:
                found[bucket] = found.get(bucket, 0) + count
        hour.is_changed = True

    def _open(self, moment: datetime) -> _Hour:
        name = capture_hour(moment)
        if name not in self._hours:
            if len(self._hours) >= MAX_HOURS:
                oldest = min(self._hours)
                logger.error("counts of requests could not be written and are lost", extra={"hour": oldest})
                del self._hours[oldest]
            start = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
            self._hours[name] = _Hour(self._names.next_path(name), start)
        return self._hours[name]

    def _render(self, hour: _Hour) -> bytes:
        minutes = {str(minute): _plain(codes) for minute, codes in hour.minutes.items()}
        plain = ServiceHour(format=FORMAT, digest=self._digest, version=self._version, hour=hour.start, minutes=minutes)
        return dumps(plain).encode()


def _plain(codes: Mapping[int, Mapping[int, int]]) -> ServiceMinute:
    latency: dict[str, int] = {}
    for status, counts in codes.items():
        if is_timed(status):
            for bucket, count in counts.items():
                latency[str(bucket)] = latency.get(str(bucket), 0) + count
    return ServiceMinute(codes={str(status): sum(counts.values()) for status, counts in codes.items()}, latency=latency)


class MinuteMetrics(Protocol):
    """What the writer counts; called from its thread."""

    def failed(self) -> None:
        """An attempt to write that failed."""


class MinuteWriter:
    """The thread that keeps the book and writes it."""

    def __init__(
        self,
        store: Store,
        book: MinuteBook,
        read: Callable[[], Times],
        metrics: MinuteMetrics,
        *,
        flush_seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        """`read`: the counts so far, from any thread."""
        self._store = store
        self._book = book
        self._read = read
        self._metrics = metrics
        self._flush_seconds = flush_seconds
        self._clock = clock
        self._since = clock()
        self._pause = flush_seconds
        self._due = 0.0
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="minute-writer", daemon=True)

    def start(self) -> None:
        """Begin to count."""
        self._since = self._clock()
        self._due = time.monotonic() + self._flush_seconds
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Write what is counted, for at most `timeout` seconds, and stop."""
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        self._thread.join(timeout + 1)

    def look(self) -> None:
        """Count what is new since the last look."""
        now = self._clock()
        self._book.add(self._read(), self._since)
        self._since = now

    def flush(self) -> bool:
        """Write what has changed; False when the store failed."""
        for path, data in self._book.changed().items():
            try:
                self._store.write(path, data)
            except StoreError as exc:
                self._metrics.failed()
                logger.warning("counts of requests could not be written", extra={"path": path, "error": str(exc)})
                return False
            self._book.wrote(path, self._since)
        return True

    def _run(self) -> None:
        while not self._closing.wait(self._next_look()):
            try:
                self._turn()
            except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: it must outlive any trouble
                logger.error("requests could not be counted", extra={"error": type(exc).__name__})
        self.look()
        while not self.flush() and time.monotonic() < self._deadline:
            time.sleep(_FIRST_RETRY)

    def _turn(self) -> None:
        self.look()
        if time.monotonic() < self._due:
            return
        self._pause = self._flush_seconds if self.flush() else min(_LAST_RETRY, 2 * self._pause)
        self._due = time.monotonic() + self._pause

    def _next_look(self) -> float:
        """Seconds until the counts are due, or the minute is over."""
        now = self._clock()
        over = (now + timedelta(seconds=_MINUTE)).replace(second=0, microsecond=0) - now
        return max(0.0, min(self._due - time.monotonic(), over.total_seconds()))
