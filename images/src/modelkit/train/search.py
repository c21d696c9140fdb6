"""Which candidate is best: k-fold cross-validation on the training part, folds side by side on all cores."""

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.contract.metrics import improvement
from modelkit.contract.recipe import CrossValidationConfig
from modelkit.data.columns import Rows, take
from modelkit.errors import RefusedError
from modelkit.evaluate.answers import CLASSIFICATION, REGRESSION, Answers
from modelkit.evaluate.metrics import compute_metrics
from modelkit.train.candidates import Candidate
from modelkit.train.folds import fold_positions

logger = logging.getLogger(__name__)

Weights = NDArray[np.float64] | None
"""[n] positive weights of rows; None: all count the same."""

_FIT_ERRORS = (ValueError, TypeError, ArithmeticError, IndexError, RuntimeError, AttributeError)
"""What scikit-learn raises for data or parameters that don't suit an estimator."""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One candidate, its pipeline and its cross-validated scores."""

    candidate: Candidate
    pipeline: Any
    """Unfitted."""
    scores: tuple[float, ...] = ()
    """The primary metric per fold; NaN where it can't be computed."""

    @property
    def mean(self) -> float:
        """Mean over the folds that have a score; NaN without any."""
        found = [score for score in self.scores if math.isfinite(score)]
        return float(np.mean(found)) if found else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation over the folds; NaN without any score."""
        found = [score for score in self.scores if math.isfinite(score)]
        return float(np.std(found)) if found else math.nan


def rank_trials(
    trials: Sequence[Trial],
    rows: Rows,
    target: NDArray[Any],
    *,
    classes: tuple[Any, ...] | None,
    metric: str,
    folds: int,
    seed: int,
    cores: int,
    on_fit: Callable[[int, int], None],
    cross_validation: CrossValidationConfig | None = None,
    weights: Weights = None,
    groups: NDArray[Any] | None = None,
    times: NDArray[Any] | None = None,
) -> list[Trial]:
    """The trials with their scores, best first; ties keep the specification's order.

    `weights`, `groups` and `times` are [n] or None. `on_fit(done, total)` is called after each fit. Raises RefusedError
    when an estimator can't be fitted, when the rows don't allow the folds, or when no trial has a score.
    """
    from joblib import Parallel, delayed

    splits = fold_positions(
        target, classes=classes, folds=folds, seed=seed, config=cross_validation, groups=groups, times=times
    )
    folds = len(splits)
    total, done, lock = len(trials) * folds, 0, threading.Lock()

    def score(trial: Trial, train: NDArray[np.intp], test: NDArray[np.intp]) -> float:
        nonlocal done
        fitted = fit(trial, take(rows, train), target[train], weights=take_weights(weights, train))
        answers = answer(trial, fitted, take(rows, test), target[test], classes, take_weights(weights, test))
        with lock:
            done += 1
            on_fit(done, total)
        return compute_metrics(answers, (metric,)).get(metric, math.nan)

    started = time.monotonic()
    # Threads: the fits release the GIL, and processes would cost a start and a copy of the data each.
    scores = Parallel(n_jobs=min(cores, total), prefer="threads")(
        delayed(score)(trial, train, test) for trial in trials for train, test in splits
    )
    scored = [
        Trial(trial.candidate, trial.pipeline, tuple(scores[index * folds : (index + 1) * folds]))
        for index, trial in enumerate(trials)
    ]
    logger.info("search done", extra={"fits": total, "seconds": round(time.monotonic() - started, 3)})
    return _best_first(scored, metric)


def takes_weights(trial: Trial) -> bool:
    """Does the trial's estimator learn from weighted rows?"""
    from sklearn.utils.validation import has_fit_parameter

    return bool(has_fit_parameter(trial.pipeline.named_steps["model"], "sample_weight"))


def take_weights(weights: Weights, positions: NDArray[np.intp]) -> Weights:
    """The weights of some rows by position; None stays None."""
    return None if weights is None else weights[positions]


def fit(trial: Trial, rows: Rows, target: NDArray[Any], jobs: int | None = None, weights: Weights = None) -> Any:
    """A fitted clone of the trial's pipeline, using `jobs` threads where the estimator can.

    `weights` ([n], positive) go to the estimator as its `sample_weight`; one that takes none learns without them.
    Raises RefusedError with scikit-learn's message when it can't be fitted.
    """
    from sklearn.base import clone

    pipeline = clone(trial.pipeline)
    model = pipeline.named_steps["model"]
    threaded = "n_jobs" in model.get_params(deep=False)
    if threaded:
        model.set_params(n_jobs=jobs)
    with _refused(trial, f"can't be fitted to {len(target)} rows"):
        if weights is not None and takes_weights(trial):
            pipeline.fit(rows, target, model__sample_weight=weights)
        else:
            pipeline.fit(rows, target)
    if threaded:
        model.set_params(n_jobs=None)  # a server answers single rows faster without threads
    return pipeline


def answer(
    trial: Trial,
    fitted: Any,
    rows: Rows,
    truth: NDArray[Any],
    classes: tuple[Any, ...] | None,
    weights: Weights = None,
) -> Answers:
    """What the trial's fitted pipeline says to rows whose truth is known; RefusedError when it can't answer."""
    with _refused(trial, f"can't answer {len(truth)} rows"):
        predictions = np.asarray(fitted.predict(rows))
        if classes is None:
            return Answers(REGRESSION, truth, predictions, weights=weights)
        probabilities = fitted.predict_proba(rows) if hasattr(fitted, "predict_proba") else None
    return Answers(CLASSIFICATION, truth, predictions, probabilities, classes, weights)


def _best_first(trials: list[Trial], metric: str) -> list[Trial]:
    if all(math.isnan(trial.mean) for trial in trials):
        raise RefusedError(
            "BadMetric", f"the metric {metric!r} can't be computed for any candidate on these rows; use another one"
        )
    sign = improvement(metric, 1.0, 0.0)
    return sorted(trials, key=lambda trial: math.inf if math.isnan(trial.mean) else -sign * trial.mean)


@contextmanager
def _refused(trial: Trial, what: str) -> Iterator[None]:
    try:
        yield
    except _FIT_ERRORS as exc:
        raise RefusedError("FitFailed", f"{trial.candidate} {what}: {_without_values(exc)}") from exc


def _without_values(exc: Exception) -> str:
    """scikit-learn's first sentence without quoted text, which may be a value of the data."""
    line = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
    return re.sub(r"'[^']*'|\"[^\"]*\"", "…", line)[:300]
