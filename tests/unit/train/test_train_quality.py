"""What metrics.json and the card say of quality; earlier numbers stay what they were."""

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from modelkit.contract.config import CandidateConfig
from modelkit.contract.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS

if TYPE_CHECKING:
    from .conftest import Trainer

BOUNDS_OF_THE_FIRST_RELEASE = {
    "accuracy": (0.9649122807, 0.9298245614, 0.9912280702),
    "balanced_accuracy": (0.9672619048, 0.9334265810, 0.99375),
    "precision": (0.9857142857, 0.9538461538, 1.0),
    "recall": (0.9583333333, 0.9102564103, 1.0),
    "f1": (0.9718309859, 0.9420289855, 0.9937145503),
    "roc_auc": (0.9973544974, 0.9913038742, 1.0),
    "log_loss": (0.0746439500, 0.0276683863, 0.1386765792),
}


def test_the_default_run_gives_the_numbers_of_the_first_release(trainer: "Trainer") -> None:
    config = trainer.config()
    result = trainer.run(config)
    assert result.data_digest == "sha256:8fb16aab34bec511c18f187674b9b7caae078f9f7161afb2afbb55273b7432f4"
    metrics = json.loads(trainer.file(config, "metrics.json"))
    for name, expected in BOUNDS_OF_THE_FIRST_RELEASE.items():
        assert metrics["metrics"][name] == pytest.approx(expected[0], abs=1e-6), name
        # Another way of drawing than the first release's: the bounds agree as two bootstraps of 1,000 draws do.
        assert metrics["intervals"]["bounds"][name] == pytest.approx(expected[1:], abs=0.01), name
    assert metrics["candidates"][0]["folds"] == pytest.approx([0.9844559585, 0.9844559585, 0.9894736842])


def test_every_metric_has_an_interval(trainer: "Trainer") -> None:
    config = trainer.config("builtin://wine")
    trainer.run(config)
    metrics = json.loads(trainer.file(config, "metrics.json"))
    assert set(metrics["metrics"]) == set(metrics["intervals"]["bounds"]) == set(CLASSIFICATION_METRICS)


def test_a_regression_has_no_classes(trainer: "Trainer") -> None:
    config = trainer.config("builtin://diabetes", candidates=(CandidateConfig(estimator="Ridge"),))
    trainer.run(config)
    metrics = json.loads(trainer.file(config, "metrics.json"))
    assert set(metrics["metrics"]) == set(metrics["intervals"]["bounds"]) == set(REGRESSION_METRICS)
    assert metrics["confusion"] is None
    assert "## Classes" not in trainer.file(config, "card.md").decode()


def test_metrics_and_card_show_each_class(trainer: "Trainer") -> None:
    config = trainer.config("builtin://wine")
    trainer.run(config)
    confusion = json.loads(trainer.file(config, "metrics.json"))["confusion"]
    assert confusion["classes"] == [0, 1, 2]
    assert np.sum(confusion["matrix"]) == 36
    card = trainer.file(config, "card.md").decode()
    assert "| class | rows | precision | recall | f1 |" in card
    assert f"| **1** | {' | '.join(map(str, confusion['matrix'][1]))} |" in card


@pytest.mark.parametrize("metric", ["average_precision", "brier", "calibration_error", "f1_weighted"])
def test_a_run_may_be_ranked_by_any_metric(trainer: "Trainer", metric: str) -> None:
    names = ("LogisticRegression", "GaussianNB")
    config = trainer.config(
        features=("mean radius", "worst area", "mean texture"),
        metric=metric,
        candidates=tuple(CandidateConfig(estimator=name) for name in names),
    )
    result = trainer.run(config)
    assert (result.metric, result.estimator) == (metric, "LogisticRegression")
