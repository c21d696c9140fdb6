"""Feature selection chooses as scikit-learn's selectors do, within each fold, and refuses what it can't do."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_selection import SelectFromModel, SelectKBest, VarianceThreshold, f_classif
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_score

from modelkit.artifact.native import dump_native, loads_native
from modelkit.artifact.selector import FeatureSelector
from modelkit.artifact.signature import InputColumn
from modelkit.contract.config import PreprocessingConfig
from modelkit.contract.recipe import SelectionConfig
from modelkit.errors import RefusedError
from modelkit.train.pipeline import build_pipeline
from modelkit.train.selection import METHODS, SELECTION_STEP, is_searched, searched, selected_features

ROWS, TARGET = load_breast_cancer(return_X_y=True)
PLAIN = PreprocessingConfig()


def _columns(count: int) -> list[InputColumn]:
    return [InputColumn(name=f"f{i}", dtype="float64", kind="numeric", nullable=False) for i in range(count)]


def _pipeline(selection: SelectionConfig, count: int = 30, preprocessing: PreprocessingConfig = PLAIN) -> Any:
    return build_pipeline(
        "LogisticRegression", LogisticRegression(), _columns(count), preprocessing, selection=selection
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_number_of_features_is_that_number(method: str) -> None:
    selector = FeatureSelector(method, features=4).fit(ROWS, TARGET)
    assert selector.transform(ROWS).shape == (len(ROWS), 4)
    assert int(FeatureSelector(method, share=0.2).fit(ROWS, TARGET).support_.sum()) == 6
    fewest = FeatureSelector(method, share=0.001).fit(ROWS, TARGET)
    assert int(fewest.support_.sum()) == 1


@pytest.mark.parametrize("method", ["MutualInformation", "TreeImportance", "L1", "RFE"])
def test_the_same_seed_chooses_the_same(method: str) -> None:
    rows, target = load_diabetes(return_X_y=True)
    one = FeatureSelector(method, features=5, task="Regression", seed=4).fit(rows, target)
    two = clone(one).fit(rows, target)
    np.testing.assert_array_equal(one.support_, two.support_)


def test_thresholds_are_those_of_scikit_learn() -> None:
    np.testing.assert_array_equal(
        FeatureSelector("Variance", threshold=5.0).fit(ROWS, TARGET).support_,
        VarianceThreshold(5.0).fit(ROWS).get_support(),
    )
    for task, forest in (("Classification", RandomForestClassifier), ("Regression", RandomForestRegressor)):
        script = SelectFromModel(forest(random_state=0), threshold=0.05).fit(ROWS, TARGET)
        ours = FeatureSelector("TreeImportance", threshold=0.05, task=task).fit(ROWS, TARGET)
        np.testing.assert_array_equal(ours.support_, script.get_support())


def test_constant_features_are_never_chosen_and_raise_no_warning() -> None:
    rows = ROWS.copy()
    rows[:, :10] = 1.0
    for method in METHODS:
        support = FeatureSelector(method, features=20 if method in {"L1", "RFE"} else 25).fit(rows, TARGET).support_
        assert not support[:10].any()
        assert int(support.sum()) == 20


def test_a_feature_that_is_constant_within_each_class_is_the_best() -> None:
    rows = np.column_stack([ROWS[:, 0], TARGET.astype(float)])
    assert FeatureSelector("AnovaF", features=1).fit(rows, TARGET).support_.tolist() == [False, True]


def test_features_are_chosen_within_each_fold_and_not_before() -> None:
    rng = np.random.default_rng(0)
    noise, coin = rng.normal(size=(60, 2_000)), rng.integers(0, 2, 60)
    inside = _pipeline(SelectionConfig(method="AnovaF", features=10), 2_000)
    assert cross_val_score(inside, noise, coin, cv=5).mean() < 0.65
    leaked = SelectKBest(f_classif, k=10).fit_transform(noise, coin)
    assert cross_val_score(LogisticRegression(), leaked, coin, cv=5).mean() > 0.8


@pytest.mark.parametrize(
    ("name", "value", "kept"), [("featureSelection.features", 7, 7), ("featureSelection.share", 0.1, 3)]
)
def test_how_many_is_searchable(name: str, value: float, kept: int) -> None:
    pipeline = _pipeline(SelectionConfig(method="AnovaF", share=0.9))
    assert is_searched(name)
    pipeline.set_params(**searched(name, value)).fit(ROWS, TARGET)
    assert int(pipeline.named_steps[SELECTION_STEP].get_support().sum()) == kept
    assert pipeline["model"].n_features_in_ == kept
    clone(pipeline).set_params(**searched("featureSelection.features", 2))


def test_only_the_choice_is_stored() -> None:
    pipeline = _pipeline(SelectionConfig(method="TreeImportance", features=5)).fit(ROWS, TARGET)
    data = dump_native(pipeline)
    assert len(data) < 10_000
    np.testing.assert_array_equal(loads_native(data).predict(ROWS), pipeline.predict(ROWS))


def test_the_selected_features_have_the_names_of_their_columns() -> None:
    pipeline = _pipeline(SelectionConfig(method="AnovaF", features=3)).fit(ROWS, TARGET)
    best = np.sort(np.argsort(f_classif(ROWS, TARGET)[0])[-3:])
    assert selected_features(pipeline, _columns(30)) == [f"f{index}" for index in best]
    without = build_pipeline("Ridge", Ridge(), _columns(30), PLAIN).fit(ROWS, TARGET)
    assert selected_features(without, _columns(30)) == [f"f{index}" for index in range(30)]


def _refusal(call: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        call()
    return f"{caught.value.reason}: {caught.value.message}"


@pytest.mark.parametrize(
    ("selection", "task", "message"),
    [
        ({"method": "Magic"}, "Classification", "method must be Variance, .*; found 'Magic'"),
        ({"method": "Chi2"}, "Regression", "Chi2 compares classes; use AnovaF or MutualInformation"),
        ({"method": "RFE", "features": 3, "share": 0.5}, "Classification", "must have one of features and share"),
        ({"method": "RFE", "features": 0}, "Classification", "features must be a whole number from 1; found 0"),
        ({"method": "RFE", "share": 1.5}, "Classification", "share must be above 0 and at most 1; found 1.5"),
        ({"method": "AnovaF", "threshold": 0.1}, "Classification", "threshold is for L1, TreeImportance, Variance"),
        ({"method": "L1", "threshold": -1.0}, "Classification", "threshold must be 0 or more; found -1.0"),
        ({"method": "L1", "threshold": float("nan")}, "Classification", "threshold must be 0 or more; found nan"),
    ],
)
def test_settings_that_do_not_fit_are_refused(selection: dict[str, Any], task: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        build_pipeline(
            "LogisticRegression",
            LogisticRegression(),
            _columns(3),
            PLAIN,
            selection=SelectionConfig(**selection),
            task=task,
        )


@pytest.mark.parametrize(
    ("name", "value"), [("featureSelection.features", 2.5), ("featureSelection.share", 0), ("C", 1)]
)
def test_a_search_over_what_cannot_be_had_is_refused(name: str, value: float) -> None:
    assert _refusal(lambda: searched(name, value)).startswith("BadSelection: ")


def test_what_can_not_be_chosen_is_refused_with_the_numbers() -> None:
    def fit(rows: NDArray[np.float64] = ROWS, preprocessing: PreprocessingConfig = PLAIN, **selection: Any) -> str:
        pipeline = _pipeline(SelectionConfig(**selection), rows.shape[1], preprocessing)
        return _refusal(lambda: pipeline.fit(rows, TARGET))

    assert "asks for 31 features, but preprocessing gives 30; ask for fewer" in fit(method="AnovaF", features=31)
    assert "NoFeatureSelected: no feature reaches featureSelection.threshold 2 of TreeImportance" in fit(
        method="TreeImportance", threshold=2.0
    )
    assert "NoFeatureSelected: every feature is constant" in fit(np.ones((len(TARGET), 2)), method="Variance")
    holes = np.where(np.arange(30) < 2, np.nan, ROWS)
    assert "BadSelection: 2 features still miss values" in fit(
        holes, PreprocessingConfig(imputation="None", scaling="None"), method="AnovaF"
    )
