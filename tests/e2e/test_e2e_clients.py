"""Clients that others wrote, unmodified, against served models: every way to ask gives scikit-learn's own answers."""

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris

from devcluster.environments import locked_python
from modelkit.artifact.native import load_native
from modelkit.contract.files import MANIFEST
from tests.e2e.e2e_environment import BUILD
from tests.e2e.e2e_manifests import build_deployment, build_training
from tests.e2e.e2e_space import Space

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "clients"
MODELS = {"iris": load_iris, "cancer": load_breast_cancer}
SOURCES = {"iris": "builtin://iris", "cancer": "builtin://breast_cancer"}
ROWS = 40


class Served(NamedTuple):
    """A served model and what it must answer."""

    name: str
    host: str
    port: int
    grpc_port: int
    rows: Any
    labels: list[Any]
    probabilities: Any

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


def prepare(space: Space) -> None:
    forest = [{"estimator": "RandomForestClassifier", "params": {"n_estimators": 20}}]
    for name, source in SOURCES.items():
        data = {"uri": source, "target": "target"}
        gates = [{"metric": "f1_macro", "min": 0.8}]
        space.apply(build_training(name, data=data, candidates=forest, metric="f1_macro", gates=gates))
        space.apply(build_deployment(name))
    space.start_tools()


@pytest.fixture(scope="module")
def python() -> Path:
    """The clients' own environment."""
    return locked_python(ROOT / "requirements" / "others" / "clients.lock", BUILD / "clients")


@pytest.fixture(scope="module", params=list(MODELS))
def served(request: pytest.FixtureRequest, space: Space, tmp_path_factory: pytest.TempPathFactory) -> Served:
    name = request.param
    space.wait_condition("ModelDeployment", name)
    champion = space.status("ModelTraining", name)["champion"]
    folder = tmp_path_factory.mktemp(name)
    for file in json.loads(space.read_store(f"{champion['path']}/{MANIFEST}"))["files"]:
        (folder / file).write_bytes(space.read_store(f"{champion['path']}/{file}"))
    model, rows = load_native(folder), MODELS[name]().data[::3][:ROWS]
    url = httpx.URL(space.address(name))
    ports = {port["name"]: port["nodePort"] for port in space.get("Service", name)["spec"]["ports"]}
    assert url.port == ports["http"]
    labels, probabilities = model.predict(rows).tolist(), model.predict_proba(rows)
    return Served(name, url.host, ports["http"], ports["grpc"], rows, labels, probabilities)


def run_client(python: Path, program: str, served: Served) -> Any:
    """What the program printed."""
    command = [python, PROGRAMS / program, served.host, str(served.port), str(served.grpc_port), served.name]
    rows = json.dumps({"rows": served.rows.tolist()})
    done = subprocess.run(command, input=rows, capture_output=True, text=True, timeout=240, env={"NO_PROXY": "*"})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def require_equal(answers: list[dict[str, Any]], served: Served) -> None:
    """Every answer is the model's own."""
    for answer in answers:
        assert answer["labels"] == served.labels, answer["way"]
        if answer["probabilities"] is not None:
            np.testing.assert_allclose(answer["probabilities"], served.probabilities, atol=1e-5, err_msg=answer["way"])


def test_tritonclient_asks_over_http_and_grpc_in_every_way_it_knows(python: Path, served: Served) -> None:
    found = run_client(python, "triton_client.py", served)
    assert all(found["health"])
    require_equal(found["answers"], served)
    metadata = found["metadata"]
    assert metadata["model"]["name"] == metadata["grpc model"]["name"] == served.name
    assert "binary_tensor_data" in metadata["server"]["extensions"]
    assert "NOT_FOUND" in metadata["grpc unknown model"]


def test_kserves_client_asks_by_both_rest_protocols_and_grpc(python: Path, served: Served) -> None:
    found = run_client(python, "kserve_client.py", served)
    assert all(found["health"])
    require_equal(found["answers"], served)


def test_json_as_tensorflow_serving_takes_it_is_answered(served: Served) -> None:
    with httpx.Client(base_url=served.url, trust_env=False, timeout=10) as client:
        path = f"/v1/models/{served.name}"
        (state,) = client.get(path).json()["model_version_status"]
        assert (state["version"], state["state"], state["status"]["error_code"]) == ("1", "AVAILABLE", "OK")
        signature = {"signature_name": "serving_default"}
        rows = client.post(f"{path}:predict", json={**signature, "instances": served.rows.tolist()})
        assert rows.json() == {"predictions": served.labels}
        columns = client.post(f"{path}/versions/1:predict", json={**signature, "inputs": served.rows.tolist()})
        assert columns.json() == {"outputs": served.labels}
        wrong = client.post(f"{path}:predict", json={"instances": [[1.0]]})
        assert wrong.status_code == httpx.codes.BAD_REQUEST
        assert set(wrong.json()) == {"error"}


def test_plain_json_is_answered_with_labels_probabilities_and_classes(served: Served) -> None:
    with httpx.Client(base_url=served.url, trust_env=False, timeout=10) as client:
        names = [column["name"] for column in client.get(f"/v2/models/{served.name}").json()["inputs"]]
        records = [dict(zip(reversed(names), reversed(row), strict=True)) for row in served.rows.tolist()]
        answer = client.post("/predict", json={"features": records}).json()
        assert answer["predictions"] == served.labels
        np.testing.assert_allclose(answer["probabilities"], served.probabilities, atol=1e-5)
        judged = client.post("/evaluate", json={"features": records, "labels": served.labels}).json()
        assert judged["metrics"]["accuracy"] == 1.0
        explained = client.post("/explain", json={"features": records[:2]})
        assert explained.status_code == httpx.codes.OK, explained.text


def test_generated_requests_of_all_sorts_find_no_failure_of_the_server(python: Path, served: Served) -> None:
    """schemathesis: no 5xx, no answer that the OpenAPI document doesn't have, nothing accepted that it forbids.

    Not all that it allows can be accepted: that a tensor has as many values as its shape says, JSON Schema can't tell.
    """
    command = [python.parent / "schemathesis", "--config-file", PROGRAMS / "schemathesis.toml"]
    command += ["run", f"{served.url}/openapi.json", "--checks", "all", "--exclude-checks", "positive_data_acceptance"]
    options = ["--max-examples", "40", "--seed", "1", "--no-color", "--suppress-health-check", "all"]
    environ = {"NO_PROXY": "*", "PATH": "/usr/bin:/bin", "HOME": str(BUILD)}
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=400, env=environ, cwd=BUILD, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
