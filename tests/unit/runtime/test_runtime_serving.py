"""Another model server answers, and clients see no difference: the same rows, checks, ids, captures and metrics."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
import pytest

from modelkit.artifact.signature import dump_signature
from modelkit.artifact.version import write_version
from modelkit.contract.config import StoreConfig, VersionRef
from modelkit.serve.runtime.fetch import fetch_for_runtime
from modelkit.store.store import Store
from tests.unit.runtime.runtime_world import World, readiness, wait_until
from tests.unit.serve.serve_models import Example, cancer, diabetes, people
from tests.unit.serve.serve_process import Pod, start_pod


@pytest.fixture(scope="module")
def fronted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Pod]]:
    """Our server before the TensorFlow Serving form of the cancer model."""
    world = World.of(tmp_path_factory.mktemp("v1"), cancer(), "V1")
    with world.program(), world.front() as pod:
        yield world, pod


def predict(pod: Pod, rows: Any, **headers: str) -> httpx.Response:
    return httpx.post(f"{pod.url}/predict", json={"features": rows}, headers=headers)


def assert_same(example: Example, found: Any, rows: int) -> None:
    """The plain answer is scikit-learn's own."""
    predictions = example.predictions(rows)
    if example.signature.classes is None:
        np.testing.assert_allclose(found["predictions"], predictions, rtol=1e-4)
        return
    assert found["predictions"] == predictions
    np.testing.assert_allclose(found["probabilities"], example.probabilities(rows), atol=1e-4)


@pytest.mark.parametrize("build", [people, diabetes])
def test_a_v2_runtime_answers_as_scikit_learn_does(tmp_path: Path, build: Any) -> None:
    example = build()
    world = World.of(tmp_path, example, "V2")
    with world.ours(), world.front() as pod:
        answer = predict(pod, example.records(20))
        assert answer.status_code == 200, answer.text
        assert_same(example, answer.json(), 20)
        metadata = httpx.get(f"{pod.url}/v2/models/front").json()
        assert metadata["platform"] == "runtime_v2"
        assert [item["name"] for item in metadata["inputs"]] == example.names


def test_a_v1_runtime_answers_as_scikit_learn_does(fronted: tuple[World, Pod]) -> None:
    world, pod = fronted
    answer = predict(pod, world.example.values(50), **{"X-Request-Id": "r-1"})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["id"], answer.headers["x-request-id"]) == ("r-1", "r-1")
    assert_same(world.example, answer.json(), 50)


def test_rows_are_checked_by_the_signature_before_the_runtime_is_asked(fronted: tuple[World, Pod]) -> None:
    _, pod = fronted
    answer = predict(pod, [{"f0": 1.0}])
    assert answer.status_code == 400
    assert "missing column" in answer.json()["error"]


def test_what_a_runtime_answers_is_captured_and_counted(fronted: tuple[World, Pod]) -> None:
    world, pod = fronted
    assert predict(pod, world.example.values(3), **{"X-Request-Id": "captured"}).status_code == 200
    store = Store.open(world.config.store, {})

    def captured() -> int:
        metrics = httpx.get(f"{pod.url}/metrics").text
        lines = [line for line in metrics.splitlines() if line.startswith('modelloop_captured_rows_total{stream="req')]
        return int(float(lines[0].rpartition(" ")[2])) if lines else 0

    wait_until(lambda: captured() >= 3, "captured rows")
    assert any("captures/team/front/requests" in item.path for item in store.list("captures"))


def test_the_pod_is_live_and_becomes_ready_when_the_runtime_does(tmp_path: Path) -> None:
    world = World.of(tmp_path, cancer(), "V1")
    pod = start_pod(world.config, tmp_path)
    try:
        wait_until(lambda: readiness(pod) == 503, "live, not ready")
        assert httpx.get(f"{pod.url}/v2/health/live").status_code == 200
        early = predict(pod, world.example.values(1))
        assert (early.status_code, early.headers["retry-after"]) == (503, "1")
        with world.program() as runtime:
            wait_until(lambda: readiness(pod) == 200, "ready")
            assert predict(pod, world.example.values(1)).status_code == 200
            runtime.kill()
            runtime.wait()
            gone = predict(pod, world.example.values(1))
            assert (gone.status_code, gone.headers["retry-after"]) == (503, "1")
            assert "can't be reached" in gone.json()["error"]
            wait_until(lambda: readiness(pod) == 503, "not ready any more")
        with world.program():
            wait_until(lambda: readiness(pod) == 200, "ready again")
            assert_same(world.example, predict(pod, world.example.values(4)).json(), 4)
        assert pod.stop() == 0
    finally:
        pod.process.kill()
        pod.process.wait()


def test_a_runtime_that_answers_the_samples_otherwise_is_refused_with_a_reason(tmp_path: Path) -> None:
    samples = json.loads(cancer().files["samples.json"])
    samples["probabilities"] = [row[::-1] for row in samples["probabilities"]]
    world = World.of(tmp_path, cancer(), "V1", samples=json.dumps(samples).encode())
    pod = start_pod(world.config, tmp_path)
    with world.program():
        assert pod.process.wait(30) == 2
    message = json.loads(pod.termination_log.read_text())
    assert message["reason"] == "SamplesDiffer"
    assert "probabilities" in message["message"]


def test_a_runtime_that_hangs_is_a_504(tmp_path: Path) -> None:
    world = World.of(tmp_path, cancer(), "V1", timeout_seconds=0.3)
    with world.program() as runtime, world.front() as pod:
        os.kill(runtime.pid, signal.SIGSTOP)
        answer = predict(pod, world.example.values(1))
        assert answer.status_code == 504
        assert "within 0.3 s" in answer.json()["error"]
        os.kill(runtime.pid, signal.SIGCONT)
        wait_until(lambda: predict(pod, world.example.values(1)).status_code == 200, "an answer again")


def test_a_custom_version_without_onnx_is_served_by_its_own_runtime(tmp_path: Path) -> None:
    """Weights that only the user's program can read; it answers as a TensorFlow model with a sigmoid does."""
    example = cancer()
    scaler, model = example.pipeline[0], example.pipeline[-1]
    weights = {"mean": scaler.mean_, "scale": scaler.scale_, "coef": model.coef_[0], "bias": model.intercept_}
    plain = json.dumps({name: np.asarray(values).tolist() for name, values in weights.items()}).encode()
    described = dump_signature(replace(example.signature, onnx=None))
    store, path = Store.open(StoreConfig(uri=f"file://{tmp_path}/store"), {}), "models/team/cancer/3-own"
    files = {"signature.json": described, "model/weights/linear.json": plain}
    version = VersionRef(number=3, path=path, digest=write_version(store, path, files, {}))
    world = World.of(tmp_path, example, "V1")
    world = replace(world, config=replace(world.config, version=version))
    folder = fetch_for_runtime(world.config, store, tmp_path / "models")
    with sigmoid_runtime(folder / "weights" / "linear.json", world.port), world.front() as pod:
        answer = predict(pod, example.values(40))
        assert answer.status_code == 200, answer.text
        assert_same(example, answer.json(), 40)
        refused = predict(pod, [[1e6] * 30])
        assert (refused.status_code, refused.json()) == (422, {"error": "far away from anything known"})
        assert httpx.post(f"{pod.url}/explain", json={"features": example.values(1)}).status_code == 404


@contextmanager
def sigmoid_runtime(path: Path, port: int) -> Iterator[None]:
    """A linear model with a sigmoid, in row form; it refuses rows that are far away."""
    weights = {name: np.array(values) for name, values in json.loads(path.read_text()).items()}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            is_state = self.path == "/v1/models/cancer"
            self.reply(200 if is_state else 404, {"model_version_status": [{"state": "AVAILABLE"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            rows = (np.array(body["instances"]) - weights["mean"]) / weights["scale"]
            if rows.max() > 1000:
                self.reply(422, {"error": "far away from anything known"})
                return
            scores = 1 / (1 + np.exp(-(rows @ weights["coef"] + weights["bias"])))
            self.reply(200, {"predictions": scores[:, None].tolist()})

        def reply(self, status: int, plain: Any) -> None:
            body = json.dumps(plain).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
