"""What a version keeps of its own test rows, so that a monitor can tell quality without labels, and calibration."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from modelkit.contract.config import CandidateConfig
from modelkit.contract.files import METRICS, PROFILE
from modelkit.contract.result import TrainingResult

if TYPE_CHECKING:
    from tests.unit.train.conftest import Trainer


def read(trainer: "Trainer", **changes: Any) -> tuple[dict[str, Any], dict[str, Any], TrainingResult]:
    config = trainer.config(**changes)
    result = trainer.run(config)
    profile, metrics = (json.loads(trainer.file(config, name)) for name in (PROFILE, METRICS))
    return profile, metrics["metrics"], result


def test_a_classification_keeps_how_often_its_probabilities_came_true(trainer: "Trainer") -> None:
    profile, metrics, result = read(trainer)
    (track,) = profile["calibration"]["classes"]
    assert profile["losses"] is None
    rows, members = np.array(track["rows"]), np.array(track["members"])
    assert rows.sum() == result.test_rows
    hits = members[1].sum() + rows[0].sum() - members[0].sum()
    assert hits / result.test_rows == pytest.approx(metrics["accuracy"])
    confidence = profile["calibration"]["confidence"]
    assert sum(confidence["right"]) == hits


def test_a_regression_keeps_what_its_errors_depend_on(trainer: "Trainer") -> None:
    config = {"data": "builtin://diabetes", "candidates": (CandidateConfig(estimator="Ridge"),)}
    profile, metrics, result = read(trainer, **config)
    assert profile["calibration"] is None
    assert set(profile["losses"]) == {"mae", "mse"}
    for name, model in profile["losses"].items():
        if model is not None:
            assert model["rows"] == result.test_rows
            assert model["base"] == pytest.approx(metrics[name])


def test_a_classifier_without_probabilities_keeps_neither(trainer: "Trainer") -> None:
    profile, _, _ = read(trainer, candidates=(CandidateConfig(estimator="LinearSVC"),))
    assert (profile["scores"], profile["calibration"], profile["losses"]) == (None, None, None)
