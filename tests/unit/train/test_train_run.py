"""A whole run: equal to a hand-written scikit-learn script, deterministic, and repeatable after a crash."""

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelkit.artifact.model import StoredModel
from modelkit.artifact.version import fetch_version
from modelkit.contract.config import CandidateConfig, ComparisonConfig, DataConfig, PreprocessingConfig
from modelkit.errors import RefusedError

if TYPE_CHECKING:
    from .conftest import Trainer

FEW = ("mean radius", "mean texture", "worst area")
FILES = {
    "card.html",
    "card.md",
    "explanation.json",
    "importance.json",
    "manifest.json",
    "metrics.json",
    "model.onnx",
    "model.skops",
    "profile.json",
    "reference.arrow",
    "samples.json",
    "signature.json",
    "source.json",
}


def test_the_numbers_are_those_of_a_hand_written_script(trainer: "Trainer") -> None:
    config = trainer.config(
        candidates=(
            CandidateConfig(estimator="GaussianNB"),
            CandidateConfig(estimator="LogisticRegression", params={"C": 0.1}),
        )
    )
    result = trainer.run(config)

    rows, target = load_breast_cancer(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(rows, target, test_size=0.2, random_state=7, stratify=target)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, random_state=7))
    folds = StratifiedKFold(3, shuffle=True, random_state=7)
    scores = cross_val_score(model, train_x, train_y, cv=folds, scoring="f1")
    model.fit(train_x, train_y)
    trivial = DummyClassifier().fit(train_x, train_y)

    assert result.outcome == "Succeeded"
    assert (result.task, result.metric, result.estimator) == ("Classification", "f1", "LogisticRegression")
    assert (result.train_rows, result.test_rows, result.evaluated_on) == (455, 114, "Test")
    assert result.metrics["f1"] == pytest.approx(f1_score(test_y, model.predict(test_x)))
    assert result.metrics["roc_auc"] == pytest.approx(roc_auc_score(test_y, model.predict_proba(test_x)[:, 1]))
    assert result.trivial["f1"] == pytest.approx(f1_score(test_y, trivial.predict(test_x)))
    best = json.loads(trainer.file(config, "metrics.json"))["candidates"][0]
    assert best["estimator"] == "LogisticRegression"
    assert best["folds"] == pytest.approx(scores.tolist())


def test_a_version_has_its_files_and_answers_its_samples(trainer: "Trainer", tmp_path: Any) -> None:
    config = trainer.config()
    result = trainer.run(config)
    assert {entry.path.rsplit("/", 1)[1] for entry in trainer.store.list(result.path or "")} == FILES
    model = StoredModel.open(fetch_version(trainer.store, trainer.ref(config, result), tmp_path / "v"))
    samples = json.loads(trainer.file(config, "samples.json"))
    rows = np.array([[row[c.name] for c in model.signature.inputs] for row in samples["rows"]])
    predictions, probabilities = model.answer(rows)
    assert len(rows) == 20
    assert predictions.tolist() == samples["predictions"]
    assert probabilities is not None
    np.testing.assert_allclose(probabilities, samples["probabilities"], atol=1e-6)


def test_the_signature_says_what_goes_in_and_out(trainer: "Trainer") -> None:
    config = trainer.config()
    trainer.run(config)
    signature = json.loads(trainer.file(config, "signature.json"))
    assert {key: signature[key] for key in ("model", "number", "task", "target", "metric", "classes")} == {
        "model": "cancer",
        "number": 1,
        "task": "Classification",
        "target": "target",
        "metric": "f1",
        "classes": [0, 1],
    }
    assert signature["inputs"][0] == {"name": "mean radius", "dtype": "float64", "kind": "numeric", "nullable": False}
    assert signature["outputs"] == [
        {"name": "prediction", "dtype": "int64"},
        {"name": "probabilities", "dtype": "float64", "shape": [-1, 2]},
    ]
    assert signature["onnx"] == {
        "layout": "Matrix",
        "dtype": "float64",
        "label_output": "label",
        "probability_output": "probabilities",
    }


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("LogisticRegression", {}),
        ("RandomForestClassifier", {"n_estimators": 5}),
        ("HistGradientBoostingClassifier", {"max_iter": 2}),
        ("SGDClassifier", {"loss": "log_loss"}),
        ("MLPClassifier", {"hidden_layer_sizes": [4], "max_iter": 5}),
    ],
)
def test_the_same_inputs_and_seed_give_the_same_files(trainer: "Trainer", name: str, params: dict[str, Any]) -> None:
    data = DataConfig(uri="builtin://wine", display_uri="builtin://wine", target="target")
    digests = []
    for version, cores in (("1-a", 1), ("1-b", 2)):
        candidate = CandidateConfig(estimator=name, params=params)
        config = trainer.config(version=version, candidates=(candidate,))
        config = dataclasses.replace(config, data=data)
        trainer.run(config, cores)
        digests.append(
            {file: hashlib.sha256(trainer.file(config, file)).hexdigest() for file in FILES - {"manifest.json"}}
        )
    assert digests[0] == digests[1]


def test_another_seed_gives_other_rows(trainer: "Trainer") -> None:
    first = trainer.run(trainer.config(features=FEW))
    second = trainer.run(trainer.config(features=FEW, number=2, seed=8))
    assert first.data_digest != second.data_digest
    assert first.metrics != second.metrics


def test_a_retry_of_a_finished_run_reports_it_again_without_training(trainer: "Trainer") -> None:
    config = trainer.config(features=FEW)
    first = trainer.run(config)
    before = trainer.file(config, "manifest.json")
    assert trainer.run(config) == first
    assert trainer.file(config, "manifest.json") == before


def test_a_retry_after_a_crash_before_the_manifest_finishes_the_version(trainer: "Trainer") -> None:
    config = trainer.config(features=FEW)
    first = trainer.run(config)
    trainer.store.delete(f"{first.path}/manifest.json")
    trainer.store.write(f"{first.path}/model.onnx", b"half")
    second = trainer.run(config)
    assert second.metrics == first.metrics
    assert trainer.file(config, "model.onnx") != b"half"


def test_another_run_does_not_take_a_version_that_exists(trainer: "Trainer") -> None:
    trainer.run(trainer.config(features=FEW))
    with pytest.raises(RefusedError) as caught:
        trainer.run(trainer.config(seed=9))
    assert caught.value.reason == "VersionExists"


def test_a_regression_is_ranked_by_its_error_and_compared_with_the_mean(trainer: "Trainer", candidates: Any) -> None:
    config = trainer.config("builtin://diabetes", candidates=candidates("DecisionTreeRegressor", "Ridge"))
    result = trainer.run(config)
    assert (result.task, result.metric, result.estimator) == ("Regression", "rmse", "Ridge")
    assert result.metrics["rmse"] < result.trivial["rmse"]
    signature = json.loads(trainer.file(config, "signature.json"))
    assert signature["classes"] is None
    assert signature["outputs"] == [{"name": "prediction", "dtype": "float64"}]
    assert json.loads(trainer.file(config, "samples.json"))["probabilities"] is None


def test_several_classes_are_learnt(trainer: "Trainer") -> None:
    config = trainer.config("builtin://iris")
    result = trainer.run(config)
    assert result.metrics["f1"] > 0.9
    assert json.loads(trainer.file(config, "signature.json"))["outputs"][1]["shape"] == [-1, 3]


def test_an_estimator_without_onnx_is_stored_natively_and_says_so(trainer: "Trainer") -> None:
    config = trainer.config(features=FEW, candidates=(CandidateConfig(estimator="LinearDiscriminantAnalysis"),))
    result = trainer.run(config)
    assert result.format == "Skops"
    assert "LinearDiscriminantAnalysis" in (result.format_message or "")
    assert json.loads(trainer.file(config, "signature.json"))["onnx"] is None
    assert not trainer.store.exists(f"{result.path}/model.onnx")
    assert "model.skops" in trainer.file(config, "card.md").decode()


def test_a_classifier_without_probabilities_has_none_in_its_version(trainer: "Trainer", candidates: Any) -> None:
    config = trainer.config(features=FEW, candidates=candidates("RidgeClassifier"))
    result = trainer.run(config)
    assert "roc_auc" not in result.metrics
    assert len(json.loads(trainer.file(config, "signature.json"))["outputs"]) == 1
    assert json.loads(trainer.file(config, "samples.json"))["probabilities"] is None


def test_warnings_of_scikit_learn_end_in_the_notes(trainer: "Trainer") -> None:
    candidate = CandidateConfig(estimator="LogisticRegression", params={"max_iter": 2})
    config = trainer.config(features=FEW, candidates=(candidate,))
    trainer.run(config)
    assert any("converge" in note for note in json.loads(trainer.file(config, "metrics.json"))["notes"])


def test_the_stated_preprocessing_is_used(trainer: "Trainer") -> None:
    config = trainer.config(features=FEW, preprocessing=PreprocessingConfig(scaling="MinMax", imputation="Mean"))
    trainer.run(config)
    with pytest.raises(RefusedError, match="scaling must be Auto, None, Standard, MinMax, Robust; found 'Log'"):
        trainer.run(trainer.config(features=FEW, number=2, preprocessing=PreprocessingConfig(scaling="Log")))


def test_the_card_tells_of_data_quality_inputs_and_seed(trainer: "Trainer") -> None:
    config = trainer.config(comparisons=(ComparisonConfig(metric="f1"),))
    trainer.run(config)
    card = trainer.file(config, "card.md").decode()
    for text in ("builtin://breast_cancer", "455 rows", "| **f1** |", "worst area", "Seed 7", "scikit-learn"):
        assert text in card
