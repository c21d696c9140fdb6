"""Another model server in the pod, behind ours: verified files before it, the same answers, limits and captures."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.e2e.e2e_manifests import SMALL, build_deployment, build_training
from tests.e2e.e2e_space import Space
from tests.e2e.e2e_traffic import Load, read_patients

NAME, PLAIN = "clinic", "plain"
PROGRAM = (Path(__file__).parent / "e2e_runtime_v1.py").read_text()
PORT = 9000
ROWS = [row for row, _ in read_patients(0, 30)]


def prepare(space: Space) -> None:
    runtime = {
        "image": space.kube.images["server"],
        "port": PORT,
        "protocol": "V1",
        "command": ["/opt/venv/bin/python", "-c", PROGRAM],
        "args": ["/models", NAME, str(PORT)],
        "mountPath": "/models",
        "resources": SMALL,
    }
    space.apply(build_training(NAME), build_deployment(NAME, replicas=2, runtime=runtime))
    space.apply(build_deployment(PLAIN, NAME))


@pytest.fixture(scope="module")
def addresses(space: Space) -> tuple[str, str]:
    """Of the version behind another server, and of the same version in ours."""
    for name in (NAME, PLAIN):
        space.wait_condition("ModelDeployment", name)
    return space.address(NAME), space.address(PLAIN)


def test_answers_of_another_server_are_those_of_ours(space: Space, addresses: tuple[str, str]) -> None:
    behind, ours = (
        httpx.post(f"{address}/predict", json={"features": ROWS}, trust_env=False, timeout=20).json()
        for address in addresses
    )
    assert behind["predictions"] == ours["predictions"]
    np.testing.assert_allclose(behind["probabilities"], ours["probabilities"], atol=1e-5)
    refused = httpx.post(f"{addresses[0]}/predict", json={"features": [{"wrong": 1}]}, trust_env=False)
    assert refused.status_code == httpx.codes.BAD_REQUEST
    space.wait(lambda: space.captured(NAME)["requests"] == len(ROWS), "the rows in the store")


def test_no_request_fails_when_a_pod_with_another_server_is_killed(space: Space, addresses: tuple[str, str]) -> None:
    pods = {pod["metadata"]["uid"]: pod for pod in space.pods("server", NAME)}
    assert len(pods) == 2
    uid, pod = next(iter(pods.items()))
    with Load(addresses[0], ROWS) as load:
        space.api.delete("Pod", space.name, pod["metadata"]["name"])
        space.wait(lambda: uid not in {p["metadata"]["uid"] for p in space.pods("server", NAME)}, "the pod's end")
        space.wait_condition("ModelDeployment", NAME)
    load.require_no_failure()
