"""A fitted model on real data, and its compression as a run does it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from modelkit.contract.config import CandidateConfig, DataConfig, StoreConfig, TrainerConfig
from modelkit.contract.recipe import CompressConfig, StudentConfig
from modelkit.data.columns import as_array, concatenate
from modelkit.data.dataset import Dataset, build_dataset
from modelkit.data.source import read_source
from modelkit.train.candidates import Candidate, build_candidates, resolve_task
from modelkit.train.compress import Compressed, build_student, compress
from modelkit.train.cores import limit_native_threads
from modelkit.train.parts import Labelled, Parts, divide
from modelkit.train.pipeline import build_pipeline
from modelkit.train.search import Trial, fit

limit_native_threads(os.environ)


@dataclass(frozen=True)
class Compression:
    """What was compressed, and what came of it."""

    dataset: Dataset
    parts: Parts
    classes: tuple[Any, ...] | None
    trial: Trial
    fitted: Any
    found: Compressed

    @property
    def step(self) -> Any:
        """The only step."""
        (step,) = self.found.steps
        return step

    def test_rows(self) -> np.ndarray:
        """The evaluation rows as an array."""
        return as_array(self.parts.evaluation.rows)


def make_config(data: str, estimator: str, params: dict[str, Any], **changes: Any) -> TrainerConfig:
    """A run of one candidate that is compressed."""
    return TrainerConfig(
        namespace="default",
        name="small",
        number=1,
        version="1-abc",
        trigger="Created",
        store=StoreConfig(uri="file:///nowhere"),
        data=DataConfig(uri=data, display_uri=data, target="target"),
        candidates=(CandidateConfig(estimator=estimator, params=params),),
        seed=7,
        **changes,
    )


def _join(first: Labelled, second: Labelled) -> Labelled:
    rows = concatenate(first.rows, second.rows)
    return Labelled(rows, np.concatenate([first.target, second.target]))


@pytest.fixture
def run_compression() -> Callable[..., Compression]:
    """Fit `estimator` and compress it by `methods`; `metric` is accuracy or r2 by default."""

    def run(
        estimator: str,
        *methods: str,
        data: str = "builtin://breast_cancer",
        max_drop: float = 0.02,
        student: str | None = None,
        student_params: dict[str, Any] | None = None,
        metric: str | None = None,
        change: Callable[[Parts], Parts] = lambda parts: parts,
        more: dict[str, Any] | None = None,
        **params: Any,
    ) -> Compression:
        taught = None if student is None else StudentConfig(estimator=student, params=student_params or {})
        asked = CompressConfig(methods=methods, max_drop=max_drop, student=taught)
        config = make_config(data, estimator, params, compress=asked, **(more or {}))
        task = resolve_task(config)
        metric = metric or ("accuracy" if task == "Classification" else "r2")
        dataset = build_dataset(read_source(config.data, {}), config.data, task)
        parts = change(divide(dataset, None, config))

        def trial_of(candidate: Candidate | None) -> Trial | None:
            if candidate is None:
                return None
            pipeline = build_pipeline(candidate.name, candidate.estimator, dataset.columns, config.preprocessing)
            return Trial(candidate, pipeline)

        chosen = trial_of(build_candidates(config, metric)[0])
        assert chosen is not None
        every = parts.train if parts.validation is None else _join(parts.train, parts.validation)
        fitted = fit(chosen, every.rows, every.target)
        found = compress(
            config,
            metric,
            Compressed(chosen, fitted),
            trial_of(build_student(config, metric)),
            columns=dataset.columns,
            parts=parts,
            every=every,
            classes=dataset.classes,
            cores=1,
        )
        return Compression(dataset, parts, dataset.classes, chosen, fitted, found)

    return run
