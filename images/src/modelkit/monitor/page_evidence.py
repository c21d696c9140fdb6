"""Sections of report.html about single checks: a picture and the numbers of what each has measured."""

from html import escape

from modelkit.monitor.bins import Bin
from modelkit.monitor.charts import Compared, draw_distribution, draw_quality
from modelkit.monitor.charts_evidence import Bar, CurvePoint, draw_bars, draw_reliability
from modelkit.monitor.fairness import Disparity
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
from modelkit.monitor.quality import QUALITY
from modelkit.monitor.wording import (
    BREACHED,
    OK,
    format_number,
    format_p_value,
    format_share,
    plural,
)

MAX_BARS = 8
"""Features of a check that are drawn."""
MAX_DISPARITIES = 8
"""Comparisons of groups that are drawn, worst first; report.json has all."""
MAX_GROUPS = 12
"""Groups of one comparison that are drawn: the extreme ones count."""


def quality(view: View) -> str:
    """Measured, to be expected, and how true the probabilities are."""
    figures = [_labelled_quality(view), _estimated_quality(view), _calibration(view)]
    found = [figure for figure in figures if figure]
    return build_figures(found) if found else ""


def together(view: View) -> str:
    """What changed between the features, though none of them alone may have, and in what they matter to the model."""
    found = [figure for figure in (_multivariate(view), _attribution(view)) if figure]
    return build_figures(found) if found else ""


def fairness(view: View) -> str:
    """The groups of each column, worst difference first."""
    found = view.examination.fairness
    if found is None or not found.disparities:
        return ""
    figures = (_disparity(disparity) for disparity in found.disparities[:MAX_DISPARITIES])
    return build_figures(figures)


def _is_breached(view: View, name: str) -> bool:
    return any(check.name == name and check.state == BREACHED for check in view.examination.result.checks)


def _labelled_quality(view: View) -> str:
    estimate, max_drop = view.examination.estimate, view.config.quality.max_drop
    if estimate is None:
        return ""
    breached = _is_breached(view, QUALITY)
    note = f"{_verdict(breached)} measured on {plural(estimate.labels, 'label')}, {_explain_interval(max_drop)}"
    chart = draw_quality(estimate, max_drop, breached)
    return build_figure(estimate.metric, note, chart, _interval_table(estimate))


def _estimated_quality(view: View) -> str:
    found, config = view.examination.expected, view.config.estimated_quality
    if found is None or config is None:
        return ""
    breached = _is_breached(view, "EstimatedQuality")
    note = f"{_verdict(breached)} estimated for {plural(found.rows, 'row')}, {_explain_interval(config.max_drop)}"
    chart = draw_quality(found, config.max_drop, breached)
    return build_figure(f"{found.metric}, without labels", note, chart, _interval_table(found))


def _explain_interval(max_drop: float) -> str:
    return f"with its 90 % interval; the band is the allowed drop of {format_number(max_drop)}"


def _interval_table(found: Compared) -> str:
    rows = (
        ("Window", format_number(found.value)),
        ("90 % interval", f"{format_number(found.low)} to {format_number(found.high)}"),
        ("Version's own test", format_number(found.reference)),
    )
    return build_details("The numbers", build_table((Header("Of"), Header(found.metric, number=True)), rows, "Quality"))


def _calibration(view: View) -> str:
    found, config = view.examination.reliability, view.config.calibration
    if found is None or config is None or not found.bins:
        return ""
    note = (
        f"{_verdict(_is_breached(view, 'Calibration'))} expected calibration error {format_number(found.error)} on "
        f"{plural(found.labels, 'label')}, {format_number(found.reference_error)} on the version's own test"
    )
    window = [CurvePoint(confidence=item.confidence, right=item.right) for item in found.bins]
    reference = [CurvePoint(confidence=item.reference_confidence, right=item.reference_right) for item in found.bins]
    legend = build_legend(("line", "this window"), ("est", "version's own test"), ("ideal", "true probabilities"))
    headers = (
        Header("Probability", number=False),
        Header("Right", number=True),
        Header("Labels", number=True),
        Header("Test: right", number=True),
    )
    rows = (
        (
            format_share(item.confidence),
            format_share(item.right),
            f"{item.rows:,}",
            format_share(item.reference_right),
        )
        for item in found.bins
    )
    numbers = build_details("The numbers", build_table(headers, rows, "Reliability"))
    chart = draw_reliability(window, reference, "share of right answers by the model's probability")
    return build_figure("Calibration", note, chart + legend, numbers)


def _multivariate(view: View) -> str:
    found, config = view.examination.separation, view.config.multivariate
    if found is None or config is None:
        return ""
    breached = _is_breached(view, "MultivariateDrift")
    note = (
        f"{_verdict(breached)} a classifier tells {plural(found.rows, 'row')} of the window from as many of the "
        f"version's with an area under the ROC curve of {format_number(found.auc)} (0.5: not at all, limit "
        f"{format_number(config.max_auc)}), p {escape(format_p_value(found.p_value, sign=True))}"
    )
    shown = [item for item in found.importances[:MAX_BARS] if item.drop > 0]
    bars = [Bar(name=item.feature, value=item.drop, text=format_number(item.drop)) for item in shown]
    chart = draw_bars(bars, "what the classifier loses without each feature") if bars else ""
    headers = (Header("Feature"), Header("Loss of the area", number=True))
    rows = ((show_name(bar.name), bar.text) for bar in bars)
    numbers = build_details("The numbers", build_table(headers, rows, "Features that tell apart")) if bars else ""
    explained = '<p class="note">What the classifier loses without each feature:</p>' if bars else ""
    return build_figure("All features together", note, explained + chart, numbers)


def _attribution(view: View) -> str:
    found, config = view.examination.attributions, view.config.attribution
    if found is None or config is None:
        return ""
    note = (
        f"{_verdict(_is_breached(view, 'AttributionDrift'))} by which the model decides: similarity of the order "
        f"{format_number(found.similarity)}, at least {format_number(config.min_similarity)} · p "
        f"{escape(format_p_value(found.p_value, sign=True))} · {plural(found.rows, 'row')} explained"
    )
    # In parts of each side's sum: the unit of a Shapley value says nothing to a reader.
    before, now = (sum(getattr(item, side) for item in found.features) or 1.0 for side in ("reference", "window"))
    largest = sorted(found.features, key=lambda item: -max(item.reference / before, item.window / now))[:MAX_BARS]
    bins = [Bin(item.feature, item.reference / before, item.window / now) for item in largest]
    headers = (Header("Feature"), Header("Test", number=True), Header("Window", number=True))
    rows = ((show_name(item.label), format_share(item.reference), format_share(item.window)) for item in bins)
    numbers = build_details("The numbers", build_table(headers, rows, "Parts of the mean absolute Shapley values"))
    legend = build_legend(("ref", "version's own test"), ("win", "this window"))
    chart = draw_distribution(bins, ordered=False, name="the features' parts in the answers")
    return build_figure("What the answers are made of", note, chart + legend, numbers)


def _disparity(found: Disparity) -> str:
    groups = list(found.groups)
    if len(groups) > MAX_GROUPS:
        groups = groups[: MAX_GROUPS // 2] + groups[-MAX_GROUPS // 2 :]
    bars = [Bar(name=group.group, value=group.value, text=_show_value(group.value)) for group in groups]
    note = (
        f"{_verdict(found.breached)} {escape(found.metric)}: difference {format_number(found.value)}, limit "
        f"{format_number(found.limit)} · p {escape(format_p_value(found.p_value, sign=True))}"
    )
    headers = (
        Header("Group"),
        Header("Value", number=True),
        Header("Difference", number=True),
        Header("Rows", number=True),
    )
    rows = (
        (show_name(group.group), _show_value(group.value), format_number(group.difference), f"{group.rows:,}")
        for group in groups
    )
    numbers = build_details("The numbers", build_table(headers, rows, f"Groups of {found.column}"))
    return build_figure(found.column, note, draw_bars(bars, f"{found.metric} by {found.column}"), numbers)


def _show_value(value: float) -> str:
    return format_number(value)


def _verdict(breached: bool) -> str:
    return show_state(BREACHED if breached else OK)
