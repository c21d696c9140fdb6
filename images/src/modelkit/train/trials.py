"""One parameter set of one candidate, how it is fitted, and how one fold scores it.

Everything a worker process or pod needs to score a fold is in `Problem` and `Job`; the same two give the same score
wherever they meet, which is why a search ends the same on one core, on many and on other pods.
"""

import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.contract.metrics import NEEDS_PROBABILITIES
from modelkit.data.columns import Rows, take
from modelkit.errors import RefusedError
from modelkit.evaluate.answers import CLASSIFICATION, REGRESSION, Answers
from modelkit.evaluate.metrics import compute_metrics
from modelkit.train.candidates import Candidate
from modelkit.train.folds import Folds, Positions

Weights = NDArray[np.float64] | None
"""[n] positive weights of rows; None: all count the same."""

_FIT_ERRORS = (ValueError, TypeError, ArithmeticError, IndexError, RuntimeError, AttributeError)
"""What scikit-learn raises for data or parameters that don't suit an estimator."""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One candidate with one set of its searched parameters, and its scores."""

    candidate: Candidate
    """Its `params` hold the fixed and the searched ones."""
    base: Any
    """The candidate's unfitted pipeline, without the searched parameters."""
    scores: tuple[float, ...] = ()
    """The primary metric per fold; NaN where it can't be computed."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The searched parameters, as `base.set_params` takes them."""
    error: str | None = None
    """Why it couldn't be fitted; it loses against every trial that could."""
    level: int = 0
    """Halving: the round that it got to, from 0; a later round beats an earlier one."""
    rows: int | None = None
    """Halving: rows of that round."""

    @property
    def pipeline(self) -> Any:
        """A new unfitted pipeline with the searched parameters."""
        from sklearn.base import clone

        pipeline = clone(self.base)
        return pipeline.set_params(**self.settings) if self.settings else pipeline

    @property
    def mean(self) -> float:
        """Mean over the folds that have a score; NaN without any, and when the trial failed."""
        found = [score for score in self.scores if math.isfinite(score)]
        return math.fsum(found) / len(found) if found and self.error is None else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation over the folds; NaN without any score."""
        found = [score for score in self.scores if math.isfinite(score)]
        return float(np.std(found)) if found and self.error is None else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What every fit of a search has in common."""

    rows: Rows
    target: NDArray[Any]
    weights: Weights
    folds: Folds
    classes: tuple[Any, ...] | None
    """None for regression."""
    metric: str
    seed: int
    pipelines: tuple[Any, ...]
    """One unfitted pipeline per candidate."""
    labels: tuple[str, ...]
    """How each candidate is called in messages."""


@dataclass(frozen=True, slots=True)
class Job:
    """One fit: a parameter set on one fold."""

    candidate: int
    """Position in the problem's pipelines."""
    settings: Mapping[str, Any]
    fold: int
    fraction: float = 1.0
    """Share of the fold's rows, train and test, that is used; above 0, at most 1."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job."""

    score: float
    """NaN where the metric can't be computed."""
    seconds: float
    error: str | None = None


def score(problem: Problem, job: Job) -> Outcome:
    """Fit the job's pipeline on the fold's train rows and measure it on its test rows; never raises for a bad fit."""
    started = time.perf_counter()
    train, test = fold_rows(problem, job)
    label = problem.labels[job.candidate]
    try:
        pipeline = _configured(problem.pipelines[job.candidate], job.settings, label)
        weights = take_weights(problem.weights, train)
        fitted = _fit(pipeline, label, take(problem.rows, train), problem.target[train], None, weights)
        truth, weights = problem.target[test], take_weights(problem.weights, test)
        probable = problem.metric in NEEDS_PROBABILITIES  # else they would cost a second prediction for nothing
        answers = _answer(fitted, label, take(problem.rows, test), truth, problem.classes, weights, probable)
        value = compute_metrics(answers, (problem.metric,)).get(problem.metric, math.nan)
    except RefusedError as exc:
        return Outcome(math.nan, time.perf_counter() - started, exc.message)
    return Outcome(value, time.perf_counter() - started)


def fold_rows(problem: Problem, job: Job) -> tuple[Positions, Positions]:
    """Train and test positions of the job, thinned as scikit-learn's successive halving thins them."""
    train, test = problem.folds[job.fold]
    if job.fraction >= 1:
        return train, test
    from sklearn.utils import resample

    def thinned(positions: Positions) -> Positions:
        # At least one, unlike scikit-learn: a small test fold must not become empty.
        count = max(1, int(job.fraction * len(positions)))
        found: Positions = resample(positions, replace=False, n_samples=count, random_state=problem.seed)
        return found

    return thinned(train), thinned(test)


def takes_weights(trial: Trial) -> bool:
    """Does the trial's estimator learn from weighted rows?"""
    return _takes_weights(trial.base)


def take_weights(weights: Weights, positions: Positions) -> Weights:
    """The weights of some rows by position; None stays None."""
    return None if weights is None else weights[positions]


def fit(trial: Trial, rows: Rows, target: NDArray[Any], jobs: int | None = None, weights: Weights = None) -> Any:
    """A fitted pipeline of the trial, using `jobs` threads where the estimator can.

    `weights` ([n], positive) go to the estimator as its `sample_weight`; one that takes none learns without them.
    Raises RefusedError with scikit-learn's message when it can't be fitted.
    """
    label = str(trial.candidate)
    return _fit(_configured(trial.base, trial.settings, label), label, rows, target, jobs, weights)


def answer(
    trial: Trial,
    fitted: Any,
    rows: Rows,
    truth: NDArray[Any],
    classes: tuple[Any, ...] | None,
    weights: Weights = None,
) -> Answers:
    """What the trial's fitted pipeline says to rows whose truth is known; RefusedError when it can't answer."""
    return _answer(fitted, str(trial.candidate), rows, truth, classes, weights, True)


def _configured(base: Any, settings: Mapping[str, Any], label: str) -> Any:
    from sklearn.base import clone

    pipeline = clone(base)
    if settings:
        with _refused(label, "can't take its parameters"):
            pipeline.set_params(**settings)
    return pipeline


def _fit(pipeline: Any, label: str, rows: Rows, target: NDArray[Any], jobs: int | None, weights: Weights) -> Any:
    model = pipeline.named_steps["model"]
    threaded = "n_jobs" in model.get_params(deep=False)
    if threaded:
        model.set_params(n_jobs=jobs)
    with _refused(label, f"can't be fitted to {len(target)} rows"):
        if weights is not None and _takes_weights(pipeline):
            pipeline.fit(rows, target, model__sample_weight=weights)
        else:
            pipeline.fit(rows, target)
    if threaded:
        model.set_params(n_jobs=None)  # a server answers single rows faster without threads
    return pipeline


def _answer(
    fitted: Any,
    label: str,
    rows: Rows,
    truth: NDArray[Any],
    classes: tuple[Any, ...] | None,
    weights: Weights,
    probable: bool,
) -> Answers:
    with _refused(label, f"can't answer {len(truth)} rows"):
        predictions = np.asarray(fitted.predict(rows))
        if classes is None:
            return Answers(REGRESSION, truth, predictions, weights=weights)
        probabilities = fitted.predict_proba(rows) if probable and hasattr(fitted, "predict_proba") else None
    return Answers(CLASSIFICATION, truth, predictions, probabilities, classes, weights)


def _takes_weights(pipeline: Any) -> bool:
    from sklearn.utils.validation import has_fit_parameter

    return bool(has_fit_parameter(pipeline.named_steps["model"], "sample_weight"))


@contextmanager
def _refused(label: str, what: str) -> Iterator[None]:
    try:
        yield
    except _FIT_ERRORS as exc:
        raise RefusedError("FitFailed", f"{label} {what}: {_without_values(exc)}") from exc


def _without_values(exc: Exception) -> str:
    """scikit-learn's first sentence without quoted text, which may be a value of the data."""
    line = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
    return re.sub(r"'[^']*'|\"[^\"]*\"", "…", line)[:300]
