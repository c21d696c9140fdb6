"""A training run on a store in a folder, in this process, with small candidates."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelkit.contract.config import CandidateConfig, DataConfig, StoreConfig, TrainerConfig, VersionRef
from modelkit.contract.files import version_directory
from modelkit.contract.result import TrainingResult
from modelkit.store.store import Store
from modelkit.train.cores import limit_native_threads
from modelkit.train.progress import Progress
from modelkit.train.run import run_training

limit_native_threads(os.environ)  # as the process does; else OpenMP's waiting threads take the other cores

LOGISTIC = CandidateConfig(estimator="LogisticRegression")


@dataclass(frozen=True)
class Trainer:
    """Runs trainings of one name on one store."""

    root: Path

    def config(
        self,
        data: str = "builtin://breast_cancer",
        target: str = "target",
        features: tuple[str, ...] = (),
        **changes: Any,
    ) -> TrainerConfig:
        number = changes.pop("number", 1)
        plain = TrainerConfig(
            namespace="default",
            name="cancer",
            number=number,
            version=f"{number}-abc",
            trigger="Created",
            store=StoreConfig(uri=f"file://{self.root}"),
            data=DataConfig(uri=data, display_uri=data, target=target, features=features),
            candidates=(LOGISTIC,),
            folds=3,
            seed=7,
        )
        return dataclasses.replace(plain, **changes)

    def run(self, config: TrainerConfig, cores: int = 2) -> TrainingResult:
        return run_training(config, {}, Progress(), cores)

    @property
    def store(self) -> Store:
        return Store.open(StoreConfig(uri=f"file://{self.root}"), {})

    def file(self, config: TrainerConfig, name: str) -> bytes:
        return self.store.read(f"{version_directory(config.namespace, config.name, config.version)}/{name}")

    @staticmethod
    def ref(config: TrainerConfig, result: TrainingResult) -> VersionRef:
        assert result.path is not None
        assert result.digest is not None
        return VersionRef(number=config.number, path=result.path, digest=result.digest)


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return Trainer(tmp_path / "store")


@pytest.fixture
def candidates() -> Callable[..., tuple[CandidateConfig, ...]]:
    """Candidates by estimator name, without parameters."""
    return lambda *names: tuple(CandidateConfig(estimator=name) for name in names)
