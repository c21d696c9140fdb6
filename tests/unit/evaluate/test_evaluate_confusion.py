"""The confusion matrix and each class's scores equal scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from modelkit.evaluate.answers import Answers
from modelkit.evaluate.confusion import MOST_CLASSES, describe_classes


def _answers(classes: int, rows: int = 120) -> Answers:
    rng = np.random.default_rng(0)
    truth = np.array([f"c{number:03}" for number in rng.integers(0, classes, rows)], object)
    said = np.where(rng.random(rows) < 0.7, truth, "c000")
    return Answers("Classification", truth, said, None, tuple(f"c{number:03}" for number in range(classes)))


@pytest.mark.parametrize("classes", [2, 4])
def test_matrix_and_scores_are_those_of_scikit_learn(classes: int) -> None:
    answers = _answers(classes)
    found = describe_classes(answers, 0.95, seed=1)
    assert found is not None
    assert found["classes"] == list(answers.classes or ())
    assert found["matrix"] == confusion_matrix(answers.truth, answers.predictions).tolist()
    oracle = precision_recall_fscore_support(answers.truth, answers.predictions, zero_division=0)
    for index, entry in enumerate(found["scores"]):
        expected = [values[index] for values in oracle]
        assert [entry[name] for name in ("precision", "recall", "f1", "rows")] == pytest.approx(expected)
        for name, (low, high) in entry["intervals"].items():
            assert 0 <= low <= entry[name] <= high <= 1


def test_a_class_that_only_the_truth_has_comes_last() -> None:
    answers = Answers(
        "Classification", np.array(["a", "b", "B"], object), np.array(["a", "b", "a"], object), None, ("a", "b")
    )
    found = describe_classes(answers, 0.9, seed=0)
    assert found is not None
    assert (found["classes"], found["matrix"]) == (["a", "b", "B"], [[1, 0, 0], [0, 1, 0], [1, 0, 0]])


def test_numbers_and_a_crowd_of_classes_have_no_matrix() -> None:
    assert describe_classes(Answers("Regression", np.ones(3), np.ones(3)), 0.95, 0) is None
    assert describe_classes(_answers(MOST_CLASSES + 1), 0.95, 0) is None
