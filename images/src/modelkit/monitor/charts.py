"""Small inline SVG charts as text: pure functions of aggregates, coloured by the page's style sheet.

A plotting library's script alone would be forty times the whole report.
"""

from collections.abc import Sequence
from html import escape
from typing import Protocol

from modelkit.contract.metrics import LOWER_IS_BETTER
from modelkit.monitor.bins import Bin
from modelkit.monitor.wording import MAX_NAME, format_number, format_share, shorten

WIDTH = 360
MAX_BARS = 12
"""Categories drawn; the report.json has all."""

_PLOT_TOP, _PLOT_HEIGHT = 14, 110
_ROW = 30
_NAME_CHARACTERS = 18
_TITLE_CHARACTERS = 150


def draw_distribution(bins: Sequence[Bin], ordered: bool, name: str) -> str:
    """Reference and window side by side: columns over a number's intervals, rows for categories."""
    return _draw_columns(bins, name) if ordered else _draw_rows(bins, name)


def _draw_columns(bins: Sequence[Bin], name: str) -> str:
    top = max((max(item.reference, item.window) for item in bins), default=0.0) or 1.0
    left, step = 34, (WIDTH - 40) / max(1, len(bins))
    base = _PLOT_TOP + _PLOT_HEIGHT
    parts = [_grid(left, top, base)]
    for index, item in enumerate(bins):
        x = left + index * step
        for offset, share, kind in ((0.08, item.reference, "ref"), (0.5, item.window, "win")):
            height = _PLOT_HEIGHT * share / top
            parts.append(
                f'<rect class="{kind}" x="{x + offset * step:.1f}" y="{base - height:.1f}" '
                f'width="{0.4 * step:.1f}" height="{height:.1f}"/>'
            )
        parts.append(
            f'<rect class="hover" x="{x:.1f}" y="{_PLOT_TOP}" width="{step:.1f}" height="{_PLOT_HEIGHT}">'
            f"<title>{_describe(item)}</title></rect>"
        )
    parts += _edge_labels(bins, left, step, base)
    return draw_svg("".join(parts), base + 20, f"distribution of {name}, reference and window")


def _grid(left: float, top: float, base: float) -> str:
    lines = []
    for share in (0.0, top / 2, top):
        y = base - _PLOT_HEIGHT * share / top
        lines.append(f'<line class="grid" x1="{left}" x2="{WIDTH - 6}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="tick" x="{left - 4}" y="{y + 3.5:.1f}" text-anchor="end">')
        lines.append(f"{100 * share:.0f}%</text>")
    return "".join(lines)


def _edge_labels(bins: Sequence[Bin], left: float, step: float, base: float) -> list[str]:
    """Upper edges below the borders between bins, as many as fit."""
    edges = [item.upper for item in bins if item.upper is not None]
    longest = max((len(edge) for edge in edges), default=1)
    every = max(1, round(0.5 + longest * 6.5 / step))
    return [
        f'<text class="tick" x="{left + (index + 1) * step:.1f}" y="{base + 14}" text-anchor="middle">'
        f"{escape(edge)}</text>"
        for index, edge in enumerate(edges)
        if index % every == 0
    ]


def _draw_rows(bins: Sequence[Bin], name: str) -> str:
    shown = sorted(bins, key=lambda item: -max(item.reference, item.window))[:MAX_BARS]
    top = max((max(item.reference, item.window) for item in shown), default=0.0) or 1.0
    longest = max((len(_clip(item.label)) for item in shown), default=0)
    left = min(130, 16 + 7 * longest)
    width = WIDTH - left - 48
    parts = []
    for index, item in enumerate(shown):
        y = 4 + index * _ROW
        parts.append(
            f'<text class="label" x="{left - 8}" y="{y + 16}" text-anchor="end">{escape(_clip(item.label))}'
            f"<title>{_describe(item)}</title></text>"
        )
        for offset, share, kind in ((1, item.reference, "ref"), (13, item.window, "win")):
            length = width * share / top
            parts.append(
                f'<rect class="{kind}" x="{left}" y="{y + offset}" width="{length:.1f}" height="10"/>'
                f'<text class="tick" x="{left + length + 4:.1f}" y="{y + offset + 9}">{format_share(share)}</text>'
            )
    return draw_svg("".join(parts), 8 + len(shown) * _ROW, f"shares of {name}, reference and window")


class Compared(Protocol):
    """A metric of the window beside the version's own: measured, or to be expected."""

    @property
    def metric(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def reference(self) -> float: ...


def draw_quality(estimate: Compared, max_drop: float, breached: bool) -> str:
    """The window's metric with its interval, the version's own test metric, and the allowed drop between
    them."""
    worse = max_drop if estimate.metric in LOWER_IS_BETTER else -max_drop
    limit = estimate.reference + worse
    marks = (estimate.low, estimate.high, estimate.reference, limit)
    low, high = min(marks), max(marks)
    margin = (high - low) * 0.08 or 0.05
    low, high = low - margin, high + margin

    def x(value: float) -> float:
        return 12 + (WIDTH - 24) * (value - low) / (high - low)

    start, end = sorted((x(estimate.reference), x(limit)))
    kind = "win bad" if breached else "win"
    middle = x(estimate.value)
    body = (
        f'<rect class="allowed" x="{start:.1f}" y="24" width="{end - start:.1f}" height="36"/>'
        f'<line class="axis" x1="12" x2="{WIDTH - 12}" y1="60" y2="60"/>'
        f'<line class="reference" x1="{x(estimate.reference):.1f}" x2="{x(estimate.reference):.1f}" y1="20" y2="60"/>'
        + _mark(x(estimate.reference), 14, f"test {format_number(estimate.reference)}")
        + f'<line class="{kind}" x1="{x(estimate.low):.1f}" x2="{x(estimate.high):.1f}" y1="42" y2="42"/>'
        f'<circle class="{kind}" cx="{middle:.1f}" cy="42" r="6"/>'
        + _mark(middle, 76, f"window {format_number(estimate.value)}")
    )
    return draw_svg(body, 84, f"{estimate.metric} in the window, with its interval, and in the version's own test")


def _mark(x: float, y: float, text: str) -> str:
    anchor = "start" if x < 60 else "end" if x > WIDTH - 60 else "middle"
    return f'<text class="tick" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def draw_meter(value: float, limit: float, breached: bool, base: float = 0.0, least: bool = False) -> str:
    """A bar from `base` to `value`, and a mark at `limit`; the words beside it say the same.

    `least`: the limit is the least that is allowed, so that the bar is drawn over the whole scale from 0 to 1.
    """
    top = 1.0 if least else (max(value, limit) - base) * 1.15
    share, mark = ((100 * min(1.0, max(0.0, (x - base) / top)) if top > 0 else 0.0) for x in (value, limit))
    kind = "win bad" if breached else "win"
    return (
        '<svg class="meter" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="scale" width="100" y="1" height="4"/><rect class="{kind}" width="{share:.1f}" y="1" height="4"/>'
        f'<path class="mark" d="M{min(99.5, max(0.5, mark)):.1f} 0V6"/></svg>'
    )


def draw_svg(body: str, height: float, title: str, stretched: bool = False) -> str:
    """A picture as wide as its place, `WIDTH` by `height` units; `title` (text) is what is read out.

    A `stretched` one, without text, keeps its height.
    """
    title = escape(shorten(title, _TITLE_CHARACTERS), quote=True)
    how = ' class="stretched" preserveAspectRatio="none"' if stretched else ""
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}"{how} role="img" aria-label="{title}">{body}</svg>'


def _describe(item: Bin) -> str:
    shares = f"reference {format_share(item.reference)}, window {format_share(item.window)}"
    return f"{escape(shorten(item.label, MAX_NAME))}: {shares}"


def _clip(text: str) -> str:
    return text if len(text) <= _NAME_CHARACTERS else text[: _NAME_CHARACTERS - 1] + "…"
