"""The order in which features matter: compared as stated, explained as `/explain` does, and never alarmed by chance."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from modelkit.artifact.version import ArtifactError
from modelkit.contract.files import MODEL_ONNX, SAMPLES, SIGNATURE
from modelkit.contract.monitoring import AttributionConfig
from modelkit.data.profile import build_profile
from modelkit.monitor.attribution import SIGNIFICANCE, check_attribution, compare_attributions, gains_of_orders
from modelkit.monitor.explaining import RowExplainer, open_explainer
from modelkit.monitor.wording import BREACHED, OK, UNKNOWN
from modelkit.serve.batch import Features
from modelkit.serve.explainer import open_explainer as open_served
from modelkit.serve.model import load_model
from modelkit.serve.plain import parse_rows
from tests.unit.serve.serve_models import Example, cancer, diabetes, iris, native, people

CONFIG = AttributionConfig()
NAMES = ("a", "b", "c", "d", "e")
SCALES = np.array([8.0, 4.0, 2.0, 1.0, 0.5])


def draw(generator: np.random.Generator, rows: int, scales: np.ndarray = SCALES) -> np.ndarray:
    """Shapley values of a linear model whose columns vary by `scales`."""
    return generator.normal(size=(rows, len(scales))) * scales


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_the_gain_equals_scikit_learns_with_equal_scores_too(levels: int) -> None:
    generator = np.random.default_rng(levels)
    for columns in (2, 3, 12, 40):
        relevance = generator.random((6, columns))
        scores = generator.integers(0, levels, (6, columns)).astype(float)
        expected = [ndcg_score([row], [score]) for row, score in zip(relevance, scores, strict=True)]
        np.testing.assert_allclose(gains_of_orders(relevance, scores), expected)


def test_the_same_order_has_a_gain_of_1_and_no_relevance_says_nothing() -> None:
    relevance = np.array([SCALES, SCALES, np.zeros(5)])
    same, turned, nothing = gains_of_orders(relevance, np.array([SCALES**2, -SCALES, SCALES]))
    assert (same, nothing) == (pytest.approx(1), 1)
    assert turned < 0.8


def test_a_window_in_which_another_feature_decides_is_breached_and_named() -> None:
    generator = np.random.default_rng(1)
    found = compare_attributions(NAMES, draw(generator, 200), draw(generator, 200, SCALES[::-1]))
    check = check_attribution(found, CONFIG, rows=500)
    assert (check.state, check.limit, check.rows) == (BREACHED, 0.9, 200)
    assert check.value is not None
    assert check.value < 0.8
    assert {finding.name for finding in check.worst[:2]} == {"a", "e"}
    assert found is not None
    assert [feature.feature for feature in found.features] == list(NAMES)


def test_unchanged_rows_are_rarely_significant_and_never_breached() -> None:
    """At a level of 1 %: with a true rate of 1 %, more than 6 in 200 windows come once in 200 tests (binomial)."""
    generator, significant = np.random.default_rng(2), 0
    alike = np.array([1.0, 1.0, 1.0, 0.9, 0.9])
    for _ in range(200):
        found = compare_attributions(NAMES, draw(generator, 60, alike), draw(generator, 60, alike))
        assert found is not None
        significant += found.p_value < SIGNIFICANCE
        assert check_attribution(found, CONFIG, rows=60).state == OK
    assert significant <= 6


def test_a_low_similarity_that_chance_explains_is_no_breach() -> None:
    generator = np.random.default_rng(3)
    rare = np.zeros((30, 5))
    rare[0] = [100, 0, 0, 0, 0]
    known, seen = draw(generator, 30, np.full(5, 0.1)) + rare, draw(generator, 30, np.full(5, 0.1))
    found = compare_attributions(NAMES, known, seen)
    assert found is not None
    assert found.similarity < 0.9
    check = check_attribution(found, CONFIG, rows=30)
    assert check.state == OK
    assert "which chance explains" in check.message


def test_a_model_that_nothing_moves_is_unknown() -> None:
    assert compare_attributions(NAMES, np.zeros((40, 5)), np.ones((40, 5))) is None
    assert compare_attributions(NAMES, np.ones((40, 5)), np.zeros((0, 5))) is None
    check = check_attribution(None, CONFIG, rows=3, missing="because")
    assert (check.state, check.message, check.rows) == (UNKNOWN, "because", 3)


EXAMPLES: dict[str, Callable[[], Example]] = {
    "sampled": cancer,
    "exact, classes": iris,
    "regression": diabetes,
    "text columns": people,
}


def build_entries(example: Example) -> dict[str, Any]:
    columns = {column.name: example.rows[:, index] for index, column in enumerate(example.signature.inputs)}
    kinds = {column.name: column.kind for column in example.signature.inputs}
    plain = {
        name: values.astype(np.float64) if kinds[name] == "numeric" else values for name, values in columns.items()
    }
    found: dict[str, Any] = build_profile(plain, kinds, np.arange(3.0), None, "Regression", None)["features"]
    return found


def open_example(example: Example) -> RowExplainer:
    files = example.files
    return open_explainer(files[SIGNATURE], files.get(SAMPLES), files.get(MODEL_ONNX), build_entries(example))


@pytest.mark.parametrize("name", EXAMPLES)
def test_rows_are_explained_as_the_server_does(tmp_path: Path, name: str) -> None:
    example = EXAMPLES[name]()
    for file, data in example.files.items():
        (tmp_path / file).write_bytes(data)
    model = load_model(tmp_path, example.signature, 1)
    served = open_served(tmp_path, example.signature, model)
    batch = parse_rows(Features.of(example.signature), example.records(3))
    expected = [found.contributions for found in served.explain(batch, model.predict(batch))]
    rows = example.rows[:3]
    for side in open_example(example).explain_pairs(rows, rows):
        np.testing.assert_allclose(side, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({MODEL_ONNX: None}, "it has no model.onnx"),
        ({SAMPLES: None}, "samples.json can't be read"),
        ({SAMPLES: b'{"rows": []}'}, "samples.json can't be read"),
        ({SAMPLES: b'{"rows": [{"other": 1}]}'}, "samples.json can't be read"),
        ({MODEL_ONNX: b"damaged"}, "model.onnx doesn't load"),
    ],
)
def test_a_version_that_can_not_be_explained_says_why(files: dict[str, bytes | None], message: str) -> None:
    found = {**iris().files, **files}
    with pytest.raises(ArtifactError, match=message):
        open_explainer(iris().files[SIGNATURE], found[SAMPLES], found[MODEL_ONNX], build_entries(iris()))


def test_a_version_without_onnx_says_so() -> None:
    with pytest.raises(ArtifactError, match=r"it has no model.onnx, and a monitor asks no other model"):
        open_example(native("cancer"))


def test_a_slow_model_has_fewer_rows_explained() -> None:
    opened = open_example(iris())
    ticks = count()
    slow = RowExplainer(opened.answer, opened.background, opened.classes, clock=lambda: float(next(ticks)))
    first, second = slow.explain_pairs(iris().rows, iris().rows[::-1], seconds=7)
    assert first.shape == second.shape == (7, 4)


def test_a_row_without_a_finite_answer_is_left_out_with_its_partner() -> None:
    opened = open_example(diabetes())

    def answer(rows: np.ndarray) -> tuple[np.ndarray, None]:
        return np.where(rows[:, 0] > 99, np.nan, rows[:, 0]), None

    rows = diabetes().rows[:5].copy()
    rows[2, 0] = 100
    sides = RowExplainer(answer, opened.background, None).explain_pairs(diabetes().rows[:5], rows)
    assert [len(side) for side in sides] == [4, 4]
