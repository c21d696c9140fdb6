"""The candidates of a run as scikit-learn estimators, checked before any data is read."""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from modelkit.contract.config import TrainerConfig
from modelkit.contract.estimators import CLASSIFIERS, ESTIMATORS
from modelkit.contract.metrics import METRICS, NEEDS_PROBABILITIES, PRIMARY_METRIC
from modelkit.data.suggest import suggest
from modelkit.errors import RefusedError
from modelkit.evaluate.metrics import metric_names


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One estimator with its parameters, unfitted."""

    index: int
    """Position in the specification, from 0."""
    name: str
    params: Mapping[str, Any]
    """As the user wrote them."""
    estimator: Any

    def __str__(self) -> str:
        return f"candidate {self.index + 1} ({self.name})"


def resolve_task(config: TrainerConfig) -> str:
    """Classification or Regression, which the candidates decide; RefusedError when they or the spec disagree."""
    if not config.candidates:
        raise RefusedError("NoCandidates", "there must be at least one candidate")
    tasks = []
    for candidate in config.candidates:
        if candidate.estimator not in ESTIMATORS:
            raise RefusedError(
                "UnknownEstimator",
                f"the estimator {candidate.estimator!r} isn't one of those that may be used"
                + suggest(candidate.estimator, ESTIMATORS),
            )
        tasks.append("Classification" if candidate.estimator in CLASSIFIERS else "Regression")
    if len(set(tasks)) > 1:
        other = config.candidates[tasks.index("Regression")].estimator
        one = config.candidates[tasks.index("Classification")].estimator
        raise RefusedError(
            "MixedTasks",
            f"the candidates must be all classifiers or all regressors; {one} is a classifier, {other} a regressor",
        )
    if config.task is not None and config.task != tasks[0]:
        raise RefusedError(
            "TaskMismatch",
            f"the task is {config.task}, but {config.candidates[0].estimator} is an estimator for {tasks[0]}",
        )
    return tasks[0]


def resolve_metric(config: TrainerConfig, task: str) -> str:
    """The primary metric; RefusedError when it, or one to compare by, isn't a metric of the task."""
    names = metric_names(task)
    for name in (config.metric, *(comparison.metric for comparison in config.comparisons)):
        if name is not None and name not in names:
            other = "is for the other task" if name in METRICS else "is unknown"
            raise RefusedError(
                "BadMetric",
                f"the metric {name!r} {other}; those for {task} are: {', '.join(names)}" + suggest(name, names),
            )
    return config.metric or PRIMARY_METRIC[task]


def build_candidates(config: TrainerConfig, metric: str) -> list[Candidate]:
    """Every candidate, seeded; RefusedError for a parameter that the estimator doesn't have or take."""
    candidates = [
        Candidate(index, entry.estimator, entry.params, _build(entry.estimator, entry.params, config.seed, index))
        for index, entry in enumerate(config.candidates)
    ]
    for candidate in candidates:
        if metric in NEEDS_PROBABILITIES and not hasattr(candidate.estimator, "predict_proba"):
            raise RefusedError(
                "BadMetric",
                f"{candidate} gives no probabilities, which the metric {metric!r} needs; use another metric, "
                "another estimator, or parameters with which it gives some (SGDClassifier: loss: log_loss)",
            )
    return candidates


def _build(name: str, params: Mapping[str, Any], seed: int, index: int) -> Any:
    where = f"candidate {index + 1}"
    estimator = getattr(importlib.import_module(ESTIMATORS[name]), name)()
    known = estimator.get_params(deep=False)
    _refuse_unknown(where, name, params, known)
    estimator.set_params(**params)
    if "random_state" in known and "random_state" not in params:
        estimator.set_params(random_state=seed)
    # scikit-learn would check only when it fits; asked now, a typing error costs seconds, not the first search.
    validate = getattr(estimator, "_validate_params", None)
    if validate is not None:
        try:
            validate()
        except (ValueError, TypeError) as exc:
            raise RefusedError("BadParameter", f"{where}: {exc}") from exc
    return estimator


def _refuse_unknown(where: str, name: str, params: Iterable[str], known: Iterable[str]) -> None:
    for param in params:
        if param not in known:
            raise RefusedError(
                "BadParameter",
                f"{where}: {name} has no parameter {param!r}; its parameters are: {', '.join(known)}"
                + suggest(param, known),
            )
