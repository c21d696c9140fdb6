"""Folds are scikit-learn's own, whatever the method, and what can't be folded says so."""

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import model_selection as oracle

from modelkit.contract.recipe import CrossValidationConfig
from modelkit.errors import RefusedError
from modelkit.train.folds import count_folds, fold_positions

RNG = np.random.default_rng(0)
LABELS = RNG.choice(np.array(["a", "b", "c"], object), 90, p=[0.5, 0.3, 0.2])
NUMBERS = RNG.normal(size=90)
GROUPS = RNG.integers(0, 12, 90)
TIMES = RNG.permutation(90) // 2
X = np.zeros((90, 1))
CLASSES = ("a", "b", "c")


def _method(method: str, repeats: int = 1) -> CrossValidationConfig:
    return CrossValidationConfig(method=method, repeats=repeats)


def _same(found: Any, expected: Any) -> None:
    found, expected = list(found), list(expected)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert [part.tolist() for part in ours] == [part.tolist() for part in theirs]


@pytest.mark.parametrize(
    ("config", "classes", "columns", "splitter"),
    [
        (None, CLASSES, {}, oracle.StratifiedKFold(5, shuffle=True, random_state=7)),
        (None, None, {}, oracle.KFold(5, shuffle=True, random_state=7)),
        (None, CLASSES, {"groups": GROUPS}, oracle.StratifiedGroupKFold(5, shuffle=True, random_state=7)),
        (None, None, {"groups": GROUPS}, oracle.GroupKFold(5)),
        (_method("KFold"), CLASSES, {"groups": GROUPS}, oracle.KFold(5, shuffle=True, random_state=7)),
        (_method("Stratified", 3), CLASSES, {}, oracle.RepeatedStratifiedKFold(n_repeats=3, random_state=7)),
        (_method("KFold", 2), None, {}, oracle.RepeatedKFold(n_repeats=2, random_state=7)),
        (_method("LeaveOneOut"), None, {}, oracle.LeaveOneOut()),
    ],
    ids=["classes", "numbers", "groups of classes", "groups", "as said", "repeated", "repeated numbers", "one out"],
)  # fmt: skip
def test_folds_are_those_of_scikit_learn(config: Any, classes: Any, columns: dict[str, Any], splitter: Any) -> None:
    target = NUMBERS if classes is None else LABELS
    found = fold_positions(target, classes=classes, folds=5, seed=7, config=config, **columns)
    groups = columns.get("groups") if "Group" in type(splitter).__name__ else None
    _same(found, splitter.split(X, target, groups))
    assert len(found) == count_folds(90, 5, config)


@pytest.mark.parametrize("classes", [CLASSES, None])
def test_folds_by_time_are_the_time_series_split_of_the_ordered_rows(classes: Any) -> None:
    target = NUMBERS if classes is None else LABELS
    found = fold_positions(target, classes=classes, folds=4, seed=0, times=TIMES, groups=GROUPS)
    order = np.argsort(TIMES, kind="stable")
    expected = oracle.TimeSeriesSplit(4).split(X)
    _same(found, [(order[train], order[test]) for train, test in expected])
    assert all(TIMES[train].max() <= TIMES[test].min() for train, test in found)


@settings(deadline=None, max_examples=30)
@given(groups=st.lists(st.integers(0, 8), min_size=40, max_size=60), seed=st.integers(0, 99))
def test_no_group_is_on_both_sides_of_a_fold(groups: list[int], seed: int) -> None:
    keys = np.array(groups)
    target = np.arange(len(keys)) % 2
    assume(len(set(groups)) > 2)
    found = fold_positions(target.astype(float), classes=None, folds=3, seed=seed, groups=keys)
    assert sorted(np.concatenate([test for _, test in found]).tolist()) == list(range(len(keys)))
    with suppress(RefusedError):  # a fold would have learnt from one class
        found = found + fold_positions(target, classes=(0, 1), folds=3, seed=seed, groups=keys)
    for train, test in found:
        assert not set(keys[train].tolist()) & set(keys[test].tolist())


@pytest.mark.parametrize(
    ("config", "changes", "reason", "text"),
    [
        (None, {"groups": np.repeat([1, 2, 3], 30)}, "TooFewGroups", "3 groups in the training part, fewer than the 5"),
        (_method("LeaveOneOut"), {"target": np.zeros(2001), "classes": None}, "TooManyFits", "2001 fits per trial"),
        (_method("Group"), {}, "BadCrossValidation", "name one in data.group"),
        (_method("TimeSeries"), {}, "BadCrossValidation", "name one in data.time"),
        (_method("Stratified"), {"target": NUMBERS, "classes": None}, "BadCrossValidation", "use KFold"),
        (_method("Group", 2), {"groups": GROUPS}, "BadCrossValidation", "set repeats to 1"),
        (_method("Bootstrap"), {}, "BadCrossValidation", "'Bootstrap' is unknown"),
        (None, {"target": np.array(["a"] * 87 + ["b"] * 3, object)}, "TooFewRows", "smallest class has 3 rows"),
        (None, {"target": NUMBERS[:4], "classes": None}, "TooFewRows", "there are 4 rows"),
        (None, {"target": NUMBERS[:5], "classes": None, "times": TIMES[:5]}, "TooFewRows", "5 folds and one more"),
        (None, {"target": np.sort(LABELS), "times": np.arange(90)}, "TooFewRows", "fold 1 of 5 (TimeSeries)"),
        (_method("LeaveOneOut"), {"target": np.array(["a", "a", "b"], object)}, "TooFewRows", "1 of 2 classes"),
    ],
)  # fmt: skip
def test_impossible_folds_say_what_to_do(config: Any, changes: dict[str, Any], reason: str, text: str) -> None:
    given = {"target": LABELS, "classes": CLASSES, "folds": 5, "seed": 0, "config": config} | changes
    with pytest.raises(RefusedError) as refused:
        fold_positions(given.pop("target"), **given)
    assert refused.value.reason == reason
    assert text in refused.value.message
