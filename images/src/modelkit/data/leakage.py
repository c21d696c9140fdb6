"""Features that by themselves nearly tell the target: most of them are known only once the target is.

A model with such a feature is wonderful on the test part and worthless in service. Whether it is a leak or just a good
feature only the owner of the data can say, so it is told, not refused, unless the specification asks for that.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.contract.recipe import ValidationConfig
from modelkit.contract.result import Finding
from modelkit.data.columns import column_of, to_rows
from modelkit.data.dataset import Dataset

LIMIT = 0.99
"""ROC AUC or R² above which one feature tells the target."""
_ROWS = 2_000
"""Sampled rows: a leak shows in any of them."""
_FOLDS = 3
_LEAVES = 32


def check_leakage(dataset: Dataset, validation: ValidationConfig, seed: int) -> list[Finding]:
    """A finding per feature from which alone a small tree predicts the target nearly without a mistake.

    The score is the ROC AUC (one class against the rest for more than two), or R², of the cross-validated answers of
    a decision tree with at most 32 leaves, on at most 2,000 rows drawn with `seed`.
    """
    rows = len(dataset.target)
    if validation.leakage == "Ignore" or rows < _FOLDS * 10:
        return []
    drawn = np.arange(rows)
    if rows > _ROWS:
        drawn = np.sort(np.random.default_rng(seed).choice(rows, _ROWS, replace=False))
    target = dataset.target[drawn]
    folds = list(_folds(target, seed, stratify=dataset.classes is not None))
    if not folds:
        return []
    sample = to_rows(dataset.frame.iloc[drawn], dataset.columns)
    findings = []
    for index, column in enumerate(dataset.columns):
        values = _as_numbers(column_of(sample, index))
        score = _score(values, target, folds, seed, is_classification=dataset.classes is not None)
        if score is not None and score >= LIMIT:
            measure = "R²" if dataset.classes is None else "ROC AUC"
            findings.append(
                Finding(
                    column=column.name,
                    rule="Leakage",
                    value=score,
                    limit=LIMIT,
                    message=f"column {column.name!r} alone nearly tells the target ({measure} {score:.3f}): if its "
                    "value is only known once the target is, leave it out with data.features; else set "
                    "validation.leakage to Ignore",
                    severe=validation.leakage == "Fail",
                )
            )
    return findings


def _folds(target: NDArray[Any], seed: int, *, stratify: bool) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    from sklearn.model_selection import KFold, StratifiedKFold

    if not stratify:
        yield from KFold(_FOLDS, shuffle=True, random_state=seed).split(target)
        return
    if np.unique(target, return_counts=True)[1].min() >= _FOLDS:
        yield from StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(target, target)


def _as_numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """[n, 1]; texts are numbered by their frequency, which a tree can cut as well as any other numbers."""
    if values.dtype != object:
        return values.reshape(-1, 1).astype(np.float64)
    _, codes, counts = np.unique(values.astype(str), return_inverse=True, return_counts=True)
    ranks = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")
    return ranks[codes.ravel()].reshape(-1, 1).astype(np.float64)


def _score(
    values: NDArray[np.float64],
    target: NDArray[Any],
    folds: list[tuple[NDArray[np.intp], NDArray[np.intp]]],
    seed: int,
    *,
    is_classification: bool,
) -> float | None:
    """The worst fold's score; None as soon as a fold is below the limit."""
    from sklearn.metrics import r2_score, roc_auc_score
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    lowest = 1.0
    for train, test in folds:
        if is_classification:
            tree = DecisionTreeClassifier(max_leaf_nodes=_LEAVES, random_state=seed).fit(values[train], target[train])
            shares = tree.predict_proba(values[test])
            binary = shares.shape[1] == 2
            score = roc_auc_score(target[test], shares[:, 1] if binary else shares, multi_class="ovr")
        else:
            guesses = DecisionTreeRegressor(max_leaf_nodes=_LEAVES, random_state=seed)
            score = r2_score(target[test], guesses.fit(values[train], target[train]).predict(values[test]))
        lowest = min(lowest, float(score))
        if lowest < LIMIT:
            return None
    return lowest
