"""Old reports and summaries of hours are removed, a few at a time: a window never waits for a large clearing.

How old something is follows from its name and the window's end, not from a clock or the store's own times. What can't
be removed is only told in the log: the next window tries again.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from modelkit.contract.files import deployment_summaries_directory, reports_directory
from modelkit.contract.monitoring import MonitorConfig
from modelkit.errors import StoreError
from modelkit.store.store import Store

logger = logging.getLogger(__name__)

MOST_REMOVALS = 100
"""Reports, and summaries, of one run."""

_REPORT, _HOUR = "%Y-%m-%dT%H-%M-%SZ", "%Y-%m-%dT%H"


def remove_old(store: Store, config: MonitorConfig, end: datetime) -> int:
    """Remove what is older than `config.report` says at `end`; returns how many reports and summaries went.

    The newest report always stays, and so does one that isn't named by a time.
    """
    if config.report.retention_seconds is None:
        return 0
    before = end - timedelta(seconds=config.report.retention_seconds)
    reports = reports_directory(config.namespace, config.name)
    summaries = deployment_summaries_directory(config.namespace, config.deployment)
    # The oldest window that is kept needs the counts of all of its hours.
    oldest = before - timedelta(seconds=config.window_seconds)
    return _attempt("reports", lambda: _remove_reports(store, reports, before)) + _attempt(
        "summaries", lambda: _remove_summaries(store, summaries, oldest)
    )


def _attempt(what: str, remove: Callable[[], int]) -> int:
    try:
        removed = remove()
    except StoreError as exc:
        logger.warning("old %s can't be removed", what, extra={"error": str(exc)})
        return 0
    if removed:
        logger.info("old %s removed", what, extra={"count": removed})
    return removed


def _remove_reports(store: Store, directory: str, before: datetime) -> int:
    times: dict[datetime, list[str]] = {}
    for entry in store.list(directory):
        time = _parse(entry.path[len(directory) + 1 :].partition("/")[0], _REPORT)
        if time is not None:
            times.setdefault(time, []).append(entry.path)
    removed = 0
    for time in sorted(times)[:-1][:MOST_REMOVALS]:
        if time >= before:
            break
        for path in times[time]:
            store.delete(path)
        store.remove_empty(f"{directory}/{time.strftime(_REPORT)}")
        removed += 1
    return removed


def _remove_summaries(store: Store, directory: str, before: datetime) -> int:
    paths = list(islice(_old_summaries(store, directory, before), MOST_REMOVALS))
    for path in paths:
        store.delete(path)
    return len(paths)


def _old_summaries(store: Store, directory: str, before: datetime) -> Iterator[str]:
    for entry in store.list(directory):
        hour = _parse(entry.path.rpartition("/")[2].removesuffix(".json"), _HOUR)
        # The hour that reaches over the border is still needed.
        if hour is not None and hour + timedelta(hours=1) <= before:
            yield entry.path


def _parse(name: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(name, form).replace(tzinfo=UTC)
    except ValueError:
        return None
