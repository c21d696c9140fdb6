"""Pictures of what single checks measured, as inline SVG: pure functions of aggregates, coloured by the style sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from modelkit.monitor.charts import WIDTH, draw_svg
from modelkit.monitor.wording import format_number, format_share, shorten

_LEFT, _RIGHT, _TOP, _SIDE = 40, 12, 8, 200
_ROW = 24
_NAME_CHARACTERS = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Rows of about one probability: how often the answer was right."""

    confidence: float
    """Mean probability, 0 to 1."""
    right: float
    """Share of right answers, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A named value."""

    name: str
    value: float
    text: str
    """What is written beside it."""
    bad: bool = False


def draw_reliability(window: Sequence[CurvePoint], reference: Sequence[CurvePoint], title: str) -> str:
    """Reliability curves of a window (line and dots) and of the version's test (dashed, squares); the diagonal is what
    true probabilities look like."""
    low = min(min(point.confidence, point.right) for point in (*window, *reference))
    low = max(0.0, int(low * 10) / 10 if low < 0.95 else 0.9)

    def x(value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (value - low) / (1 - low)

    def y(value: float) -> float:
        return _TOP + _SIDE * (1 - value) / (1 - low)

    parts = []
    for tick in (low, (low + 1) / 2, 1.0):
        text = f"{100 * tick:.0f}%"
        anchor = {low: "start", 1.0: "end"}.get(tick, "middle")
        parts.append(
            f'<path class="grid" d="M{_LEFT} {y(tick):.1f}H{WIDTH - _RIGHT}"/>'
            f'<text class="tick" x="{_LEFT - 5}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{text}</text>'
            f'<text class="tick" x="{x(tick):.1f}" y="{_TOP + _SIDE + 15}" text-anchor="{anchor}">{text}</text>'
        )
    parts.append(f'<path class="ideal" d="M{x(low):.1f} {y(low):.1f}L{x(1):.1f} {y(1):.1f}"/>')
    for points, kind in ((reference, " est"), (window, "")):
        places = [(x(point.confidence), y(point.right)) for point in points]
        path = "".join(f"{'L' if index else 'M'}{a:.1f} {b:.1f}" for index, (a, b) in enumerate(places))
        parts.append(f'<path class="line{kind}" d="{path}"/>')
        parts += [_dot(place, kind, _explain(point)) for place, point in zip(places, points, strict=True)]
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="tick" x="{middle:.0f}" y="{_TOP + _SIDE + 31}" text-anchor="middle">probability that the model '
        "gave</text>"
    )
    return draw_svg("".join(parts), _TOP + _SIDE + 38, title)


def draw_bars(bars: Sequence[Bar], title: str, middle: float = 0.0) -> str:
    """Named values as bars from `middle` on, those of a breach with a cross before their text."""
    top = max((max(0.0, bar.value - middle) for bar in bars), default=0.0)
    bottom = max((max(0.0, middle - bar.value) for bar in bars), default=0.0)
    span = (top + bottom) or 1.0
    left = min(150, 16 + 7 * max((len(shorten(bar.name, _NAME_CHARACTERS)) for bar in bars), default=0))
    width = WIDTH - left - 62
    zero = left + width * bottom / span
    parts = []
    for index, bar in enumerate(bars):
        y = 4 + index * _ROW
        length = width * abs(bar.value - middle) / span
        start = zero if bar.value >= middle else zero - length
        kind, sign = ("win bad", "✕ ") if bar.bad else ("win", "")
        parts.append(
            f'<text class="label" x="{left - 8}" y="{y + 13}" text-anchor="end">'
            f"{escape(shorten(bar.name, _NAME_CHARACTERS))}<title>{escape(shorten(bar.name, 256))}</title></text>"
            f'<rect class="{kind}" x="{start:.1f}" y="{y + 2}" width="{length:.1f}" height="14"/>'
            f'<text class="tick" x="{max(start + length, zero) + 5:.1f}" y="{y + 13}">{sign}{escape(bar.text)}</text>'
        )
    parts.append(f'<path class="axis" d="M{zero:.1f} 2V{4 + len(bars) * _ROW}"/>')
    return draw_svg("".join(parts), 8 + len(bars) * _ROW, title)


def _dot(place: tuple[float, float], kind: str, text: str) -> str:
    x, y = place
    if kind:
        corner = f'x="{x - 2.5:.1f}" y="{y - 2.5:.1f}"'
        return f'<rect class="dot est" {corner} width="5" height="5"><title>{text}</title></rect>'
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{text}</title></circle>'


def _explain(point: CurvePoint) -> str:
    return f"probability {format_number(point.confidence)}: {format_share(point.right)} right"
