"""Sections of report.html about columns: those that differ most, what the model answers, and all in a table."""

from html import escape

from modelkit.monitor.bins import describe_bins, describe_counts
from modelkit.monitor.charts import draw_distribution, draw_meter
from modelkit.monitor.counts import Column
from modelkit.monitor.data_quality import Problem
from modelkit.monitor.drift import ColumnDrift, rank
from modelkit.monitor.methods import METHODS
from modelkit.monitor.page_parts import (
    Header,
    View,
    build_details,
    build_figure,
    build_figures,
    build_legend,
    build_table,
    show_name,
    show_state,
)
from modelkit.monitor.wording import BREACHED, OK, format_number, format_p_value, format_share, plural

MAX_CHARTS = 6
"""Features whose distributions are drawn."""


def worst_features(view: View) -> str:
    """Distributions of the features that differ most; "" when none does."""
    columns = {column.name: column for column in view.examination.counts.features}
    worst = [drift for drift in rank(view.examination.drifts) if drift.distance > 0][:MAX_CHARTS]
    if not worst:
        return ""
    return _legend("training data") + build_figures(_figure(view, columns[drift.name], drift) for drift in worst)


def outputs(view: View) -> str:
    """Distributions of the predictions, and of the scores where there are any."""
    drifts = {drift.name: drift for drift in view.examination.output_drifts}
    # Of a handful of rows a distribution says nothing, but might tell of one person.
    columns = [column for column in view.examination.counts.outputs if column.name in drifts]
    if not columns:
        return ""
    figures = (_figure(view, column, drifts[column.name], show_all=True) for column in columns)
    return _legend("test rows") + build_figures(figures)


def all_features(view: View) -> str:
    """Every feature as a row, worst first."""
    columns = view.examination.counts.features
    drifts = {drift.name: drift for drift in view.examination.drifts}
    found = {problem.feature: problem for problem in reversed(view.examination.problems) if problem.found}
    ordered = sorted(columns, key=lambda column: _order(drifts.get(column.name), found.get(column.name), column.name))
    headers = (
        Header("Feature"),
        Header("State"),
        Header("Distance", number=True),
        Header("Missing", number=True),
        Header("Outside", number=True),
        Header("p", number=True, wide=True),
    )
    min_rows = view.config.report.min_bin_rows
    rows = (
        _row(column, drifts.get(column.name), found.get(column.name), min_rows) for column in ordered[: view.table_rows]
    )
    more = len(columns) - view.table_rows
    note = f"<p>{plural(more, 'further feature')} in report.json.</p>" if more > 0 else ""
    return (
        f"{build_table(headers, rows, 'All features')}{note}"
        "<p class=\"note\">Outside: beyond the reference's range, or a category that it doesn't have. "
        "In brackets: the reference. p: the chance of such a difference when nothing changed.</p>"
    )


def _legend(reference: str) -> str:
    return build_legend(("ref", f"{reference} of the version"), ("win", "this window"))


def _figure(view: View, column: Column, drift: ColumnDrift, show_all: bool = False) -> str:
    bins = describe_bins(column, show_all, view.config.report.min_bin_rows)
    note = (
        f"{show_state(BREACHED if drift.drifted else OK, 'drifted' if drift.drifted else 'not drifted')} "
        f"{METHODS[drift.method].short} {format_number(drift.distance)}, limit {format_number(drift.limit)} · "
        f"p {escape(format_p_value(drift.p_value, sign=True))} · {plural(drift.rows, 'value')}"
    )
    chart = draw_meter(drift.distance, drift.limit, drift.drifted) + draw_distribution(
        bins, column.ordered, column.name
    )
    headers = (Header("Value"), Header("Reference", number=True), Header("Window", number=True))
    rows = ((show_name(item.label), format_share(item.reference), format_share(item.window)) for item in bins)
    numbers = build_details("The numbers", build_table(headers, rows, f"Shares of {column.name}"))
    return build_figure(column.name, note, chart, numbers, "drifted" if drift.drifted else "steady")


def _order(drift: ColumnDrift | None, problem: Problem | None, name: str) -> tuple[bool, bool, float, str]:
    drifted, distance = (drift.drifted, drift.distance) if drift is not None else (False, 0.0)
    return not drifted, problem is None, -distance, name


def _row(column: Column, drift: ColumnDrift | None, problem: Problem | None, min_rows: int) -> tuple[str, ...]:
    window, reference = column.window, column.reference
    shown = describe_counts(column, min_rows=min_rows)
    words = [] if drift is None else ["drifted"] if drift.drifted else []
    words += [] if problem is None else [problem.kind]
    if words:
        state = f'<span class="bad">✕&nbsp;{", ".join(words)}</span>'
    else:
        state = "? too few values" if drift is None else "✓ steady"
    missing = _share(shown.missing, window.rows)
    usual = f" ({_share(shown.reference_missing, reference.rows)})" if reference.nulls else ""
    outside = _share(shown.outside, window.valid)
    distance = "–" if drift is None else f"{drift.distance:.2f}"
    p_value = "–" if drift is None else escape(format_p_value(drift.p_value))
    return show_name(column.name), state, distance, missing + usual, outside, p_value


def _share(count: int | None, rows: int) -> str:
    return "few" if count is None else format_share(count / rows if rows else 0.0)
