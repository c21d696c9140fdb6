"""A run's numbers are those of the script that a data scientist would write with scikit-learn alone.

Nothing of modelkit is used on the script's side: `train_test_split`, `ColumnTransformer`, `cross_val_score`, `fit`,
`predict`, and scikit-learn's own metric.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets, ensemble, linear_model, naive_bayes, neighbors, neural_network, svm, tree
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, root_mean_squared_error
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from modelkit.artifact.native import loads_native
from modelkit.contract import files
from modelkit.contract.config import CandidateConfig, DataConfig, PreprocessingConfig, StoreConfig, TrainerConfig
from modelkit.contract.files import version_directory
from modelkit.contract.result import TrainingResult
from modelkit.store.store import Store
from modelkit.train.progress import Progress
from modelkit.train.run import run_training

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:'n_jobs' has no effect:FutureWarning"),
]

SEED, FOLDS = 7, 3


def train(
    root: Path, uri: str, metric: str, model: Any, params: dict[str, Any], **changes: Any
) -> tuple[TrainingResult, list[float], Any]:
    """Our side: the run's result, the scores of its folds and the model that it stored."""
    config = TrainerConfig(
        namespace="default",
        name="oracle",
        number=1,
        version="1-abc",
        trigger="Created",
        store=StoreConfig(uri=f"file://{root}"),
        data=DataConfig(uri=uri, display_uri=uri, target="target"),
        candidates=(CandidateConfig(estimator=type(model).__name__, params=params),),
        metric=metric,
        folds=FOLDS,
        seed=SEED,
        **changes,
    )
    result = run_training(config, {}, Progress(), 1)
    store, path = Store.open(config.store, {}), version_directory("default", "oracle", "1-abc")
    scores = json.loads(store.read(f"{path}/{files.METRICS}"))["candidates"][0]["folds"]
    return result, scores, loads_native(store.read(f"{path}/{files.MODEL_SKOPS}"))


@pytest.mark.parametrize(
    ("load", "model", "scaler"),
    [
        (datasets.load_iris, linear_model.LogisticRegression(C=0.5), StandardScaler()),
        (datasets.load_breast_cancer, linear_model.LogisticRegression(), StandardScaler()),
        (datasets.load_breast_cancer, linear_model.SGDClassifier(loss="log_loss", penalty="l1"), StandardScaler()),
        (
            datasets.load_wine,
            linear_model.SGDClassifier(loss="hinge", learning_rate="adaptive", eta0=0.1),
            StandardScaler(),
        ),
        (datasets.load_wine, linear_model.RidgeClassifier(alpha=2.0), StandardScaler()),
        (datasets.load_wine, tree.DecisionTreeClassifier(max_depth=4), None),
        (datasets.load_iris, ensemble.RandomForestClassifier(n_estimators=8), None),
        (datasets.load_breast_cancer, ensemble.ExtraTreesClassifier(n_estimators=8), None),
        (datasets.load_wine, ensemble.GradientBoostingClassifier(n_estimators=8), None),
        (datasets.load_breast_cancer, ensemble.HistGradientBoostingClassifier(max_iter=8), None),
        (datasets.load_iris, ensemble.AdaBoostClassifier(n_estimators=8), None),
        (datasets.load_wine, svm.SVC(C=2.0), StandardScaler()),
        (datasets.load_breast_cancer, svm.LinearSVC(), StandardScaler()),
        (datasets.load_wine, neighbors.KNeighborsClassifier(n_neighbors=3), StandardScaler()),
        (datasets.load_iris, naive_bayes.GaussianNB(), None),
        (datasets.load_digits, naive_bayes.MultinomialNB(), MinMaxScaler()),
        (datasets.load_digits, ensemble.RandomForestClassifier(n_estimators=8), None),
        (
            datasets.load_digits,
            neural_network.MLPClassifier(hidden_layer_sizes=(16,), solver="adam", max_iter=20),
            StandardScaler(),
        ),
        (
            datasets.load_wine,
            neural_network.MLPClassifier(hidden_layer_sizes=(8,), solver="sgd", max_iter=50),
            StandardScaler(),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_a_classification_is_what_the_script_says(
    tmp_path: Path, load: Callable[..., Any], model: Any, scaler: Any
) -> None:
    # The script.
    if "random_state" in model.get_params():
        model.set_params(random_state=SEED)
    rows, target = load(return_X_y=True)
    rows = rows[:, np.ptp(rows, axis=0) > 0]  # digits has pixels that are never black
    learn, test, learn_target, test_target = train_test_split(
        rows, target, test_size=0.2, random_state=SEED, stratify=target
    )
    pipeline = make_pipeline(model) if scaler is None else make_pipeline(scaler, model)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    scores = cross_val_score(pipeline, learn, learn_target, cv=folds, scoring="accuracy")
    predictions = pipeline.fit(learn, learn_target).predict(test)

    # The run.
    uri = f"builtin://{load.__name__.removeprefix('load_')}"
    scaling = {type(None): "Auto", StandardScaler: "Standard", MinMaxScaler: "Auto"}[type(scaler)]
    result, found, native = train(
        tmp_path, uri, "accuracy", model, _changed(model), preprocessing=PreprocessingConfig(scaling=scaling)
    )
    np.testing.assert_allclose(found, scores, atol=1e-12)
    np.testing.assert_array_equal(native.predict(test), predictions)
    assert result.metrics["accuracy"] == pytest.approx(accuracy_score(test_target, predictions), abs=1e-12)


@pytest.mark.parametrize(
    ("model", "scaler"),
    [
        (linear_model.LinearRegression(), None),
        (linear_model.Ridge(alpha=0.5), StandardScaler()),
        (linear_model.Lasso(alpha=0.5), StandardScaler()),
        (linear_model.ElasticNetCV(), StandardScaler()),
        (linear_model.BayesianRidge(), StandardScaler()),
        (linear_model.HuberRegressor(), StandardScaler()),
        (linear_model.PoissonRegressor(), StandardScaler()),
        (linear_model.SGDRegressor(loss="huber", learning_rate="optimal", penalty="elasticnet"), StandardScaler()),
        (tree.DecisionTreeRegressor(max_depth=4), None),
        (ensemble.RandomForestRegressor(n_estimators=8), None),
        (ensemble.GradientBoostingRegressor(n_estimators=8), None),
        (ensemble.HistGradientBoostingRegressor(max_iter=8), None),
        (svm.SVR(C=10.0), StandardScaler()),
        (svm.NuSVR(C=10.0), StandardScaler()),
        (neighbors.KNeighborsRegressor(weights="distance"), StandardScaler()),
        (neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=50), StandardScaler()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_regression_is_what_the_script_says(tmp_path: Path, model: Any, scaler: Any) -> None:
    # The script.
    if "random_state" in model.get_params():
        model.set_params(random_state=SEED)
    rows, target = datasets.load_diabetes(return_X_y=True)
    learn, test, learn_target, test_target = train_test_split(rows, target, test_size=0.2, random_state=SEED)
    pipeline = make_pipeline(model) if scaler is None else make_pipeline(scaler, model)
    folds = KFold(FOLDS, shuffle=True, random_state=SEED)
    scores = -cross_val_score(pipeline, learn, learn_target, cv=folds, scoring="neg_root_mean_squared_error")
    predictions = pipeline.fit(learn, learn_target).predict(test)

    # The run: nothing is said about preprocessing.
    result, found, native = train(tmp_path, "builtin://diabetes", "rmse", model, _changed(model))
    np.testing.assert_allclose(found, scores, rtol=1e-9)
    np.testing.assert_allclose(native.predict(test), predictions, rtol=1e-9)
    assert result.metrics["rmse"] == pytest.approx(root_mean_squared_error(test_target, predictions), rel=1e-6)


@pytest.mark.parametrize(
    "model",
    [linear_model.LogisticRegression(), ensemble.RandomForestClassifier(n_estimators=8), svm.SVC()],
    ids=lambda value: type(value).__name__,
)
def test_categories_and_missing_values_are_what_the_script_says(tmp_path: Path, model: Any) -> None:
    # The script.
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": generator.normal(40, 12, 400),
            "city": generator.choice(["Bonn", "Köln", "Ulm"], 400),
            "income": generator.lognormal(3, 0.3, 400),
            "plan": generator.choice(["basic", "gold"], 400),
        }
    )
    score = frame["age"] / 12 + (frame["city"] == "Ulm") * 2 + (frame["plan"] == "gold") + generator.normal(size=400)
    frame.loc[::9, "age"] = np.nan
    frame.loc[::11, "city"] = None
    frame["target"] = np.where(score > score.median(), "stays", "leaves")
    frame.to_csv(tmp_path / "rows.csv", index=False)

    if "random_state" in model.get_params():
        model.set_params(random_state=SEED)
    learn, test = train_test_split(frame, test_size=0.2, random_state=SEED, stratify=frame["target"])
    number_steps = [SimpleImputer(strategy="median")]
    if not isinstance(model, ensemble.RandomForestClassifier):
        number_steps.append(StandardScaler())
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(*number_steps), ["age", "income"]),
            (
                "texts",
                make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")),
                ["city", "plan"],
            ),
        ],
        sparse_threshold=0,
    )
    pipeline = make_pipeline(columns, model)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    features = ["age", "city", "income", "plan"]
    scores = cross_val_score(pipeline, learn[features], learn["target"], cv=folds, scoring="accuracy")
    predictions = pipeline.fit(learn[features], learn["target"]).predict(test[features])

    # The run.
    result, found, native = train(tmp_path / "store", f"file://{tmp_path}/rows.csv", "accuracy", model, _changed(model))
    np.testing.assert_allclose(found, scores, atol=1e-12)
    matrix = test[features].astype(object)
    matrix["city"] = matrix["city"].fillna("")  # a missing text is empty in a stored model
    assert native.predict(matrix.to_numpy()).tolist() == predictions.tolist()
    assert result.metrics["accuracy"] == pytest.approx(accuracy_score(test["target"], predictions), abs=1e-12)


def _changed(model: Any) -> dict[str, Any]:
    """The parameters that aren't the default, as a manifest would have them."""
    defaults = type(model)().get_params(deep=False)
    found = {name: value for name, value in model.get_params(deep=False).items() if value != defaults[name]}
    found.pop("random_state", None)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
