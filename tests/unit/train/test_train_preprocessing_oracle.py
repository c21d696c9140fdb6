"""Presets answer as a script does that is written by hand with scikit-learn, fitted, stored and exported.

The presets of the mixed table are a covering array: each pair of settings is in at least one of them, but for pairs
of a selection and how numbers were scaled or filled in, of which the selection knows nothing.
"""

import functools
import time
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import (
    RFE,
    SelectKBest,
    VarianceThreshold,
    chi2,
    f_classif,
    f_regression,
    mutual_info_classif,
    mutual_info_regression,
)
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import LinearSVC

from modelkit.artifact.model import onnx_answers
from modelkit.artifact.native import dump_native, loads_native
from modelkit.artifact.signature import InputColumn
from modelkit.contract.config import PreprocessingConfig
from modelkit.contract.recipe import SelectionConfig
from modelkit.data.columns import Rows, as_array, take
from modelkit.evaluate.answers import Answers
from modelkit.train.export import export_onnx
from modelkit.train.pipeline import build_pipeline
from modelkit.train.selection import selected_features

SEED = 3
ROWS, TRAIN = 320, 240
SCALERS = {"Standard": StandardScaler, "MinMax": MinMaxScaler, "Robust": RobustScaler}
# Exact on columns of any scale, so that presets without scaling can be compared too.
ESTIMATORS = {
    "Classification": LogisticRegression(solver="newton-cholesky", max_iter=200),
    "Regression": Ridge(solver="svd"),
}

FACTORS: dict[str, Sequence[str]] = {
    "task": ("Classification", "Regression"),
    "scaling": ("Auto", "None", "Standard", "MinMax", "Robust"),
    "imputation": ("Median", "Mean", "MostFrequent", "Constant", "KNN", "DropRows"),
    "transform": ("None", "Power", "Quantile"),
    "encoding": ("OneHot", "Ordinal", "Target"),
    "selection": ("None", "Variance", "MutualInformation", "Chi2", "AnovaF", "TreeImportance", "L1", "RFE"),
}


def _presets() -> list[dict[str, str]]:
    """Combinations of settings, chosen greedily."""
    names = list(FACTORS)
    missing = {
        ((one, a), (two, b))
        for one, two in combinations(names, 2)
        if not (two == "selection" and one in {"scaling", "imputation"})
        for a in FACTORS[one]
        for b in FACTORS[two]
    }
    possible = [dict(zip(names, values, strict=True)) for values in product(*FACTORS.values())]
    rng = np.random.default_rng(0)
    chosen = []
    while missing:
        some = [possible[index] for index in rng.integers(0, len(possible), 150)]
        (one, a), (two, b) = min(missing)
        some += [preset | {one: a, two: b} for preset in some[:50]]
        best = max(some, key=lambda preset: sum(pair in missing for pair in combinations(preset.items(), 2)))
        missing -= set(combinations(best.items(), 2))
        chosen.append(best)
    return chosen


@functools.cache
def _table() -> tuple[tuple[InputColumn, ...], pd.DataFrame, NDArray[np.float64]]:
    """Columns, the model's view of them, and a number to learn."""
    rng = np.random.default_rng(0)
    words = np.array(["red", "green", "blue", "good", "bad", "über", "straße", "ok", "never", "always", "twice"])
    frame = pd.DataFrame(
        {
            0: rng.lognormal(size=ROWS),
            1: rng.normal(40, 10, ROWS),
            2: rng.integers(1, 6, ROWS).astype(float),
            3: rng.integers(900_000_000, 1_700_000_000, ROWS).astype(float),
            4: rng.integers(10_000, 20_000, ROWS) * 86_400.0,
            5: rng.choice(["a", "b", "münchen", "d"], ROWS),
            6: rng.choice(["x", "y"], ROWS),
            7: [" ".join(rng.choice(words, rng.integers(1, 7))) for _ in range(ROWS)],
        }
    )
    value = np.log(frame[0]) + frame[1] / 20 + 2 * (frame[5] == "a") + frame[7].str.contains("good")
    value += frame[3] / 1e9 + rng.normal(size=ROWS) / 3
    frame.loc[::9, 0], frame.loc[::7, 1], frame.loc[::8, 3] = np.nan, np.nan, np.nan
    frame.loc[::11, 5], frame.loc[::13, 7] = "", ""
    kinds = ["numeric"] * 5 + ["categorical"] * 2 + ["text"]
    types = ["float64", "float64", "int64", "datetime", "datetime", "string", "string", "string"]
    names = ["size", "age", "zone", "when", "day", "city", "kind", "words"]
    columns = tuple(
        InputColumn(name=name, dtype=dtype, kind=kind, nullable=name in {"size", "age", "when", "city", "words"})
        for name, dtype, kind in zip(names, types, kinds, strict=True)
    )
    return columns, frame, value.to_numpy()


def _target(task: str, value: NDArray[np.float64]) -> NDArray[Any]:
    return value if task == "Regression" else np.where(value > np.median(value), "high", "low").astype(object)


# The script.


def _scale(preset: dict[str, str]) -> list[Any]:
    scaling = "Standard" if preset["scaling"] == "Auto" else preset["scaling"]
    return [] if scaling == "None" else [SCALERS[scaling]()]


def _fill(preset: dict[str, str], kind: str) -> list[Any]:
    imputation = preset["imputation"]
    missing: dict[str, Any] = {"missing_values": ""} if kind == "categories" else {}
    if imputation == "Constant":
        return [SimpleImputer(strategy="constant", fill_value="none" if kind == "categories" else -1.5, **missing)]
    if kind == "categories" or imputation == "MostFrequent":
        return [SimpleImputer(strategy="most_frequent", **missing)]
    if imputation == "KNN" and kind == "numbers":
        return [KNNImputer()]
    return [SimpleImputer(strategy="mean" if imputation == "Mean" else "median")]


def _numbers(preset: dict[str, str]) -> Any:
    shape: list[Any] = []
    if preset["transform"] == "Power":
        shape = [PowerTransformer(standardize=False)]
    if preset["transform"] == "Quantile":
        quantiles = min(100, preset["rows"] // 3)  # type: ignore[operator]
        shape = [QuantileTransformer(n_quantiles=quantiles, output_distribution="normal", subsample=None)]
    fill = _fill(preset, "numbers")
    steps = [*shape, *_scale(preset), *fill] if preset["imputation"] == "KNN" else [*fill, *shape, *_scale(preset)]
    return make_pipeline(*steps)


def _times(filled: NDArray[np.float64], *, clock: bool) -> NDArray[np.float64]:
    """By the calendar of pandas."""
    moments = pd.Series(pd.to_datetime(filled, unit="s"))
    days = (moments - pd.Timestamp("2000-01-01")) / pd.Timedelta(days=1)
    turns = [moments.dt.day_of_week / 7, days / 365.2425]
    if clock:
        turns.append((moments - moments.dt.normalize()) / pd.Timedelta(days=1))
    cycles = [function(2 * np.pi * turn) for turn in turns for function in (np.sin, np.cos)]
    return np.column_stack([days, *cycles])


def _encoder(preset: dict[str, str]) -> list[Any]:
    if preset["encoding"] == "OneHot":
        return [OneHotEncoder(handle_unknown="ignore", sparse_output=False)]
    if preset["encoding"] == "Ordinal":
        return [OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), *_scale(preset)]
    if preset["task"] == "Classification":
        folds: Any = StratifiedKFold(5, shuffle=True, random_state=SEED)
        return [TargetEncoder(cv=folds), *_scale(preset)]
    folds = KFold(5, shuffle=True, random_state=SEED)
    return [TargetEncoder(target_type="continuous", cv=folds), *_scale(preset)]


def _matrices(
    preset: dict[str, str], train: pd.DataFrame, test: pd.DataFrame, target: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the estimator, or the selection, gets of both parts."""
    learnt, asked = [], []
    chain = _numbers(preset)
    learnt.append(chain.fit_transform(train[[0, 1, 2]].to_numpy()))
    asked.append(chain.transform(test[[0, 1, 2]].to_numpy()))
    fill = _fill(preset, "times")[0].fit(train[[3, 4]].to_numpy())
    one, two = (
        np.hstack([_times(filled[:, 0], clock=True), _times(filled[:, 1], clock=False)])
        for filled in (fill.transform(train[[3, 4]].to_numpy()), fill.transform(test[[3, 4]].to_numpy()))
    )
    scaler = make_pipeline(*(_scale(preset) or ["passthrough"])).fit(one)
    learnt.append(scaler.transform(one))
    asked.append(scaler.transform(two))
    categories = make_pipeline(*_fill(preset, "categories"), *_encoder(preset))
    learnt.append(categories.fit_transform(train[[5, 6]].to_numpy(), target))
    asked.append(categories.transform(test[[5, 6]].to_numpy()))
    words = TfidfVectorizer(sublinear_tf=True).fit(train[7])
    learnt.append(words.transform(train[7]).toarray())
    asked.append(words.transform(test[7]).toarray())
    return np.hstack(learnt), np.hstack(asked)


def _support(method: str, task: str, values: NDArray[np.float64], target: NDArray[Any]) -> NDArray[np.bool_]:
    classes = task == "Classification"
    half, scaled = max(1, round(values.shape[1] / 2)), StandardScaler().fit_transform(values)
    if method == "Variance":
        selector: Any = VarianceThreshold().fit(values)
    elif method == "MutualInformation":
        score = mutual_info_classif if classes else mutual_info_regression
        selector = SelectKBest(functools.partial(score, random_state=SEED), k=half).fit(values, target)
    elif method == "Chi2":
        selector = SelectKBest(chi2, k=half).fit(MinMaxScaler().fit_transform(values), target)
    elif method == "AnovaF":
        selector = SelectKBest(f_classif if classes else f_regression, k=half).fit(values, target)
    elif method == "RFE":
        linear = LogisticRegression(max_iter=10_000) if classes else Ridge()
        selector = RFE(linear, n_features_to_select=half, step=0.1).fit(scaled, target)
    elif method == "TreeImportance":
        forest = (RandomForestClassifier if classes else RandomForestRegressor)(random_state=SEED)
        importances = forest.fit(values, target).feature_importances_
        return np.asarray(importances >= importances.mean())
    elif classes:
        linear = LinearSVC(penalty="l1", dual=False, C=0.1, max_iter=10_000, random_state=SEED).fit(scaled, target)
        return np.asarray(np.abs(linear.coef_[0]) >= 1e-5)
    else:
        lasso = Lasso(alpha=0.01, max_iter=10_000).fit(scaled, (target - target.mean()) / target.std())
        return np.asarray(np.abs(lasso.coef_) >= 1e-5)
    return np.asarray(selector.get_support())


# Ours.


def _checked(
    name: str, pipeline: Any, columns: Sequence[InputColumn], test: Rows, target: NDArray[Any], *, exports: bool = True
) -> None:
    """What is stored answers as what was fitted, and so does the ONNX model, made in less than 3 s."""
    probabilities = pipeline.predict_proba(test) if hasattr(pipeline, "classes_") else None
    classes = None if probabilities is None else tuple(pipeline.classes_)
    task = "Regression" if probabilities is None else "Classification"
    native = Answers(task, target, pipeline.predict(test), probabilities, classes)
    stored = loads_native(dump_native(pipeline))
    np.testing.assert_array_equal(stored.predict(as_array(test)), native.predictions)
    started = time.process_time()
    export = export_onnx(name, pipeline, columns, test, native)
    assert time.process_time() - started < 3
    if not exports:
        assert export.message is not None
        assert "imputation KNN" in export.message
        return
    assert export.layout is not None, export.message
    predictions, found = onnx_answers(export.session, export.layout, columns, as_array(test))
    if probabilities is None:
        np.testing.assert_allclose(predictions, native.predictions, rtol=1e-4)
    else:
        np.testing.assert_allclose(found, probabilities, atol=1e-5)


@pytest.mark.parametrize("preset", _presets(), ids=lambda preset: "-".join(preset.values()))
def test_a_preset_of_a_mixed_table_answers_as_the_script_does(preset: dict[str, str]) -> None:
    task = preset["task"]
    if preset["selection"] == "Chi2" and task == "Regression":
        preset = preset | {"selection": "AnovaF"}
    columns, frame, value = _table()
    target = _target(task, value)
    train, test = frame.iloc[:TRAIN], frame.iloc[TRAIN:]
    known = target[:TRAIN]
    if preset["imputation"] == "DropRows":
        whole = train[[0, 1, 3]].notna().all(axis=1) & (train[5] != "") & (train[7] != "")
        train, known = train[whole], known[whole.to_numpy()]
    method = preset["selection"]
    ours = build_pipeline(
        type(ESTIMATORS[task]).__name__,
        ESTIMATORS[task],
        columns,
        PreprocessingConfig(
            **{key: preset[key] for key in ("scaling", "imputation", "transform", "encoding")},
            fill_value=-1.5,
            fill_text="none",
        ),
        selection=None if method == "None" else SelectionConfig(method=method),
        task=task,
        seed=SEED,
        rows=train,
    ).fit(train, known)
    learnt, asked = _matrices(preset | {"rows": len(train)}, train, test, known)  # type: ignore[dict-item]
    if method != "None":
        support = _support(method, task, learnt, known)
        np.testing.assert_array_equal(ours["select"].get_support(), support)
        learnt, asked = learnt[:, support], asked[:, support]
    script = ESTIMATORS[task].fit(learnt, known)
    assert len(selected_features(ours, columns)) == learnt.shape[1]
    if task == "Regression":
        np.testing.assert_allclose(ours.predict(test), script.predict(asked), rtol=1e-6)
    else:
        np.testing.assert_allclose(ours.predict_proba(test), script.predict_proba(asked), rtol=1e-5, atol=1e-7)
    # Neighbours are looked for in float32 only, in which times lose their minutes.
    exports = preset["imputation"] != "KNN"
    _checked(type(script).__name__, ours, columns, test, target[TRAIN:], exports=exports)


PLAIN: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "auto": ({}, [StandardScaler()]),
    "min-max": ({"scaling": "MinMax"}, [MinMaxScaler()]),
    "robust": ({"scaling": "Robust"}, [RobustScaler()]),
    "none": ({"scaling": "None"}, []),
    "power": ({"transform": "Power"}, [PowerTransformer()]),
    "quantile": (
        {"transform": "Quantile", "scaling": "None"},
        [QuantileTransformer(n_quantiles=None, output_distribution="normal", subsample=None)],
    ),
}


@pytest.mark.parametrize("case", PLAIN)
@pytest.mark.parametrize("load", ["load_iris", "load_breast_cancer", "load_diabetes"])
def test_a_preset_of_a_data_set_of_numbers_answers_as_the_script_does(load: str, case: str) -> None:
    settings, steps = PLAIN[case]
    values, target = getattr(datasets, load)(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(values))
    train, test = order[:-40], order[-40:]
    task = "Regression" if load == "load_diabetes" else "Classification"
    estimator = ESTIMATORS[task]
    for step in steps:
        if isinstance(step, QuantileTransformer):
            step.set_params(n_quantiles=min(100, len(train) // 3))
    columns = [
        InputColumn(name=str(index), dtype="float64", kind="numeric", nullable=False)
        for index in range(values.shape[1])
    ]
    ours = build_pipeline(
        type(estimator).__name__, estimator, columns, PreprocessingConfig(**settings), rows=values[train]
    ).fit(values[train], target[train])
    script = make_pipeline(*steps, estimator).fit(values[train], target[train])
    if task == "Regression":
        np.testing.assert_allclose(ours.predict(values[test]), script.predict(values[test]), rtol=1e-7)
    else:
        np.testing.assert_allclose(
            ours.predict_proba(values[test]), script.predict_proba(values[test]), rtol=1e-6, atol=1e-8
        )
    _checked(type(estimator).__name__, ours, columns, take(values, test), target[test])
