"""Sections of report.html about time: how quality and drift went, and what was decided."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from html import escape
from itertools import pairwise

from modelkit.contract.metrics import LOWER_IS_BETTER
from modelkit.contract.result import TimelinePoint
from modelkit.monitor.charts_time import (
    Column,
    Event,
    Interval,
    Limit,
    Line,
    Point,
    TimeChart,
    draw_columns,
    draw_states,
    draw_time_chart,
)
from modelkit.monitor.drift import max_distance
from modelkit.monitor.page_overview import title_of
from modelkit.monitor.page_parts import (
    SIGNS,
    Header,
    View,
    build_details,
    build_facts,
    build_figure,
    build_figures,
    build_legend,
    build_table,
    show_name,
    show_time,
)
from modelkit.monitor.timeline import build_point
from modelkit.monitor.wording import BREACHED, UNKNOWN, format_number, plural, state_of


def over_time(view: View) -> str:
    """Quality, drift, rows and states of the latest windows; "" for the first window."""
    points = (*view.history.points, build_point(view.examination))
    if len(points) < 2:
        return ""
    figures = [_quality(view, points), _drift(view, points), _rows(view, points)]
    return (
        _states(points)
        + build_legend(*_legend(view, points))
        + build_figures(figure for figure in figures if figure)
        + build_details("The numbers", _table(points))
    )


def _legend(view: View, points: Sequence[TimelinePoint]) -> Iterator[tuple[str, str]]:
    """What the signs stand for that are drawn."""
    yield "line", "measured"
    if any(point.estimated is not None for point in points):
        yield "est", "estimated"
    if any(point.state == BREACHED for point in points):
        yield "bad", "the window was Breached"
    yield "limit", "limit of the served version"
    events = [event for event in _events(view, points) if event.time >= points[0].end]
    if any(not event.asked for event in events):
        yield "version", "another version serves"
    if any(event.asked for event in events):
        yield "asked", "a retrain was asked for"


def decisions(view: View) -> str:
    """The checks of the latest windows, and what the operator had made of them when this one was looked at."""
    facts = [(kind, _condition(view, kind)) for kind in ("Healthy", "Retraining") if kind in view.history.conditions]
    facts += _requests(view)
    if not facts and not view.history.windows:
        return ""
    intro = (
        '<p class="note">The operator decides from the windows in the status, this one included, after the report has '
        "been written: what it had decided before is told here.</p>"
    )
    return intro + _windows(view) + (build_facts(facts) if facts else "")


def _bounds(points: Sequence[TimelinePoint]) -> tuple[datetime, datetime]:
    return points[0].end, points[-1].end


def _events(view: View, points: Sequence[TimelinePoint]) -> tuple[Event, ...]:
    changes = [
        Event(time=new.end, text=f"v{new.version}") for old, new in pairwise(points) if new.version != old.version
    ]
    asked = [Event(time=time, text="a retrain was asked for", asked=True) for time in view.history.request_times]
    return (*changes, *asked)


def _quality(view: View, points: Sequence[TimelinePoint]) -> str:
    estimate = view.examination.estimate
    metric = estimate.metric if estimate is not None else view.config.quality.metric or "the metric"
    measured = [
        Point(time=point.end, value=point.quality, breached=point.state == BREACHED)
        for point in points
        if point.quality is not None
    ]
    expected = [Point(time=point.end, value=point.estimated) for point in points if point.estimated is not None]
    if not measured and not expected:
        return ""
    since, until = _bounds(points)
    limit = interval = None
    if estimate is not None:
        worse = view.config.quality.max_drop if metric in LOWER_IS_BETTER else -view.config.quality.max_drop
        limit = Limit(value=estimate.reference + worse, since=_served_since(points))
        interval = Interval(time=until, low=estimate.low, high=estimate.high)
    chart = TimeChart(
        title=f"{metric} over the windows, from {_ends(measured or expected)}",
        since=since,
        until=until,
        lines=(Line(points=tuple(expected), style="est"), Line(points=tuple(measured))),
        events=_events(view, points),
        limit=limit,
        interval=interval,
    )
    note = "of the labelled rows; the bar at the last one is its 90 % interval" if interval else "of the labelled rows"
    return build_figure(f"Quality: {metric}", note, draw_time_chart(chart))


def _drift(view: View, points: Sequence[TimelinePoint]) -> str:
    limit = max_distance(view.config.drift)
    found = [
        Point(time=point.end, value=point.drift, breached=point.state == BREACHED and point.drift > limit)
        for point in points
        if point.drift is not None
    ]
    if not found:
        return ""
    since, until = _bounds(points)
    chart = TimeChart(
        title=f"distance of the worst feature over the windows, from {_ends(found)}",
        since=since,
        until=until,
        lines=(Line(points=tuple(found)),),
        events=_events(view, points),
        limit=Limit(value=limit, since=since),
        floor=0.0,
    )
    worst = points[-1].feature
    note = f"distance from the training data; now {show_name(worst)}" if worst else "distance from the training data"
    return build_figure("Drift of the worst feature", note, draw_time_chart(chart))


def _rows(view: View, points: Sequence[TimelinePoint]) -> str:
    since, until = _bounds(points)
    chart = TimeChart(title="rows and labels of the windows", since=since, until=until, lines=())
    columns = [Column(time=point.end, total=point.rows, part=point.labels) for point in points]
    legend = build_legend(("ref", "rows"), ("win", "with a label"))
    note = f"at least {view.config.min_rows:,} rows are needed"
    return build_figure("Rows", note, draw_columns(columns, chart) + legend)


def _states(points: Sequence[TimelinePoint]) -> str:
    counts = {state: sum(point.state == state for point in points) for state in SIGNS}
    text = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    title = f"states of {plural(len(points), 'window')}: {text}"
    return (
        f"<p><b>{plural(len(points), 'window')}</b>: {escape(text)} "
        f'<span class="soft">(high: Breached, empty: Unknown)</span></p>{draw_states(points, title)}'
    )


def _served_since(points: Sequence[TimelinePoint]) -> datetime:
    """The end of the first window of the run of windows of the newest version."""
    since = points[-1].end
    for point in reversed(points):
        if point.version != points[-1].version:
            break
        since = point.end
    return since


def _ends(points: Sequence[Point]) -> str:
    return f"{format_number(points[0].value)} to {format_number(points[-1].value)}"


def _table(points: Sequence[TimelinePoint]) -> str:
    headers = (
        Header("Until (UTC)"),
        Header("State"),
        Header("Quality", number=True),
        Header("Estimated", number=True, wide=True),
        Header("Drift", number=True),
        Header("Worst feature", wide=True),
        Header("Rows", number=True),
        Header("Labels", number=True, wide=True),
        Header("Version", number=True, wide=True),
    )
    rows = (
        (
            show_time(point.end),
            f"{SIGNS.get(point.state, '?')}&nbsp;{escape(point.state)}",
            _number(point.quality),
            _number(point.estimated),
            _number(point.drift),
            show_name(point.feature, 40) or "–",
            f"{point.rows:,}",
            f"{point.labels:,}",
            str(point.version),
        )
        for point in reversed(points)
    )
    return build_table(headers, rows, "Windows, newest first")


def _number(value: float | None) -> str:
    return "–" if value is None else format_number(value)


def _windows(view: View) -> str:
    """A row for each check, a column for each of the windows that the operator decides from."""
    result = view.examination.result
    columns = [(window.end, window.version, window.states) for window in view.history.windows]
    columns.append((result.end, result.version, {check.name: check.state for check in result.checks}))
    if len(columns) < 2:
        return ""
    names = list(dict.fromkeys(name for _, _, states in reversed(columns) for name in states))
    breached = [window for window in columns if state_of(window[2]) == BREACHED and window[1] == result.version]
    same = [window for window in columns if window[1] == result.version]
    headers = [Header("Check"), *(Header(f"v{version} {_clock(view, end)}") for end, version, _ in columns)]
    rows = ((show_name(title_of(name)), *(_sign(states.get(name)) for _, _, states in columns)) for name in names)
    return (
        f"<p><b>{len(breached)} of the latest {plural(len(same), 'window')}</b> of version {result.version} "
        f"{'is' if len(breached) == 1 else 'are'} Breached.</p>"
        f'<div class="matrix">{build_table(headers, rows, "Checks of the latest windows, oldest first")}</div>'
    )


def _clock(view: View, end: datetime) -> str:
    old = view.examination.result.end - end >= timedelta(days=1)
    return end.strftime("%m-%d") if old else end.strftime("%H:%M")


def _sign(state: str | None) -> str:
    if state is None:
        return '<span class="soft">–</span>'
    kind = state if state in SIGNS else UNKNOWN
    return f'<span class="sign {kind.lower()}" title="{kind}">{SIGNS[kind]}<span class="hidden"> {kind}</span></span>'


def _condition(view: View, kind: str) -> str:
    found = view.history.conditions[kind]
    since = f" since {show_time(found.since)} UTC" if found.since else ""
    return f'<b>{escape(found.status)}</b>: {escape(found.reason)}{since}<p class="soft">{escape(found.message)}</p>'


def _requests(view: View) -> Iterable[tuple[str, str]]:
    retrain, rollback, times = view.history.retrain, view.history.rollback, view.history.request_times
    if retrain is not None:
        rows = ""
        if retrain.since and retrain.until:
            rows = f" It learns from rows of {show_time(retrain.since)} to {show_time(retrain.until)} UTC"
            rows += {
                "Append": ", added to its own source.",
                "Replace": ", in place of as many rows of its own source.",
                "Window": " only.",
            }.get(retrain.policy, ".")
        yield (
            "Last retrain",
            f'asked for at {show_time(retrain.time)} UTC.{rows}<p class="soft">{escape(retrain.reason)}</p>',
        )
    if view.history.retrains:
        latest = ", ".join(show_time(time) for time in times[-10:])
        yield "Retrains", f"{view.history.retrains:,} so far{f'; the latest at {latest} UTC' if latest else ''}"
    if rollback is not None:
        yield (
            "Rollback",
            f"of {escape(rollback.digest)}, asked for at {show_time(rollback.time)} UTC"
            f'<p class="soft">{escape(rollback.reason)}</p>',
        )
