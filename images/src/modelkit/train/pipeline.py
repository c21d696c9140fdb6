"""One scikit-learn Pipeline per candidate: preprocessing, feature selection, estimator.

Everything that is learnt from data is inside it, so it is fitted on training rows only, in the search too.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from modelkit.artifact.signature import InputColumn
from modelkit.contract.config import PreprocessingConfig
from modelkit.contract.estimators import CLASSIFIERS
from modelkit.contract.recipe import SelectionConfig
from modelkit.data.columns import Rows
from modelkit.train.selection import SELECTION_STEP, build_selector
from modelkit.train.steps import QUANTILES, build_steps
from modelkit.train.treatment import KINDS, NUMERIC, Treatment, decide_treatments

_SCALED = frozenset(
    {
        "ARDRegression",
        "BayesianRidge",
        "BernoulliNB",
        "ElasticNet",
        "ElasticNetCV",
        "GammaRegressor",
        "HuberRegressor",
        "KNeighborsClassifier",
        "KNeighborsRegressor",
        "KernelRidge",
        "Lars",
        "LarsCV",
        "Lasso",
        "LassoCV",
        "LassoLars",
        "LassoLarsCV",
        "LassoLarsIC",
        "LinearSVC",
        "LinearSVR",
        "LogisticRegression",
        "LogisticRegressionCV",
        "MLPClassifier",
        "MLPRegressor",
        "NearestCentroid",
        "NuSVC",
        "NuSVR",
        "OrthogonalMatchingPursuit",
        "OrthogonalMatchingPursuitCV",
        "Perceptron",
        "PoissonRegressor",
        "QuantileRegressor",
        "Ridge",
        "RidgeCV",
        "RidgeClassifier",
        "RidgeClassifierCV",
        "SGDClassifier",
        "SGDRegressor",
        "SVC",
        "SVR",
        "TweedieRegressor",
    }
)
"""Estimators that measure distances, penalise coefficients, descend gradients or compare with 0."""
_NON_NEGATIVE = frozenset({"ComplementNB", "MultinomialNB"})
"""Estimators that take counts: numbers are brought to 0 to 1."""
_COUNTING = frozenset({"ComplementNB", "MultinomialNB"})
"""Estimators that take no negative number."""
_SMALLEST_FOLD = 3
"""A fit within the search has at least the rows of the training part divided by it."""


def build_pipeline(
    name: str,
    estimator: Any,
    columns: Sequence[InputColumn],
    preprocessing: PreprocessingConfig,
    *,
    selection: SelectionConfig | None = None,
    task: str | None = None,
    seed: int = 0,
    rows: Rows | None = None,
) -> Any:
    """The unfitted pipeline for `columns`, whose last step `model` is a clone of `estimator`.

    It takes a float64 matrix when every column is numeric, else the columns by position (see `data.columns`). With
    `selection` the step before the last is `select`. `task` is that of the estimator when it is None. `rows` are the
    training rows, by whose features the Auto settings decide: without them, categories are one-hot encoded and scales
    standard. Raises RefusedError for settings that don't suit a column or the task.
    """
    from sklearn.base import clone
    from sklearn.pipeline import Pipeline

    if task is None:
        task = "Classification" if name in CLASSIFIERS else "Regression"
    is_dense = selection is not None or not _takes_sparse(estimator)
    groups = _groups(columns, decide_treatments(columns, preprocessing, scaling=_auto_scaling(name), rows=rows))
    fewest = QUANTILES if rows is None else len(rows) // _SMALLEST_FOLD
    parts = []
    for label, treatment, positions in groups:
        steps = build_steps(
            treatment, is_classification=task == "Classification", is_dense=is_dense, seed=seed, fewest=fewest
        )
        # A vectorizer takes one column of texts, not a matrix.
        parts.append((label, steps, positions[0] if treatment.kind == "text" else positions))
    last: list[tuple[str, Any]] = [("model", clone(estimator))]
    if selection is not None:
        last.insert(0, (SELECTION_STEP, build_selector(selection, task, seed)))
    if [treatment.kind for _, treatment, _ in groups] == [NUMERIC]:
        return Pipeline([*parts[0][1], *last])
    return Pipeline([("columns", _column_transformer(parts, is_dense=is_dense)), *last])


def _column_transformer(parts: Sequence[tuple[str, list[tuple[str, Any]], Any]], *, is_dense: bool) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    transformers = [
        (label, Pipeline(steps) if steps else "passthrough", positions) for label, steps, positions in parts
    ]
    return ColumnTransformer(transformers, sparse_threshold=0.0 if is_dense else 0.3)


def _groups(columns: Sequence[InputColumn], treatments: Sequence[Treatment]) -> list[tuple[str, Treatment, list[int]]]:
    """Label, treatment and positions of columns that are treated together; each text column by itself.

    Numbers, times, categories, texts; within a kind, in the order of the columns. Where none of them misses a value,
    nothing is filled in.
    """
    grouped: dict[tuple[Treatment, int], list[int]] = {}
    for position, treatment in enumerate(treatments):
        grouped.setdefault((treatment, position if treatment.kind == "text" else -1), []).append(position)
    counts: dict[str, int] = {}
    result = []
    for (treatment, _), positions in sorted(grouped.items(), key=lambda item: KINDS.index(item[0][0].kind)):
        count = counts[treatment.kind] = counts.get(treatment.kind, 0) + 1
        if not any(columns[position].nullable for position in positions):
            treatment = replace(treatment, imputation="None")
        result.append((treatment.kind if count == 1 else f"{treatment.kind}{count}", treatment, positions))
    return result


def _auto_scaling(name: str) -> str:
    if name in _COUNTING:
        return "MinMax"
    return "Standard" if name in _SCALED else "None"


def _takes_sparse(estimator: Any) -> bool:
    from sklearn.utils import get_tags

    return bool(get_tags(estimator).input_tags.sparse)
