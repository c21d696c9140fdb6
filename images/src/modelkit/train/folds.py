"""How the training part is folded for a cross-validation: scikit-learn's own splitters, chosen by the specification.

Every splitter here is seeded and gives the same positions for the same rows, so that trials of different candidates,
pods and attempts are scored on the same folds.
"""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.contract.recipe import CrossValidationConfig
from modelkit.errors import RefusedError

Positions = NDArray[np.intp]
Folds = list[tuple[Positions, Positions]]

LEAVE_ONE_OUT_LIMIT = 2_000
"""Rows above which leaving each out once costs more fits than anybody waits for."""

_REPEATABLE = ("KFold", "Stratified")


def fold_positions(
    target: NDArray[Any],
    *,
    classes: tuple[Any, ...] | None,
    folds: int,
    seed: int,
    config: CrossValidationConfig | None = None,
    groups: NDArray[Any] | None = None,
    times: NDArray[Any] | None = None,
) -> Folds:
    """(train, test) positions of each fold, as scikit-learn's splitter of the method gives them.

    `target`, `groups` and `times` are [n]; `classes` is None for regression; `folds` is k. KFold, StratifiedKFold and
    StratifiedGroupKFold are shuffled by `seed`; GroupKFold balances the groups' sizes; TimeSeriesSplit runs over the
    rows ordered by time, oldest first, so that a fold is always judged on newer rows than it learnt from. Raises
    RefusedError when the rows, groups or classes don't allow the folds.
    """
    config = config or CrossValidationConfig()
    method = resolve_folding(config, is_classification=classes is not None, groups=groups, times=times)
    if config.repeats > 1 and method not in _REPEATABLE:
        raise RefusedError(
            "BadCrossValidation",
            f"a cross-validation by {method} can't be repeated: other seeds would give the same folds; "
            "set repeats to 1, or use KFold or Stratified",
        )
    found = _split(method, target, classes, folds, config.repeats, seed, groups, times)
    if classes is not None:
        _refuse_lost_classes(found, target, method)
    return found


def count_folds(rows: int, folds: int, config: CrossValidationConfig | None) -> int:
    """How many fits one trial costs on `rows` rows: the length of what `fold_positions` returns."""
    config = config or CrossValidationConfig()
    return rows if config.method == "LeaveOneOut" else folds * config.repeats


def resolve_folding(
    config: CrossValidationConfig,
    *,
    is_classification: bool,
    groups: NDArray[Any] | None,
    times: NDArray[Any] | None,
) -> str:
    """The method by name; Auto becomes TimeSeries with times, Group with groups, Stratified for classes, else KFold.

    Raises RefusedError for one that needs a column which isn't named, or classes.
    """
    method = config.method
    if method == "Auto":
        if times is not None:
            return "TimeSeries"
        if groups is not None:
            return "Group"
        return "Stratified" if is_classification else "KFold"
    if method == "Group" and groups is None:
        raise RefusedError("BadCrossValidation", "folds by Group need a group column; name one in data.group")
    if method == "TimeSeries" and times is None:
        raise RefusedError("BadCrossValidation", "folds by TimeSeries need a time column; name one in data.time")
    if method == "Stratified" and not is_classification:
        raise RefusedError("BadCrossValidation", "Stratified folds need classes; use KFold for a regression")
    if method not in {"KFold", "Stratified", "Group", "TimeSeries", "LeaveOneOut"}:
        raise RefusedError(
            "BadCrossValidation",
            f"the cross-validation method {method!r} is unknown; expected Auto, KFold, Stratified, Group, TimeSeries "
            "or LeaveOneOut",
        )
    return method


def _split(
    method: str,
    target: NDArray[Any],
    classes: tuple[Any, ...] | None,
    folds: int,
    repeats: int,
    seed: int,
    groups: NDArray[Any] | None,
    times: NDArray[Any] | None,
) -> Folds:
    from sklearn import model_selection as splitters

    anything = np.zeros((len(target), 1))
    if method == "LeaveOneOut":
        _refuse_leaving_out(len(target))
        return list(splitters.LeaveOneOut().split(anything))
    if method == "TimeSeries":
        assert times is not None
        _refuse_few(len(target), folds + 1, "there are", folds)
        order = np.argsort(times, kind="stable")
        found = splitters.TimeSeriesSplit(n_splits=folds).split(order)
        return [(order[train], order[test]) for train, test in found]
    by_class = classes is not None and method != "KFold"
    if by_class:
        _refuse_few(min(Counter(target.tolist()).values()), folds, "the smallest class has", folds)
    _refuse_few(len(target), folds, "there are", folds)
    if method == "Group":
        assert groups is not None
        _refuse_few_groups(groups, folds)
        if by_class:
            splitter = splitters.StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
        else:
            splitter = splitters.GroupKFold(n_splits=folds)
        return list(splitter.split(anything, target, groups))
    if repeats > 1:
        kind = splitters.RepeatedStratifiedKFold if by_class else splitters.RepeatedKFold
        return list(kind(n_splits=folds, n_repeats=repeats, random_state=seed).split(anything, target))
    kind = splitters.StratifiedKFold if by_class else splitters.KFold
    return list(kind(n_splits=folds, shuffle=True, random_state=seed).split(anything, target))


def _refuse_few(found: int, needed: int, what: str, folds: int) -> None:
    if found < needed:
        raise RefusedError(
            "TooFewRows",
            f"{what} {found} rows in the training part, fewer than the {folds} folds"
            + (" and one more" if needed > folds else "")
            + "; add rows, or use fewer folds",
        )


def _refuse_few_groups(groups: NDArray[Any], folds: int) -> None:
    if (count := len(set(groups.tolist()))) < folds:
        raise RefusedError(
            "TooFewGroups",
            f"there are {count} groups in the training part, fewer than the {folds} folds; add groups, use fewer "
            "folds, or a cross-validation method that keeps no groups together",
        )


def _refuse_leaving_out(rows: int) -> None:
    if rows > LEAVE_ONE_OUT_LIMIT:
        raise RefusedError(
            "TooManyFits",
            f"leaving each of {rows} rows out once is {rows} fits per trial; LeaveOneOut takes at most "
            f"{LEAVE_ONE_OUT_LIMIT} rows: use KFold or Stratified",
        )
    _refuse_few(rows, 2, "there are", 2)


def _refuse_lost_classes(found: Folds, target: NDArray[Any], method: str) -> None:
    """An estimator that never saw a class couldn't be asked for its probability."""
    every = len(set(target.tolist()))
    for number, (train, _) in enumerate(found, 1):
        if (left := len(set(target[train].tolist()))) < every:
            raise RefusedError(
                "TooFewRows",
                f"fold {number} of {len(found)} ({method}) would learn from {left} of {every} classes; add rows of "
                "the rare classes, use fewer folds, or another cross-validation method",
            )
