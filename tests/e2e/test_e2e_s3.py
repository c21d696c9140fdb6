"""Data, versions, captures and reports in S3: the loop without any volume, and what goes wrong with buckets."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from tests.e2e.e2e_bucket import BucketServer
from tests.e2e.e2e_manifests import build_deployment, build_monitor, build_secret, build_training
from tests.e2e.e2e_space import Space
from tests.e2e.e2e_traffic import read_patients, send_patients

PROMISED_SECONDS = 30.0
NAME, PARQUET = "from-csv", "from-parquet"
DRIFTED = read_patients(0, 120, drifted=True)
WRONG = "a-secret-that-is-wrong-5d0c"
_KEYS = {"name": "keys"}
_STORAGE = {"uri": "s3://models/e2e", "secretRef": _KEYS}


def prepare(space: Space) -> None:
    server = BucketServer(space.kube.environment.host_address, ("rows", "models"))
    space.bucket = server
    space.on_close(server.stop)
    frame: pd.DataFrame = load_breast_cancer(as_frame=True).frame
    frame.to_csv(server.root / "rows" / "cancer.csv", index=False)
    (server.root / "rows" / "2026").mkdir()
    frame.to_parquet(server.root / "rows" / "2026" / "cancer.parquet")
    space.apply(build_secret("keys", server.secret()), build_secret("wrong-keys", server.secret(WRONG)))
    space.apply(
        _training(NAME, "s3://rows/cancer.csv"),
        build_deployment(NAME),
        build_monitor(NAME, retrain={"data": "Append"}, alarm={"breaches": 1, "windows": 1}),
        _training(PARQUET, "s3://rows/2026/cancer.parquet"),
    )
    space.begin(lambda: _tell(space))


def _tell(space: Space) -> dict[str, Any]:
    """The loop once around; the window that raised the alarm."""
    space.wait_condition("ModelDeployment", NAME)
    space.wait_condition("ModelMonitor", NAME)
    send_patients(space.address(NAME), DRIFTED)
    space.wait_captured(NAME, len(DRIFTED))
    window = space.look(NAME)
    space.wait(lambda: (space.status("ModelDeployment", NAME).get("stable") or {}).get("number") == 2, "version 2")
    return window


def _training(name: str, uri: str, secret: str = "keys", **spec: Any) -> dict[str, Any]:
    data = {"uri": uri, "target": "target", "secretRef": {"name": secret}}
    return build_training(name, data=data, **({"storage": _STORAGE} | spec))


def test_csv_and_parquet_from_s3_make_versions_in_s3(space: Space) -> None:
    for name in (NAME, PARQUET):
        space.wait_condition("ModelTraining", name)
        champion = space.status("ModelTraining", name)["champion"]
        assert (space.bucket.root / "models" / "e2e" / champion["path"] / "manifest.json").exists()
    csv, parquet = (space.status("ModelTraining", name)["history"][-1] for name in (NAME, PARQUET))
    assert csv["metrics"] == parquet["metrics"]


def test_a_model_from_s3_is_served_watched_and_retrained_from_its_captures_in_s3(space: Space) -> None:
    window = space.await_begun()
    assert window["labels"] == len(DRIFTED)
    store = space.bucket.root / "models" / "e2e"
    folder = (store / window["report"]).parent
    assert json.loads((folder / "report.json").read_text())["window"]["rows"] == len(DRIFTED)
    assert (folder / "report.html").exists()
    record = next(record for record in space.status("ModelTraining", NAME)["history"] if record["number"] == 2)
    assert (record["trigger"]["reason"], record["feedbackRows"]) == ("Monitor", len(DRIFTED))
    assert record["metrics"]["f1"] > record["championMetrics"]["f1"]
    assert (store / "captures" / space.name / NAME / "requests").is_dir()


def test_no_claim_is_made_where_everything_is_in_s3(space: Space) -> None:
    assert space.objects("PersistentVolumeClaim") == []


@dataclass(frozen=True)
class Mistake:
    """Something wrong with a bucket or a key."""

    body: dict[str, Any]
    reason: str
    words: tuple[str, ...]
    mended: dict[str, Any]

    @property
    def name(self) -> str:
        """Of the training."""
        return str(self.body["metadata"]["name"])


MISTAKES = (
    Mistake(
        _training("no-object", "s3://rows/absent.csv"),
        "DataNotFound",
        ("s3://rows/absent.csv",),
        {"data": {"uri": "s3://rows/cancer.csv"}},
    ),
    Mistake(
        _training("no-bucket", "s3://absent/cancer.csv", retries=0),
        "StoreUnavailable",
        ("s3://absent", "bucket"),
        {"data": {"uri": "s3://rows/cancer.csv"}},
    ),
    Mistake(
        _training("wrong-key", "s3://rows/cancer.csv", "wrong-keys"),
        "PermissionDenied",
        ("s3://rows/cancer.csv", "AWS_SECRET_ACCESS_KEY"),
        {"data": {"secretRef": {"name": "keys"}}},
    ),
    Mistake(
        _training("wrong-store-key", "s3://rows/cancer.csv", storage=_STORAGE | {"secretRef": {"name": "wrong-keys"}}),
        "PermissionDenied",
        ("s3://models/e2e", "AWS_SECRET_ACCESS_KEY"),
        {"storage": {"secretRef": {"name": "keys"}}},
    ),
    Mistake(
        _training("late-secret", "s3://rows/cancer.csv", "late"),
        "ContainerConfigError",
        ("'late'", "create it in this namespace"),
        {},
    ),
)


@pytest.fixture(scope="module")
def seen(space: Space) -> dict[str, tuple[float, dict[str, Any]]]:
    """Seconds from the mistake to its condition, and the condition, by name of the training."""
    started = time.monotonic()
    space.apply(*(mistake.body for mistake in MISTAKES))
    found: dict[str, tuple[float, dict[str, Any]]] = {}

    def look() -> bool:
        for mistake in MISTAKES:
            ready = space.condition("ModelTraining", mistake.name, "Ready")
            if mistake.name not in found and ready.get("reason") == mistake.reason:
                found[mistake.name] = (time.monotonic() - started, ready)
        return len(found) == len(MISTAKES)

    # What is missing is for the test of that mistake to say.
    with suppress(AssertionError):
        space.wait(look, "the conditions of all mistakes", 1.5 * PROMISED_SECONDS)
    return found


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_what_is_wrong_with_a_bucket_is_said_within_30_seconds(
    space: Space, seen: dict[str, tuple[float, dict[str, Any]]], mistake: Mistake
) -> None:
    assert mistake.name in seen, space.status("ModelTraining", mistake.name).get("conditions")
    seconds, ready = seen[mistake.name]
    assert seconds < PROMISED_SECONDS
    for text in mistake.words:
        assert text in ready["message"]
    assert WRONG not in json.dumps(space.get("ModelTraining", mistake.name))
    assert len(space.pods("trainer", mistake.name)) == 1


def test_all_of_it_is_gone_once_mended(space: Space, seen: dict[str, tuple[float, dict[str, Any]]]) -> None:
    # The pod that waits for its Secret starts by itself.
    space.apply(build_secret("late", space.bucket.secret()))
    for mistake in MISTAKES:
        if mistake.mended:
            space.patch("ModelTraining", mistake.name, mistake.mended)
    for mistake in MISTAKES:
        space.wait_condition("ModelTraining", mistake.name)
    assert space.status("ModelTraining", "late-secret")["runs"] == 1
