"""The section of report.html about the service: whether requests got their answers, and how soon."""

from typing import Any, Literal

from modelkit.monitor.charts_time import Column, Limit, Line, Point, TimeChart, draw_columns, draw_time_chart
from modelkit.monitor.page_parts import (
    Header,
    View,
    build_details,
    build_facts,
    build_figure,
    build_figures,
    build_legend,
    build_table,
    readable_time,
    show_time,
)
from modelkit.monitor.wording import format_number, format_share, plural

PERCENTILES: tuple[tuple[str, Literal["", "est", "third"]], ...] = (("p99", ""), ("p95", "est"), ("p50", "third"))
"""Those of the times that are drawn, and as which line."""


def service(view: View) -> str:
    """Errors, times and load of the window; "" where nobody asks for it, or no server told anything."""
    found, config = view.examination.service, view.config.service
    if found is None or config is None or found.busiest is None:
        return ""
    facts = [
        (
            "Requests",
            f"{found.requests:,}, {format_number(found.per_second)} per second; most: "
            f"{format_number(found.busiest_per_second)} per second at {show_time(found.busiest)} UTC",
        ),
        (
            "Errors",
            f"{found.errors:,}, {format_share(found.error_rate)} of the requests; at most "
            f"{format_share(config.max_error_rate)} are allowed",
        ),
    ]
    if found.timed:
        limit = config.max_latency_seconds
        allowed = "" if limit is None else f"; at most {_milliseconds(limit)} of the 99th percentile are allowed"
        times = ", ".join(f"{name} {_milliseconds(getattr(found.latency, name))}" for name, _ in reversed(PERCENTILES))
        facts.append(("Times", f"{times}{allowed}"))
    figures = [figure for figure in (_latency(view, found), _load(found)) if figure]
    return build_facts(facts) + build_figures(figures) + build_details("The numbers", _table(found))


def _chart(found: Any, title: str, lines: tuple[Line, ...] = (), limit: Limit | None = None) -> TimeChart:
    since, until = found.series[0].start, found.series[-1].start
    return TimeChart(title=title, since=since, until=until, lines=lines, limit=limit, floor=0.0)


def _latency(view: View, found: Any) -> str:
    timed = [point for point in found.series if point.latency.p99 is not None]
    if not timed:
        return ""
    lines = tuple(
        Line(
            points=tuple(Point(time=item.start, value=1000 * getattr(item.latency, name)) for item in timed),
            style=style,
        )
        for name, style in PERCENTILES
    )
    longest = view.config.service.max_latency_seconds if view.config.service is not None else None
    limit = None if longest is None else Limit(value=1000 * longest, since=found.series[0].start)
    legend = [("line", "99th percentile"), ("est", "95th"), ("third", "median")]
    legend += [] if limit is None else [("limit", "limit of the 99th")]
    chart = draw_time_chart(_chart(found, "times of the answers in milliseconds", lines[::-1], limit))
    return build_figure("Times in milliseconds", "", chart + build_legend(*legend))


def _load(found: Any) -> str:
    columns = [Column(time=item.start, total=item.requests, part=item.errors) for item in found.series]
    chart = draw_columns(columns, _chart(found, "requests and errors over the window"), "bad")
    legend = build_legend(("ref", "requests"), ("error", "ended as the server's error"))
    note = f"in steps of {plural(round(found.step_seconds / 60), 'minute')}"
    return build_figure("Requests and errors", note, chart + legend)


def _table(found: Any) -> str:
    headers = [Header("From (UTC)"), Header("Requests", number=True), Header("Errors", number=True)]
    headers += [Header(name, number=True, wide=name == "p95") for name, _ in reversed(PERCENTILES)]
    rows = (
        (
            readable_time(item.start),
            f"{item.requests:,}",
            f"{item.errors:,}",
            *(_milliseconds(getattr(item.latency, name)) for name, _ in reversed(PERCENTILES)),
        )
        for item in found.series
    )
    steps = build_table(headers, rows, "Requests, errors and times over the window")
    codes = ((str(code), f"{count:,}") for code, count in found.codes.items())
    return steps + build_table((Header("HTTP status"), Header("Requests", number=True)), codes, "Requests by status")


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{format_number(1000 * seconds)} ms"
