"""Which rows are learnt from, which rank the trials, and which are kept back for the test.

Seeded; stratified for classes, by group, or by time, as the specification says or the columns suggest.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.contract.recipe import SplitConfig
from modelkit.errors import RefusedError

Positions = NDArray[np.intp]

_MOST_DRAWS = 100
_WORK = 5_000_000
"""Draws times groups that are affordable (well under a second): more groups get fewer draws, and need fewer."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Row positions; for Random and Stratified in the order in which scikit-learn's `train_test_split` gives them, for
    Group in the table's, for Time oldest first."""

    train: Positions
    test: Positions
    validation: Positions | None = None
    """None: a cross-validation ranks the trials."""


def resolve_split(
    config: SplitConfig | None, *, stratify: bool, groups: NDArray[Any] | None, times: NDArray[Any] | None
) -> str:
    """Random, Stratified, Group or Time; Auto is Time with times, else Group with groups, else Stratified for classes.

    Raises RefusedError for a method that needs a column which isn't named, or classes.
    """
    method = "Auto" if config is None else config.method
    if method == "Auto":
        if times is not None:
            return "Time"
        if groups is not None:
            return "Group"
        return "Stratified" if stratify else "Random"
    if method == "Group" and groups is None:
        raise RefusedError("BadSplit", "a split by Group needs a group column; name one in data.group")
    if method == "Time" and times is None:
        raise RefusedError("BadSplit", "a split by Time needs a time column; name one in data.time")
    if method == "Stratified" and not stratify:
        raise RefusedError("BadSplit", "a Stratified split needs classes; use Random for a regression")
    if method not in {"Random", "Stratified", "Group", "Time"}:
        raise RefusedError(
            "BadSplit", f"the split method {method!r} is unknown; expected Auto, Random, Stratified, Group or Time"
        )
    return method


def split_table(
    target: NDArray[Any],
    config: SplitConfig | None,
    test_fraction: float,
    seed: int,
    *,
    stratify: bool,
    groups: NDArray[Any] | None = None,
    times: NDArray[Any] | None = None,
) -> Split:
    """Train, test and, where `config` asks for one, validation part; no row is in two of them.

    `target`, `groups` and `times` are [n]; both fractions are shares of all rows, 0 to 1; `stratify` is true for
    classes. By time the validation part is the newest of what the test part leaves. Raises RefusedError when the rows,
    groups or classes don't allow the split.
    """
    method = resolve_split(config, stratify=stratify, groups=groups, times=times)
    validation_fraction = 0.0 if config is None else config.validation_fraction
    if test_fraction + validation_fraction >= 1:
        raise RefusedError(
            "BadSplit",
            f"a test part of {test_fraction:.0%} and a validation part of {validation_fraction:.0%} leave nothing to "
            "learn from; make them smaller",
        )

    def cut(rows: Positions, fraction: float) -> tuple[Positions, Positions]:
        if method == "Group":
            assert groups is not None
            part = _split_groups(target[rows], groups[rows], fraction, seed, stratify=stratify)
        elif method == "Time":
            assert times is not None
            part = _split_times(times[rows], fraction)
        else:
            part = split_rows(target[rows], fraction, seed, stratify=method == "Stratified")
        return rows[part.train], rows[part.test]

    rest, test = cut(np.arange(len(target)), test_fraction)
    train, validation = rest, None
    if validation_fraction > 0:
        train, validation = cut(rest, validation_fraction / (1 - test_fraction))
    if stratify:
        _refuse_lost_classes(target, train, method)
    return Split(train, test, validation)


def split_rows(target: NDArray[Any], fraction: float, seed: int, *, stratify: bool) -> Split:
    """Keep back `fraction` (0 to 1) of the rows of `target`; raises RefusedError when there are too few rows.

    The same as `train_test_split(..., test_size=fraction, random_state=seed, stratify=target)`.
    """
    from sklearn.model_selection import train_test_split

    if stratify:
        smallest, classes = min(Counter(target.tolist()).values()), len(set(target.tolist()))
        # Each class needs a row on both sides, and each side a row of every class.
        side = min(int(np.ceil(len(target) * fraction)), len(target) - int(np.ceil(len(target) * fraction)))
        if smallest < 2 or side < classes:
            raise RefusedError(
                "TooFewRows",
                f"{len(target)} rows, of which the smallest of {classes} classes has {smallest}, can't be split "
                f"with a test part of {fraction:.0%}; add rows, or leave rare classes out",
            )
    elif len(target) < 2:
        raise RefusedError("TooFewRows", f"{len(target)} row can't be split into a training and a test part")
    train, test = train_test_split(
        np.arange(len(target)),
        test_size=fraction,
        random_state=seed,
        stratify=target if stratify else None,
    )
    return Split(train, test)


def _split_times(times: NDArray[Any], fraction: float) -> Split:
    """The newest rows, about `fraction` of them: rows of the same time stay on one side."""
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    wanted = len(times) - int(np.ceil(len(times) * fraction))
    boundary = ordered[min(wanted, len(times) - 1)]
    cuts = [int(np.searchsorted(ordered, boundary, side)) for side in ("left", "right")]
    possible = [cut for cut in cuts if 0 < cut < len(times)]
    if not possible:
        raise RefusedError(
            "TooFewTimes",
            f"the time column has too few different values to split {len(times)} rows by: all, or nearly all of them "
            "are of one time; use another column, or another split method",
        )
    cut = min(possible, key=lambda cut: (abs(cut - wanted), cut))
    return Split(order[:cut], order[cut:])


def _split_groups(target: NDArray[Any], groups: NDArray[Any], fraction: float, seed: int, *, stratify: bool) -> Split:
    """Whole groups, about `fraction` of the rows: of many seeded draws the one that is nearest to the wanted share, and
    for classes to their shares in all rows."""
    codes = np.unique(groups, return_inverse=True)[1].ravel()
    count = int(codes.max()) + 1
    if count < 2:
        raise RefusedError(
            "TooFewGroups",
            f"all {len(groups)} rows are of one group, which can't be on both sides of a split; use another group "
            "column, or another split method",
        )
    labels = np.unique(target, return_inverse=True)[1].ravel() if stratify else np.zeros(len(target), np.intp)
    kinds = int(labels.max()) + 1
    table = np.bincount(codes * kinds + labels, minlength=count * kinds).reshape(count, kinds)
    chosen = _draw_groups(table, fraction, seed)
    held_out = chosen[codes]
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out))


def _draw_groups(table: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which groups are held out, by their rows per class [groups, classes]."""
    generator = np.random.default_rng(seed)
    total = table.sum(axis=0)
    best: tuple[float, NDArray[np.intp]] | None = None
    for _ in range(int(np.clip(_WORK // len(table), 5, _MOST_DRAWS))):
        order = generator.permutation(len(table))
        sums = np.cumsum(table[order], axis=0)[:-1]
        taken = int(np.argmin(np.abs(sums.sum(axis=1) - total.sum() * fraction))) + 1
        found = _distance(sums[taken - 1], total, fraction)
        if best is None or found < best[0]:
            best = found, order[:taken]
    assert best is not None
    chosen = np.zeros(len(table), dtype=bool)
    chosen[best[1]] = True
    return chosen


def _distance(found: NDArray[np.int64], total: NDArray[np.int64], fraction: float) -> float:
    """How far held-out rows per class are from the wanted ones, as a share; a class lost on a side counts as 1."""
    wanted = total * fraction
    apart = np.abs(found - wanted).sum() + abs(found.sum() - wanted.sum())
    return float(apart / wanted.sum() + np.count_nonzero((found == 0) | (found == total)))


def _refuse_lost_classes(target: NDArray[Any], train: Positions, method: str) -> None:
    every, left = len(set(target.tolist())), len(set(target[train].tolist()))
    if left < every:
        raise RefusedError(
            "TooFewRows",
            f"the split by {method} leaves {left} of {every} classes to learn from; add rows of the rare classes, or "
            "use another split method",
        )
