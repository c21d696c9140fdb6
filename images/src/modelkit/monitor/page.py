"""report.html: one window for people, in one file without scripts that prints and fits a phone.

Overview first, then the evidence, how it went over time and what was decided, every feature in a table, and what was
looked at. A section is a function of the view that gives its HTML, or nothing when there is nothing to show. Every name
is escaped: a column can be called anything.
"""

from collections.abc import Callable
from html import escape
from importlib.resources import files

from modelkit.contract.monitoring import MonitorConfig
from modelkit.monitor.history import History
from modelkit.monitor.page_evidence import fairness, quality, together
from modelkit.monitor.page_features import all_features, outputs, worst_features
from modelkit.monitor.page_history import decisions, over_time
from modelkit.monitor.page_overview import overview
from modelkit.monitor.page_parts import View
from modelkit.monitor.page_service import service
from modelkit.monitor.page_settings import looked_at
from modelkit.monitor.window import Examination

MAX_BYTES = 200_000
TABLE_ROWS = (300, 100, 25)
"""Features in the table, worst first; the fewer ones where the names are so long that the page would be larger."""

Section = Callable[[View], str]
SECTIONS: tuple[tuple[str, str, Section], ...] = (
    ("features", "Features that differ most", worst_features),
    ("answers", "What the model answers", outputs),
    ("together", "How the features change together", together),
    ("quality", "Quality", quality),
    ("fairness", "Groups", fairness),
    ("service", "Service", service),
    ("time", "Over time", over_time),
    ("decisions", "What was decided, and why", decisions),
    ("table", "All features", all_features),
    ("rules", "What was looked at", looked_at),
)
"""Id, title and function, in the order of the page."""


def build_page(config: MonitorConfig, examination: Examination, history: History | None = None) -> bytes:
    """The whole HTML document, under 200 KB for any number of features."""
    for rows in TABLE_ROWS:
        page = _build(View(config, examination, history or History(), rows))
        if len(page) < MAX_BYTES:
            break
    return page


def _build(view: View) -> bytes:
    title = escape(f"{view.config.namespace}/{view.config.name}")
    style = files("modelkit.monitor").joinpath("report.css").read_text(encoding="utf-8")
    sections = [(key, name, body) for key, name, build in SECTIONS if (body := build(view))]
    links = "".join(f'<li><a href="#{key}">{name}</a></li>' for key, name, _ in sections)
    contents = "".join(f'<section id="{key}"><h2>{name}</h2>{body}</section>' for key, name, body in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}: model monitor</title><style>{style}</style></head>\n"
        f'<body><main>{overview(view)}<nav aria-label="Sections"><ul>{links}</ul></nav>{contents}</main>'
        "</body></html>\n"
    ).encode()
