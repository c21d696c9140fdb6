"""The trainer as a process: it ends at once when it is told to, and tidies up after a version."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from modelkit.contract.codec import dumps, loads
from modelkit.contract.config import CandidateConfig, DataConfig, StoreConfig, TrainerConfig
from modelkit.contract.environment import CONFIG, ExitCode
from modelkit.contract.files import version_directory, version_name
from modelkit.contract.result import TrainingResult
from modelkit.store.store import Store

UID = "6f1c0a52-0000-4000-8000-000000000001"


def config_of(folder: Path, estimator: str, **fields: object) -> TrainerConfig:
    stated = {
        "namespace": "team",
        "name": "iris",
        "number": 4,
        "version": version_name(UID, 4),
        "trigger": "Scheduled",
        "store": StoreConfig(uri=f"file://{folder}"),
        "data": DataConfig(uri="builtin://iris", display_uri="builtin://iris", target="target"),
        "candidates": (CandidateConfig(estimator=estimator),),
        "folds": 2,
        "uid": UID,
    }
    return TrainerConfig(**(stated | fields))  # type: ignore[arg-type]


def start(config: TrainerConfig, log: Path) -> "subprocess.Popen[bytes]":
    environ = {**os.environ, CONFIG: dumps(config), "MODELLOOP_TERMINATION_LOG": f"{log}.end", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        return subprocess.Popen([sys.executable, "-m", "modelkit.train"], env=environ, stdout=output, stderr=output)


def test_old_versions_go_at_the_end_of_a_run_and_those_in_use_stay(tmp_path: Path) -> None:
    store = Store.open(StoreConfig(uri=f"file://{tmp_path / 'store'}"), {})
    names = [version_name(UID, number) for number in (1, 2, 3)]
    for name in names:
        store.write(f"{version_directory('team', 'iris', name)}/manifest.json", b"{}")
    config = config_of(tmp_path / "store", "GaussianNB", keep_versions=(names[1],))
    process = start(config, tmp_path / "log")
    assert process.wait(120) == ExitCode.DONE, (tmp_path / "log").read_text()
    result = loads(TrainingResult, (tmp_path / "log.end").read_text())
    assert result.path == version_directory("team", "iris", config.version)
    left = {entry.path.split("/")[3] for entry in store.list("models/team/iris")}
    assert left == {names[1], config.version}


def test_sigterm_ends_a_run_at_once_with_a_code_of_its_own(tmp_path: Path) -> None:
    endless = CandidateConfig(
        estimator="MLPClassifier", params={"max_iter": 10_000_000, "tol": 0.0, "n_iter_no_change": 10_000_000}
    )
    process = start(config_of(tmp_path / "store", "MLPClassifier", candidates=(endless,)), tmp_path / "log")
    try:
        while "Searching" not in (tmp_path / "log").read_text():
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
            assert process.returncode is None, (tmp_path / "log").read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == ExitCode.STOPPED
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / "log.end").exists(), "it has nothing to say"
