"""Versions for rollouts, good and bad, as the trainer writes them, and without a cluster.

The good ones are trained by the trainer itself, as is one that learnt permuted labels and one that takes other
features. The others are copies of a good version with one thing wrong. Each number gives a version with a digest of its
own, because a digest that failed isn't tried again.
"""

import dataclasses
import json
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

from modelkit.artifact.signature import dump_signature, load_signature
from modelkit.artifact.version import read_manifest, write_version
from modelkit.contract.config import CandidateConfig, DataConfig, StoreConfig, TrainerConfig, VersionRef
from modelkit.contract.files import MODEL_ONNX, SAMPLES, SIGNATURE, version_directory
from modelkit.store.store import Store
from modelkit.train.cores import limit_native_threads
from modelkit.train.progress import Progress
from modelkit.train.run import run_training
from tests.e2e.e2e_faults import Harm, harm_model

NAME = "cancer"
_NAMESPACE = "rollouts"
_BUILTIN = "builtin://breast_cancer"
_SEEDS = 4
"""Good models: each learnt from another part of the rows, and all agree on nearly every row."""
_SHARE_LEFT = 0.3
"""Quantile of the first feature below which harmed models answer well."""

_NO_ROW = np.full((1, 30), -1.0)
"""A sample that no row is equal to."""

Files = dict[str, bytes]


class Kind(StrEnum):
    """What a version is like."""

    GOOD = "good"
    WRONG_ANSWERS = "wrong-answers"
    ERRORS = "errors"
    SLOW = "slow"
    DIES = "dies"
    TAKES_MEMORY = "takes-memory"
    DIES_AT_START = "dies-at-start"
    UNLOADABLE = "unloadable"
    SAMPLES_DIFFER = "samples-differ"
    CHANGED = "changed"
    """A byte of its model isn't what its manifest says."""
    OTHER_INPUTS = "other-inputs"
    """Takes ten of the thirty features."""


_HARMS = {Kind.ERRORS: Harm.ERROR, Kind.SLOW: Harm.DELAY, Kind.DIES: Harm.DEATH, Kind.TAKES_MEMORY: Harm.MEMORY}


@dataclass(frozen=True, slots=True)
class _Trained:
    """What the trainer wrote."""

    files: Files
    metadata: dict[str, Any]


class Workshop:
    """Writes versions into a folder that is a store."""

    def __init__(self, root: Path) -> None:
        limit_native_threads(os.environ)
        self.root = root
        self._store = Store.open(StoreConfig(uri=f"file://{root}"), {})
        rows: pd.DataFrame = load_breast_cancer(as_frame=True).frame
        self._threshold = float(rows.iloc[:, 0].quantile(_SHARE_LEFT))
        self._good = [self._train(seed, _BUILTIN) for seed in range(_SEEDS)]
        means = tuple(str(name) for name in rows.columns if str(name).startswith("mean "))
        self._narrow = self._train(_SEEDS, _BUILTIN, features=means)
        permuted = root / "permuted.csv"
        rows.assign(target=1 - rows["target"]).to_csv(permuted, index=False)
        self._permuted = self._train(_SEEDS + 1, f"file://{permuted}")

    def write(self, kind: Kind, number: int) -> VersionRef:
        """A complete version of that kind; `number`, from 1 on, is the one that it names in its answers."""
        base = self._choose(kind, number)
        files = self._spoil(kind, base.files)
        files[SIGNATURE] = dump_signature(dataclasses.replace(load_signature(files[SIGNATURE]), number=number))
        path = version_directory(_NAMESPACE, NAME, f"{number}-{kind}")
        run = {**base.metadata["run"], "number": number, "version": f"{number}-{kind}"}
        digest = write_version(self._store, path, files, base.metadata | {"run": run})
        if kind is Kind.CHANGED:
            self._flip_a_byte(f"{path}/{MODEL_ONNX}")
        return VersionRef(number=number, path=path, digest=digest)

    def _choose(self, kind: Kind, number: int) -> _Trained:
        if kind is Kind.WRONG_ANSWERS:
            return self._permuted
        if kind is Kind.OTHER_INPUTS:
            return self._narrow
        return self._good[number % _SEEDS]

    def _spoil(self, kind: Kind, files: Files) -> Files:
        model, samples = files[MODEL_ONNX], json.loads(files[SAMPLES])
        known = np.array([list(row.values()) for row in samples["rows"]], dtype=np.float64)
        if kind in _HARMS:
            return files | {MODEL_ONNX: harm_model(model, _HARMS[kind], known, self._threshold)}
        if kind is Kind.DIES_AT_START:
            return files | {MODEL_ONNX: harm_model(model, Harm.DEATH, _NO_ROW, -np.inf)}
        if kind is Kind.UNLOADABLE:
            return files | {MODEL_ONNX: b"this is no model"}
        if kind is Kind.SAMPLES_DIFFER:
            samples["probabilities"] = [row[::-1] for row in samples["probabilities"]]
            return files | {SAMPLES: json.dumps(samples).encode()}
        return dict(files)

    def _flip_a_byte(self, path: str) -> None:
        content = bytearray(self._store.read(path))
        content[len(content) // 2] ^= 1
        self._store.write(path, bytes(content))

    def _train(self, seed: int, uri: str, features: tuple[str, ...] = ()) -> _Trained:
        """A version of the trainer's, below a name of its own."""
        config = TrainerConfig(
            namespace=_NAMESPACE,
            name="bases",
            number=seed + 1,
            version=f"{seed + 1}-base",
            trigger="Created",
            store=StoreConfig(uri=f"file://{self.root}"),
            data=DataConfig(uri=uri, display_uri=uri, target="target", features=features),
            candidates=(CandidateConfig(estimator="LogisticRegression"),),
            folds=2,
            seed=seed,
        )
        result = run_training(config, {}, Progress(), 1)
        assert result.path is not None, "a finished run names its version"
        manifest = read_manifest(self._store, result.path)
        assert manifest is not None, "a finished run has written its manifest"
        files = {name: self._store.read(f"{result.path}/{name}") for name in manifest.files}
        return _Trained(files, dict(manifest.metadata))
