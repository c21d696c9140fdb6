"""What a window needs of the store: counts and labelled rows, reading as little as possible.

An hour that is over is read once: its summary and its answers are stored (`archive`), and a sample of its rows where a
configured check needs one. A later window merges what is stored, and reads the segments of the hours of which nothing
is and of those at its ends that aren't wholly in it.

A writer that couldn't reach the store may bring a segment late. A summary tells of how many segments it was made: when
there are more by now the hour is read again. When there are fewer (the retention removed them) it still counts.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from modelkit.contract.files import FEEDBACK_STREAM, capture_hour, captures_directory
from modelkit.contract.monitoring import MonitorConfig
from modelkit.errors import StoreError
from modelkit.monitor.archive import AnswersError, AnswersWriter, Archive, StoredHour
from modelkit.monitor.hours import HOUR, Source, summarise_hour
from modelkit.monitor.labels import Feedback, Join
from modelkit.monitor.minutes import gather_requests
from modelkit.monitor.reference import Reference
from modelkit.monitor.sample import RowSample, SampleError, open_sample
from modelkit.monitor.summary import Summary, empty_summary
from modelkit.monitor.window import Gathered
from modelkit.store.store import Store, StoredObject
from modelkit.store.tables import FEEDBACK, THREADS, Stream, list_segments, stream_segments

logger = logging.getLogger(__name__)

SLACK = timedelta(minutes=5)
"""How long after its end an hour gets segments in the usual course: they are flushed within seconds, and a store that
fails is tried again at least every half minute."""

Bounds = tuple[datetime, datetime]


def gather_window(store: Store, config: MonitorConfig, reference: Reference, bounds: Bounds, now: datetime) -> Gathered:
    """Count the rows that the version answered in `bounds`, and join them with feedback whenever it arrived.

    `now`, the real time, decides which hours are over. An (id, row) counts once in an hour. Raises StoreError when the
    store can't be read; a summary that can't be stored is only logged.
    """
    with ThreadPoolExecutor(THREADS, thread_name_prefix="captures") as pool:
        columns = () if config.fairness is None else config.fairness.columns
        source = Source(store, config.namespace, config.deployment, config.version.digest, reference, pool, columns)
        feedback, skipped = _read_feedback(source, (bounds[0] - HOUR, now + HOUR))
        join = Join(feedback)
        sample = open_sample(config, reference.features)
        summary = _summarise(source, Collected(join, sample), bounds, now).skip(skipped)
        labelled = join.select(reference)
        service = None
        if config.service is not None:
            service = gather_requests(store, config.namespace, config.deployment, config.version.digest, bounds, pool)
    if summary.skipped_segments:
        found = {"deployment": config.deployment, "segments": summary.skipped_segments}
        logger.warning("skipped damaged capture segments", extra=found)
    return Gathered(summary, labelled, service, None if sample is None else sample.rows)


@dataclass(frozen=True, slots=True)
class Collected:
    """What is kept of the window's rows beside their counts."""

    join: Join
    sample: RowSample | None


def _read_feedback(source: Source, bounds: Bounds) -> tuple[Feedback, int]:
    """The labels that arrived in `bounds`, and how many segments were damaged or vanished."""
    directory = captures_directory(source.namespace, source.deployment, FEEDBACK_STREAM)
    stream, feedback, skipped = Stream(source.store, directory, FEEDBACK), Feedback(), 0
    segments = list_segments(stream, *bounds, source.pool)
    for group in stream_segments(stream, segments, lambda table: table, source.pool):
        skipped += group.skipped
        for table in group.tables:
            if "label" in table.column_names:
                feedback.add(source.reference, table)
    return feedback, skipped


def _summarise(source: Source, collected: Collected, bounds: Bounds, now: datetime) -> Summary:
    """All hours of the window, oldest first."""
    archive, summary = Archive(source), empty_summary(source.reference)
    listed = _list_hours(source, bounds)
    hour = bounds[0].astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while hour < bounds[1]:
        part, name = (max(hour, bounds[0]), min(hour + HOUR, bounds[1])), capture_hour(hour)
        segments = listed.get(name, [])
        if part == (hour, hour + HOUR) and hour + HOUR + SLACK <= now:
            summary = summary.merge(_summarise_finished(source, archive, collected, part, segments))
        elif segments:
            summary = summary.merge(summarise_hour(source, segments, part, collected.join.add, collected.sample))
        hour += HOUR
    return summary


def _list_hours(source: Source, bounds: Bounds) -> Mapping[str, list[StoredObject]]:
    """The segments of each hour folder that overlaps the window."""
    start = len(source.requests.directory) + 1
    hours: dict[str, list[StoredObject]] = {}
    for segment in list_segments(source.requests, *bounds, source.pool):
        hours.setdefault(segment.path[start:].partition("/")[0], []).append(segment)
    return hours


def _summarise_finished(
    source: Source, archive: Archive, collected: Collected, bounds: Bounds, segments: Sequence[StoredObject]
) -> Summary:
    """One whole hour, from what is stored of it where that is possible, else from its segments."""
    name = capture_hour(bounds[0])
    stored = archive.read(name)
    if stored is not None and stored.segments >= len(segments):
        try:
            _collect(archive, collected, name, stored)
            return stored.summary
        except (AnswersError, SampleError) as exc:
            if not segments or (isinstance(exc, SampleError) and stored.segments > len(segments)):
                # The retention took them together, or begins to: the counts are what is left.
                return stored.summary
            logger.warning("an hour is read again", extra={"hour": name, "cause": str(exc)})
    if not segments:
        return empty_summary(source.reference)
    return _store_hour(source, archive, collected, bounds, segments, 0 if stored is None else stored.sample)


def _collect(archive: Archive, collected: Collected, name: str, stored: StoredHour) -> None:
    """Answers and sample of a stored hour, as far as they are needed; raises AnswersError or SampleError."""
    if collected.join.is_needed:
        for answers in archive.read_answers(name, stored):
            collected.join.add(answers)
    if collected.sample is None or not stored.summary.rows:
        return
    if stored.sample:
        collected.sample.merge(archive.read_sample(name, stored))
    if stored.sample < min(collected.sample.limit, stored.summary.rows):
        raise SampleError(f"its sample has at most {stored.sample} rows; {collected.sample.limit} are wanted")


def _store_hour(
    source: Source,
    archive: Archive,
    collected: Collected,
    bounds: Bounds,
    segments: Sequence[StoredObject],
    sampled: int,
) -> Summary:
    """Read a whole hour and store what came of it; `sampled` is how many rows its last sample had at most."""
    name = capture_hour(bounds[0])
    writer = AnswersWriter(source, archive, name, len(segments))
    # Another monitor of the deployment may want more rows, or any at all.
    limit = max(sampled, 0 if collected.sample is None else collected.sample.limit)
    sample = RowSample(source.reference.features, limit) if limit else None
    storing = True

    def attempt(write: Callable[[], None]) -> None:
        # A store that can be read only costs time, not the window.
        nonlocal storing
        try:
            if storing:
                write()
        except StoreError as exc:
            storing = False
            logger.warning("an hour's summary can't be stored", extra={"hour": name, "error": str(exc)})

    def take(answers: pa.Table) -> None:
        collected.join.add(answers)
        attempt(lambda: writer.add(answers))

    summary = summarise_hour(source, segments, bounds, take, sample)
    attempt(writer.flush)
    if sample is not None:
        rows = sample
        attempt(lambda: archive.write_sample(name, len(segments), rows))
        if collected.sample is not None:
            collected.sample.merge(rows.to_table())
    attempt(lambda: archive.write(name, StoredHour(summary, len(segments), writer.files, limit)))
    return summary
