"""The whole loop: train, serve, watch, notice drift, retrain, roll out under load, be healthy again."""

import json
from pathlib import Path

import numpy as np
import pytest

from modelkit.artifact.model import StoredModel
from modelkit.artifact.native import load_native
from modelkit.contract.files import MANIFEST, METRICS, PROFILE, REPORT_HTML, REPORT_JSON, SAMPLES, STORE_MOUNT
from tests.cluster.cluster_api import condition_of
from tests.e2e.e2e_manifests import build_deployment, build_monitor, build_training
from tests.e2e.e2e_operator import Operator
from tests.e2e.e2e_space import Space
from tests.e2e.e2e_story import ASKED, BAKE_SECONDS, BASELINE, DRIFTED, MARK, NAME, TEXT, Story, tell
from tests.e2e.e2e_traffic import read_patients, send_patients

LATER = read_patients(240, 300, drifted=True)
_COUNT_MARKED = f"""
import glob, gzip
paths = glob.glob("{STORE_MOUNT}/captures/**/*.gz", recursive=True)
print(sum(gzip.open(path, "rt").read().count("{MARK}") for path in paths))
"""


def prepare(space: Space) -> None:
    space.apply(
        build_training(
            NAME,
            candidates=[{"estimator": "LogisticRegression"}, {"estimator": "DecisionTreeClassifier"}],
            gates=[{"metric": "f1", "min": 0.9}],
        ),
        build_deployment(NAME, replicas=2, rollout={"bakeTime": f"{BAKE_SECONDS}s"}),
        build_monitor(NAME, retrain={"data": "Append"}, alarm={"breaches": 2, "windows": 3}, attribution={"rows": 40}),
    )
    space.start_tools()
    space.begin(lambda: tell(space))


@pytest.fixture(scope="module")
def story(space: Space) -> Story:
    """The loop, as it went on beside other tests."""
    told: Story = space.await_begun()
    return told


@pytest.fixture(scope="module")
def version_1(space: Space, story: Story, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of version 1, as they are in the store."""
    folder = tmp_path_factory.mktemp("version-1")
    path = space.status("ModelTraining", NAME)["history"][-1]["path"]
    manifest = json.loads(space.read_store(f"{path}/{MANIFEST}"))
    for name in manifest["files"]:
        (folder / name).write_bytes(space.read_store(f"{path}/{name}"))
    return folder


def test_a_champion_is_stored_with_everything_that_its_manifest_names(space: Space, version_1: Path) -> None:
    names = {path.name for path in version_1.iterdir()}
    assert {METRICS, PROFILE, SAMPLES, "model.onnx", "model.skops", "signature.json", "card.md"} <= names


def test_answers_of_both_protocols_equal_the_native_model_and_the_stored_onnx(story: Story, version_1: Path) -> None:
    rows = [row for row, _ in ASKED]
    matrix = np.array([list(row.values()) for row in rows])
    native, onnx = load_native(version_1), StoredModel.open(version_1)
    plain, infer, metadata = story.answers.plain, story.answers.infer, story.answers.metadata
    expected = native.predict(matrix)
    outputs = {output["name"]: output for output in infer["outputs"]}
    assert plain["predictions"] == expected.tolist() == outputs["prediction"]["data"] == onnx.answer(matrix)[0].tolist()
    probabilities = np.array(outputs["probabilities"]["data"]).reshape(outputs["probabilities"]["shape"])
    np.testing.assert_allclose(probabilities, native.predict_proba(matrix), atol=1e-5)
    np.testing.assert_allclose(plain["probabilities"], probabilities)
    assert [column["name"] for column in metadata["inputs"]] == list(rows[0])
    assert metadata["versions"] == ["1"] == [infer["model_version"]] == [plain["version"]]


def test_a_window_of_the_same_sort_of_patients_is_healthy_and_asks_for_nothing(space: Space, story: Story) -> None:
    states = {check["name"]: check["state"] for check in story.healthy["checks"]}
    assert "Breached" not in states.values(), states
    assert states["Drift"] == states["AttributionDrift"] == states["MultivariateDrift"] == "OK"
    assert story.healthy["labels"] == len(BASELINE)
    # The decision on the window is on record, and it was: nothing to do.
    assert space.status("ModelMonitor", NAME)["windows"][0]["end"] == story.healthy["end"]


def test_two_breached_windows_of_three_ask_for_one_retrain_that_names_the_drift(space: Space, story: Story) -> None:
    assert "Drift breached in 2 windows" in story.alarm["reason"] or "Drift and" in story.alarm["reason"]
    status = space.status("ModelMonitor", NAME)
    assert status["retrains"] == 1
    drift = next(check for check in status["windows"][-1]["checks"] if check["name"] == "Drift")
    assert drift["state"] == "Breached"
    assert any("area" in item["name"] or "radius" in item["name"] for item in drift["worst"])


def test_version_2_learned_from_captured_rows_and_beats_version_1_on_recent_ones(space: Space, story: Story) -> None:
    status = space.status("ModelTraining", NAME)
    new, first = status["history"][0], status["history"][1]
    assert (new["number"], new["verdict"], new["trigger"]["reason"]) == (2, "Approved", "Monitor")
    assert new["trigger"]["id"] == story.alarm["id"]
    assert new["evaluatedOn"] == "Recent"
    # Those of before the change are left out, as far as the answers show where it is.
    assert 0.8 * len(DRIFTED) <= new["feedbackRows"] <= len(BASELINE) + len(DRIFTED)
    assert new["championNumber"] == first["number"] == 1
    assert new["metrics"]["f1"] > new["championMetrics"]["f1"]
    assert status["champion"]["digest"] == new["digest"]


def test_no_request_failed_while_version_2_took_over(story: Story) -> None:
    story.load.require_no_failure()
    assert story.load.tally.versions == {"1", "2"}
    assert story.load.tally.requests > 500


def test_the_old_pods_are_gone_after_the_bake_time_and_not_before(space: Space, story: Story) -> None:
    assert story.warm_seconds >= BAKE_SECONDS - 2
    status = space.wait_status("ModelDeployment", NAME, lambda status: "previous" not in status, "the end of baking")
    assert status["readyReplicas"] == 2
    (deployment,) = space.objects("Deployment")
    assert deployment["metadata"]["name"] == status["stable"]["deployment"] != story.first_deployment


def test_version_2_is_right_about_the_changed_scanner_and_its_window_is_healthy(space: Space, story: Story) -> None:
    answers = send_patients(space.address(NAME), LATER)
    right = sum(answer["predictions"][0] == label for answer, (_, label) in zip(answers, LATER, strict=True))
    assert right / len(LATER) > 0.9
    assert {answer["version"] for answer in answers} == {"2"}
    space.wait_captured(NAME, len(LATER))
    window = space.look(NAME)
    assert window["version"] == 2
    quality = next(check for check in window["checks"] if check["name"] == "Quality")
    assert quality["state"] == "OK", quality
    assert space.status("ModelMonitor", NAME)["retrains"] == 1


def test_reports_of_every_window_are_in_the_store(space: Space, story: Story) -> None:
    for window in space.status("ModelMonitor", NAME)["windows"]:
        folder, name = window["report"].rsplit("/", 1)
        assert name == REPORT_HTML
        report = json.loads(space.read_store(f"{folder}/{REPORT_JSON}"))
        assert report["window"]["rows"] == window["rows"]
        assert b"<html" in space.read_store(window["report"])[:500].lower()


def test_no_value_of_a_request_is_in_a_log_an_event_a_status_or_a_metric(
    space: Space, operator: Operator, story: Story
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
    # What is looked for is in the captured rows, and a good part of the evidence is there.
    assert int(space.exec(_COUNT_MARKED)) >= len(DRIFTED)
    assert sum(name.startswith("log of") for name in evidence) > 5
    found = [name for name, text in evidence.items() if MARK in text or TEXT in text]
    assert found == []


def test_events_and_columns_tell_the_story(space: Space, story: Story) -> None:
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
    assert (monitor["READY"], monitor["HEALTHY"]) == ("True", str(is_healthy))
    body = space.get("ModelTraining", NAME)
    assert condition_of(body, "Ready")["observedGeneration"] == body["metadata"]["generation"]
