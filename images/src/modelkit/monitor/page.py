"""report.html: one window for people, in one file without scripts that prints and fits a phone.

Overview first, then the worst features, the predictions, quality, every feature in a table, and what was
looked at. Every name is escaped: a column can be called anything.
"""

from html import escape
from importlib.resources import files

from modelkit.contract.codec import format_time
from modelkit.contract.monitoring import MonitorConfig
from modelkit.contract.result import CheckResult
from modelkit.monitor.bins import describe_bins, describe_counts
from modelkit.monitor.charts import draw_distribution, draw_quality
from modelkit.monitor.counts import Column
from modelkit.monitor.data_quality import Problem
from modelkit.monitor.drift import ColumnDrift, max_distance, rank
from modelkit.monitor.methods import METHODS, configured_method
from modelkit.monitor.quality import QUALITY, SIGNIFICANCE
from modelkit.monitor.window import Examination
from modelkit.monitor.wording import BREACHED, OK, UNKNOWN, format_number, format_p_value, format_share, plural

MAX_CHARTS = 6
"""Features whose distributions are drawn."""
MAX_TABLE_ROWS = 300
"""Features in the table, worst first; report.json has all."""

SIGNS = {OK: "✓", BREACHED: "✕", UNKNOWN: "?"}
TITLES = {
    "DataQuality": "Data quality",
    "Drift": "Data drift",
    "PredictionDrift": "Prediction drift",
    "Quality": "Model quality",
}
_LEGEND = (
    '<p class="legend"><span class="key ref"></span>reference (training) <span class="key win"></span>this window</p>'
)


def build_page(config: MonitorConfig, examination: Examination) -> bytes:
    """The whole HTML document, under 200 KB for any number of features."""
    title = escape(f"{config.namespace}/{config.name}")
    style = files("modelkit.monitor").joinpath("report.css").read_text(encoding="utf-8")
    sections = (
        _overview(config, examination),
        _worst_features(config, examination),
        _outputs(config, examination),
        _quality(config, examination),
        _table(config, examination),
        _looked_at(config, examination),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}: model monitor</title><style>{style}</style></head>\n"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    ).encode()


def overall_state(checks: tuple[CheckResult, ...]) -> str:
    """Breached when any check is; Unknown only when nothing could be said."""
    states = {check.state for check in checks}
    return BREACHED if BREACHED in states else OK if OK in states else UNKNOWN


def _overview(config: MonitorConfig, examination: Examination) -> str:
    result = examination.result
    state = overall_state(result.checks)
    headline = {
        OK: "Nothing found",
        BREACHED: "Something changed",
        UNKNOWN: "Too little to look at",
    }[state]
    cards = "".join(
        f'<li class="card {check.state.lower()}"><h3>{TITLES.get(check.name, escape(check.name))}</h3>'
        f"{_state(check.state)}<p>{escape(check.message)}</p></li>"
        for check in result.checks
    )
    return (
        f'<header class="{state.lower()}"><p class="kicker">Model monitor</p>'
        f"<h1>{escape(config.name)}</h1>"
        f'<p class="verdict">{_state(state)} {headline}</p>'
        f"<p>{_period(examination)} · version {result.version} · {plural(result.rows, 'row')} · "
        f"{plural(result.labels, 'label')}</p></header>"
        f'<section aria-label="Checks"><ul class="cards">{cards}</ul></section>'
    )


def _state(state: str) -> str:
    return f'<span class="state {state.lower()}"><span aria-hidden="true">{SIGNS[state]}</span> {escape(state)}</span>'


def _period(examination: Examination) -> str:
    start, end = (format_time(moment) for moment in (examination.result.start, examination.result.end))
    return f'<time datetime="{start}">{_readable(start)}</time> to <time datetime="{end}">{_readable(end)}</time> UTC'


def _readable(time: str) -> str:
    return time.replace("T", " ").removesuffix("Z")


def _worst_features(config: MonitorConfig, examination: Examination) -> str:
    columns = {column.name: column for column in examination.counts.features}
    worst = [drift for drift in rank(examination.drifts) if drift.distance > 0][:MAX_CHARTS]
    if not worst:
        return ""
    figures = "".join(_figure(columns[drift.name], drift, config.report.min_bin_rows) for drift in worst)
    legend = _legend("training data")
    return f'<section><h2>Features that differ most</h2>{legend}<div class="figures">{figures}</div></section>'


def _outputs(config: MonitorConfig, examination: Examination) -> str:
    drifts = {drift.name: drift for drift in examination.output_drifts}
    # Of a handful of rows a distribution says nothing, but might tell of one person.
    columns = [column for column in examination.counts.outputs if column.name in drifts]
    if not columns:
        return ""
    min_rows = config.report.min_bin_rows
    figures = "".join(_figure(column, drifts[column.name], min_rows, show_all=True) for column in columns)
    return (
        f'<section><h2>What the model answers</h2>{_legend("test rows")}<div class="figures">{figures}</div></section>'
    )


def _legend(reference: str) -> str:
    return (
        f'<p class="legend"><span class="key ref"></span>{reference} of the version '
        '<span class="key win"></span>this window</p>'
    )


def _figure(column: Column, drift: ColumnDrift, min_rows: int, show_all: bool = False) -> str:
    chart = draw_distribution(describe_bins(column, show_all, min_rows), column.ordered, column.name)
    verdict, kind = ("drifted", "drifted") if drift.drifted else ("not drifted", "steady")
    p_value = format_p_value(drift.p_value, sign=True)
    note = escape(f"{METHODS[drift.method].short} {format_number(drift.distance)}, p {p_value}: {verdict}")
    return (
        f'<figure class="{kind}"><figcaption><b>{escape(column.name)}</b><span>{note}</span></figcaption>'
        f"{chart}</figure>"
    )


def _quality(config: MonitorConfig, examination: Examination) -> str:
    estimate = examination.estimate
    if estimate is None:
        return ""
    check = next(check for check in examination.result.checks if check.name == QUALITY)
    chart = draw_quality(estimate, config.quality.max_drop, check.state == BREACHED)
    return (
        f"<section><h2>Quality on labelled rows</h2><figure class='broad'><figcaption><b>{escape(estimate.metric)}</b>"
        f"<span>{plural(estimate.labels, 'label')}; the line is the 90 % interval, the band the allowed drop of "
        f"{format_number(config.quality.max_drop)}</span></figcaption>{chart}</figure></section>"
    )


def _table(config: MonitorConfig, examination: Examination) -> str:
    columns = examination.counts.features
    drifts = {drift.name: drift for drift in examination.drifts}
    found = {problem.feature: problem for problem in reversed(examination.problems) if problem.found}
    ordered = sorted(
        columns, key=lambda column: _table_order(drifts.get(column.name), found.get(column.name), column.name)
    )
    rows = "".join(
        _table_row(column, drifts.get(column.name), found.get(column.name), config.report.min_bin_rows)
        for column in ordered[:MAX_TABLE_ROWS]
    )
    more = len(columns) - MAX_TABLE_ROWS
    note = f"<p>{plural(more, 'further feature')} in report.json.</p>" if more > 0 else ""
    numbers = "".join(f'<th scope="col" class="n">{name}</th>' for name in ("Distance", "Missing", "Outside"))
    head = f'<th scope="col">Feature</th><th scope="col">State</th>{numbers}<th scope="col" class="n wide">p</th>'
    return (
        f"<section><h2>All features</h2><div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{note}"
        "<p class=note>Outside: beyond the reference's range, or a category that it doesn't have. "
        "In brackets: the reference.</p></section>"
    )


def _table_order(drift: ColumnDrift | None, problem: Problem | None, name: str) -> tuple[bool, bool, float, str]:
    drifted, distance = (drift.drifted, drift.distance) if drift is not None else (False, 0.0)
    return not drifted, problem is None, -distance, name


def _table_row(column: Column, drift: ColumnDrift | None, problem: Problem | None, min_rows: int) -> str:
    window, shown = column.window, describe_counts(column, min_rows=min_rows)
    words = [] if drift is None else ["drifted"] if drift.drifted else []
    words += [] if problem is None else [problem.kind]
    if words:
        # Broken between the words of a list only.
        state = f'<span class="bad">✕&nbsp;{", ".join(word.replace(" ", "&nbsp;") for word in words)}</span>'
    else:
        state = "? too few values" if drift is None else "✓ steady"
    missing = _share_of(shown.missing, window.rows)
    usual = f" ({_share_of(shown.reference_missing, column.reference.rows)})" if column.reference.nulls else ""
    outside = _share_of(shown.outside, window.valid)
    distance = "–" if drift is None else f"{drift.distance:.2f}"
    p_value = "–" if drift is None else format_p_value(drift.p_value)
    cells = "".join(f'<td class="n">{cell}</td>' for cell in (distance, missing + usual, outside))
    cells += f'<td class="n wide">{escape(p_value)}</td>'
    return f'<tr><th scope="row">{escape(column.name)}</th><td>{state}</td>{cells}</tr>'


def _share_of(count: int | None, rows: int) -> str:
    return "few" if count is None else format_share(count / rows if rows else 0.0)


def _looked_at(config: MonitorConfig, examination: Examination) -> str:
    result = examination.result
    facts = {
        "Monitor": f"{config.namespace}/{config.name}",
        "Deployment": config.deployment,
        "Version": f"{result.version}, {result.digest}",
        "Window": f"{format_time(result.start)} to {format_time(result.end)}",
        "Rows": f"{result.rows:,} captured, {result.labels:,} with a label; at least {config.min_rows:,} rows and "
        f"{config.quality.min_labels:,} labels are needed",
        "Drift": f"{configured_method(config.drift).short} above "
        f"{format_number(max_distance(config.drift))} over the bins of the training data, and significant at a false "
        f"discovery rate of {format_number(config.drift.false_discovery_rate)}",
        "Data quality": "share of missing, mistyped, unknown or out-of-range values against the reference's own; "
        "features that have one value only; rows that repeat others",
        "Privacy": f"a number of fewer than {config.report.min_bin_rows} rows is shown as few, or with others",
        "Quality": f"a drop beyond {format_number(config.quality.max_drop)} against the version's own test, beyond "
        f"chance (one-sided, {format_share(SIGNIFICANCE)})",
    }
    if examination.skipped_segments:
        facts["Left out"] = plural(examination.skipped_segments, "damaged capture segment")
    if examination.redacted:
        facts["Not looked at"] = f"{plural(len(examination.redacted), 'feature')} that captures don't hold as sent"
    items = "".join(f"<dt>{name}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items())
    return f"<section><h2>What was looked at</h2><dl>{items}</dl></section>"
