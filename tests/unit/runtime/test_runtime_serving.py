"""Another model server answers, and clients see no difference: the same rows, checks, ids, captures and metrics."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from modelkit.store.store import Store
from tests.unit.runtime.runtime_world import World, readiness, wait_until
from tests.unit.serve.serve_models import Example, cancer, diabetes, iris, people
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


@pytest.mark.parametrize("build", [iris, people, diabetes])
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
