"""Searches that are interrupted, spread over pods, or can't reach their store: the version stays the same.

The trainer and its worker pods are real processes, which find each other through the store on the loopback device.
"""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from modelkit.contract.codec import dumps, loads
from modelkit.contract.config import StoreConfig, TrainerConfig
from modelkit.contract.files import MANIFEST
from modelkit.contract.recipe import SelectionConfig
from modelkit.contract.result import TrainingResult, Usage
from modelkit.errors import StoreError
from modelkit.store.store import Store
from modelkit.train.progress import Progress
from modelkit.train.rendezvous import Meeting, read_meeting, read_usage, write_meeting, write_usage
from modelkit.train.resume import Ledger, Record
from modelkit.train.run import run_training
from tests.unit.train.search_world import candidate, configured, floats, searched, told, whole

RUN = "runs/default/cancer/1-abc"
VERSION = "models/default/cancer/1-abc"
TRIALS = 8
SLOW = configured(
    candidate("GradientBoostingClassifier", floats("learning_rate", 0.02, 0.5, log=True), n_estimators=150),
    trials=TRIALS,
)


def _stored(config: TrainerConfig, root: Path) -> TrainerConfig:
    return replace(config, store=StoreConfig(uri=f"file://{root}"), folds=3)


def _files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / VERSION).iterdir() if path.name != MANIFEST}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The version of a run that nothing happens to."""
    root = tmp_path_factory.mktemp("undisturbed")
    run_training(_stored(SLOW, root), {}, Progress(), 2)
    assert not list(root.glob("runs/**/*.json"))
    return _files(root)


@dataclass(frozen=True)
class Pod:
    """A real process of the run."""

    process: "subprocess.Popen[bytes]"
    log: Path
    message: Path

    def said(self, message: str) -> dict[str, Any] | None:
        """The log record with this message."""
        for line in self.log.read_text().splitlines():
            if line.startswith("{") and line.endswith("}") and (record := json.loads(line))["message"] == message:
                return dict(record)
        return None

    @property
    def result(self) -> TrainingResult:
        return loads(TrainingResult, self.message.read_bytes())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Pod]]:
    pods: list[Pod] = []

    def start_pod(config: TrainerConfig, module: str = "modelkit.train", **settings: str) -> Pod:
        log, message = tmp_path / f"log-{len(pods)}", tmp_path / f"message-{len(pods)}"
        environ = os.environ | {
            "MODELLOOP_CONFIG": dumps(config),
            "MODELLOOP_TERMINATION_LOG": str(message),
            "MODELLOOP_POD_IP": "127.0.0.1",
            **settings,
        }
        with log.open("wb") as file:
            process = subprocess.Popen([sys.executable, "-m", module], env=environ, stderr=file)
        pods.append(Pod(process, log, message))
        return pods[-1]

    yield start_pod
    for pod in pods:
        pod.process.kill()
        pod.process.wait()


def _until(condition: Callable[[], Any], seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_killed_search_goes_on_from_the_trials_that_are_done(
    start: Callable[..., Pod], tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    root = tmp_path / "store"
    config = _stored(SLOW, root)
    first = start(config)
    _until(lambda: list(root.glob(f"{RUN}/trials/*.json")) or first.process.poll() is not None)
    first.process.send_signal(signal.SIGKILL)
    assert first.process.wait() == -signal.SIGKILL
    done = sum(len(json.loads(path.read_text())) for path in root.glob(f"{RUN}/trials/*.json"))
    assert 0 < done < TRIALS
    second = start(config)
    assert second.process.wait() == 0, second.log.read_text()
    searched_again = second.said("search done")
    assert searched_again is not None
    assert searched_again["earlier_trials"] == done
    assert searched_again["fits"] == (TRIALS - done) * 3
    assert _files(root) == undisturbed
    assert second.result.trials == TRIALS
    left = root / RUN / "trials" / "left.json"  # as if the pod had died right after its version
    left.write_text("{}")
    assert run_training(config, {}, Progress(), 1).digest == second.result.digest
    assert not list(root.glob("runs/**/*.json"))


def test_worker_pods_give_the_same_version_even_when_one_is_killed(
    start: Callable[..., Pod], tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    root = tmp_path / "store"
    assert SLOW.tuning is not None
    config = _stored(replace(SLOW, tuning=replace(SLOW.tuning, parallelism=2)), root)
    workers = [start(config, "modelkit.train.worker") for _ in range(2)]
    trainer = start(config)
    meeting = root / RUN / "scheduler.json"
    _until(lambda: meeting.exists() or trainer.process.poll() is not None)
    assert stat.S_IMODE(meeting.stat().st_mode) == 0o600
    _until(lambda: workers[0].said("working") or trainer.process.poll() is not None)
    workers[0].process.kill()
    assert trainer.process.wait() == 0, trainer.log.read_text()
    assert workers[1].process.wait(60) == 0, workers[1].log.read_text()
    said = trainer.said("workers")
    assert said is not None
    assert said["most"] >= 1
    assert trainer.said("search done")["fits"] == TRIALS * 3  # type: ignore[index]
    assert _files(root) == undisturbed
    assert trainer.result.usage is not None
    assert trainer.result.usage.cpu_seconds > 0
    assert not list(root.glob("runs/**/*.json"))


def test_without_any_worker_pod_the_trainer_searches_alone_and_says_so(tmp_path: Path) -> None:
    quick = configured(candidate("DecisionTreeClassifier", whole("max_depth", 1, 8)), trials=5, parallelism=3)
    config = _stored(quick, tmp_path)
    run_training(config, {"MODELLOOP_POD_IP": "127.0.0.1"}, Progress(), 2)
    metrics = json.loads(_files(tmp_path)["metrics.json"])
    assert metrics["notes"][-1].startswith("no one of the 3 worker pods joined the search")
    assert quick.tuning is not None
    plain = _stored(replace(quick, tuning=replace(quick.tuning, parallelism=1)), tmp_path / "plain")
    run_training(plain, {}, Progress(), 2)
    assert json.loads(_files(tmp_path / "plain")["metrics.json"])["candidates"] == metrics["candidates"]


def test_a_run_searches_the_number_of_features(tmp_path: Path) -> None:
    asked = configured(candidate("GaussianNB", whole("featureSelection.features", 1, 4)), method="Grid")
    config = replace(_stored(asked, tmp_path), selection=SelectionConfig(method="AnovaF"))
    result = run_training(config, {}, Progress(), 2)
    metrics = json.loads(_files(tmp_path)["metrics.json"])
    assert result.trials == 4
    assert sorted(entry["params"]["featureSelection.features"] for entry in metrics["candidates"]) == [1, 2, 3, 4]
    assert len({entry["mean"] for entry in metrics["candidates"]}) > 1


@pytest.mark.parametrize("what", ["done", "version", "nothing", "nobody", "nonsense"])
def test_a_worker_ends_when_it_isnt_needed(start: Callable[..., Pod], tmp_path: Path, what: str) -> None:
    config = _stored(SLOW, tmp_path / "store")
    store = Store.open(config.store, {})
    if what == "done":
        write_meeting(store, config, Meeting(done=True))
    if what == "version":
        store.write(f"{VERSION}/{MANIFEST}", b"{}")
    if what == "nobody":
        write_meeting(store, config, Meeting(address="tls://127.0.0.1:1", certificate="-", key="-"))
    if what == "nonsense":
        store.write(f"{RUN}/scheduler.json", b"[]")
    worker = start(config, "modelkit.train.worker", MODELLOOP_WORKER_WAIT_SECONDS="1")
    assert worker.process.wait(60) == (0 if what in ("done", "version") else 1), worker.log.read_text()


def test_a_worker_of_another_release_is_refused(start: Callable[..., Pod], tmp_path: Path) -> None:
    worker = start(_stored(SLOW, tmp_path), "modelkit.train.worker", MODELLOOP_CONFIG="{}")
    assert worker.process.wait(60) == 2


def test_what_workers_use_is_summed(tmp_path: Path) -> None:
    config = _stored(SLOW, tmp_path)
    store = Store.open(config.store, {})
    assert read_usage(store, config) == Usage()
    for pod, peak in (("a", 5), ("b", 9), ("a", 7)):
        write_usage(store, config, pod, Usage(cpu_seconds=1.5, memory_gib_seconds=2.0, peak_memory_bytes=peak))
    assert read_usage(store, config) == Usage(cpu_seconds=3.0, memory_gib_seconds=4.0, peak_memory_bytes=9)
    assert read_meeting(store, config) is None


class _Fails:
    """A store whose volume is gone."""

    uri = "file:///gone"

    def __init__(self) -> None:
        self.writes = 0

    def list(self, _prefix: str) -> Iterator[Any]:
        raise StoreError("gone")

    def write(self, _path: str, _data: bytes) -> None:
        self.writes += 1
        raise StoreError("gone")


def test_a_store_that_fails_costs_a_warning_not_the_search(caplog: pytest.LogCaptureFixture) -> None:
    config = configured(candidate("DecisionTreeClassifier", whole("max_depth", 1, 8)), trials=8)
    store = _Fails()
    ledger = Ledger(store, f"{RUN}/trials", grace=0)  # type: ignore[arg-type]
    assert told(searched(config, ledger=ledger)) == told(searched(config))
    assert store.writes == 1
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "trials of an earlier attempt can't be read; all are done again",
        "trials can't be written; a retried pod will do them again",
    ]


@contextmanager
def _ledger(root: Path) -> Iterator[Ledger]:
    yield Ledger(Store.open(StoreConfig(uri=f"file://{root}"), {}), f"{RUN}/trials", grace=0)


@pytest.mark.parametrize("method", ["Grid", "Random", "Halving", "TPE"])
def test_a_second_attempt_fits_nothing_again_and_finds_the_same(tmp_path: Path, method: str) -> None:
    shallow = candidate("DecisionTreeClassifier", whole("max_depth", 1, 8))
    config = configured(shallow, candidate("GaussianNB"), method=method, trials=20)
    with _ledger(tmp_path) as ledger:
        first = told(searched(config, ledger=ledger))
    with _ledger(tmp_path) as ledger:
        calls: list[Any] = []
        assert told(searched(config, ledger=ledger, pool=lambda _problem: _Closed(calls))) == first
        assert calls == []
        ledger.clear()
    assert not list(tmp_path.glob("runs/**/*.json"))


class _Closed:
    """No cores."""

    notes = ()

    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls

    def slots(self) -> int:
        return 1

    def submit(self, job: Any) -> Any:
        self._calls.append(job)
        raise AssertionError("a fit that was done before")

    def tell(self, left: int) -> None:
        self._calls.append(left)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "change",
    [{"seed": 8}, {"metric": "f1"}, {"folds": "fewer"}, {"weights": "some"}, {"target": "other"}, {"params": "other"}],
)
def test_trials_of_another_search_are_not_taken(tmp_path: Path, change: dict[str, Any]) -> None:
    import numpy as np

    from tests.unit.train.search_world import FOLDS, TARGET

    config = configured(candidate("DecisionTreeClassifier", min_samples_leaf=2))
    with _ledger(tmp_path) as ledger:
        searched(config, ledger=ledger)
    if "params" in change:
        config = configured(candidate("DecisionTreeClassifier", min_samples_leaf=3))
    values: dict[str, Any] = {
        "seed": {"seed": 8},
        "metric": {"metric": "f1"},
        "folds": {"folds": FOLDS[:2]},
        "weights": {"weights": np.ones(len(TARGET))},
        "target": {"target": np.roll(TARGET, 1)},
        "params": {},
    }
    (name,) = change
    with _ledger(tmp_path) as ledger:
        fits: list[Any] = []
        with pytest.raises(AssertionError, match="done before"):
            searched(config, ledger=ledger, pool=lambda _problem: _Closed(fits), **values[name])
        assert len(fits) == 1


def test_records_that_arent_records_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / RUN / "trials"
    folder.mkdir(parents=True)
    for number, text in enumerate(['{"a": 1}', "[]", "nonsense", '{"k": {"scores": [], "error": null}}']):
        (folder / f"{number}.json").write_text(text)
    config = configured(candidate("GaussianNB"))
    with _ledger(tmp_path) as ledger:
        assert told(searched(config, ledger=ledger)) == told(searched(config))


def test_scores_come_back_as_the_very_same_numbers(tmp_path: Path) -> None:
    from tests.unit.train.search_world import built

    _, problem = built(configured(candidate("GaussianNB")))
    record = Record((0.1 + 0.2, 1 / 3, float("nan")), "why")
    with _ledger(tmp_path) as ledger:
        ledger.open(problem)
        ledger.put("[0]", record)
        ledger.close()
    with _ledger(tmp_path) as ledger:
        assert ledger.open(problem) == 1
        found = ledger.find("[0]")
        assert found is not None
        assert found.scores[:2] == record.scores[:2]
        assert found.scores[2] != found.scores[2]
        assert found.error == "why"
        assert ledger.find("[1]") is None
        ledger.close()
