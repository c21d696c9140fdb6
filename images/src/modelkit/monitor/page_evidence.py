"""Sections of report.html about single checks: a chart of what each has measured."""

from modelkit.monitor.charts import draw_quality
from modelkit.monitor.page_parts import View, build_figure, build_figures
from modelkit.monitor.quality import QUALITY
from modelkit.monitor.wording import BREACHED, format_number, plural


def labelled_quality(view: View) -> str:
    """The metric of the labelled rows beside the version's own; "" without enough labels."""
    estimate, max_drop = view.examination.estimate, view.config.quality.max_drop
    if estimate is None:
        return ""
    breached = any(check.name == QUALITY and check.state == BREACHED for check in view.examination.result.checks)
    note = (
        f"{plural(estimate.labels, 'label')}; the line is the 90 % interval, the band the allowed drop of "
        f"{format_number(max_drop)}"
    )
    return build_figures([build_figure(estimate.metric, note, draw_quality(estimate, max_drop, breached))])
