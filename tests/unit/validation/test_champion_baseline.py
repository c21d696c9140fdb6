"""Where the champion's side of the gate comes from, and what happens when it isn't there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelkit.artifact.version import read_manifest, write_version
from modelkit.contract import files
from modelkit.contract.codec import loads
from modelkit.contract.config import CandidateConfig, DataConfig, StoreConfig, TrainerConfig, VersionRef
from modelkit.contract.recipe import ValidationConfig
from modelkit.data.description import SourceDescription
from modelkit.errors import RefusedError
from modelkit.store.store import Store
from modelkit.train.progress import Progress
from modelkit.train.run import run_training
from modelkit.train.validating import read_known


def table(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    size, kind = rng.normal(size=200), rng.choice(["a", "b"], 200)
    y = size + (kind == "a") + rng.normal(0, 0.5, 200) > 0.5
    return pd.DataFrame({"size": size, "kind": kind, "flag": rng.random(200) < 0.5, "y": y.astype(int)})


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainerConfig:
    tmp_path: Path = tmp_path_factory.mktemp("loop")
    return TrainerConfig(
        namespace="n",
        name="m",
        number=1,
        version="1-a",
        trigger="Created",
        store=StoreConfig(uri=f"file://{tmp_path}/store"),
        data=DataConfig(uri=f"file://{tmp_path}/t.csv", display_uri="t", target="y"),
        candidates=(CandidateConfig(estimator="LogisticRegression"),),
        folds=2,
        validation=ValidationConfig(),
    )


def train(config: TrainerConfig, frame: pd.DataFrame) -> Any:
    frame.to_csv(config.data.uri.removeprefix("file://"), index=False)
    return run_training(config, {}, Progress(), 1)


@pytest.fixture(scope="module")
def champion(config: TrainerConfig) -> VersionRef:
    result = train(config, table(0))
    return VersionRef(number=1, path=result.path, digest=result.digest)


def _next(config: TrainerConfig, champion: VersionRef, number: int = 2) -> TrainerConfig:
    return replace(config, number=number, version=f"{number}-a", champion=champion)


def _store(config: TrainerConfig) -> Store:
    return Store.open(config.store, {})


def _without(store: Store, champion: VersionRef, *names: str) -> VersionRef:
    """The same version, written without some of its files."""
    manifest = read_manifest(store, champion.path, champion.digest)
    assert manifest is not None
    kept = {name: store.read(f"{champion.path}/{name}") for name in manifest.files if name not in names}
    path = f"models/n/m/1-without-{len(names)}"
    return replace(champion, path=path, digest=write_version(store, path, kept, {"run": path}))


def test_a_version_describes_its_source(config: TrainerConfig, champion: VersionRef) -> None:
    source = loads(SourceDescription, _store(config).read(f"{champion.path}/{files.SOURCE}"))
    assert source.rows == 200
    assert [(column.name, column.type, column.used) for column in source.columns] == [
        ("size", "Number", True),
        ("kind", "Category", True),
        ("flag", "Boolean", True),
        ("y", "Number", False),
    ]
    assert source.class_shares == pytest.approx({str(name): float(np.mean(table(0)["y"] == name)) for name in (0, 1)})


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (table(1).drop(columns="kind"), "column 'kind' isn't there, which version 1's data had"),
        (table(1).assign(size="x"), "column 'size' holds text"),
        (table(1).assign(kind=np.repeat(["a", "z"], 100)), "column 'kind' holds categories"),
        (table(1).assign(size=1.0), "column 'size' holds a single value"),
    ],
)
def test_a_version_without_a_description_is_known_by_its_signature_and_profile(
    config: TrainerConfig, champion: VersionRef, frame: pd.DataFrame, text: str
) -> None:
    older = _without(_store(config), champion, files.SOURCE)
    with pytest.raises(RefusedError) as refused:
        train(_next(config, older), frame)
    assert refused.value.reason == "DataInvalid"
    assert text in refused.value.message


def test_a_good_table_passes_a_version_without_a_description(config: TrainerConfig, champion: VersionRef) -> None:
    older = _without(_store(config), champion, files.SOURCE)
    assert train(_next(config, older, 3), table(1).assign(further=1.5)).findings == ()


def test_a_version_that_says_nothing_is_told_and_only_what_is_stated_is_checked(
    config: TrainerConfig, champion: VersionRef
) -> None:
    silent = _without(_store(config), champion, files.SOURCE, files.PROFILE)
    result = train(_next(config, silent, 4), table(1))
    assert [(finding.rule, finding.severe) for finding in result.findings] == [("BaselineUnreadable", False)]


@pytest.mark.parametrize(
    "changes", [{"champion": None}, {"validation": None}, {"validation": ValidationConfig(baseline="None")}]
)
def test_nothing_is_read_unless_it_is_asked_for(
    config: TrainerConfig, champion: VersionRef, changes: dict[str, Any]
) -> None:
    assert read_known(_store(config), replace(_next(config, champion), **changes)) == (None, ())
