"""The learning curve: would more rows make the model better?

The chosen trial is fitted anew on growing shares of the training part and judged on a held-out fifth of it, never on
the test part: one seeded split, by group or time where the run's is.
"""

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from modelkit.data.split import split_table
from modelkit.errors import RefusedError
from modelkit.evaluate.answers import Answers
from modelkit.evaluate.metrics import compute_metrics
from modelkit.train.finished import Finished
from modelkit.train.parts import Labelled
from modelkit.train.search import Trial, answer, fit

logger = logging.getLogger(__name__)

SHARES = (0.1, 0.25, 0.5, 1.0)
_HELD_OUT = 0.2
_FEWEST_ROWS = 50
"""Of fewer training rows the points would be noise."""

Positions = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The primary metric after learning from so many rows."""

    rows: int
    training: float | None
    """On these rows; None where it can't be computed."""
    validation: float | None
    """On the held-out rows."""


def measure_learning(run: Finished, jobs: int | None = None) -> tuple[tuple[CurvePoint, ...], str | None]:
    """The points, fewest rows first, and, when there are fewer than two, why.

    `jobs` fits run side by side. The same run gives the same points.
    """
    from joblib import Parallel, delayed

    part = run.parts.train
    if not run.trials:
        return (), "the model was trained by an image of its own"
    if len(part.target) < _FEWEST_ROWS:
        return (), f"the training part has {len(part.target)} rows, fewer than {_FEWEST_ROWS}"
    config = run.config.split
    try:
        split = split_table(
            part.target,
            None if config is None else replace(config, validation_fraction=0.0),
            _HELD_OUT,
            run.config.seed,
            stratify=run.answers.classes is not None,
            groups=part.groups,
            times=part.times,
        )
    except RefusedError as exc:
        return (), exc.message
    held_out = part.take(split.test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what scikit-learn warns of, it has warned of the model itself
        # Side by side, and the longest first: on two cores all others take no longer than it.
        points = Parallel(n_jobs=jobs or 1, prefer="threads")(
            delayed(_measure)(run, run.trials[0], part.take(rows), held_out)
            for rows in reversed(list(_growing(part, split.train, run)))
        )
    measured = tuple(point for point in reversed(points) if point is not None)
    return (measured, None) if len(measured) > 1 else ((), "the training part is too small to learn from shares of it")


def _growing(part: Labelled, learnt: Positions, run: Finished) -> Iterator[Positions]:
    """Growing shares of the positions `learnt`, each within the next: the newest rows by time, else seeded, with the
    classes' shares kept."""
    generator = np.random.default_rng(run.config.seed)
    if part.times is not None:
        order = learnt[::-1]
    elif run.answers.classes is not None:
        shuffled = generator.permutation(learnt)
        labels = part.target[shuffled]
        places = np.empty(len(shuffled))
        for label in run.answers.classes:
            of_class = np.flatnonzero(labels == label)
            places[of_class] = (np.arange(len(of_class)) + 0.5) / max(len(of_class), 1)
        order = shuffled[np.argsort(places, kind="stable")]
    else:
        order = generator.permutation(learnt)
    for share in SHARES:
        rows = order[: max(1, round(len(order) * share))]
        yield rows[::-1] if part.times is not None else rows


def _measure(run: Finished, trial: Trial, learnt: Labelled, held_out: Labelled) -> CurvePoint | None:
    """None when so few rows can't be learnt from."""
    classes = run.answers.classes
    if classes is not None and len(set(learnt.target.tolist())) < len(classes):
        return None
    try:
        fitted = fit(trial, learnt.rows, learnt.target, jobs=1, weights=learnt.weights)
        judged = [answer(trial, fitted, rows.rows, rows.target, classes, rows.weights) for rows in (learnt, held_out)]
    except RefusedError as exc:
        logger.info("a point of the learning curve is left out", extra={"rows": len(learnt.target), "why": exc.message})
        return None
    training, validation = (_score(answers, run.metric) for answers in judged)
    return CurvePoint(len(learnt.target), training, validation)


def _score(answers: Answers, metric: str) -> float | None:
    return compute_metrics(answers, (metric,)).get(metric)
