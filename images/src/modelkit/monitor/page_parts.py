"""What every section of report.html is made of. What comes from data or a cluster is escaped, here or by the caller."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from modelkit.contract.monitoring import MonitorConfig
from modelkit.monitor.history import History
from modelkit.monitor.window import Examination
from modelkit.monitor.wording import BREACHED, OK, UNKNOWN, shorten

SIGNS = {OK: "✓", BREACHED: "✕", UNKNOWN: "?"}
MAX_SHOWN_NAME = 100
"""Characters of a name; report.json has all of them."""


@dataclass(frozen=True, slots=True)
class View:
    """What a page tells of."""

    config: MonitorConfig
    examination: Examination
    history: History
    table_rows: int
    """Features in the table, worst first."""


@dataclass(frozen=True, slots=True)
class Header:
    """A column of a table."""

    text: str
    number: bool = False
    """Stands to the right."""
    wide: bool = False
    """Left out on a phone."""


def show_name(name: str, limit: int = MAX_SHOWN_NAME) -> str:
    """A name of a column or a class as HTML."""
    return escape(shorten(name, limit))


def show_state(state: str, text: str = "") -> str:
    """A check's state: a sign, a word and a colour. `text` in place of the word."""
    known = state if state in SIGNS else UNKNOWN
    return (
        f'<span class="state {known.lower()}"><span aria-hidden="true">{SIGNS[known]}</span> '
        f"{escape(text or state)}</span>"
    )


def show_time(moment: datetime) -> str:
    """A moment to the minute, with its exact time for programs; the caller says that it is UTC."""
    utc = moment.astimezone(UTC)
    return f'<time datetime="{utc.isoformat()}">{readable_time(utc)}</time>'


def readable_time(moment: datetime) -> str:
    """`2026-03-01 12:00`, with seconds where there are any."""
    utc = moment.astimezone(UTC)
    return utc.strftime("%Y-%m-%d %H:%M:%S" if utc.second else "%Y-%m-%d %H:%M")


def build_figure(title: str, note: str, chart: str, details: str = "", kind: str = "") -> str:
    """A chart with its caption; `title` is text, all others are HTML."""
    classes = f' class="{kind}"' if kind else ""
    note = f'<span class="soft">{note}</span>' if note else ""
    return f"<figure{classes}><figcaption><b>{show_name(title)}</b>{note}</figcaption>{chart}{details}</figure>"


def build_figures(figures: Iterable[str]) -> str:
    """As many side by side as the page has room for."""
    return f'<div class="figures">{"".join(figures)}</div>'


def build_table(headers: Sequence[Header], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table of HTML cells, the first of each row being the row's header; it scrolls where it has no room."""
    head = "".join(f'<th scope="col"{_classes(header)}>{escape(header.text)}</th>' for header in headers)
    body = "".join(
        "<tr>"
        + f'<th scope="row">{row[0]}</th>'
        + "".join(f"<td{_classes(header)}>{cell}</td>" for header, cell in zip(headers[1:], row[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{show_name(caption)}"><table>'
        f'<caption class="hidden">{show_name(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def build_details(summary: str, body: str) -> str:
    """What is only read on request: the numbers of a chart."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def build_facts(facts: Iterable[tuple[str, str]]) -> str:
    """Terms (text) and what is said of them (HTML)."""
    items = "".join(f"<div><dt>{escape(term)}</dt><dd>{fact}</dd></div>" for term, fact in facts)
    return f"<dl>{items}</dl>"


def build_legend(*entries: tuple[str, str]) -> str:
    """What the signs of a chart stand for: a class of the style sheet and text of each."""
    items = "".join(
        f'<li><svg class="key" viewBox="0 0 18 12" aria-hidden="true">{_KEYS[kind]}</svg>{escape(text)}</li>'
        for kind, text in entries
    )
    return f'<ul class="legend">{items}</ul>'


def _classes(header: Header) -> str:
    classes = [name for name, is_set in (("n", header.number), ("wide", header.wide)) if is_set]
    return f' class="{" ".join(classes)}"' if classes else ""


_KEYS = {
    "ref": '<rect class="ref" x="3" y="1" width="12" height="10"/>',
    "win": '<rect class="win" x="3" y="1" width="12" height="10"/>',
    "line": '<path class="line" d="M0 6H18"/><circle class="dot" cx="9" cy="6" r="3"/>',
    "est": '<path class="line est" d="M0 6H18"/><rect class="dot est" x="6" y="3" width="6" height="6"/>',
    "limit": '<path class="limit" d="M0 6H18"/>',
    "bad": '<path class="cross" d="M5 2l8 8m0-8l-8 8"/>',
    "version": '<path class="version" d="M9 0V12"/>',
    "asked": '<path class="asked" d="M9 1l5 10h-10z"/>',
    "third": '<path class="line third" d="M0 6H18"/>',
    "error": '<rect class="bad" x="3" y="1" width="12" height="10"/>',
    "ideal": '<path class="ideal" d="M1 11L17 1"/>',
}
