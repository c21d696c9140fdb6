"""Which rows a run learns from and which it is judged on."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelkit.contract.config import FeedbackConfig, TrainerConfig
from modelkit.data.columns import Rows, concatenate, take, to_rows
from modelkit.data.dataset import Dataset
from modelkit.data.split import Split, split_rows
from modelkit.errors import RefusedError
from modelkit.train.feedback import Feedback

TEST = "Test"
RECENT = "Recent"

RECENT_FRACTION = 0.4
"""Share of the captured rows that is held out: they are few, and the comparison with the champion rests on them."""
RECENT_MINIMUM = 20
"""Held-out captured rows below which the source's test part is the better judge."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Rows with their truth."""

    rows: Rows
    target: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The run's rows by use. No row is in two of train, evaluation and source_test."""

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


def divide(dataset: Dataset, feedback: Feedback | None, config: TrainerConfig) -> Parts:
    """Split source and captured rows, seeded; raises RefusedError when there are too few rows.

    Captured rows are the evaluation rows when at least 20 of them, with two classes, can be held out.
    """
    rows = dataset.rows()
    stratify = dataset.classes is not None
    split = split_rows(dataset.target, config.test_fraction, config.seed, stratify=stratify)
    train = Labelled(take(rows, split.train), dataset.target[split.train])
    test = Labelled(take(rows, split.test), dataset.target[split.test])
    on_test = Parts(train, test, dataset.frame.iloc[split.test], TEST, None, rows)
    if feedback is None or config.feedback is None:
        return on_test
    recent = Labelled(to_rows(feedback.frame, dataset.columns), feedback.target)
    held_out = _split_recent(recent.target, config.seed, stratify=stratify)
    if held_out is None:
        return _without_recent_test(on_test, recent, config.feedback)
    learnt = Labelled(take(recent.rows, held_out.train), recent.target[held_out.train])
    return Parts(
        train=learnt if config.feedback.policy == "Window" else _join(train, learnt),
        evaluation=Labelled(take(recent.rows, held_out.test), recent.target[held_out.test]),
        evaluation_frame=feedback.frame.iloc[held_out.test],
        evaluated_on=RECENT,
        source_test=test,
        profiled=recent.rows,
    )


def _split_recent(target: NDArray[Any], seed: int, *, stratify: bool) -> Split | None:
    """The captured rows' split, None when the held-out part would be too small to judge by."""
    if int(np.ceil(len(target) * RECENT_FRACTION)) < RECENT_MINIMUM:
        return None
    balanced = stratify and min(Counter(target.tolist()).values()) > 1
    split = split_rows(target, RECENT_FRACTION, seed, stratify=balanced)
    if stratify and min(len(set(target[part].tolist())) for part in (split.train, split.test)) < 2:
        return None
    return split


def _without_recent_test(on_test: Parts, recent: Labelled, config: FeedbackConfig) -> Parts:
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
    return Parts(
        train=_join(on_test.train, recent),
        evaluation=on_test.evaluation,
        evaluation_frame=on_test.evaluation_frame,
        evaluated_on=TEST,
        source_test=None,
        profiled=on_test.profiled,
        notes=(note,),
    )


def _join(first: Labelled, second: Labelled) -> Labelled:
    return Labelled(concatenate(first.rows, second.rows), np.concatenate([first.target, second.target]))
