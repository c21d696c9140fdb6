"""/evaluate: scikit-learn's own metrics of the served answers, null where the rows can't tell."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as oracle

from modelkit.artifact.signature import OutputColumn, Signature
from modelkit.contract.config import LimitsConfig
from modelkit.contract.metrics import CLASSIFICATION_METRICS, NEEDS_PROBABILITIES, REGRESSION_METRICS
from modelkit.serve.evaluate import measure
from modelkit.serve.model import Answer
from modelkit.store.captures import read_captured
from tests.unit.serve.conftest import Serve
from tests.unit.serve.serve_models import Example, cancer, diabetes, iris, native

EXACTLY = 1e-12


def signature(classes: tuple[Any, ...] | None) -> Signature:
    """As much of one as a measurement looks at."""
    return Signature(
        model="m",
        number=1,
        task="Regression" if classes is None else "Classification",
        target="y",
        metric="f1",
        classes=classes,
        inputs=(),
        outputs=(OutputColumn(name="prediction", dtype="float64"),),
    )


def expected_labels(truth: list[Any], said: list[Any], classes: tuple[Any, ...]) -> dict[str, float]:
    """Scikit-learn's metrics of labels."""
    usual: dict[str, Any] = {"average": "macro", "zero_division": 0}
    if len(classes) == 2:
        usual = {"pos_label": classes[1], "zero_division": 0}
    scores: dict[str, Callable[..., float]] = {
        "precision": oracle.precision_score,
        "recall": oracle.recall_score,
        "f1": oracle.f1_score,
    }
    found = {name: score(truth, said, **usual) for name, score in scores.items()}
    for average in ("macro", "weighted"):
        for name, score in scores.items():
            found[f"{name}_{average}"] = score(truth, said, average=average, zero_division=0)
    return found | {
        "accuracy": oracle.accuracy_score(truth, said),
        "balanced_accuracy": oracle.balanced_accuracy_score(truth, said),
    }


def expected_probabilities(truth: list[Any], probabilities: Any, classes: tuple[Any, ...]) -> dict[str, float]:
    """Scikit-learn's metrics of probabilities."""
    is_class = np.array(truth, object)[:, None] == np.array(classes, object)[None]
    if len(classes) == 2:
        scores = probabilities[:, 1]
        return {
            "roc_auc": oracle.roc_auc_score(is_class[:, 1], scores),
            "average_precision": oracle.average_precision_score(is_class[:, 1], scores),
            "log_loss": oracle.log_loss(truth, probabilities, labels=list(classes)),
            "brier": oracle.brier_score_loss(is_class[:, 1], scores),
        }
    return {
        "roc_auc": oracle.roc_auc_score(is_class, probabilities, average="macro"),
        "average_precision": oracle.average_precision_score(is_class, probabilities, average="macro"),
        "log_loss": oracle.log_loss(truth, probabilities, labels=list(classes)),
        "brier": float(((probabilities - is_class) ** 2).sum(axis=1).mean()),
    }


def answers(classes: tuple[Any, ...], rows: int, seed: int) -> tuple[tuple[Any, ...], Answer]:
    """Truth, and an answer in float64 with many equal probabilities."""
    generator = np.random.default_rng(seed)
    raw = generator.integers(1, 5, size=(rows, len(classes))).astype(np.float64)
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    predictions = [classes[index] for index in probabilities.argmax(axis=1)]
    truth = tuple(classes[index % len(classes)] for index in generator.permutation(rows))
    return truth, Answer(predictions, probabilities)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "classes", [(0, 1), ("no", "yes"), (False, True), ("a", "b", "c"), (1, 2, 5, 9)], ids=lambda found: str(found)
)
def test_classification_metrics_are_scikit_learns_also_with_ties(classes: tuple[Any, ...], seed: int) -> None:
    truth, answer = answers(classes, 60, seed)
    found = measure(signature(classes), truth, answer)
    expected = expected_labels(list(truth), answer.predictions, classes)
    expected |= expected_probabilities(list(truth), answer.probabilities, classes)
    assert set(found) == set(CLASSIFICATION_METRICS)
    calibration = found.pop("calibration_error")
    assert calibration is not None
    assert 0 <= calibration <= 1
    assert found == pytest.approx(expected, abs=EXACTLY)


def test_regression_metrics_are_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    truth, said = generator.normal(size=50), generator.normal(size=50)
    found = measure(signature(None), tuple(truth.tolist()), Answer(said.tolist(), None))
    assert set(found) == set(REGRESSION_METRICS)
    assert found == pytest.approx(
        {
            "mse": oracle.mean_squared_error(truth, said),
            "rmse": oracle.root_mean_squared_error(truth, said),
            "mae": oracle.mean_absolute_error(truth, said),
            "mape": oracle.mean_absolute_percentage_error(truth, said),
            "r2": oracle.r2_score(truth, said),
        },
        abs=EXACTLY,
    )


def test_what_one_class_alone_can_not_tell_is_null() -> None:
    _, answer = answers(("no", "yes"), 20, 0)
    found = measure(signature(("no", "yes")), ("no",) * 20, answer)
    assert {name for name, value in found.items() if value is None} == {"roc_auc", "average_precision"}
    assert found["accuracy"] == pytest.approx(answer.predictions.count("no") / 20)


def test_a_class_that_the_model_does_not_know_counts_as_wrong_and_leaves_probabilities_unmeasured() -> None:
    truth, answer = answers(("a", "b", "c"), 30, 1)
    truth = ("new", *truth[1:])
    found = measure(signature(("a", "b", "c")), truth, answer)
    assert {name for name, value in found.items() if value is None} == NEEDS_PROBABILITIES
    right = np.array(truth, object) == np.array(answer.predictions, object)
    assert found["accuracy"] == pytest.approx(right.mean())
    expected = oracle.f1_score(list(truth), answer.predictions, average="macro", zero_division=0)
    assert found["f1_macro"] == pytest.approx(expected, abs=EXACTLY)


def test_without_probabilities_their_metrics_are_null() -> None:
    truth, answer = answers(("a", "b"), 30, 1)
    found = measure(signature(("a", "b")), truth, Answer(answer.predictions, None))
    assert {name for name, value in found.items() if value is None} == NEEDS_PROBABILITIES


def test_a_constant_truth_has_no_r2_and_a_true_zero_no_relative_error() -> None:
    found = measure(signature(None), (0.0, 0.0), Answer([1.0, 2.0], None))
    assert found == {"mse": 2.5, "rmse": pytest.approx(2.5**0.5), "mae": 1.5, "mape": None, "r2": None}


EXAMPLES: dict[str, Callable[[], Example]] = {
    "binary": cancer,
    "text labels": iris,
    "regression": diabetes,
    "native text columns": lambda: native("people"),
}


def truth_of(example: Example, rows: int) -> list[Any]:
    """Labels that the model often, but not always, gets right."""
    said = example.predictions(rows)
    return [said[(row + 1) % rows] if row % 4 == 0 else said[row] for row in range(rows)]


@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_served_answers_are_measured(shared: Serve, name: str) -> None:
    example = EXAMPLES[name]()
    served, count = shared(example), min(150, len(example.rows))
    truth, said = truth_of(example, count), (await served.predict(example.values(count))).json()
    for features in (example.values(count), example.records(count)):
        response = await served.client.post("/evaluate", json={"features": features, "labels": truth})
        found = response.raise_for_status().json()
        assert (found["rows"], found["model"], found["version"]) == (count, example.signature.model, "3")
        assert found["id"] == response.headers["x-request-id"]
        metrics = found["metrics"]
        if example.signature.classes is None:
            assert metrics["mae"] == pytest.approx(oracle.mean_absolute_error(truth, said["predictions"]), abs=1e-9)
        else:
            expected = expected_labels(truth, said["predictions"], example.signature.classes)
            probabilities = np.array(said["probabilities"])
            probabilities /= probabilities.sum(axis=1, keepdims=True)  # or scikit-learn warns of float32's sums
            expected |= expected_probabilities(truth, probabilities, example.signature.classes)
            metrics.pop("calibration_error")
            assert metrics == pytest.approx(expected, abs=1e-6)


async def test_evaluated_rows_are_no_traffic(serve: Serve) -> None:
    served, example = serve(cancer()), cancer()
    truth = example.predictions(5)
    (await served.client.post("/evaluate", json={"features": example.values(5), "labels": truth})).raise_for_status()
    await served.predict(example.values(1), **{"X-Request-Id": "asked"})
    served.version.close()
    now = datetime.now(UTC)
    rows = read_captured(served.store, "team", "cancer", now - timedelta(minutes=5), now + timedelta(minutes=5))
    assert rows.meta["id"].to_pylist() == ["asked"]


BAD = {
    "no labels": ({"features": [[1.0] * 30]}, "the field 'labels' must be a list"),
    "one label for two rows": ({"features": [[1.0] * 30] * 2, "labels": [1]}, "1 labels for 2 rows"),
    "text for whole numbers": ({"features": [[1.0] * 30], "labels": ["1"]}, "labels[0] must be a whole number"),
    "a fraction": ({"features": [[1.0] * 30], "labels": [0.5]}, "labels[0] must be a whole number"),
    "a huge number": ({"features": [[1.0] * 30], "labels": [1e300]}, "labels[0] must be a whole number"),
    "null": ({"features": [[1.0] * 30] * 2, "labels": [1, None]}, "labels[1] must be a whole number"),
    "weights": ({"features": [[1.0] * 30], "labels": [1], "weights": [1]}, "unknown field 'weights'"),
    "no rows": ({"features": [], "labels": []}, "expected at least one row"),
    "no features": ({"labels": []}, "expected {"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_body_is_a_400_that_names_the_field(shared: Serve, name: str) -> None:
    body, message = BAD[name]
    response = await shared(cancer()).client.post("/evaluate", content=json.dumps(body))
    assert response.status_code == 400
    assert message in response.json()["error"]


async def test_more_rows_than_the_limit_are_a_422(serve: Serve) -> None:
    served = serve(cancer(), limits=LimitsConfig(max_rows=3))
    response = await served.client.post("/evaluate", json={"features": cancer().values(4), "labels": [1] * 4})
    assert response.status_code == 422
