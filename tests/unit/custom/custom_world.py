"""A custom training in three steps, as the three containers of its pod do them, in folders instead of volumes."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelkit.contract.codec import dumps, loads
from modelkit.contract.config import DataConfig, StoreConfig, TrainerConfig, VersionRef
from modelkit.contract.files import version_directory
from modelkit.contract.recipe import CustomConfig
from modelkit.contract.result import TrainingResult
from modelkit.store.store import Store
from modelkit.train.__main__ import FINISH, STAGE, main

NEAREST = '''
"""A user's own training, with nothing but numpy and pyarrow: the nearest class mean."""
import json, os
from pathlib import Path
import numpy as np
import pyarrow as pa, pyarrow.parquet as pq

inputs, outputs = Path(os.environ["MODELLOOP_INPUTS"]), Path(os.environ["MODELLOOP_OUTPUTS"])
schema = json.loads((inputs / "schema.json").read_text())
names = [column["name"] for column in schema["columns"]]
train = pq.read_table(inputs / "train.parquet")
test = pq.read_table(inputs / "test.parquet")
assert test.column_names == names and schema["target"] not in test.column_names
rows = np.column_stack([train[name].to_numpy() for name in names]).astype(float)
target = np.array(train[schema["target"]].to_pylist())
scale = rows.std(axis=0)
means = np.stack([rows[target == label].mean(axis=0) for label in schema["classes"]]) / scale
asked = np.column_stack([test[name].to_numpy() for name in names]).astype(float) / scale
distances = ((asked[:, None, :] - means[None]) ** 2).sum(axis=2)
scores = np.exp(-(distances - distances.min(axis=1, keepdims=True)))
shares = scores / scores.sum(axis=1, keepdims=True)
answers = {"prediction": [schema["classes"][index] for index in shares.argmax(axis=1)]}
answers |= {f"probability_{label}": shares[:, index] for index, label in enumerate(schema["classes"])}
(outputs / "model" / "weights").mkdir(parents=True)
np.save(outputs / "model" / "weights" / "means.npy", means)
(outputs / "model" / "config.json").write_text(json.dumps({"seed": json.loads((inputs / "config.json").read_text())}))
pq.write_table(pa.table(answers), outputs / "predictions.parquet")
(outputs / "metrics.json").write_text(json.dumps({"means": len(means)}))
(outputs / "card.md").write_text("It looks for the nearest mean.")
'''


@dataclass(frozen=True)
class Ended:
    """How a step ended."""

    code: int
    result: TrainingResult

    @property
    def said(self) -> tuple[int, str | None]:
        """Exit code and reason."""
        return self.code, self.result.reason


@dataclass(frozen=True)
class World:
    """The folders of one pod, and the store."""

    root: Path
    config: TrainerConfig
    environ: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path, data: str = "builtin://iris", task: str = "Classification", **changes: Any) -> "World":
        """A run of `data`, with nothing but the task stated."""
        pod = root / "pod"
        config = TrainerConfig(
            namespace="default",
            name="flowers",
            number=1,
            version="1-abc",
            trigger="Created",
            store=StoreConfig(uri=f"file://{root}/store"),
            data=DataConfig(uri=data, display_uri=data, target=changes.pop("target", "target")),
            candidates=(),
            task=task,
            seed=7,
            custom=CustomConfig(
                inputs=f"{pod}/inputs", outputs=f"{pod}/outputs", state=f"{pod}/stage.json", params={"depth": 3}
            ),
        )
        return cls(root, replace(config, **changes))

    def another(self, **changes: Any) -> "World":
        """Another run on the same store, in a pod of its own."""
        fresh = World.of(self.root / "other")
        assert fresh.config.custom is not None
        return World(self.root, replace(self.config, custom=fresh.config.custom, **changes))

    @property
    def inputs(self) -> Path:
        """What the custom image reads."""
        assert self.config.custom is not None
        return Path(self.config.custom.inputs)

    @property
    def outputs(self) -> Path:
        """What it writes."""
        assert self.config.custom is not None
        return Path(self.config.custom.outputs)

    @property
    def store(self) -> Store:
        """Where versions are."""
        return Store.open(self.config.store, {})

    def stage(self) -> Ended:
        """The first container."""
        return self._step(STAGE)

    def finish(self) -> Ended:
        """The last one."""
        return self._step(FINISH)

    def train(self, script: str = NEAREST) -> None:
        """The user's container."""
        environ = os.environ | {"MODELLOOP_INPUTS": str(self.inputs), "MODELLOOP_OUTPUTS": str(self.outputs)}
        subprocess.run([sys.executable, "-c", script], env=environ, check=True)

    def file(self, name: str) -> bytes:
        """A file of the version."""
        config = self.config
        return self.store.read(f"{version_directory(config.namespace, config.name, config.version)}/{name}")

    def json(self, name: str) -> Any:
        """A JSON file of the version."""
        return json.loads(self.file(name))

    def ref(self, result: TrainingResult) -> VersionRef:
        """The version that `result` is of."""
        assert result.path is not None
        assert result.digest is not None
        return VersionRef(number=self.config.number, path=result.path, digest=result.digest)

    @property
    def log(self) -> Path:
        """The termination message."""
        return self.root / "termination-log"

    def variables(self) -> dict[str, str]:
        """The environment of the trainer's own containers."""
        return {
            "MODELLOOP_CONFIG": dumps(self.config),
            "MODELLOOP_TERMINATION_LOG": str(self.log),
            **self.environ,
        }

    def _step(self, step: str) -> Ended:
        code = main(self.variables(), step)
        assert self.log.stat().st_size <= 4096
        return Ended(int(code), loads(TrainingResult, self.log.read_bytes()))
