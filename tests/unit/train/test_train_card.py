"""The model card: a page without scripts or addresses, with pictures that suit the run, and every name escaped."""

import dataclasses
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from modelkit.contract.recipe import ExplainConfig, SliceConfig
from modelkit.evaluate.answers import Answers
from modelkit.train.curves import bin_calibration, bin_residuals, precision_recall_curves, roc_curves
from modelkit.train.page import build_page
from modelkit.train.pictures import Picture

if TYPE_CHECKING:
    from .conftest import Trainer

EXPLAIN = ExplainConfig(partial_dependence=1)
NASTY = "<script>alert('x')</script> | `a` **b** & \"c\""


class _Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    VOID = frozenset({"meta", "path", "use", "rect", "line", "image", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _read(page: bytes) -> _Reader:
    reader = _Reader()
    reader.feed(page.decode())
    reader.close()
    assert reader.open == []
    return reader


def _titles(page: bytes) -> list[str]:
    return re.findall(r"<figcaption><b>(.*?)</b>", page.decode())


@pytest.mark.parametrize(
    ("data", "estimators", "titles"),
    [
        (
            "builtin://breast_cancer",
            ("LogisticRegression", "GaussianNB"),
            ["Confusion", "ROC", "Precision and recall", "Calibration", "Search", "Learning curve"],
        ),
        (
            "builtin://wine",
            ("GaussianNB",),
            ["Confusion", "ROC", "Precision and recall", "Calibration", "Learning curve"],
        ),
        ("builtin://iris", ("RidgeClassifier",), ["Confusion", "Learning curve"]),
        ("builtin://diabetes", ("Ridge",), ["Predicted and true", "Residuals", "Learning curve"]),
    ],
)
def test_a_page_has_the_pictures_that_suit_the_run(
    trainer: "Trainer", candidates: Any, data: str, estimators: tuple[str, ...], titles: list[str]
) -> None:
    config = trainer.config(data, candidates=candidates(*estimators), explain=EXPLAIN)
    trainer.run(config)
    page = trainer.file(config, "card.html")
    found = _titles(page)
    assert found[: len(titles)] == titles
    assert found[len(titles)] == "Permutation importance"
    assert found[len(titles) + 1].startswith("Partial dependence on ")
    assert len(page) < 600_000

    reader = _read(page)
    names = {name for name, _ in reader.tags}
    assert not names & {"script", "img", "iframe", "link", "object", "image", "foreignobject"}
    for _, attributes in reader.tags:
        assert not any(key.startswith("on") for key in attributes)
        assert all(str(attributes.get(key, "#")).startswith("#") for key in ("href", "xlink:href", "src"))
    assert not re.search(rb"https?://|url\((?!#)|@import", page)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', page.decode()))
    assert used <= set(ids)
    for svg in re.findall(r"<svg .*?</svg>", page.decode(), re.DOTALL):
        drawn = ElementTree.fromstring(svg)
        assert drawn.get("role") == "img"
        assert len(drawn.get("aria-label") or "") > 20
        assert "var(--ink)" in svg
        assert not re.search(r"#(?!000000|ffffff)[0-9a-f]{6}\b", svg)


def test_every_name_is_escaped(trainer: "Trainer", tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({NASTY: rng.normal(size=200), "other": rng.normal(size=200)})
    frame["target"] = np.where(frame[NASTY] > 0, "<b>yes</b>", "$no$ & _")
    frame.to_csv(tmp_path / "nasty.csv", index=False)
    config = trainer.config(f"file://{tmp_path}/nasty.csv", explain=EXPLAIN)
    config = dataclasses.replace(config, slices=(SliceConfig(name="<i>", column=NASTY, minimum=0.0),))
    trainer.run(config)
    reader = _read(trainer.file(config, "card.html"))
    assert not {name for name, _ in reader.tags} & {"script", "i", "em"}
    text = "".join(reader.text)
    assert "<script>alert('x')</script>" in text
    assert "<b>yes</b>" in text
    assert "$no$ & _" in text
    assert "<script" not in trainer.file(config, "card.md").decode()


def test_a_page_is_the_same_for_the_same_run_whatever_was_drawn_before(trainer: "Trainer") -> None:
    pages = []
    for version in ("1-a", "1-b"):
        explain = ExplainConfig(partial_dependence=1, learning_curve=False)
        config = trainer.config("builtin://iris", version=version, explain=explain)
        trainer.run(config)
        pages.append(trainer.file(config, "card.html"))
        if not pages[1:]:
            trainer.run(trainer.config("builtin://diabetes", candidates=_ridge(), version="2-a", number=2))
    assert pages[0] == pages[1]


def _ridge() -> Any:
    from modelkit.contract.config import CandidateConfig

    return (CandidateConfig(estimator="Ridge"),)


def test_long_tables_fold_away_and_pictures_stand_in_their_section() -> None:
    rows = "\n".join(f"| c{number} | {number} |" for number in range(9))
    card = (
        f"# ns/m, version 1\nWords <u>.\n\n## Quality\n\n| a\\|b | n |\n| --- | --- |\n{rows}\n\n## Notes\n\n- a `code`"
    )
    page = build_page(
        card, [Picture("roc", "R<", "seen & said", "<svg >x</svg>"), Picture("x", "X", "d", "<svg ></svg>")]
    )
    text = page.decode()
    assert '<th scope="col">a|b</th>' in text
    assert "<summary>9 rows</summary>" in text
    assert "<p>Words &lt;u&gt;.</p>" in text
    assert text.index("R&lt;") < text.index("<h2>Notes</h2>") < text.index("<code>code</code>") < text.index("<b>X</b>")
    assert 'aria-label="R&lt;: seen &amp; said"' in text


def _classified(rows: int, classes: int, weights: bool = False) -> Answers:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, rows)
    scores = rng.random((rows, classes)) + np.eye(classes)[truth] * 0.4
    scores /= scores.sum(axis=1, keepdims=True)
    own = rng.random(rows) + 0.1 if weights else None
    return Answers("Classification", truth, scores.argmax(axis=1), scores, tuple(range(classes)), own)


def test_curves_have_few_points_and_the_areas_of_scikit_learn() -> None:
    answers = _classified(5000, 3, weights=True)
    assert answers.probabilities is not None
    curves = roc_curves(answers)
    for index, curve in enumerate(curves):
        expected = roc_auc_score(answers.truth == index, answers.probabilities[:, index], sample_weight=answers.weights)
        assert curve.area == pytest.approx(expected)
        assert np.trapezoid(curve.y, curve.x) == pytest.approx(expected, abs=0.01)
        assert len(curve.x) <= 200
    assert [curve.name for curve in precision_recall_curves(answers)] == ["0", "1", "2"]
    assert roc_curves(_classified(500, 7)) == []
    assert roc_curves(Answers("Regression", np.ones(3), np.ones(3))) == []


def test_the_calibration_bins_are_those_of_scikit_learn() -> None:
    answers = _classified(1000, 2)
    assert answers.probabilities is not None
    found = bin_calibration(answers)
    assert found is not None
    right, said = calibration_curve(answers.truth, answers.probabilities[:, 1], n_bins=10, strategy="quantile")
    np.testing.assert_allclose(found[0], said, atol=0.005)
    np.testing.assert_allclose(found[1], right, atol=0.02)


def test_residual_bands_are_of_several_rows_each() -> None:
    rng = np.random.default_rng(0)
    said = rng.normal(size=1000)
    middle, quantiles = bin_residuals(Answers("Regression", said + 1.0, said))
    assert len(middle) == 10
    np.testing.assert_allclose(quantiles, 1.0)
    few, _ = bin_residuals(Answers("Regression", said[:12], said[:12]))
    assert len(few) == 2


def test_many_rows_are_drawn_quickly_and_small(trainer: "Trainer", tmp_path: Path, candidates: Any) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(20_000, 4)), columns=[*"abcd"])
    frame["target"] = np.digitize(frame["a"] + rng.normal(size=20_000), [-1.0, -0.3, 0.3, 1.0])
    frame.to_csv(tmp_path / "many.csv", index=False)
    config = trainer.config(f"file://{tmp_path}/many.csv", candidates=candidates("GaussianNB"))
    started = time.process_time()
    trainer.run(config)
    assert time.process_time() - started < 30
    assert len(trainer.file(config, "card.html")) < 300_000
