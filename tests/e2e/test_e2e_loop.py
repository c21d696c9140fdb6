"""The whole loop: train, serve, watch, notice drift, retrain, roll out under load, be healthy again."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelkit.artifact.model import StoredModel
from modelkit.artifact.native import load_native
from modelkit.contract.files import MANIFEST, METRICS, PROFILE, REPORT_HTML, REPORT_JSON, SAMPLES
from tests.cluster.cluster_api import condition_of
from tests.e2e.e2e_manifests import SMALL, build_deployment, build_monitor, build_training
from tests.e2e.e2e_operator import Operator
from tests.e2e.e2e_space import Space
from tests.e2e.e2e_traffic import Load, new_client, read_patients, send_patients

NAME = "cancer"
MARK, TEXT = "987654321", "zebra-5ac1"
"""Digits and words of requests that must turn up nowhere but in the store."""
BASELINE = read_patients(0, 80)
DRIFTED = [
    (row | {"mean radius": round(row["mean radius"]) + float(f"0.{MARK}")}, label)
    for row, label in read_patients(80, 240, drifted=True)
]
LATER = read_patients(240, 300, drifted=True)
BAKE_SECONDS = 12


def prepare(space: Space) -> None:
    space.apply(
        build_training(
            NAME,
            candidates=[{"estimator": "LogisticRegression"}, {"estimator": "DecisionTreeClassifier"}],
            gates=[{"metric": "f1", "min": 0.9}],
        ),
        build_deployment(NAME, replicas=2, rollout={"bakeTime": f"{BAKE_SECONDS}s"}, resources=SMALL),
        build_monitor(NAME, retrain={"data": "Append"}, alarm={"breaches": 2, "windows": 3}),
    )
    space.start_tools()


@dataclass
class Healing:
    """What was seen from the alarm to the new version's promotion."""

    alarm: dict[str, Any]
    load: Load
    first_deployment: str
    promoted: float
    """On the monotonic clock."""


@pytest.fixture(scope="module")
def address(space: Space) -> str:
    """Where version 1 answers."""
    for kind in ("ModelTraining", "ModelDeployment", "ModelMonitor"):
        space.wait_condition(kind, NAME)
    return space.address(NAME)


@pytest.fixture(scope="module")
def version_1(space: Space, address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of version 1, as they are in the store."""
    folder = tmp_path_factory.mktemp("version-1")
    path = space.status("ModelTraining", NAME)["champion"]["path"]
    manifest = json.loads(space.read_store(f"{path}/{MANIFEST}"))
    for name in manifest["files"]:
        (folder / name).write_bytes(space.read_store(f"{path}/{name}"))
    return folder


@pytest.fixture(scope="module")
def healthy_window(space: Space, address: str) -> dict[str, Any]:
    """A window of the same sort of patients as in the training."""
    send_patients(address, BASELINE)
    space.wait_captured(NAME, len(BASELINE))
    return space.look(NAME)


@pytest.fixture(scope="module")
def healing(space: Space, address: str, healthy_window: dict[str, Any]) -> Healing:
    """Two windows of a changed scanner, the retrain that follows, and its rollout under load."""
    first = space.status("ModelDeployment", NAME)["stable"]["deployment"]
    send_patients(address, DRIFTED)
    _send_nonsense(address)
    space.wait_captured(NAME, len(BASELINE) + len(DRIFTED))
    space.look(NAME)
    with Load(address, [row for row, _ in DRIFTED]) as load:
        space.look(NAME)
        alarm = space.wait(lambda: space.status("ModelMonitor", NAME).get("retrain"), "a request to retrain")
        space.wait(lambda: (space.status("ModelDeployment", NAME).get("stable") or {}).get("number") == 2, "version 2")
        promoted = time.monotonic()
        # Through the bake time until the old pods are gone: that is when a request could get lost.
        space.wait(lambda: not _pods_of(space, first), "the end of the old pods", BAKE_SECONDS + 60)
    return Healing(alarm, load, first, promoted)


def _send_nonsense(address: str) -> None:
    """Requests that are wrong in every way, each with a value that must not be repeated anywhere."""
    row = BASELINE[0][0]
    tensor = {"name": "X", "shape": [1, 30], "datatype": "FP64", "data": [TEXT] * 30}
    with new_client(address) as client:
        for path, body in (
            ("/predict", {"features": [row | {"mean radius": TEXT}]}),
            ("/predict", {"features": [row | {"mean radius": f"0.{MARK}"}]}),
            ("/predict", {"features": [[float(f"0.{MARK}")]]}),
            ("/predict", {"features": TEXT}),
            (f"/v2/models/{NAME}/infer", {"inputs": [tensor]}),
            (f"/v2/models/{NAME}/infer", {"inputs": [tensor | {"shape": [30], "name": "mean radius"}]}),
            ("/feedback", {"id": "nobody", "label": TEXT}),
        ):
            answer = client.post(path, json=body)
            assert 400 <= answer.status_code < 500, (path, answer.status_code)
            assert MARK not in answer.text
            assert TEXT not in answer.text
        garbage = f'{{"features": [[0.{MARK}, "{TEXT}"'
        answer = client.post("/predict", content=garbage, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert MARK not in answer.text


def _pods_of(space: Space, deployment: str) -> list[dict[str, Any]]:
    return [pod for pod in space.pods("server", NAME) if pod["metadata"]["name"].startswith(f"{deployment}-")]


def test_a_champion_is_stored_with_everything_that_its_manifest_names(space: Space, version_1: Path) -> None:
    names = {path.name for path in version_1.iterdir()}
    assert {METRICS, PROFILE, SAMPLES, "model.onnx", "model.skops", "signature.json", "card.md"} <= names


def test_answers_of_both_protocols_equal_the_native_model_and_the_stored_onnx(address: str, version_1: Path) -> None:
    rows = [row for row, _ in BASELINE[:20]]
    matrix = np.array([list(row.values()) for row in rows])
    native, onnx = load_native(version_1), StoredModel.open(version_1)
    expected = native.predict(matrix)
    with new_client(address) as client:
        plain = client.post("/predict", json={"features": rows}).json()
        data = matrix.ravel().tolist()
        tensor = {"name": "X", "shape": list(matrix.shape), "datatype": "FP64", "data": data}
        infer = client.post(f"/v2/models/{NAME}/infer", json={"inputs": [tensor]}).json()
        metadata = client.get(f"/v2/models/{NAME}").json()
        assert client.get("/v2/health/ready").status_code == 200
    outputs = {output["name"]: output for output in infer["outputs"]}
    assert plain["predictions"] == expected.tolist() == outputs["prediction"]["data"] == onnx.answer(matrix)[0].tolist()
    probabilities = np.array(outputs["probabilities"]["data"]).reshape(outputs["probabilities"]["shape"])
    np.testing.assert_allclose(probabilities, native.predict_proba(matrix), atol=1e-5)
    np.testing.assert_allclose(plain["probabilities"], probabilities)
    assert [column["name"] for column in metadata["inputs"]] == list(rows[0])
    assert metadata["versions"] == ["1"] == [infer["model_version"]] == [plain["version"]]


def test_a_window_of_the_same_sort_of_patients_is_healthy_and_asks_for_nothing(
    space: Space, healthy_window: dict[str, Any]
) -> None:
    states = {check["name"]: check["state"] for check in healthy_window["checks"]}
    assert "Breached" not in states.values(), states
    assert states["Drift"] == "OK"
    assert healthy_window["labels"] == len(BASELINE)
    # The decision on the window is on record, and it was: nothing to do.
    assert space.status("ModelMonitor", NAME)["windows"][0]["end"] == healthy_window["end"]


def test_two_breached_windows_of_three_ask_for_one_retrain_that_names_the_drift(space: Space, healing: Healing) -> None:
    assert "Drift breached in 2 windows" in healing.alarm["reason"] or "Drift and" in healing.alarm["reason"]
    status = space.status("ModelMonitor", NAME)
    assert status["retrains"] == 1
    drift = next(check for check in status["windows"][-1]["checks"] if check["name"] == "Drift")
    assert drift["state"] == "Breached"
    assert any("area" in item["name"] or "radius" in item["name"] for item in drift["worst"])


def test_version_2_learned_from_captured_rows_and_beats_version_1_on_recent_ones(
    space: Space, healing: Healing
) -> None:
    status = space.status("ModelTraining", NAME)
    new, first = status["history"][0], status["history"][1]
    assert (new["number"], new["verdict"], new["trigger"]["reason"]) == (2, "Approved", "Monitor")
    assert new["trigger"]["id"] == healing.alarm["id"]
    assert new["evaluatedOn"] == "Recent"
    assert new["feedbackRows"] == len(BASELINE) + len(DRIFTED)
    assert new["championNumber"] == first["number"] == 1
    assert new["metrics"]["f1"] > new["championMetrics"]["f1"]
    assert status["champion"]["digest"] == new["digest"]


def test_no_request_failed_while_version_2_took_over(healing: Healing) -> None:
    healing.load.require_no_failure()
    assert healing.load.tally.versions == {"1", "2"}
    assert healing.load.tally.requests > 500


def test_the_old_pods_are_gone_after_the_bake_time_and_not_before(space: Space, healing: Healing) -> None:
    assert time.monotonic() - healing.promoted >= BAKE_SECONDS - 2
    status = space.wait_status("ModelDeployment", NAME, lambda status: "previous" not in status, "the end of baking")
    assert status["readyReplicas"] == 2
    (deployment,) = space.objects("Deployment")
    assert deployment["metadata"]["name"] == status["stable"]["deployment"] != healing.first_deployment


def test_version_2_is_right_about_the_changed_scanner_and_its_window_is_healthy(
    space: Space, address: str, healing: Healing
) -> None:
    answers = send_patients(address, LATER)
    right = sum(answer["predictions"][0] == label for answer, (_, label) in zip(answers, LATER, strict=True))
    assert right / len(LATER) > 0.9
    assert {answer["version"] for answer in answers} == {"2"}
    space.wait_captured(NAME, len(LATER))
    window = space.look(NAME)
    assert window["version"] == 2
    quality = next(check for check in window["checks"] if check["name"] == "Quality")
    assert quality["state"] == "OK", quality
    assert space.status("ModelMonitor", NAME)["retrains"] == 1


def test_reports_of_every_window_are_in_the_store(space: Space, healing: Healing) -> None:
    for window in space.status("ModelMonitor", NAME)["windows"]:
        folder, name = window["report"].rsplit("/", 1)
        assert name == REPORT_HTML
        report = json.loads(space.read_store(f"{folder}/{REPORT_JSON}"))
        assert report["window"]["rows"] == window["rows"]
        assert b"<html" in space.read_store(window["report"])[:500].lower()


def test_no_value_of_a_request_is_in_a_log_an_event_a_status_or_a_metric(
    space: Space, operator: Operator, healing: Healing
) -> None:
    pods = space.objects("Pod")
    evidence = {f"log of {name}": log for name, log in space.collect_logs().items()}
    evidence["log of the operator"] = "\n".join(operator.log())
    evidence["metrics of the operator"] = operator.get("metrics")
    for pod in space.pods("server", NAME):
        evidence[f"metrics of {pod['metadata']['name']}"] = space.metrics(pod["metadata"]["name"])
    for kind in ("Event", "ModelTraining", "ModelDeployment", "ModelMonitor"):
        evidence[kind] = json.dumps(space.objects(kind))
    evidence["pods"] = json.dumps([pod["status"] for pod in pods])
    assert sum(name.startswith("log of") for name in evidence) > 5
    found = [name for name, text in evidence.items() if MARK in text or TEXT in text]
    assert found == []


def test_events_and_columns_tell_the_story(space: Space, healing: Healing) -> None:
    reasons = {(e["involvedObject"]["kind"], e["reason"]) for e in space.objects("Event")}
    assert {
        ("ModelTraining", "Approved"),
        ("ModelDeployment", "RollingOut"),
        ("ModelDeployment", "Promoted"),
        ("ModelMonitor", "Requested"),
    } <= reasons
    training, deployment, monitor = (
        dict(zip(header.split(), row.split(), strict=False))
        for header, row in (space.kubectl("get", kind, NAME).splitlines() for kind in ("mt", "md", "mm"))
    )
    assert (training["READY"], training["CHAMPION"], training["METRIC"]) == ("True", "2", "f1")
    assert (deployment["READY"], deployment["STABLE"]) == ("True", "2")
    window = space.status("ModelMonitor", NAME)["windows"][-1]
    is_healthy = all(check["state"] != "Breached" for check in window["checks"])
    assert (monitor["READY"], monitor["HEALTHY"], monitor["RETRAINS"]) == ("True", str(is_healthy), "1")
    body = space.get("ModelTraining", NAME)
    assert condition_of(body, "Ready")["observedGeneration"] == body["metadata"]["generation"]
