"""Values over the windows as inline SVG: pure functions of aggregates, coloured by the page's style sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from math import ceil, floor, log10
from typing import Literal

from modelkit.contract.result import TimelinePoint
from modelkit.monitor.charts import WIDTH, draw_svg
from modelkit.monitor.wording import BREACHED, OK, format_number

_LEFT, _RIGHT, _TOP, _HEIGHT = 44, 10, 26, 110
_BASE = _TOP + _HEIGHT
_LABEL_WIDTH = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value at a window's end."""

    time: datetime
    value: float
    breached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Values that are joined, oldest first."""

    points: tuple[Point, ...]
    style: Literal["", "est", "third"] = ""
    """Drawn with dots, dashed with squares, or thin with neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A count at a time, and how many of it are of a kind."""

    time: datetime
    total: int
    part: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at a time."""

    time: datetime
    text: str
    asked: bool = False
    """The operator asked for it; else another version began to serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a value is allowed, since a time."""

    value: float
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """How far a value is certain."""

    time: datetime
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeChart:
    """All that is drawn over one axis of time."""

    title: str
    since: datetime
    until: datetime
    lines: tuple[Line, ...]
    events: tuple[Event, ...] = ()
    limit: Limit | None = None
    interval: Interval | None = None
    floor: float | None = None
    """A value that the axis begins at; None: as the values want it."""


def draw_time_chart(chart: TimeChart) -> str:
    """Lines with their points, ✕ where a window was Breached, and marks of what happened in between."""
    low, high = _value_range(chart)
    ticks = find_ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def y(value: float) -> float:
        return _BASE - _HEIGHT * (value - low) / (high - low)

    x = _Scale(chart.since, chart.until)
    parts = [_draw_ticks([(tick, y(tick)) for tick in ticks]), _draw_times(chart)]
    parts.append(_draw_events([event for event in chart.events if chart.since <= event.time <= chart.until], x))
    if chart.limit is not None:
        start = x(max(chart.limit.since, chart.since))
        level = y(chart.limit.value)
        parts.append(f'<path class="limit" d="M{start:.1f} {level:.1f}H{WIDTH - _RIGHT}"/>')
    if chart.interval is not None:
        across = x(chart.interval.time)
        parts.append(
            f'<path class="whisker" d="M{across:.1f} {y(chart.interval.low):.1f}V{y(chart.interval.high):.1f}"/>'
        )
    for line in chart.lines:
        parts.append(_draw_line(line, [(x(point.time), y(point.value)) for point in line.points]))
    return draw_svg("".join(parts), _BASE + 20, chart.title)


def draw_states(points: Sequence[TimelinePoint], title: str) -> str:
    """A column for each window: high and crossed where it was Breached, low where it was OK, empty where Unknown."""
    step = min(15.0, WIDTH / max(1, len(points)))
    parts = []
    for index, point in enumerate(points):
        x, width = (index + 0.1) * step, 0.8 * step
        top, height = {BREACHED: (2, 30), OK: (18, 14)}.get(point.state, (18, 14))
        parts.append(
            f'<rect class="column {point.state.lower()}" x="{x:.1f}" y="{top}" width="{width:.1f}" height="{height}">'
            f"<title>{escape(f'{_stamp(point.end)}: {point.state}')}</title></rect>"
        )
    return draw_svg("".join(parts), 34, title, stretched=True)


def draw_columns(columns: Sequence[Column], chart: TimeChart, kind: Literal["win", "bad"] = "win") -> str:
    """A column for each time, a part of it filled."""
    most = max((column.total for column in columns), default=0) or 1
    ticks = [tick for tick in find_ticks(0, most) if tick == round(tick)]
    high = max(most, ticks[-1])
    x = _Scale(chart.since, chart.until, inset=True)
    width = max(1.5, min(16.0, 0.7 * (WIDTH - _LEFT - _RIGHT) / max(1, len(columns))))
    parts = [_draw_ticks([(tick, _BASE - _HEIGHT * tick / high) for tick in ticks]), _draw_times(chart)]
    for column in columns:
        left = x(column.time) - width / 2
        for part, count in (("ref", column.total), (kind, column.part)):
            height = _HEIGHT * count / high
            parts.append(
                f'<rect class="{part}" x="{left:.1f}" y="{_BASE - height:.1f}" width="{width:.1f}" '
                f'height="{height:.1f}"/>'
            )
    return draw_svg("".join(parts), _BASE + 20, chart.title)


def find_ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers that reach from `low` to `high` or a little beyond."""
    if high <= low:
        low, high = low - (abs(low) or 1.0) * 0.1, high + (abs(high) or 1.0) * 0.1
    raw = (high - low) / 4
    power = 10.0 ** floor(log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


class _Scale:
    """Where a time stands across."""

    def __init__(self, since: datetime, until: datetime, *, inset: bool = False) -> None:
        self._since = since
        self._span = max((until - since).total_seconds(), 1.0)
        self._margin = 8 if inset else 4

    def __call__(self, time: datetime) -> float:
        share = (time - self._since).total_seconds() / self._span
        return _LEFT + self._margin + (WIDTH - _LEFT - _RIGHT - 2 * self._margin) * share


def _value_range(chart: TimeChart) -> tuple[float, float]:
    values = [point.value for line in chart.lines for point in line.points]
    values += [chart.limit.value] if chart.limit is not None else []
    values += [chart.interval.low, chart.interval.high] if chart.interval is not None else []
    values += [chart.floor] if chart.floor is not None else []
    return min(values), max(values)


def _draw_ticks(ticks: Sequence[tuple[float, float]]) -> str:
    return "".join(
        f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>'
        f'<text class="tick" x="{_LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{_show_tick(value)}</text>'
        for value, y in ticks
    )


def _show_tick(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 10_000 else format_number(round(value, 12))


def _draw_times(chart: TimeChart) -> str:
    form = "%m-%d %H:%M" if chart.until - chart.since < timedelta(days=3) else "%Y-%m-%d"
    first, last = (moment.astimezone(UTC).strftime(form) for moment in (chart.since, chart.until))
    return (
        f'<text class="tick" x="{_LEFT}" y="{_BASE + 15}">{first}</text>'
        f'<text class="tick" x="{WIDTH - _RIGHT}" y="{_BASE + 15}" text-anchor="end">{last}</text>'
    )


def _draw_events(events: Sequence[Event], x: _Scale) -> str:
    parts, free = [], {True: 0.0, False: 0.0}
    for event in sorted(events, key=lambda event: event.time):
        across = x(event.time)
        if event.asked:
            parts.append(
                f'<path class="asked" d="M{across:.1f} {_TOP - 10}l4.5 9h-9z">'
                f"<title>{escape(f'{_stamp(event.time)}: {event.text}')}</title></path>"
            )
            continue
        parts.append(
            f'<path class="version" d="M{across:.1f} {_TOP - 2}V{_BASE}">'
            f"<title>{escape(f'{_stamp(event.time)}: {event.text}')}</title></path>"
        )
        # Where several stand close together the first is named, and all are in the table.
        if across >= free[False]:
            anchor = "end" if across > WIDTH - 60 else "start"
            parts.append(
                f'<text class="tick" x="{across:.1f}" y="10" text-anchor="{anchor}">{escape(event.text)}</text>'
            )
            free[False] = across + _LABEL_WIDTH
    return "".join(parts)


def _draw_line(line: Line, places: Sequence[tuple[float, float]]) -> str:
    kind = f" {line.style}" if line.style else ""
    path = "".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(places))
    parts = [f'<path class="line{kind}" d="{path}"/>']
    for point, (x, y) in zip(line.points, places, strict=True):
        title = f"<title>{_stamp(point.time)}: {format_number(point.value)}</title>"
        if point.breached:
            parts.append(f'<path class="cross" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0-8l-8 8">{title}</path>')
        elif line.style == "third":
            continue
        elif line.style == "est":
            parts.append(
                f'<rect class="dot est" x="{x - 2.5:.1f}" y="{y - 2.5:.1f}" width="5" height="5">{title}</rect>'
            )
        else:
            parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3">{title}</circle>')
    return "".join(parts)


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
