"""The card's pictures: scikit-learn's displays on matplotlib, as SVG that takes its colours from the page.

Every picture is of sums over rows, never of single ones, and the same run gives the same bytes. matplotlib is imported
here and nowhere else in a run.
"""

import io
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelkit.evaluate.importance import Importance
from modelkit.train.curves import (
    Curve,
    bin_calibration,
    bin_residuals,
    precision_recall_curves,
    roc_curves,
)
from modelkit.train.finished import Finished

_INK, _LINE = "#123456", "#654321"
_SERIES = tuple(f"#a1b2c{digit}" for digit in range(6))
_BAND = "#d4c3b2"
"""Colours that the page replaces by its own, for light and dark: no picture has them otherwise."""
_VARIABLES = {_INK: "var(--ink)", _LINE: "var(--line)", _BAND: "var(--c0)"} | {
    colour: f"var(--c{index})" for index, colour in enumerate(_SERIES)
}
_MOST_BARS = 15
_MOST_CLASSES = 12
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "sans-serif",
    "text.parse_math": False,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _LINE,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}

_WIDTH, _GAP, _LETTER, _LINE_HEIGHT = 4.4, 0.14, 0.075, 0.19
"""Inches, at 9 points."""
_LETTERS_OF_A_NUMBER = 6
FONTS_VARIABLE = "MODELLOOP_FONTS"
"""Folder of matplotlib's list of fonts, where there is one."""

Draw = Callable[[Any], None]
"""Draws into matplotlib's axes."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the card."""

    key: str
    title: str
    description: str
    """What is to be seen, for those who don't see it."""
    svg: str


def draw_pictures(
    run: Finished, metrics: Mapping[str, Any], importance: Sequence[Importance], explanation: Mapping[str, Any] | None
) -> list[Picture]:
    """The pictures that make sense for the run, in the order of the card.

    `metrics` and `explanation` are the content of metrics.json and explanation.json.
    """
    with _canvas() as render:
        return [
            Picture(key, title, description, render(key, draw, height))
            for key, title, description, draw, height in _plan(run, metrics, importance, explanation)
        ]


_Plan = Iterator[tuple[str, str, str, Draw, float]]


def _plan(
    run: Finished, metrics: Mapping[str, Any], importance: Sequence[Importance], explanation: Mapping[str, Any] | None
) -> _Plan:
    yield from _plan_classes(run, metrics) if run.answers.classes is not None else _plan_numbers(run)
    if metrics.get("learning_curve"):
        yield (
            "learning",
            "Learning curve",
            f"{run.metric} on the learnt and on held-out rows, by the number of rows learnt from",
            lambda axes: _draw_learning(axes, metrics["learning_curve"], run.metric),
            2.9,
        )
    if len(found := [entry for entry in metrics["candidates"] if entry["mean"] is not None]) > 1:
        yield (
            "search",
            "Search",
            f"Mean {run.metric} of {len(found)} trials over the folds, best first, with the deviation over the folds",
            lambda axes: _draw_search(axes, found, run.metric),
            2.9,
        )
    if importance:
        top = ", ".join(entry.name for entry in importance[:3])
        yield (
            "importance",
            "Permutation importance",
            f"Loss of {run.metric} when a column is shuffled; most by {top}",
            lambda axes: _draw_importance(axes, importance[:_MOST_BARS], run.metric),
            1.2 + 0.19 * min(len(importance), _MOST_BARS),
        )
    if explanation is not None:
        yield from _plan_explanation(explanation, run.config.data.target)


def _plan_classes(run: Finished, metrics: Mapping[str, Any]) -> _Plan:
    answers = run.answers
    confusion = metrics["confusion"]
    if confusion is not None and len(confusion["classes"]) <= _MOST_CLASSES:
        size = 2.2 + 0.17 * len(confusion["classes"])
        text = "Share of the rows of each true class that are said to be of each class"
        yield "confusion", "Confusion", text, lambda axes: _draw_confusion(axes, confusion), size
    if found := roc_curves(answers):
        text = f"True positive rate by false positive rate; area {_areas(found)}"
        yield "roc", "ROC", text, lambda axes: _draw_roc(axes, found), 2.9
    if curves := precision_recall_curves(answers):
        text = f"Precision by recall; average precision {_areas(curves)}"
        yield "pr", "Precision and recall", text, lambda axes: _draw_precision_recall(axes, curves), 2.9
    if (bins := bin_calibration(answers)) is not None:
        text = "Share of rows that were right by the probability that the model gave, in 10 bins of equal mass"
        yield "calibration", "Calibration", text, lambda axes: _draw_calibration(axes, *bins), 2.9


def _areas(curves: Sequence[Curve]) -> str:
    return ", ".join(f"{curve.name}: {curve.area:.3f}" for curve in curves)


def _plan_numbers(run: Finished) -> _Plan:
    answers, target = run.answers, run.config.data.target
    text = "How many rows have each true and each predicted value; a perfect model is on the diagonal"
    yield "predicted", "Predicted and true", text, lambda axes: _draw_predicted(axes, answers, target), 3.2
    text = "Median and middle 50 % and 90 % of the residuals by the predicted value"
    yield "residuals", "Residuals", text, lambda axes: _draw_residuals(axes, bin_residuals(answers), target), 3.2


def _plan_explanation(explanation: Mapping[str, Any], target: str) -> _Plan:
    if found := explanation["shap"]:
        text = f"Mean absolute SHAP value of each column over {found['rows']} rows, in units of {found['unit'].lower()}"
        entries = found["features"][:_MOST_BARS]
        yield "shap", "SHAP", text, lambda axes: _draw_shap(axes, entries, found["unit"]), 1.2 + 0.19 * len(entries)
    for number, entry in enumerate(explanation["partial_dependence"]):
        text = f"Average answer when {entry['name']} has each value, whatever the other columns have"

        def draw(axes: Any, entry: Mapping[str, Any] = entry) -> None:
            _draw_dependence(axes, entry, explanation["classes"], target)

        yield f"dependence{number}", f"Partial dependence on {entry['name']}", text, draw, 2.9


def _draw_confusion(axes: Any, confusion: Mapping[str, Any]) -> None:
    from sklearn.metrics import ConfusionMatrixDisplay

    counts = np.array(confusion["matrix"], np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [_short(str(label), 14) for label in confusion["classes"]]
    shown = ConfusionMatrixDisplay(shares, display_labels=labels)
    shown.plot(ax=axes, include_values=False, colorbar=False, im_kw={"alpha": 0.0})
    # Cells as shapes, not as an embedded bitmap: sharp at any size, and in the page's colour.
    for row, column in np.ndindex(shares.shape):
        share = shares[row, column]
        axes.fill(
            column + np.array([-0.5, 0.5, 0.5, -0.5]),
            row + np.array([-0.5, -0.5, 0.5, 0.5]),
            color=_BAND,
            alpha=round(0.08 + 0.55 * float(share), 3),
            linewidth=0,
        )
        axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8)
    for image in list(axes.images):
        image.remove()
    axes.tick_params(length=0)
    if max(map(len, labels)) > 3 and len(labels) > 4:
        axes.tick_params(axis="x", labelrotation=90)


def _draw_roc(axes: Any, curves: Sequence[Curve]) -> None:
    from sklearn.metrics import RocCurveDisplay

    for colour, curve in zip(_SERIES, curves, strict=False):
        shown = RocCurveDisplay(fpr=curve.x, tpr=curve.y)
        shown.plot(ax=axes, curve_kwargs={"color": colour, "label": f"{_short(curve.name, 18)} ({curve.area:.3f})"})
    axes.plot([0, 1], [0, 1], color=_INK, linestyle=":", linewidth=1)
    axes.set(xlabel="False positive rate", ylabel="True positive rate", aspect="auto")
    axes.legend(loc="lower right", title="Area under the curve", title_fontsize=8)


def _draw_precision_recall(axes: Any, curves: Sequence[Curve]) -> None:
    from sklearn.metrics import PrecisionRecallDisplay

    for colour, curve in zip(_SERIES, curves, strict=False):
        shown = PrecisionRecallDisplay(precision=curve.y, recall=curve.x)
        label = f"{_short(curve.name, 18)} ({curve.area:.3f})"
        shown.plot(ax=axes, curve_kwargs={"color": colour, "label": label})
    axes.set(xlabel="Recall", ylabel="Precision", aspect="auto", ylim=(-0.03, 1.03), xlim=(-0.03, 1.03))
    axes.legend(loc="best", title="Average precision", title_fontsize=8)


def _draw_calibration(axes: Any, said: Any, right: Any) -> None:
    from sklearn.calibration import CalibrationDisplay

    CalibrationDisplay(right, said, said).plot(ax=axes, ref_line=False, color=_SERIES[0], markersize=4, label="model")
    axes.plot([0, 1], [0, 1], color=_INK, linestyle=":", linewidth=1, label="perfect")
    axes.set(xlabel="Mean probability", ylabel="Share of rows")
    axes.legend(loc="upper left")


def _draw_predicted(axes: Any, answers: Any, target: str) -> None:
    truth, said = answers.truth.astype(np.float64), answers.predictions.astype(np.float64)
    ends = np.quantile(np.concatenate([truth, said]), [0.005, 0.995])
    cells = int(np.clip(np.sqrt(len(truth)) / 1.5, 5, 20))  # fewer of few rows, so that a cell is of several
    edges = np.linspace(ends[0], ends[1] if ends[1] > ends[0] else ends[0] + 1, cells + 1)
    counts, _, _ = np.histogram2d(np.clip(truth, *ends), np.clip(said, *ends), bins=[edges, edges])
    most, step = counts.max(), edges[1] - edges[0]
    for row, column in np.argwhere(counts > 0):
        x, y = edges[row], edges[column]
        alpha = round(0.12 + 0.83 * float(np.sqrt(counts[row, column] / most)), 3)
        axes.fill([x, x + step, x + step, x], [y, y, y + step, y + step], color=_BAND, alpha=alpha, linewidth=0)
    axes.plot(edges[[0, -1]], edges[[0, -1]], color=_INK, linestyle=":", linewidth=1)
    axes.set(xlabel=f"True {_short(target, 30)}", ylabel="Predicted", aspect="auto")


def _draw_residuals(axes: Any, bands: Any, target: str) -> None:
    middle, quantiles = bands
    axes.fill_between(middle, quantiles[0], quantiles[4], color=_BAND, alpha=0.18, linewidth=0, label="90 % of rows")
    axes.fill_between(middle, quantiles[1], quantiles[3], color=_BAND, alpha=0.32, linewidth=0, label="50 % of rows")
    axes.plot(middle, quantiles[2], color=_SERIES[0], marker="o", markersize=3, label="median")
    axes.axhline(0, color=_INK, linestyle=":", linewidth=1)
    axes.set(xlabel=f"Predicted {_short(target, 30)}", ylabel="True − predicted")
    axes.legend(loc="best", ncols=3)


def _draw_learning(axes: Any, points: Sequence[Mapping[str, Any]], metric: str) -> None:
    rows = [point["rows"] for point in points]
    for name, label, colour in (("training", "learnt rows", _SERIES[1]), ("validation", "held-out rows", _SERIES[0])):
        values = [np.nan if point[name] is None else point[name] for point in points]
        axes.plot(rows, values, color=colour, marker="o", markersize=4, label=label)
    axes.set(xlabel="Rows learnt from", ylabel=metric)
    axes.legend(loc="best")


def _draw_search(axes: Any, trials: Sequence[Mapping[str, Any]], metric: str) -> None:
    names = list(dict.fromkeys(trial["estimator"] for trial in trials))
    for index, name in enumerate(names):
        places = [place + 1 for place, trial in enumerate(trials) if trial["estimator"] == name]
        means = [trials[place - 1]["mean"] for place in places]
        spread = [trials[place - 1]["deviation"] or 0.0 for place in places]
        colour = _SERIES[index % len(_SERIES)]
        axes.errorbar(
            places, means, yerr=spread, fmt="os^Dv*"[index % 6], color=colour, markersize=4, elinewidth=0.8, label=name
        )
    axes.set(xlabel="Trial, best first", ylabel=f"mean {metric}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if len(names) <= 6:
        axes.legend(loc="best")


def _draw_importance(axes: Any, entries: Sequence[Importance], metric: str) -> None:
    names = [_short(entry.name, 28) for entry in entries]
    axes.barh(
        range(len(names)),
        [entry.mean for entry in entries],
        xerr=[entry.deviation for entry in entries],
        color=_SERIES[0],
        ecolor=_INK,
        error_kw={"elinewidth": 0.8},
        height=0.65,
    )
    _name_bars(axes, names)
    axes.axvline(0, color=_LINE, linewidth=0.8)
    axes.set_xlabel(f"Loss of {metric}")


def _draw_shap(axes: Any, entries: Sequence[Mapping[str, Any]], unit: str) -> None:
    axes.barh(range(len(entries)), [sum(entry["mean_absolute"]) for entry in entries], color=_SERIES[0], height=0.65)
    _name_bars(axes, [_short(entry["name"], 28) for entry in entries])
    axes.set_xlabel(f"Mean |SHAP value| ({unit.lower()})")


def _name_bars(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.locator_params(axis="x", nbins=5)


def _draw_dependence(axes: Any, entry: Mapping[str, Any], classes: Sequence[Any] | None, target: str) -> None:
    values = np.array(entry["values"])
    is_number = not isinstance(entry["grid"][0], str)
    x = entry["grid"] if is_number else range(len(entry["grid"]))
    shown = [] if classes is None else [classes[-1]] if values.shape[1] == 1 else list(classes)
    for index, colour in zip(range(values.shape[1]), _SERIES, strict=False):
        label = _short(str(shown[index]), 18) if len(shown) > 1 else None
        style = {"color": colour, "label": label, "marker": "o", "markersize": 3 if is_number else 5}
        axes.plot(x, values[:, index], linestyle="-" if is_number else "none", **style)
    if not is_number:
        axes.set_xticks(list(x), [_short(name, 12) for name in entry["grid"]], rotation=90 if len(x) > 5 else 0)
    what = _short(target, 24) if classes is None else "Probability" + (f" of {shown[0]}" if len(shown) == 1 else "")
    axes.set(xlabel=_short(entry["name"], 40), ylabel=what)
    if len(shown) > 1:
        axes.legend(loc="best")


def _short(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


@contextmanager
def _canvas() -> Iterator[Callable[[str, Draw, float], str]]:
    """What turns a drawing into SVG; matplotlib's settings and folder are its own for that long."""
    with tempfile.TemporaryDirectory(prefix="matplotlib-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glyphs that its font doesn't have: the reader's browser has them
        # A pod's root is read-only; without a writable folder matplotlib warns and makes one that it leaves behind.
        os.environ.setdefault("MPLCONFIGDIR", folder)
        _bring_fonts(Path(folder))
        import matplotlib as mpl

        mpl.use("svg")
        from matplotlib.figure import Figure

        def render(key: str, draw: Draw, height: float) -> str:
            settings: Any = _SETTINGS | {"svg.hashsalt": key}
            with mpl.rc_context(settings):
                figure = Figure(figsize=(_WIDTH, height))
                axes = figure.add_subplot()
                draw(axes)
                _make_room(axes, height)
                file = io.StringIO()
                figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
            return _inline(file.getvalue(), key)

        try:
            yield render
        finally:
            if os.environ.get("MPLCONFIGDIR") == folder:
                del os.environ["MPLCONFIGDIR"]


def _bring_fonts(folder: Path) -> None:
    """Spare matplotlib from reading every font anew: the image holds what it found when it was built."""
    if (found := os.environ.get(FONTS_VARIABLE)) is not None:
        for file in Path(found).glob("fontlist-*.json"):
            shutil.copy(file, folder)


def _make_room(axes: Any, height: float) -> None:
    """Margins that the labels need, by their letters: matplotlib's own layouts draw every picture twice to know."""
    y_letters = max((len(label.get_text()) for label in axes.get_yticklabels()), default=0) or _LETTERS_OF_A_NUMBER
    x_labels = [label for label in axes.get_xticklabels() if label.get_text()]
    upright = bool(x_labels) and x_labels[0].get_rotation() == 90
    x_room = _LETTER * max(len(label.get_text()) for label in x_labels) if upright else _LINE_HEIGHT
    left = _GAP + _LETTER * y_letters + (_LINE_HEIGHT if axes.get_ylabel() else 0)
    bottom = _GAP + x_room + (_LINE_HEIGHT if axes.get_xlabel() else 0)
    axes.figure.subplots_adjust(
        left=min(left / _WIDTH, 0.6), right=1 - _GAP / _WIDTH, bottom=min(bottom / height, 0.6), top=1 - _GAP / height
    )


def _inline(svg: str, key: str) -> str:
    """The picture as part of a page: ids that no other picture has, and the page's colours and fonts."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{key}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{key}-", svg)
    svg = re.sub(r' (?:width|height)="[0-9.]+pt"', "", svg, count=2)
    svg = re.sub(r' xmlns:xlink="[^"]+"| version="1.1"| xmlns="[^"]+"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r"font: ([0-9.]+)px [^;\"]+", r"font: \1px inherit", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return re.sub(r"\n\s*", "\n", svg).strip()
