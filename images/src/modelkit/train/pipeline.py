"""One scikit-learn Pipeline per candidate: imputation, scaling, one-hot encoding, estimator.

Everything that is learnt from data is inside it, so it is fitted on training rows only, in the search too.
"""

from collections.abc import Sequence
from typing import Any

from modelkit.artifact.signature import MISSING_TEXT, InputColumn
from modelkit.contract.config import PreprocessingConfig
from modelkit.errors import RefusedError

_SCALED = frozenset(
    {
        "BayesianRidge",
        "ElasticNet",
        "HuberRegressor",
        "KNeighborsClassifier",
        "KNeighborsRegressor",
        "Lasso",
        "LogisticRegression",
        "MLPClassifier",
        "MLPRegressor",
        "Ridge",
        "RidgeClassifier",
        "SGDClassifier",
        "SGDRegressor",
        "SVC",
        "SVR",
    }
)
"""Estimators that measure distances, penalise coefficients or descend gradients."""
_NUMERIC_STRATEGY = {"Auto": "median", "Mean": "mean", "Median": "median", "MostFrequent": "most_frequent"}
_SCALERS = {"Standard": "StandardScaler", "MinMax": "MinMaxScaler", "Robust": "RobustScaler"}


def build_pipeline(
    name: str, estimator: Any, columns: Sequence[InputColumn], preprocessing: PreprocessingConfig
) -> Any:
    """The unfitted pipeline for `columns`, whose last step `model` is a clone of `estimator`.

    It takes a float64 matrix when every column is numeric, else the columns by position (see `data.columns`).
    """
    from sklearn.base import clone
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    numeric = [index for index, column in enumerate(columns) if column.kind == "numeric"]
    categorical = [index for index, column in enumerate(columns) if column.kind == "categorical"]
    number_steps = _number_steps(name, preprocessing, missing=any(columns[i].nullable for i in numeric))
    if not categorical:
        return Pipeline([*number_steps, ("model", clone(estimator))])
    text_steps = _text_steps(preprocessing, missing=any(columns[i].nullable for i in categorical))
    parts = [("categorical", _chain(text_steps), categorical)]
    if numeric:
        parts.insert(0, ("numeric", _chain(number_steps) if number_steps else "passthrough", numeric))
    return Pipeline([("columns", ColumnTransformer(parts)), ("model", clone(estimator))])


def _chain(steps: list[tuple[str, Any]]) -> Any:
    from sklearn.pipeline import Pipeline

    return Pipeline(steps)


def _number_steps(name: str, preprocessing: PreprocessingConfig, *, missing: bool) -> list[tuple[str, Any]]:
    from sklearn import preprocessing as scalers
    from sklearn.impute import SimpleImputer

    steps: list[tuple[str, Any]] = []
    if missing and preprocessing.imputation != "None":
        strategy = _setting("imputation", preprocessing.imputation, _NUMERIC_STRATEGY)
        # A fold may have no value at all of a sparse column, which must not change the number of columns.
        steps.append(("impute", SimpleImputer(strategy=strategy, keep_empty_features=True)))
    scaling = preprocessing.scaling
    if scaling == "Auto":
        scaling = "Standard" if name in _SCALED else "None"
    if scaling != "None":
        steps.append(("scale", getattr(scalers, _setting("scaling", scaling, _SCALERS))()))
    return steps


def _text_steps(preprocessing: PreprocessingConfig, *, missing: bool) -> list[tuple[str, Any]]:
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    steps: list[tuple[str, Any]] = [("encode", OneHotEncoder(handle_unknown="ignore", sparse_output=False))]
    if missing and preprocessing.imputation != "None":
        imputer = SimpleImputer(missing_values=MISSING_TEXT, strategy="most_frequent", keep_empty_features=True)
        steps.insert(0, ("impute", imputer))
    return steps


def _setting(field: str, value: str, known: dict[str, str]) -> str:
    if value not in known:
        raise RefusedError(
            "BadPreprocessing",
            f"{field} must be Auto, None, {', '.join(k for k in known if k != 'Auto')}; found {value!r}",
        )
    return known[value]
