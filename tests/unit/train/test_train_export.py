"""Exported models answer as scikit-learn does, in ONNX Runtime, for numbers and for texts."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from modelkit.artifact.model import onnx_answers, open_onnx
from modelkit.artifact.version import ArtifactError
from modelkit.contract.config import CandidateConfig, DataConfig, PreprocessingConfig, StoreConfig, TrainerConfig
from modelkit.contract.estimators import CLASSIFIERS
from modelkit.data.columns import as_array, take
from modelkit.data.dataset import Dataset, build_dataset
from modelkit.data.split import split_rows
from modelkit.evaluate.answers import Answers
from modelkit.train.candidates import build_candidates
from modelkit.train.export import Export, export_onnx
from modelkit.train.pipeline import build_pipeline
from modelkit.train.search import Trial, answer, fit

DATA = DataConfig(uri="x", display_uri="x", target="target")
PARAMS = {"n_estimators": 7, "max_iter": 60}


def _mixed(task: str) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = 300
    frame = pd.DataFrame(
        {
            "mean radius": rng.normal(size=rows),
            "9 über/x": rng.integers(0, 5, rows),
            "city name": rng.choice(["a", "b", "münchen", None], rows),
            "flag": rng.random(rows) > 0.5,
        }
    )
    value = frame["9 über/x"] + 2 * frame["flag"] + 1.5 * (frame["city name"] == "a") + rng.normal(size=rows) / 3
    frame.loc[::7, "mean radius"] = np.nan
    frame["target"] = value if task == "Regression" else np.select([value > 3, value > 1.5], ["high", "mid"], "low")
    return frame


def _dataset(task: str, kind: str) -> Dataset:
    if kind == "texts":
        return build_dataset(_mixed(task), DATA, task)
    load = load_breast_cancer if task == "Classification" else load_diabetes
    return build_dataset(load(as_frame=True).frame, DATA, task)


def _export(name: str, kind: str, **preprocessing: str) -> tuple[Dataset, np.ndarray, Answers, Export]:
    task = "Classification" if name in CLASSIFIERS else "Regression"
    config = TrainerConfig(
        namespace="n",
        name="m",
        number=1,
        version="1-a",
        trigger="Created",
        store=StoreConfig(uri="file:///x"),
        data=DATA,
        candidates=(CandidateConfig(estimator=name),),
    )
    candidate = build_candidates(config, "accuracy")[0]
    known = candidate.estimator.get_params(deep=False)
    candidate.estimator.set_params(**{key: value for key, value in PARAMS.items() if key in known})
    dataset = _dataset(task, kind)
    rows, split = dataset.rows(), split_rows(dataset.target, 0.3, 0, stratify=task == "Classification")
    settings = PreprocessingConfig(**preprocessing)
    trial = Trial(candidate, build_pipeline(name, candidate.estimator, dataset.columns, settings))
    fitted = fit(trial, take(rows, split.train), dataset.target[split.train])
    test = take(rows, split.test)
    native = answer(trial, fitted, test, dataset.target[split.test], dataset.classes)
    return dataset, as_array(test), native, export_onnx(name, fitted, dataset.columns, test, native)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:Attribute `prob._` was deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["numbers", "texts"])
@pytest.mark.parametrize(
    "name",
    [
        "ExtraTreesClassifier",
        "GaussianNB",
        "GradientBoostingClassifier",
        "LogisticRegression",
        "MLPClassifier",
        "RandomForestClassifier",
        "RidgeClassifier",
        "SVC",
        "ElasticNet",
        "GradientBoostingRegressor",
        "LinearRegression",
        "RandomForestRegressor",
        "SVR",
    ],
)
def test_the_exported_model_answers_as_the_pipeline_does(name: str, kind: str) -> None:
    dataset, rows, native, export = _export(name, kind)
    assert export.model is not None, export.message
    assert export.layout is not None
    assert export.layout.layout == ("Matrix" if kind == "numbers" else "Columns")
    predictions, probabilities = onnx_answers(open_onnx(export.model), export.layout, dataset.columns, rows)
    if native.classes is None:
        np.testing.assert_allclose(predictions, native.predictions, rtol=1e-4, atol=1e-4)
        return
    if native.probabilities is None:
        assert probabilities is None
        assert predictions.tolist() == native.predictions.tolist()
        return
    assert probabilities is not None
    np.testing.assert_allclose(probabilities, native.probabilities, atol=1e-5)
    best = np.sort(native.probabilities, axis=1)
    clear = best[:, -1] - best[:, -2] > 1e-5
    assert predictions[clear].tolist() == native.predictions[clear].tolist()


@pytest.mark.parametrize("imputation", ["Auto", "Mean", "MostFrequent"])
def test_missing_values_are_filled_as_in_training(imputation: str) -> None:
    dataset, rows, native, export = _export("LogisticRegression", "texts", imputation=imputation)
    assert export.layout is not None, export.message
    assert export.layout.dtype == "float64"
    rows[:, 0], rows[:, 2] = np.nan, ""
    predictions, _ = onnx_answers(export.session, export.layout, dataset.columns, rows)
    assert set(predictions.tolist()) <= set(native.classes or ())


def test_a_category_that_training_did_not_see_is_answered() -> None:
    dataset, rows, _, export = _export("LogisticRegression", "texts")
    rows[:, 2] = "never seen"
    assert export.layout is not None
    assert len(onnx_answers(export.session, export.layout, dataset.columns, rows)[0]) == len(rows)


@pytest.mark.parametrize("scaling", ["None", "Standard", "MinMax", "Robust"])
def test_every_scaling_is_exported(scaling: str) -> None:
    assert _export("LogisticRegression", "texts", scaling=scaling)[3].message is None


def test_an_export_that_disagrees_is_not_kept() -> None:
    export = _export("LinearDiscriminantAnalysis", "numbers")[3]
    assert (export.model, export.layout) == (None, None)
    assert export.message is not None
    assert export.message.startswith("no ONNX for LinearDiscriminantAnalysis: probabilities differ by up to")


@pytest.mark.parametrize("model", [b"", b"not a model"])
def test_what_is_no_model_is_an_error(model: bytes) -> None:
    with pytest.raises(ArtifactError, match="doesn't load"):
        open_onnx(model)


def test_rows_that_the_model_does_not_take_are_an_error() -> None:
    dataset, rows, _, export = _export("GaussianNB", "numbers")
    assert export.layout is not None
    few: Any = rows[:, :2]
    with pytest.raises(ArtifactError, match="doesn't answer"):
        onnx_answers(export.session, export.layout, dataset.columns, few)
