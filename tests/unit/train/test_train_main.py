"""The process's edge: exit codes, the termination message, and every bad input with what it says."""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.contract import environment
from modelkit.contract.codec import dumps, loads
from modelkit.contract.config import CandidateConfig, ComparisonConfig, StoreConfig, TrainerConfig, VersionRef
from modelkit.contract.result import (
    ChampionResult,
    Difference,
    TrainingResult,
    read_termination_message,
    termination_message,
)
from modelkit.train.__main__ import main
from modelkit.train.cores import available_cores
from modelkit.train.progress import Progress, served_metrics

if TYPE_CHECKING:
    from .conftest import Trainer


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    result: TrainingResult

    @property
    def said(self) -> tuple[int, str | None]:
        return self.code, self.result.reason


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[TrainerConfig], Ended]:
    monkeypatch.setattr(environment, "METRICS_PORT", 0)

    def run_main(config: TrainerConfig, **settings: str) -> Ended:
        log = tmp_path / "termination-log"
        environ = {"MODELLOOP_CONFIG": dumps(config), "MODELLOOP_TERMINATION_LOG": str(log), **settings}
        code = main(environ)
        assert log.stat().st_size <= 4096
        return Ended(code, read_termination_message(log.read_bytes()))

    return run_main


def _csv(tmp_path: Path, **columns: Any) -> str:
    rng = np.random.default_rng(0)
    size = rng.normal(size=60)
    frame = pd.DataFrame({"size": size, "target": np.where(size > 0, "b", "a")} | columns)
    frame.to_csv(tmp_path / "t.csv", index=False)
    return f"file://{tmp_path}/t.csv"


def test_the_process_ends_with_0_and_the_result(trainer: "Trainer", tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    environ = os.environ | {
        "MODELLOOP_CONFIG": dumps(trainer.config("builtin://iris")),
        "MODELLOOP_TERMINATION_LOG": str(log),
    }
    ended = subprocess.run([sys.executable, "-m", "modelkit.train"], env=environ, capture_output=True, check=False)
    result = read_termination_message(log.read_bytes())
    assert ended.returncode == 0, ended.stderr
    assert result.outcome == "Succeeded"
    assert result.digest is not None
    assert trainer.store.exists(f"{result.path}/manifest.json")
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert lines[-1]["message"] == "trained"


def _candidate(name: str, **params: Any) -> dict[str, Any]:
    return {"candidates": (CandidateConfig(estimator=name, params=params),)}


@pytest.mark.parametrize(
    ("changes", "reason", "texts"),
    [
        (_candidate("LogisticRegresion"), "UnknownEstimator", ["LogisticRegresion", "mean 'LogisticRegression'"]),
        (_candidate("Ridge", alfa=1), "BadParameter", ["no parameter 'alfa'", "fit_intercept", "did you mean 'alpha'"]),
        (_candidate("Ridge", alpha="big"), "BadParameter", ["'alpha' parameter of Ridge"]),
        (_candidate("AdaBoostClassifier", estimator={"a": 1}), "BadParameter", ["'estimator' parameter"]),
        ({"candidates": ()}, "NoCandidates", ["at least one"]),
        (_candidate("Ridge") | {"task": "Classification"}, "TaskMismatch", ["Ridge", "Regression"]),
        ({"metric": "rmse"}, "BadMetric", ["'rmse'", "roc_auc"]),
        ({"metric": "f2"}, "BadMetric", ["'f2' is unknown", "f1"]),
        ({"comparisons": (ComparisonConfig(metric="mae"),)}, "BadMetric", ["'mae'"]),
        (_candidate("RidgeClassifier") | {"metric": "roc_auc"}, "BadMetric", ["RidgeClassifier", "no probabilities"]),
        (_candidate("KNeighborsClassifier", n_neighbors=500), "FitFailed", ["candidate 1", "n_neighbors"]),
        ({"folds": 60}, "TooFewRows", ["smallest class has 16 rows", "60 folds"]),
        ({"test_fraction": 0.001}, "TooFewRows", ["can't be split"]),
        ({"data": "builtin://irises"}, "DataNotFound", ["did you mean 'iris'"]),
        ({"data": "file:///missing/t.csv"}, "DataNotFound", ["no file at"]),
        ({"target": "species"}, "ColumnNotFound", ["'species'", "petal length (cm)"]),
        ({"store": StoreConfig(uri="ftp://x")}, "BadStoreAddress", ["file:///, s3://, gs:// or az://"]),
    ],
)  # fmt: skip
def test_a_bad_specification_says_what_to_write_instead(
    trainer: "Trainer", run: Callable[..., Ended], changes: dict[str, Any], reason: str, texts: list[str]
) -> None:
    data, target = changes.pop("data", "builtin://iris?rows=:120"), changes.pop("target", "target")
    ended = run(trainer.config(data, target, **changes))
    assert ended.said == (2, reason)
    assert ended.result.outcome == "Failed"
    assert all(text in (ended.result.message or "") for text in texts), ended.result.message
    assert list(trainer.store.list()) == []


def test_mixed_candidates_are_refused(trainer: "Trainer", run: Callable[..., Ended], candidates: Any) -> None:
    ended = run(trainer.config(candidates=candidates("Ridge", "SVC")))
    assert ended.said == (2, "MixedTasks")
    assert ended.result.message == (
        "the candidates must be all classifiers or all regressors; SVC is a classifier, Ridge a regressor"
    )


@pytest.mark.parametrize(
    ("columns", "reason", "text"),
    [
        ({"target": ["a"] * 60}, "SingleClass", "single class in all 60 rows"),
        ({"size": [np.nan] * 60}, "NoUsableColumn", "column 'size' is empty"),
        ({"size": [*[1.5] * 59, np.inf]}, "NonFiniteValues", "row 60"),
        ({"target": [*["a"] * 58, "b", "b"]}, "TooFewRows", "smallest class"),
    ],
)
def test_bad_data_says_which_column_and_rule(
    trainer: "Trainer", run: Callable[..., Ended], tmp_path: Path, columns: dict[str, Any], reason: str, text: str
) -> None:
    ended = run(trainer.config(_csv(tmp_path, **columns)))
    assert ended.said == (2, reason)
    assert text in (ended.result.message or "")


def test_missing_values_without_imputation_are_the_estimators_business(
    trainer: "Trainer", run: Callable[..., Ended], tmp_path: Path
) -> None:
    uri = _csv(tmp_path, gaps=[*np.arange(50), *[None] * 10])
    config = trainer.config(uri)
    bare = replace(config.preprocessing, imputation="None", scaling="None")
    refused = run(replace(config, preprocessing=bare))
    assert refused.said == (2, "FitFailed")
    assert "contains NaN" in (refused.result.message or "")
    trees = _candidate("DecisionTreeClassifier")
    assert run(replace(config, preprocessing=bare, **trees)).code == 0


def test_no_permission_for_the_data_is_told(
    trainer: "Trainer", run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    uri = _csv(tmp_path)
    (tmp_path / "t.csv").chmod(0)
    assert run(trainer.config(uri)).said == (2, "PermissionDenied")


def test_an_unreachable_store_may_be_tried_again(
    trainer: "Trainer", run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    settings = {
        "MODELLOOP_STORE_AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "MODELLOOP_STORE_AWS_ACCESS_KEY_ID": "id",
        "MODELLOOP_STORE_AWS_SECRET_ACCESS_KEY": "secret",
    }
    ended = run(trainer.config(store=StoreConfig(uri="s3://bucket/models")), **settings)
    assert ended.said == (1, "StoreUnavailable")
    assert "s3://bucket/models" in (ended.result.message or "")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"namespace": "x", "colour": 1}'])
def test_a_configuration_of_another_release_is_refused(tmp_path: Path, text: str) -> None:
    log = tmp_path / "termination-log"
    assert main({"MODELLOOP_CONFIG": text, "MODELLOOP_TERMINATION_LOG": str(log)}) == 2
    result = read_termination_message(log.read_bytes())
    assert result.reason == "BadConfiguration"
    assert "operator and trainer image must match" in (result.message or "")


def test_an_unexpected_error_is_told_without_its_text(
    trainer: "Trainer", run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ArithmeticError("value 4711")

    monkeypatch.setattr("modelkit.train.tuning.rank_trials", fail)
    ended = run(trainer.config("builtin://iris"))
    assert ended.said == (1, "InternalError")
    assert (ended.result.message or "").startswith("ArithmeticError at ")
    assert "4711" not in dumps(ended.result) + capsys.readouterr().err


NAMES = st.text(max_size=20)
NUMBERS = st.dictionaries(NAMES, st.floats(allow_nan=False, allow_infinity=False), max_size=8)
TEXTS = st.none() | st.builds(lambda text, times: text * times, st.text(max_size=8), st.integers(0, 2000))


@settings(deadline=None)
@given(
    message=TEXTS,
    champion_message=TEXTS,
    format_message=TEXTS,
    metrics=NUMBERS,
    differences=st.dictionaries(NAMES, st.builds(Difference, value=st.just(0.1), low=st.just(0.1), high=st.just(0.1))),
)
def test_a_termination_message_always_fits(
    message: str | None,
    champion_message: str | None,
    format_message: str | None,
    metrics: dict[str, float],
    differences: dict[str, Difference],
) -> None:
    text = termination_message(
        TrainingResult(
            outcome="Failed",
            reason="FitFailed",
            message=message,
            champion_message=champion_message,
            format_message=format_message,
            metrics=metrics,
            trivial=metrics,
            champion=ChampionResult(number=1, metrics=metrics, differences=differences),
        )
    )
    assert len(text.encode()) <= environment.TERMINATION_MESSAGE_LIMIT
    assert read_termination_message(text).outcome == "Failed"


def test_a_long_message_keeps_its_beginning() -> None:
    text = termination_message(
        TrainingResult(outcome="Failed", reason="ColumnNotFound", message="column " + "é" * 5000)
    )
    result = read_termination_message(text)
    assert result.reason == "ColumnNotFound"
    assert (result.message or "").startswith("column é")


def test_progress_is_answered_while_the_run_lasts() -> None:
    progress = Progress()
    with served_metrics(progress, 0) as port:
        progress.enter("Searching")
        progress.fit_done(2, 4)
        progress.count_rows("train", 455)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        with served_metrics(Progress(), port or 0) as second:
            assert second is None
    assert "modelloop_training_progress_ratio 0.43" in text
    assert "modelloop_training_fits_done 2.0" in text
    assert 'modelloop_training_rows{use="train"} 455.0' in text
    assert 'modelloop_training_stage_info{stage="Searching"} 1.0' in text


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000", None), ("50000 100000", 1), ("100000 100000", 1), ("junk", None), ("", None)]
)
def test_cores_are_those_of_the_cgroup(tmp_path: Path, text: str, expected: int | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    every = available_cores(tmp_path / "missing")
    assert available_cores(tmp_path / "cpu.max") == (expected or every)
    assert every >= 1


def test_the_champion_is_named_in_the_configuration_by_its_digest(trainer: "Trainer") -> None:
    config = trainer.config(champion=VersionRef(number=1, path="models/x", digest="sha256:0"))
    assert loads(TrainerConfig, dumps(config)) == config
