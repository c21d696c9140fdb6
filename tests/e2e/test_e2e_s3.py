"""Data, versions, captures and reports in S3: the loop without any volume, and what goes wrong with buckets."""

import json
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
    space.apply(build_secret("keys", server.secret()), build_secret("wrong-keys", server.secret("wrong")))
    space.apply(
        _training(NAME, "s3://rows/cancer.csv"),
        build_deployment(NAME),
        build_monitor(NAME, retrain={"data": "Append"}, alarm={"breaches": 1, "windows": 1}),
        _training(PARQUET, "s3://rows/2026/cancer.parquet"),
    )


def _training(name: str, uri: str, secret: str = "keys", **spec: Any) -> dict[str, Any]:
    data = {"uri": uri, "target": "target", "secretRef": {"name": secret}}
    return build_training(name, data=data, **({"storage": _STORAGE} | spec))


def test_csv_and_parquet_from_s3_make_versions_in_s3(space: Space) -> None:
    for name in (NAME, PARQUET):
        space.wait_condition("ModelTraining", name)
        champion = space.status("ModelTraining", name)["champion"]
        assert (space.bucket.root / "models" / "e2e" / champion["path"] / "manifest.json").exists()
    csv, parquet = (space.status("ModelTraining", name)["champion"]["value"] for name in (NAME, PARQUET))
    assert csv == parquet


def test_a_model_from_s3_is_served_watched_and_retrained_from_its_captures_in_s3(space: Space) -> None:
    space.wait_condition("ModelDeployment", NAME)
    space.wait_condition("ModelMonitor", NAME)
    send_patients(space.address(NAME), DRIFTED)
    space.wait_captured(NAME, len(DRIFTED))
    window = space.look(NAME)
    assert window["labels"] == len(DRIFTED)
    store = space.bucket.root / "models" / "e2e"
    folder = (store / window["report"]).parent
    assert json.loads((folder / "report.json").read_text())["window"]["rows"] == len(DRIFTED)
    assert (folder / "report.html").exists()
    space.wait(lambda: (space.status("ModelDeployment", NAME).get("stable") or {}).get("number") == 2, "version 2")
    record = space.status("ModelTraining", NAME)["history"][0]
    assert (record["trigger"]["reason"], record["feedbackRows"]) == ("Monitor", len(DRIFTED))
    assert record["metrics"]["f1"] > record["championMetrics"]["f1"]
    assert (store / "captures" / space.name / NAME / "requests").is_dir()


def test_no_claim_is_made_where_everything_is_in_s3(space: Space) -> None:
    assert space.objects("PersistentVolumeClaim") == []


@pytest.mark.parametrize(
    ("name", "body", "reason", "words", "mended"),
    [
        (
            "no-object",
            _training("no-object", "s3://rows/absent.csv"),
            "DataNotFound",
            ("s3://rows/absent.csv",),
            {"data": {"uri": "s3://rows/cancer.csv"}},
        ),
        (
            "no-bucket",
            _training("no-bucket", "s3://absent/cancer.csv", retries=0),
            None,
            ("s3://absent", "bucket"),
            {"data": {"uri": "s3://rows/cancer.csv"}},
        ),
        (
            "wrong-key",
            _training("wrong-key", "s3://rows/cancer.csv", "wrong-keys"),
            "PermissionDenied",
            ("s3://rows/cancer.csv", "AWS_SECRET_ACCESS_KEY"),
            {"data": {"secretRef": {"name": "keys"}}},
        ),
        (
            "wrong-store-key",
            _training(
                "wrong-store-key",
                "s3://rows/cancer.csv",
                storage={"uri": "s3://models/e2e", "secretRef": {"name": "wrong-keys"}},
            ),
            "PermissionDenied",
            ("s3://models/e2e", "AWS_SECRET_ACCESS_KEY"),
            {"storage": {"secretRef": {"name": "keys"}}},
        ),
    ],
    ids=["no object", "no bucket", "wrong key for the data", "wrong key for the store"],
)
def test_what_is_wrong_with_a_bucket_is_said_within_30_seconds_and_gone_when_mended(
    space: Space,
    name: str,
    body: dict[str, Any],
    reason: str | None,
    words: tuple[str, ...],
    mended: dict[str, Any],
) -> None:
    space.apply(body)

    def said() -> dict[str, Any] | None:
        ready = space.condition("ModelTraining", name, "Ready")
        return ready if ready.get("reason") not in (None, "Running") else None

    ready = space.wait(said, f"the condition of {name}", PROMISED_SECONDS)
    assert reason in (None, ready["reason"])
    for text in words:
        assert text in ready["message"]
    assert "wrong" not in json.dumps(space.status("ModelTraining", name)["conditions"])
    assert len(space.pods("trainer", name)) == 1
    space.patch("ModelTraining", name, mended)
    space.wait_condition("ModelTraining", name)


def test_a_secret_that_appears_later_lets_the_waiting_pod_start(space: Space) -> None:
    space.apply(_training("late-secret", "s3://rows/cancer.csv", "late"))
    ready = space.wait_condition(
        "ModelTraining", "late-secret", "Ready", "False", reason="ContainerConfigError", timeout=PROMISED_SECONDS
    )
    assert "'late'" in ready["message"]
    space.apply(build_secret("late", space.bucket.secret()))
    space.wait_condition("ModelTraining", "late-secret")
    assert space.status("ModelTraining", "late-secret")["runs"] == 1
