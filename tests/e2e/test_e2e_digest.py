"""Promise 2: nothing is served whose digest isn't verified, and no rejected or inconclusive version is promoted."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modelkit.contract.files import MANIFEST, STORE_MOUNT
from tests.e2e.e2e_manifests import SMALL, build_deployment, build_training
from tests.e2e.e2e_space import Space
from tests.e2e.e2e_traffic import Load

PROMISED_SECONDS = 30.0
SERVED = "served"
STABLE, FLIPPED, HEADLESS, SWAPPED = "stable", "flipped", "headless", "swapped"
ROW = {"sepal length (cm)": 5.1, "sepal width (cm)": 3.5, "petal length (cm)": 1.4, "petal width (cm)": 0.2}
_FLIP = """
import sys
path = sys.argv[1] + "/model.onnx"
content = bytearray(open(path, "rb").read())
content[len(content) // 2] ^= 1
open(path, "r+b").write(content)
"""
_HIDE = f"import os,sys; os.rename(sys.argv[1] + '/{MANIFEST}', sys.argv[1] + '/hidden.json')"
_SWAP = "import os,shutil,sys; shutil.rmtree(sys.argv[1]); shutil.copytree(sys.argv[2], sys.argv[1])"


def prepare(space: Space) -> None:
    for name in (STABLE, FLIPPED, HEADLESS, SWAPPED):
        space.apply(build_training(name, data={"uri": "builtin://iris", "target": "target"}, gates=[]))
    space.apply(build_deployment(SERVED, STABLE))
    space.start_tools()


@pytest.fixture(scope="module")
def paths(space: Space) -> dict[str, str]:
    """Folders of the four versions, as the pod of tools sees them."""
    found = {}
    for name in (STABLE, FLIPPED, HEADLESS, SWAPPED):
        space.wait_condition("ModelTraining", name)
        found[name] = f"{STORE_MOUNT}/{space.status('ModelTraining', name)['champion']['path']}"
    return found


@pytest.fixture(scope="module")
def load(space: Space, paths: dict[str, str]) -> Iterator[Load]:
    """Constant requests to the version that serves."""
    space.wait_condition("ModelDeployment", SERVED)
    with Load(space.address(SERVED), [ROW], connections=2, pause=0.1) as load:
        yield load


def _flip(space: Space, paths: dict[str, str]) -> None:
    space.exec(_FLIP, paths[FLIPPED])


def _hide(space: Space, paths: dict[str, str]) -> None:
    space.exec(_HIDE, paths[HEADLESS])


def _swap(space: Space, paths: dict[str, str]) -> None:
    """Another complete version under this one's name: only its digest tells."""
    space.exec(_SWAP, paths[SWAPPED], paths[STABLE])


@pytest.mark.parametrize(
    ("training", "spoil", "reason", "words"),
    [
        (FLIPPED, _flip, "DigestMismatch", ("model.onnx", "sha256")),
        (HEADLESS, _hide, "VersionNotFound", (MANIFEST,)),
        (SWAPPED, _swap, "DigestMismatch", ("expected sha256:", "changed after it was written")),
    ],
    ids=["a flipped byte", "no manifest", "another version in its place"],
)
def test_a_version_that_was_changed_is_refused_within_30_seconds_and_the_stable_one_serves_on(
    space: Space,
    load: Load,
    paths: dict[str, str],
    training: str,
    spoil: Callable[[Space, dict[str, str]], None],
    reason: str,
    words: tuple[str, ...],
) -> None:
    spoil(space, paths)
    champion = space.status("ModelTraining", training)["champion"]
    space.patch("ModelDeployment", SERVED, {"trainingRef": {"name": training}})
    space.wait(lambda: _failed(space, champion["digest"]), "the end of the candidate", PROMISED_SECONDS)
    ready = space.wait_condition("ModelDeployment", SERVED, "Ready", "False", reason=reason, timeout=5)
    for text in ("version 1", "answers meanwhile", *words):
        assert text in ready["message"]
    status = space.status("ModelDeployment", SERVED)
    assert "candidate" not in status
    assert status["stable"]["path"] in paths[STABLE]
    # Its pods are gone, and it isn't tried again.
    space.wait(lambda: len(space.objects("Deployment")) == 1, "the end of the refused version's pods")
    load.require_no_failure()


def _failed(space: Space, digest: str) -> dict[str, Any] | None:
    failed = space.status("ModelDeployment", SERVED).get("failed", [])
    return next((entry for entry in failed if entry["digest"] == digest), None)


def test_a_mended_version_is_rolled_out_once_the_specification_changes(
    space: Space, load: Load, paths: dict[str, str]
) -> None:
    space.exec(_FLIP, paths[FLIPPED])
    resources = {"requests": {"cpu": "21m", "memory": "64Mi"}}
    space.patch("ModelDeployment", SERVED, {"trainingRef": {"name": FLIPPED}, "resources": resources})
    space.wait_condition("ModelDeployment", SERVED)
    status = space.status("ModelDeployment", SERVED)
    assert status["stable"]["path"] in paths[FLIPPED]
    assert _failed(space, status["stable"]["digest"]) is None
    load.require_no_failure()


def test_a_new_pod_of_a_version_that_was_changed_never_becomes_ready(
    space: Space, load: Load, paths: dict[str, str]
) -> None:
    space.exec(_FLIP, paths[FLIPPED])
    space.patch("ModelDeployment", SERVED, {"replicas": 2})
    ready = space.wait_condition(
        "ModelDeployment", SERVED, "Ready", "False", reason="DigestMismatch", timeout=PROMISED_SECONDS
    )
    assert "model.onnx" in ready["message"]
    available = space.condition("ModelDeployment", SERVED, "Available")
    assert available["status"] == "True"
    assert "1 of 2 pods" in available["message"]
    space.patch("ModelDeployment", SERVED, {"replicas": 1})
    space.wait_condition("ModelDeployment", SERVED)
    load.require_no_failure()


@pytest.mark.parametrize(
    ("spec", "status", "reason", "words"),
    [
        (
            {"gates": [{"metric": "log_loss", "max": 0.0001}], "metric": "f1"},
            "False",
            "Rejected",
            ("log_loss", "above the gate's max 0.0001"),
        ),
        (
            {
                "gates": [{"metric": "roc_auc", "min": 0.1}],
                "metric": "f1",
                "candidates": [{"estimator": "RidgeClassifier"}],
            },
            "Unknown",
            "Inconclusive",
            ("roc_auc", "couldn't be measured"),
        ),
    ],
    ids=["rejected", "inconclusive"],
)
def test_a_version_that_isn_t_approved_is_never_champion_and_never_served(
    space: Space, load: Load, spec: dict[str, Any], status: str, reason: str, words: tuple[str, ...]
) -> None:
    digest = space.status("ModelTraining", FLIPPED)["champion"]["digest"]
    space.patch("ModelTraining", FLIPPED, {**spec, "resources": SMALL})
    approved = space.wait_condition("ModelTraining", FLIPPED, "Approved", status, reason=reason)
    for text in words:
        assert text in approved["message"]
    training = space.status("ModelTraining", FLIPPED)
    assert training["history"][0]["verdict"] == reason
    assert training["history"][0]["failedGates"]
    assert training["champion"]["digest"] == digest
    deployment = space.status("ModelDeployment", SERVED)
    assert deployment["stable"]["digest"] == digest
    assert "candidate" not in deployment
    load.require_no_failure()
