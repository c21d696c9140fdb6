"""What a monitor's status tells of the time before a window. Pure, and without numpy.

A monitor's status is what outlives its reports: the latest windows, a point of each window of long ago, and what the
operator decided. It may have been written by another release, so that what doesn't fit is left out here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from modelkit.contract.codec import ContractError, from_plain, parse_time
from modelkit.contract.result import TimelinePoint
from modelkit.monitor.wording import BREACHED

MOST_AHEAD = timedelta(hours=1)
"""An entry that ends later than this from now was written while a clock was wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastWindow:
    """An earlier window, as the status keeps it."""

    end: datetime
    version: int
    digest: str
    states: Mapping[str, str]
    """By check."""

    @property
    def breached(self) -> frozenset[str]:
        """The checks that were Breached."""
        return frozenset(name for name, state in self.states.items() if state == BREACHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A condition of the ModelMonitor."""

    status: str
    """True, False or Unknown."""
    reason: str
    message: str
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrain:
    """A run that the operator asked for."""

    id: str
    time: datetime
    reason: str
    since: datetime | None
    """Of the rows that it learns from."""
    until: datetime | None
    policy: str
    """Append or Window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """A return to the version before, that the operator asked for."""

    digest: str
    """Of the version that raised the alarm."""
    time: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the status told when a window was looked at; windows and points only of the time before it."""

    windows: tuple[PastWindow, ...] = ()
    """Oldest first."""
    points: tuple[TimelinePoint, ...] = ()
    """Oldest first."""
    conditions: Mapping[str, Decided] = field(default_factory=dict)
    """By type, e.g. Healthy and Retraining."""
    retrain: Retrain | None = None
    """The latest request."""
    retrains: int = 0
    """Requests so far."""
    request_times: tuple[datetime, ...] = ()
    """Of the latest requests, oldest first."""
    rollback: Rollback | None = None
    """The latest request."""


def read_history(status: Mapping[str, Any], end: datetime) -> History:
    """What `status` tells of the time before the window that ends at `end`."""
    windows = [window for window in map(_read_window, _list(status, "windows")) if window and window.end < end]
    points = [point for point in map(_read_point, _list(status, "timeline")) if point and point.end < end]
    conditions = [(str(item.get("type")), _read_condition(item)) for item in _list(status, "conditions")]
    times = [_time(mark.get("time")) for mark in _list(status, "requests")]
    return History(
        windows=tuple(sorted(windows, key=lambda window: window.end)),
        points=tuple(sorted(points, key=lambda point: point.end)),
        conditions=dict(conditions),
        retrain=_read_retrain(status.get("retrain")),
        retrains=_int(status.get("retrains")),
        request_times=tuple(sorted(time for time in times if time is not None)),
        rollback=_read_rollback(status.get("rollback")),
    )


def merge_entries(
    entries: Sequence[Mapping[str, Any]], entry: Mapping[str, Any], limit: int, now: datetime
) -> list[dict[str, Any]]:
    """The newest `limit` of `entries` and `entry`, oldest first, one per `end`.

    What ends more than an hour after `now` is dropped: it would stay the newest until that time.
    """
    by_end = {parse_time(item["end"]): dict(item) for item in (*entries, entry)}
    return [by_end[end] for end in sorted(by_end) if end <= now + MOST_AHEAD][-limit:]


def _read_window(plain: Mapping[str, Any]) -> PastWindow | None:
    end = _time(plain.get("end"))
    if end is None:
        return None
    states = {str(check.get("name")): str(check.get("state")) for check in _list(plain, "checks")}
    return PastWindow(end=end, version=_int(plain.get("version")), digest=str(plain.get("digest", "")), states=states)


def _read_point(plain: Mapping[str, Any]) -> TimelinePoint | None:
    try:
        return from_plain(TimelinePoint, plain)
    except ContractError:
        return None


def _read_condition(plain: Mapping[str, Any]) -> Decided:
    return Decided(
        status=str(plain.get("status", "Unknown")),
        reason=str(plain.get("reason", "")),
        message=str(plain.get("message", "")),
        since=_time(plain.get("lastTransitionTime")),
    )


def _read_retrain(plain: Any) -> Retrain | None:
    time = _time(plain.get("time")) if isinstance(plain, dict) else None
    if time is None:
        return None
    return Retrain(
        id=str(plain.get("id", "")),
        time=time,
        reason=str(plain.get("reason", "")),
        since=_time(plain.get("since")),
        until=_time(plain.get("until")),
        policy=str(plain.get("policy", "")),
    )


def _read_rollback(plain: Any) -> Rollback | None:
    time = _time(plain.get("time")) if isinstance(plain, dict) else None
    if time is None:
        return None
    return Rollback(digest=str(plain.get("digest", "")), time=time, reason=str(plain.get("reason", "")))


def _list(plain: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    return [item for item in _items(plain, key) if isinstance(item, dict)]


def _items(plain: Mapping[str, Any], key: str) -> list[Any]:
    found = plain.get(key)
    return found if isinstance(found, list) else []


def _int(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _time(text: Any) -> datetime | None:
    try:
        return parse_time(text) if isinstance(text, str) else None
    except ContractError:
        return None
