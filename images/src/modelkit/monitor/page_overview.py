"""The top of report.html: what is to be known in five seconds, and every check as a card."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from modelkit.contract.result import CheckResult
from modelkit.monitor.charts import draw_meter
from modelkit.monitor.page_parts import View, readable_time, show_name, show_state, show_time
from modelkit.monitor.wording import BREACHED, OK, UNKNOWN, format_number, format_share, overall_state, plural


@dataclass(frozen=True, slots=True)
class Measure:
    """What the value of a check is."""

    title: str
    text: str
    form: Callable[[float], str] = format_number
    least: bool = False
    """The limit is the least, not the most, that is allowed."""
    base: float = 0.0
    """The value when nothing is wrong."""


MEASURES = {
    "DataQuality": Measure("Data quality", "largest excess of bad values", format_share),
    "Drift": Measure("Data drift", "of the features drifted", format_share),
    "MultivariateDrift": Measure("Drift of all features together", "area under the ROC curve", base=0.5),
    "PredictionDrift": Measure("Prediction drift", "largest distance"),
    "AttributionDrift": Measure("Attribution drift", "similarity of the features' order", least=True),
    "Quality": Measure("Model quality", "drop of the metric"),
    "EstimatedQuality": Measure("Estimated quality", "drop that is to be expected"),
    "Calibration": Measure("Calibration", "excess of the calibration error"),
    "Fairness": Measure("Fairness", "largest difference between groups"),
    "Service": Measure("Service", "of the requests failed", format_share),
}


SLOW = Measure("Service", "s, the 99th percentile of the times")
"""The measure of Service where the times are what is bad."""


def title_of(check: str) -> str:
    """The name of a check for people."""
    return MEASURES[check].title if check in MEASURES else check


def overview(view: View) -> str:
    """Verdict, what was looked at in one line, and a card of each check."""
    result, config = view.examination.result, view.config
    state = overall_state(result.checks)
    cards = "".join(_card(check, _measure_of(view, check)) for check in result.checks)
    return (
        f'<header class="{state.lower()}"><p class="kicker">Model monitor · {escape(config.namespace)}</p>'
        f"<h1>{escape(config.name)}</h1>"
        f'<p class="verdict">{show_state(state)} <span>{_headline(result.checks, state)}</span></p>'
        f'<p class="soft">{show_time(result.start)} to {_end(view)} UTC · deployment {show_name(config.deployment)}, '
        f"version {result.version} · {plural(result.rows, 'row')}, {plural(result.labels, 'label')}</p></header>"
        f'<section aria-label="Checks"><ul class="cards">{cards}</ul></section>'
    )


def _headline(checks: tuple[CheckResult, ...], state: str) -> str:
    if state == BREACHED:
        breached = [title_of(check.name) for check in checks if check.state == BREACHED]
        names = escape(", ".join(breached).capitalize())
        return f"Something changed. {len(breached)} of {plural(len(checks), 'check')}: {names}."
    unknown = sum(check.state == UNKNOWN for check in checks)
    if state == OK:
        suffix = f" {plural(unknown, 'check')} had too little to look at." if unknown else ""
        return f"Nothing found by {plural(len(checks) - unknown, 'check')}.{suffix}"
    return "Too little to look at."


def _end(view: View) -> str:
    start, end = view.examination.result.start, view.examination.result.end
    if start.date() != end.date():
        return show_time(end)
    time = readable_time(end).partition(" ")[2]
    return f'<time datetime="{end.isoformat()}">{time}</time>'


def _measure_of(view: View, check: CheckResult) -> Measure:
    config = view.config.service
    if check.name == "Service" and config is not None and check.limit not in (None, config.max_error_rate):
        return SLOW
    return MEASURES.get(check.name, Measure(check.name, "value"))


def _card(check: CheckResult, measure: Measure) -> str:
    figures = ""
    if check.value is not None:
        limit = ""
        if check.limit is not None:
            word = "at least" if measure.least else "at most"
            limit = f' <span class="soft">({word} {escape(measure.form(check.limit))})</span>'
            figures = draw_meter(check.value, check.limit, check.state == BREACHED, measure.base, measure.least)
        text = f"<b>{escape(measure.form(check.value))}</b> {escape(measure.text)}"
        figures = f'<p class="measure">{text}{limit}</p>{figures}'
    return (
        f'<li class="card {check.state.lower()}" data-check="{escape(check.name)}"><h3>{escape(measure.title)}</h3>'
        f"{show_state(check.state)}{figures}<p>{escape(check.message)}</p></li>"
    )
