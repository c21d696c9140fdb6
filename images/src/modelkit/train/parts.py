"""Which rows a run learns from and which it is judged on."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelkit.contract.config import FeedbackConfig, TrainerConfig
from modelkit.data.columns import Rows, concatenate, take, to_rows
from modelkit.data.dataset import Dataset
from modelkit.data.split import Split, resolve_split, split_rows, split_table
from modelkit.errors import RefusedError
from modelkit.train.feedback import Feedback

TEST = "Test"
RECENT = "Recent"

RECENT_FRACTION = 0.4
"""Share of the captured rows that is held out: they are few, and the comparison with the champion rests on them."""
RECENT_MINIMUM = 20
"""Held-out captured rows below which the source's test part is the better judge."""

_NO_VALIDATION = (
    "only captured rows were learnt from, which are too few for a validation part of their own: a cross-validation "
    "ranked the trials"
)


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Rows with their truth."""

    rows: Rows
    target: NDArray[Any]
    weights: NDArray[np.float64] | None = None
    """[n] at least 0; None: every row counts the same."""
    groups: NDArray[np.int64] | None = None
    """[n] codes of rows that stay together in the folds too."""
    times: NDArray[np.float64] | None = None
    """[n] what orders the rows, oldest first."""

    def take(self, positions: NDArray[np.intp]) -> "Labelled":
        """Some of the rows by position."""
        return Labelled(
            take(self.rows, positions),
            self.target[positions],
            weights=None if self.weights is None else self.weights[positions],
            groups=None if self.groups is None else self.groups[positions],
            times=None if self.times is None else self.times[positions],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The run's rows by use. No row is in two of train, validation, evaluation and source_test."""

    train: Labelled
    evaluation: Labelled
    evaluation_frame: pd.DataFrame
    """The evaluation rows as they were read, for a champion with other columns."""
    evaluated_on: str
    """Test: held-out rows of the source. Recent: held-out labelled captured rows."""
    source_test: Labelled | None
    """With Recent: the source's test part, to see what was forgotten."""
    profiled: Rows
    """The world that the model will serve."""
    notes: tuple[str, ...] = ()
    validation: Labelled | None = None
    """What ranks the trials; None: a cross-validation of `train` does."""


def divide(dataset: Dataset, feedback: Feedback | None, config: TrainerConfig) -> Parts:
    """Split source and captured rows, seeded; raises RefusedError when there are too few rows.

    Captured rows are the evaluation rows when at least 20 of them, with two classes, can be held out.
    """
    stratify = dataset.classes is not None
    every = Labelled(dataset.rows(), dataset.target, dataset.weights, dataset.groups, dataset.times)
    split = split_table(
        every.target,
        config.split,
        config.test_fraction,
        config.seed,
        stratify=stratify,
        groups=every.groups,
        times=every.times,
    )
    on_test = Parts(
        train=every.take(split.train),
        evaluation=every.take(split.test),
        evaluation_frame=dataset.frame.iloc[split.test],
        evaluated_on=TEST,
        source_test=None,
        profiled=every.rows,
        validation=None if split.validation is None else every.take(split.validation),
    )
    if feedback is None or config.feedback is None:
        return on_test
    recent = _captured(feedback, dataset, every)
    held_out = _split_recent(recent, config, stratify=stratify)
    if held_out is None:
        return _without_recent_test(on_test, split.train, recent, config.feedback)
    learnt = recent.take(held_out.train)
    is_window = config.feedback.policy == "Window"
    return Parts(
        train=_learn(on_test.train, split.train, learnt, config.feedback.policy),
        evaluation=recent.take(held_out.test),
        evaluation_frame=feedback.frame.iloc[held_out.test],
        evaluated_on=RECENT,
        source_test=on_test.evaluation,
        profiled=recent.rows,
        validation=None if is_window else on_test.validation,
        notes=(_NO_VALIDATION,) if is_window and on_test.validation is not None else (),
    )


def _learn(source: Labelled, positions: NDArray[np.intp], recent: Labelled, policy: str) -> Labelled:
    """What is learnt from when the policy brings `recent` rows to those of the `source`, at `positions` of its table.

    Replace lets them take the place of as many of the oldest: by the time column, or else the first of the table.
    """
    if policy == "Append":
        return _join(source, recent)
    left = len(source.target) - len(recent.target)
    if policy == "Window" or left <= 0:
        return recent
    oldest_first = np.lexsort((positions,) if source.times is None else (positions, source.times))
    return _join(source.take(np.sort(oldest_first[-left:])), recent)


def _captured(feedback: Feedback, dataset: Dataset, source: Labelled) -> Labelled:
    """Captured rows beside the source's: of weight 1, each a group of its own, newer than the source, in the order in
    which they were captured."""
    count = len(feedback.target)
    return Labelled(
        to_rows(feedback.frame, dataset.columns),
        feedback.target,
        weights=None if source.weights is None else np.ones(count),
        groups=None if source.groups is None else source.groups.max() + 1 + np.arange(count),
        times=None if source.times is None else np.nextafter(source.times.max(), np.inf) + np.arange(count),
    )


def _split_recent(recent: Labelled, config: TrainerConfig, *, stratify: bool) -> Split | None:
    """The captured rows' split, the newest held out where the source's are; None when the held-out part would be too
    small to judge by."""
    target = recent.target
    if int(np.ceil(len(target) * RECENT_FRACTION)) < RECENT_MINIMUM:
        return None
    method = resolve_split(config.split, stratify=stratify, groups=recent.groups, times=recent.times)
    if method == "Time":
        cut = len(target) - int(np.ceil(len(target) * RECENT_FRACTION))
        split = Split(np.arange(cut), np.arange(cut, len(target)))
    else:
        balanced = stratify and method != "Random" and min(Counter(target.tolist()).values()) > 1
        split = split_rows(target, RECENT_FRACTION, config.seed, stratify=balanced)
    if stratify and min(len(set(target[part].tolist())) for part in (split.train, split.test)) < 2:
        return None
    return split


def _without_recent_test(
    on_test: Parts, positions: NDArray[np.intp], recent: Labelled, config: FeedbackConfig
) -> Parts:
    needed = int(RECENT_MINIMUM / RECENT_FRACTION)
    if config.policy == "Window":
        raise RefusedError(
            "TooFewRows",
            f"{len(recent.target)} labelled captured rows of {config.deployment} can be used; learning from them "
            f"alone needs {needed}, of two classes at least; send feedback, widen the window or use policy Append",
        )
    note = (
        f"{len(recent.target)} labelled captured rows are too few to be judged on ({needed} are needed, of two "
        "classes at least): all were learnt from, and the test part of the source was the judge"
    )
    return replace(on_test, train=_learn(on_test.train, positions, recent, config.policy), notes=(note,))


def _join(first: Labelled, second: Labelled) -> Labelled:
    return Labelled(
        concatenate(first.rows, second.rows),
        np.concatenate([first.target, second.target]),
        weights=_concatenate(first.weights, second.weights),
        groups=_concatenate(first.groups, second.groups),
        times=_concatenate(first.times, second.times),
    )


def _concatenate(first: NDArray[Any] | None, second: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if first is None or second is None else np.concatenate([first, second])
