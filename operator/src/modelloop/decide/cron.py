"""Cron expressions: when a schedule is due. Pure: the moment is given, nothing reads a clock.

Five fields (minute, hour, day of the month, month, day of the week) or a macro such as `@daily`, in the dialect of
Kubernetes' CronJob: lists, ranges, steps, names of months and days, `?` for `*`, 0 and 7 for Sunday. A day must fit
both day fields when either is `*`; otherwise one of them is enough.

Times are those of a clock on the wall. When the clocks go forward, a time that is left out comes as much later as the
clocks jump, so that no daily run is lost; when they go back, a time that comes twice counts the first time. For a
schedule of every hour (`*` as the hour) nothing is left out or doubled: it follows the hours that really pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import product
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MACROS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_HORIZON = 366 * 8 + 31
"""Days to look ahead: 29 February can be 8 years away (2096 to 2104)."""


class CronError(ValueError):
    """An expression or a time zone that isn't one; the message says what to write."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _DAYS),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """A schedule in a time zone."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    any_hour: bool
    any_day: bool
    """Day of the month or day of the week is `*`: both must fit."""
    zone: ZoneInfo

    def next(self, after: datetime) -> datetime | None:
        """The first time later than `after`, in UTC; None when there is none within 8 years."""
        day = after.astimezone(self.zone).date() - timedelta(days=1)
        for offset in range(_HORIZON):
            for moment in self._moments(day + timedelta(days=offset)):
                if moment > after:
                    return moment
        return None

    def previous(self, until: datetime) -> datetime | None:
        """The last time not later than `until`, in UTC; None when there is none within 8 years."""
        day = until.astimezone(self.zone).date() + timedelta(days=1)
        for offset in range(_HORIZON):
            for moment in reversed(self._moments(day - timedelta(days=offset))):
                if moment <= until:
                    return moment
        return None

    def _moments(self, day: date) -> tuple[datetime, ...]:
        return _moments(self, day) if self.fits(day) else ()

    def moments_at(self, wall: datetime) -> Iterator[datetime]:
        """The moments, in UTC, at which a clock of the zone shows a time of the schedule."""
        first = wall.astimezone(UTC)
        if not self.any_hour:
            yield first
            return
        if first.astimezone(self.zone).replace(tzinfo=None) != wall.replace(tzinfo=None):
            return  # left out by the clocks, and the hour that follows is a time of its own
        yield first
        yield wall.replace(fold=1).astimezone(UTC)

    def fits(self, day: date) -> bool:
        """Whether the schedule has times on that day of the calendar."""
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_month and by_week) if self.any_day else (by_month or by_week)


@lru_cache(maxsize=512)
def _moments(cron: Cron, day: date) -> tuple[datetime, ...]:
    """The times of a day on the wall, in UTC and in order."""
    found = {
        moment
        for hour, minute in product(cron.hours, cron.minutes)
        for moment in cron.moments_at(datetime(day.year, day.month, day.day, hour, minute, tzinfo=cron.zone))
    }
    return tuple(sorted(found))


@lru_cache(maxsize=4096)
def parse_cron(expression: str, time_zone: str | None = None) -> Cron:
    """The schedule that `expression` says; raises CronError naming the field that is wrong."""
    fields = MACROS.get(expression.lower(), expression).split()
    if len(fields) != len(_FIELDS):
        raise CronError(
            f"spec.schedule: {expression!r} must have five fields (minute, hour, day of the month, month, day of the "
            f"week) or be one of {', '.join(MACROS)}; found {len(fields)}"
        )
    minutes, hours, days, months, weekdays = map(_parse_field, fields, _FIELDS)
    cron = Cron(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=days,
        months=months,
        weekdays=frozenset(day % 7 for day in weekdays),
        any_hour=_is_any(fields[1]),
        any_day=_is_any(fields[2]) or _is_any(fields[4]),
        zone=_find_zone(time_zone or "UTC"),
    )
    if cron.next(datetime(2000, 1, 1, tzinfo=UTC)) is None:
        raise CronError(f"spec.schedule: {expression!r} never comes: no month of it has that day")
    return cron


def _is_any(text: str) -> bool:
    return text in ("*", "?")


def _find_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise CronError(f"spec.timeZone: there is no time zone {name!r}; write one such as Europe/Berlin") from exc


def _parse_field(text: str, field: _Field) -> frozenset[int]:
    return frozenset(value for part in text.split(",") for value in _parse_part(part, field))


def _parse_part(part: str, field: _Field) -> range:
    span, slash, step_text = part.partition("/")
    step = _parse_number(step_text, field, ()) if slash else 1
    if _is_any(span):
        low, high = field.least, field.most if field.most != 7 else 6
    else:
        first, dash, last = span.partition("-")
        low = _parse_number(first, field, field.names)
        high = _parse_number(last, field, field.names) if dash else (field.most if slash else low)
    if not field.least <= low <= high <= field.most:
        raise CronError(
            f"spec.schedule: the {field.name} must be within {field.least} and {field.most}, from low to high; "
            f"found {part!r}"
        )
    if step < 1:
        raise CronError(f"spec.schedule: the step of the {field.name} must be at least 1; found {part!r}")
    return range(low, high + 1, step)


def _parse_number(text: str, field: _Field, names: tuple[str, ...]) -> int:
    if text.upper() in names:
        return names.index(text.upper()) + field.least
    if not (text.isascii() and text.isdigit()):
        kind = "a number" if not names else f"a number or one of {', '.join(names)}"
        raise CronError(f"spec.schedule: the {field.name} must be {kind}, `*`, a range or a step; found {text!r}")
    return int(text)
