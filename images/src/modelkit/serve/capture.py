"""Write answered requests and feedback to the store, behind the answers and never before them.

A bounded queue is emptied by one thread per stream. When the queue is full, `offer` says no and the caller decides:
a captured request is dropped and counted, feedback is answered 503. A store that fails is retried with backoff.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, groupby, repeat
from math import isnan
from typing import Any, Protocol
from zlib import crc32

import orjson

from modelkit.artifact.signature import MISSING_TEXT, InputColumn
from modelkit.contract.config import CaptureConfig
from modelkit.contract.files import capture_hour
from modelkit.errors import StoreError, StoreObjectExistsError
from modelkit.serve.batch import Batch, Features
from modelkit.serve.model import Answer
from modelkit.serve.question import Question
from modelkit.serve.redaction import NO_REDACTION, Redaction
from modelkit.store.segments import SegmentBuilder, SegmentNames
from modelkit.store.store import Store

logger = logging.getLogger(__name__)

MAX_QUEUE_BYTES = 64 * 1024 * 1024
"""Request bytes behind the waiting rows: rows with huge texts must not fill the memory."""
_SEGMENT_BYTES = 4 * 1024 * 1024
"""Uncompressed lines after which a segment ends."""
_ALL = 100
"""Per cent."""
_LINE = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z
_HOUR = 3600
_PREPARED_ROWS = 4
_TURN_ROWS = 16
"""Lines that are made before other threads have their turn: about 0.1 ms. A turn costs more than a line."""
_FIRST_RETRY = 0.5
_LAST_RETRY = 30.0
"""Seconds between attempts to write a segment: doubled from the first to the last, with jitter."""


class Pending(Protocol):
    """Something that becomes lines of a segment."""

    @property
    def rows(self) -> int:
        """How many lines."""

    @property
    def time(self) -> datetime:
        """Which hour's segment they belong to."""

    def lines(self) -> Iterator[bytes]:
        """The lines, each ending in a newline."""


@dataclass(frozen=True, slots=True)
class RowFormat:
    """What all captured rows of a version share."""

    digest: str
    version: int
    features: Features
    redaction: Redaction = NO_REDACTION

    def records(self, batch: Batch) -> Iterator[dict[str, Any]]:
        """Each row by column name, in the JSON types of the signature, a moment in seconds; missing is null."""
        features = self.features
        if features.plain and batch.matrix is not None and self.redaction is NO_REDACTION:
            names = features.names
            for row in batch.matrix.tolist():
                # NaN needs no care: it becomes null in JSON.
                yield dict(zip(names, row, strict=True))
            return
        kept = [
            (index, column, column.name in self.redaction.hashed)
            for index, column in enumerate(features.columns)
            if column.name not in self.redaction.dropped
        ]
        for row in range(batch.rows):
            values = batch.row(row)
            yield {
                column.name: self._hashed(column, values[index]) if is_hashed else _plain(column, values[index])
                for index, column, is_hashed in kept
            }

    def _hashed(self, column: InputColumn, value: Any) -> str | None:
        plain = _plain(column, value)
        return None if plain is None else self.redaction.hash(plain)


@dataclass(frozen=True, slots=True)
class CapturedRequest:
    """One answered request."""

    format: RowFormat
    id: str
    time: datetime
    """In UTC."""
    batch: Batch
    answer: Answer

    @property
    def rows(self) -> int:
        """See Pending."""
        return self.batch.rows

    def lines(self) -> Iterator[bytes]:
        """JSON lines of the stream `requests`, see modelkit.store.segments."""
        probabilities = self.answer.probabilities
        shares = repeat(None) if probabilities is None else probabilities
        record: dict[str, Any] = {
            "id": self.id,
            "row": 0,
            "time": self.time,
            "digest": self.format.digest,
            "version": self.format.version,
            "features": None,
            "prediction": None,
            "probabilities": None,
        }
        if self.format.redaction is not NO_REDACTION:
            record["redacted"] = self.format.redaction.names
        answered = zip(self.format.records(self.batch), self.answer.predictions, shares, strict=False)
        for row, (features, prediction, shared) in enumerate(answered):
            record["row"], record["features"] = row, features
            record["prediction"], record["probabilities"] = prediction, shared
            yield orjson.dumps(record, option=_LINE)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Lines that are made already."""

    rows: int
    time: datetime
    made: tuple[bytes, ...]

    def lines(self) -> Iterator[bytes]:
        """See Pending."""
        return iter(self.made)


class Capture:
    """Which answered requests are written: a sample by their ids, as far as the queue has room."""

    def __init__(
        self,
        config: CaptureConfig,
        shared: RowFormat,
        writer: "SegmentWriter",
        dropped: Callable[[int], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._clock = clock
        self._percent = config.sample_percent
        self._format = shared
        self._writer = writer
        self._dropped = dropped

    def offer(self, question: Question, answer: Answer) -> None:
        """Queue a question that was answered just now, when it is in the sample. Thread-safe; never blocks or fails.

        Rows that find no room are reported to `dropped`.
        """
        # By the id, so that all rows of a request share their fate and a repeated one has the same.
        if self._percent < _ALL and crc32(question.id.encode()) % _ALL >= self._percent:
            return
        pending = _prepare(CapturedRequest(self._format, question.id, self._clock(), question.batch, answer))
        if not self._writer.offer(pending, question.size):
            self._dropped(pending.rows)


def _prepare(captured: CapturedRequest) -> Pending:
    """A small request's lines at once, a large one for the writer's thread to make lines of.

    A few lines take less than the thread's turns to make them would take from the event loop; what waits is bytes then,
    not arrays.
    """
    if captured.rows > _PREPARED_ROWS:
        return captured
    try:
        return Prepared(captured.rows, captured.time, tuple(captured.lines()))
    except Exception:  # noqa: BLE001 - no answer fails for its capture: the writer will count the rows as lost
        return captured


class WriterMetrics(Protocol):
    """What a writer counts; called from its thread."""

    def wrote(self, rows: int) -> None:
        """Rows that are in the store."""

    def lost(self, rows: int) -> None:
        """Rows that were accepted but can't be written."""

    def failed(self) -> None:
        """An attempt to write that failed."""


class SegmentWriter:
    """One stream's queue and the thread that empties it."""

    def __init__(
        self, store: Store, names: SegmentNames, metrics: WriterMetrics, *, max_rows: int, flush_seconds: float
    ) -> None:
        self._store = store
        self._names = names
        self._metrics = metrics
        self._max_rows = max_rows
        self._flush_seconds = flush_seconds
        self._changed = threading.Condition()
        self._items: list[tuple[Pending, int]] = []
        self._oldest = 0.0
        self._rows = 0
        self._bytes = 0
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="segment-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def waiting(self) -> int:
        """Rows that aren't in the store yet."""
        return self._rows

    def offer(self, item: Pending, size: int) -> bool:
        """Queue `item`, made from a request of `size` bytes; False when there is no room. Never blocks for I/O."""
        with self._changed:
            if self._rows + item.rows > self._max_rows or self._bytes + size > MAX_QUEUE_BYTES:
                return False
            if not self._items:
                self._oldest = time.monotonic()
            self._items.append((item, size))
            self._rows += item.rows
            self._bytes += size
            # The thread itself wakes when the time is up.
            if len(self._items) == 1 or self._is_filling():
                self._changed.notify()
            return True

    def close(self, timeout: float) -> None:
        """Write what is queued, for at most `timeout` seconds, and stop."""
        self._deadline = time.monotonic() + timeout
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join(timeout + 1)

    def _run(self) -> None:
        while taken := self._take():
            items = [item for item, _ in taken]
            rows, settled = sum(item.rows for item in items), 0

            def spoilt(item: Pending, error: Exception) -> None:
                nonlocal settled
                settled += item.rows
                self._lose(item.rows, error)

            try:
                for hour, segment in _segments(items, spoilt):
                    self._write(hour, segment)
                    settled += segment.rows
            except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: it must outlive any item
                self._lose(rows - settled, exc)
            with self._changed:
                self._rows -= rows
                self._bytes -= sum(size for _, size in taken)

    def _lose(self, rows: int, error: Exception) -> None:
        logger.error("rows could not be written", extra={"rows": rows, "error": type(error).__name__})
        self._metrics.lost(rows)

    def _take(self) -> list[tuple[Pending, int]]:
        """The queued items, once they are due; nothing when the writer is closed and the queue is empty."""
        with self._changed:
            while not self._closing.is_set() and not self._is_due():
                rest = self._oldest + self._flush_seconds - time.monotonic() if self._items else None
                self._changed.wait(rest)
            items, self._items = self._items, []
            return items

    def _is_due(self) -> bool:
        if not self._items:
            return False
        return self._is_filling() or time.monotonic() >= self._oldest + self._flush_seconds

    def _is_filling(self) -> bool:
        """Is a quarter full? Room must stay for what arrives while a slow store is written to."""
        return self._rows * 4 >= self._max_rows or self._bytes * 4 >= MAX_QUEUE_BYTES

    def _write(self, hour: str, segment: SegmentBuilder) -> None:
        """Write one segment, as often as it takes; raises StoreError when the writer was closed and time is up."""
        path, data = self._names.next_path(hour), segment.finish()
        for attempt in count():
            try:
                self._store.write_new(path, data)
                break
            except StoreObjectExistsError:
                break  # The name is ours alone: an earlier attempt got through and its answer was lost.
            except StoreError as exc:
                self._metrics.failed()
                logger.warning("a segment could not be written", extra={"path": path, "error": str(exc)})
                if time.monotonic() >= self._deadline:
                    raise
                self._pause(attempt)
        self._metrics.wrote(segment.rows)

    def _pause(self, attempt: int) -> None:
        if self._closing.is_set():
            time.sleep(_FIRST_RETRY)
        else:
            self._closing.wait(min(_LAST_RETRY, _FIRST_RETRY * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311


def _segments(
    items: Sequence[Pending], spoilt: Callable[[Pending, Exception], None]
) -> Iterator[tuple[str, SegmentBuilder]]:
    """The lines of each hour, cut where a segment would become too large; `spoilt` hears of items that make none."""
    for number, group in groupby(sorted(items, key=_time_of), _hour_of):
        hour, segment = capture_hour(datetime.fromtimestamp(number * _HOUR, UTC)), SegmentBuilder()
        for item in group:
            try:
                lines = tuple(item.lines())
            except Exception as exc:  # noqa: BLE001 - one item's trouble isn't the others'
                spoilt(item, exc)
                continue
            for line in lines:
                segment.add(line)
                # Within an item too: a request of many rows may be larger than a reader takes.
                if segment.size >= _SEGMENT_BYTES:
                    yield hour, segment
                    segment = SegmentBuilder()
                if not segment.rows % _TURN_ROWS:
                    time.sleep(0)  # Let the event loop have the interpreter: answers come first.
        if segment.rows:
            yield hour, segment


def _time_of(item: Pending) -> datetime:
    return item.time


def _hour_of(item: Pending) -> int:
    """Hours since 1970: an item's folder by name costs more than its lines."""
    return int(item.time.timestamp()) // _HOUR


def _plain(column: InputColumn, value: Any) -> Any:
    if column.dtype == "string":
        return None if column.nullable and value == MISSING_TEXT else value
    if column.kind != "numeric":
        # A category that is a whole number or a boolean outside.
        return None if value == MISSING_TEXT else value == "true" if column.dtype == "bool" else int(value)
    if isnan(value):
        return None
    if column.dtype == "int64":
        return int(value)
    return bool(value) if column.dtype == "bool" else value
