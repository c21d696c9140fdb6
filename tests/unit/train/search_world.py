"""Small searches without a run around them: scikit-learn's own data, estimators and splitters."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from modelkit.contract.config import CandidateConfig, DataConfig, StoreConfig, TrainerConfig
from modelkit.contract.recipe import SearchParameterConfig, TuningConfig
from modelkit.train.candidates import build_candidates
from modelkit.train.pools import LocalPool, Pool
from modelkit.train.progress import Progress
from modelkit.train.resume import Ledger
from modelkit.train.search import Ranking, rank_trials
from modelkit.train.spaces import build_spaces
from modelkit.train.trials import Problem, Trial

ROWS = load_breast_cancer()["data"][:300]
TARGET = load_breast_cancer()["target"][:300]
FOLDS = list(StratifiedKFold(3, shuffle=True, random_state=7).split(ROWS, TARGET))


def floats(name: str, minimum: float, maximum: float, **more: Any) -> SearchParameterConfig:
    return SearchParameterConfig(name=name, type="Float", minimum=minimum, maximum=maximum, **more)


def whole(name: str, minimum: float, maximum: float, **more: Any) -> SearchParameterConfig:
    return SearchParameterConfig(name=name, type="Int", minimum=minimum, maximum=maximum, **more)


def choice(name: str, *values: Any) -> SearchParameterConfig:
    return SearchParameterConfig(name=name, type="Choice", values=values)


def candidate(name: str, *search: SearchParameterConfig, **params: Any) -> CandidateConfig:
    return CandidateConfig(estimator=name, params=params, search=search)


def configured(*candidates: CandidateConfig, method: str = "Random", seed: int = 7, **tuning: Any) -> TrainerConfig:
    return TrainerConfig(
        namespace="default",
        name="cancer",
        number=1,
        version="1-abc",
        trigger="Created",
        store=StoreConfig(uri="file:///nowhere"),
        data=DataConfig(uri="builtin://breast_cancer", display_uri="builtin://breast_cancer", target="target"),
        candidates=candidates,
        seed=seed,
        tuning=TuningConfig(method=method, **tuning),
    )


def built(config: TrainerConfig, metric: str = "accuracy", **changes: Any) -> tuple[list[Trial], Problem]:
    trials = [
        Trial(found, Pipeline([("scale", StandardScaler()), ("model", found.estimator)]))
        for found in build_candidates(config, metric)
    ]
    plain: dict[str, Any] = {
        "rows": ROWS,
        "target": TARGET,
        "weights": None,
        "folds": FOLDS,
        "classes": (0, 1),
        "metric": metric,
        "seed": config.seed,
        "pipelines": tuple(trial.base for trial in trials),
        "labels": tuple(str(trial.candidate) for trial in trials),
    }
    return trials, Problem(**plain | changes)


def searched(
    config: TrainerConfig,
    cores: int = 1,
    metric: str = "accuracy",
    ledger: Ledger | None = None,
    pool: Callable[[Problem], Pool] | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> Ranking:
    trials, problem = built(config, metric, **changes)
    assert config.tuning is not None
    return rank_trials(
        trials,
        problem,
        spaces=build_spaces(config, [trial.candidate for trial in trials]),
        tuning=config.tuning,
        progress=progress or Progress(),
        pool=lambda _fits: pool(problem) if pool else LocalPool(problem, cores),
        ledger=ledger,
    )


def told(ranking: Ranking) -> list[tuple[Any, ...]]:
    """Everything that a search found, comparable even where scores are NaN."""
    return [
        (trial.candidate.name, dict(trial.candidate.params), np.array(trial.scores).tobytes(), trial.error, trial.level)
        for trial in ranking.trials
    ]


def params_of(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    return [dict(trial.candidate.params) for trial in trials]
