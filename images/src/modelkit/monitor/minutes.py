"""The requests of a window by the minute, added up over all server pods that wrote of them.

Memory: two numbers for each minute of the window and a histogram for each step of its series, however many pods there
were. An object that is damaged, or of another release's format, is left out and counted.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from modelkit.contract.codec import ContractError, loads
from modelkit.contract.files import SERVICE_STREAM, captures_directory
from modelkit.contract.service import FORMAT, LATENCY_BOUNDS, ServiceHour, ServiceMinute, is_server_error
from modelkit.errors import StoreObjectNotFoundError
from modelkit.store.backend import StoredObject
from modelkit.store.store import Store
from modelkit.store.tables import THREADS, list_hours

MAX_OBJECT_BYTES = 1024 * 1024
"""An hour of one pod has some kilobytes; whatever is larger, no server has written."""
MAX_STEPS = 200
"""Points that a series has at most, as long as a step of a day is enough for that."""
MINUTE = timedelta(minutes=1)
_STEPS = (1, 60, 24 * 60)
_BATCH = 8 * THREADS
"""Objects that are in memory at once."""
_MAX_COUNT = 2**53
"""No pod answers as many requests in a minute: such a number is damage, and sums stay within 64 bits."""

Bounds = tuple[datetime, datetime]


class RequestCounts:
    """What became of the requests of a window. Adding is commutative and associative; it mutates."""

    def __init__(self, bounds: Bounds) -> None:
        """A minute belongs to the window in which it ends, so that windows that meet share no request."""
        first, end = (bound.astimezone(UTC).replace(second=0, microsecond=0) for bound in bounds)
        self.start = first
        """Of the first minute."""
        self.minutes = max(0, (end - first) // MINUTE)
        self.step = next((step for step in _STEPS if self.minutes <= MAX_STEPS * step), _STEPS[-1])
        """Minutes of a step of the series; the last step may have fewer."""
        self.codes: Counter[int] = Counter()
        """Requests by HTTP status."""
        self.requests = np.zeros(self.minutes, dtype=np.int64)
        """[minutes]"""
        self.errors = np.zeros(self.minutes, dtype=np.int64)
        """[minutes] Those that ended as the server's error."""
        steps = -(-self.minutes // self.step)
        self.latency: NDArray[np.int64] = np.zeros((steps, len(LATENCY_BOUNDS) + 1), dtype=np.int64)
        """[steps, buckets] Those whose time counts."""
        self.objects = 0
        """Of the version, in the hours of the window."""
        self.skipped = 0
        """Objects that couldn't be read."""

    def add(self, hour: ServiceHour) -> None:
        """Count the minutes of `hour` that belong to the window; raises ContractError for numbers that no server
        writes, and then counts none of them."""
        minutes = {_parse(name, 59): minute for name, minute in hour.minutes.items()}
        found = [(minute, *_parse_minute(content)) for minute, content in minutes.items()]
        self.objects += 1
        for minute, codes, latency in found:
            position = (hour.hour + minute * MINUTE - self.start) // MINUTE
            if not 0 <= position < self.minutes:
                continue
            self.codes.update(codes)
            self.requests[position] += sum(codes.values())
            self.errors[position] += sum(count for status, count in codes.items() if is_server_error(status))
            for bucket, count in latency.items():
                self.latency[position // self.step, bucket] += count

    def merge(self, other: "RequestCounts") -> None:
        """Add the counts of other pods in the same window."""
        self.codes.update(other.codes)
        self.requests += other.requests
        self.errors += other.errors
        self.latency += other.latency
        self.objects += other.objects
        self.skipped += other.skipped


def gather_requests(
    store: Store, namespace: str, deployment: str, digest: str, bounds: Bounds, pool: Executor
) -> RequestCounts:
    """What the pods of the version `digest` wrote of the window; raises StoreError when the store can't be read."""
    counts = RequestCounts(bounds)
    directory = captures_directory(namespace, deployment, SERVICE_STREAM)
    until = counts.start + counts.minutes * MINUTE
    listed = iter(list_hours(store, directory, counts.start, until, pool, ".json"))
    while batch := list(islice(listed, _BATCH)):
        for hour in pool.map(lambda entry: _read(store, entry), batch):
            if hour is None:
                counts.skipped += 1
            elif hour.digest == digest:
                try:
                    counts.add(hour)
                except ContractError:
                    counts.skipped += 1
    return counts


def _read(store: Store, entry: StoredObject) -> ServiceHour | None:
    """The object, None when nothing can be made of it."""
    if entry.size > MAX_OBJECT_BYTES:
        return None
    try:
        hour = loads(ServiceHour, store.read(entry.path))
    except (ContractError, StoreObjectNotFoundError, RecursionError):
        return None
    return hour if hour.format == FORMAT else None


def _parse_minute(minute: ServiceMinute) -> tuple[dict[int, int], dict[int, int]]:
    codes = {_parse(name, 999): _check(count) for name, count in minute.codes.items()}
    return codes, {_parse(name, len(LATENCY_BOUNDS)): _check(count) for name, count in minute.latency.items()}


def _parse(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:4]) <= most and len(text) <= 3):
        raise ContractError(f"expected a whole number up to {most}")
    return int(text)


def _check(count: int) -> int:
    if not 0 <= count <= _MAX_COUNT:
        raise ContractError("a count is a number of requests")
    return count


def steps_of(counts: RequestCounts) -> Iterator[tuple[datetime, slice]]:
    """The beginning of each step of the series, and its minutes."""
    for first in range(0, counts.minutes, counts.step):
        yield counts.start + first * MINUTE, slice(first, first + counts.step)
