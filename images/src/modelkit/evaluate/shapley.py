"""SHAP values: how much each input column moves single answers away from the average one.

Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, 2017. Exactly for trees (by
the training rows in each leaf: Lundberg et al., Consistent Individualized Feature Attribution for Tree Ensembles, 2018,
with the `shap` package) and for linear models, whose preprocessed features are summed up by the column that they are
made of; for all others by sampling orders of the columns.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.evaluate.answers import Array

Floats = NDArray[np.float64]

BACKGROUND = 100
"""Training rows that stand for "not knowing" a column."""
_SAMPLED_BACKGROUND = 20
"""The same where each evaluation is an answer of the whole model."""
_BUDGET = 200_000
"""Answers of the whole model that are affordable (a few seconds); one order of the columns is always tried."""
_MOST_PAIRS = 5
_ROWS_AT_ONCE = 500
"""Times the background: rows that are held in memory."""
_TOLERANCE = 1e-3
"""Share of the answers' range that values may miss it by; an explainer that misses more isn't believed."""
_BUGS = (ValueError, TypeError, AttributeError, IndexError, AssertionError, NotImplementedError, KeyError)
"""What shap raises for a model that it doesn't know."""


@dataclass(frozen=True, slots=True, eq=False)
class Shapley:
    """SHAP values of some rows."""

    method: str
    """Tree, Linear or Permutation."""
    unit: str
    """Of the values: Target (its own unit), Probability, or Score (the model's decision function or log-odds)."""
    values: Floats
    """[rows, columns, outputs]; outputs: one for regression and two classes (of the positive one), else the classes."""
    base: Floats
    """[outputs], the average answer: to the training rows (trees), or to the background rows."""
    answers: Floats
    """[rows, outputs], what the values and the base of a row add up to."""


def explain_rows(pipeline: Any, rows: Array, background: Array, *, is_classifier: bool, seed: int) -> Shapley:
    """SHAP values of the fitted scikit-learn `pipeline` (last step `model`) for `rows` [n, columns].

    `background` [m, columns] are training rows, of which at most 100 are used. Trees need seconds to import shap.
    """
    generator = np.random.default_rng(seed)
    if len(background) > BACKGROUND:
        background = background[np.sort(generator.choice(len(background), BACKGROUND, replace=False))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba and of names that arrays don't have
        for explain in (_by_trees, _by_coefficients):
            found = explain(pipeline, rows, background, is_classifier)
            if found is not None and _adds_up(found):
                return found
        return _by_permutations(pipeline, rows, background, is_classifier, seed)


def _adds_up(found: Shapley) -> bool:
    sums = found.values.sum(axis=1) + found.base
    scale = float(np.ptp(found.answers)) or 1.0
    return bool(np.all(np.isfinite(sums)) and np.max(np.abs(sums - found.answers)) <= _TOLERANCE * scale)


def _by_trees(pipeline: Any, rows: Array, background: Array, is_classifier: bool) -> Shapley | None:
    model = pipeline.steps[-1][1]
    if not type(model).__module__.startswith(("sklearn.tree.", "sklearn.ensemble.")):
        return None
    import shap  # takes seconds, so only for a model that it may know

    transform = transform_of(pipeline[:-1])
    features = transform(rows)
    try:
        # With a background shap 0.51 is off by up to a tenth of the answers' range for forests.
        explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
        values = np.asarray(explainer.shap_values(features, check_additivity=False), np.float64)
        base = np.atleast_1d(np.asarray(explainer.expected_value, np.float64))
    except (*_BUGS, shap.utils._exceptions.InvalidModelError):
        return None
    values = values[:, :, None] if values.ndim == 2 else values
    answers = _tree_answers(model, features, values.shape[2], is_classifier)
    if answers is None:
        return None
    unit = "Target"
    if is_classifier:
        unit = "Probability" if values.shape[2] > 1 and _is_averaging(model) else "Score"
    if values.shape[2] == 2:  # both classes' probabilities: the positive one's tell all
        values, base, answers = values[:, :, 1:], base[1:], answers[:, 1:]
    return Shapley(
        method="Tree", unit=unit, values=_per_column(values, transform, rows, background), base=base, answers=answers
    )


def _is_averaging(model: Any) -> bool:
    """Do its trees vote with probabilities, instead of adding up to log-odds?"""
    return not hasattr(model, "decision_function")


def _tree_answers(model: Any, features: Array, outputs: int, is_classifier: bool) -> Floats | None:
    if not is_classifier:
        found = model.predict(features)
    elif _is_averaging(model):
        found = model.predict_proba(features)
    else:
        found = model.decision_function(features)
    answers = np.asarray(found, np.float64).reshape(len(features), -1)
    return answers if answers.shape[1] == outputs else None


def _by_coefficients(pipeline: Any, rows: Array, background: Array, is_classifier: bool) -> Shapley | None:
    """In closed form: coefficient times distance from the background's mean (Lundberg and Lee, section 4.2)."""
    model = pipeline.steps[-1][1]
    if not (hasattr(model, "coef_") and hasattr(model, "intercept_")):
        return None
    transform = transform_of(pipeline[:-1])
    features, known = transform(rows), transform(background)
    coefficients = np.atleast_2d(np.asarray(model.coef_, np.float64))
    if coefficients.shape[1] != features.shape[1]:  # a kernel's, not of the features
        return None
    intercept = np.broadcast_to(np.asarray(model.intercept_, np.float64).ravel(), (len(coefficients),))
    middle = known.mean(axis=0)
    values = (features - middle)[:, :, None] * coefficients.T[None, :, :]
    found = model.decision_function(features) if is_classifier else model.predict(features)
    answers = np.asarray(found, np.float64).reshape(len(features), -1)
    if answers.shape[1] != len(coefficients):
        return None
    return Shapley(
        method="Linear",
        unit="Score" if is_classifier else "Target",
        values=_per_column(values, transform, rows, background),
        base=coefficients @ middle + intercept,
        answers=answers,
    )


def _by_permutations(pipeline: Any, rows: Array, background: Array, is_classifier: bool, seed: int) -> Shapley:
    """By sampling orders of the columns, each also backwards (Mitchell et al., Sampling Permutations for Shapley Value
    Estimation, 2022), of the whole pipeline: what the answer changes by when one column after the other becomes known.
    """
    background = background[:_SAMPLED_BACKGROUND]
    count, columns = rows.shape
    answers = _answers(pipeline, rows, is_classifier)
    base = _answers(pipeline, background, is_classifier).mean(axis=0)
    pairs = int(np.clip(_BUDGET // (2 * columns * count * len(background)), 1, _MOST_PAIRS))
    generator = np.random.default_rng(seed)
    drawn = [generator.permutation(columns) for _ in range(pairs)]
    orders = [*drawn, *(order[::-1] for order in drawn)]
    values = np.zeros((count, columns, answers.shape[1]))
    for part in np.array_split(np.arange(count), -(-count // _ROWS_AT_ONCE)):
        for order in orders:
            known = np.tile(background, (len(part), 1))
            before = np.broadcast_to(base, answers[part].shape)
            for column in order:
                known[:, column] = np.repeat(rows[part, column], len(background))
                every = _answers(pipeline, known, is_classifier)
                after = every.reshape(len(part), len(background), -1).mean(axis=1)
                values[part, column] += after - before
                before = after
    unit = "Target" if not is_classifier else "Probability" if hasattr(pipeline, "predict_proba") else "Score"
    return Shapley(method="Permutation", unit=unit, values=values / len(orders), base=base, answers=answers)


def _answers(pipeline: Any, rows: Array, is_classifier: bool) -> Floats:
    """[n, outputs]: numbers, probabilities (of the positive class for two), or decisions."""
    if not is_classifier:
        found = pipeline.predict(rows)
    elif hasattr(pipeline, "predict_proba"):
        found = pipeline.predict_proba(rows)
        found = found[:, 1:] if found.shape[1] == 2 else found
    elif hasattr(pipeline, "decision_function"):
        found = pipeline.decision_function(rows)
    else:
        found = np.asarray(pipeline.predict(rows))[:, None] == pipeline.classes_
        found = found[:, 1:] if found.shape[1] == 2 else found
    return np.asarray(found, np.float64).reshape(len(rows), -1)


def transform_of(steps: Any) -> Callable[[Array], Floats]:
    """What fitted transformers (a Pipeline, which may be empty) make of rows [n, columns], dense."""

    def transform(rows: Array) -> Floats:
        found = steps.transform(rows) if len(steps.steps) else rows
        return np.asarray(found.toarray() if hasattr(found, "toarray") else found, np.float64)

    return transform


def _per_column(values: Floats, transform: Callable[[Array], Floats], rows: Array, background: Array) -> Floats:
    """[rows, columns, outputs]: the sum over the features [rows, features, outputs] that are made of a column."""
    summed = np.zeros((values.shape[0], rows.shape[1], values.shape[2]))
    for feature, column in enumerate(find_origins(transform, np.concatenate([rows, background]))):
        if column is not None:
            summed[:, column] += values[:, feature]
    return summed


def find_origins(transform: Callable[[Array], Floats], rows: Array) -> Sequence[int | None]:
    """Which column each feature is made of, found by turning the values of one column after the other round: the one
    that changes it most. None: no column changes it in these rows, so that it explains nothing of them."""
    base = transform(rows)
    changes = np.zeros((rows.shape[1], base.shape[1]))
    for column in range(rows.shape[1]):
        turned = rows.copy()
        turned[:, column] = _turned(rows[:, column])
        different = transform(turned) != base
        changes[column] = (different & ~(np.isnan(base) & np.isnan(transform(turned)))).mean(axis=0)
    return [int(best) if changes[best, index] > 0 else None for index, best in enumerate(changes.argmax(axis=0))]


def _turned(values: Array) -> Array:
    """The same values in another order, in which as few rows as possible keep theirs: sorted, by half a round."""
    order = np.argsort(values.astype(str) if values.dtype.kind == "O" else values, kind="stable")
    turned = np.empty_like(values)
    turned[order] = values[np.roll(order, len(order) // 2)]
    return turned
