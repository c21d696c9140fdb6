"""gRPC of a server as a pod runs it."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from modelkit.contract.config import ServerConfig, StoreConfig
from modelkit.serve.grpc import health_pb2
from modelkit.serve.grpc import inference_pb2 as pb
from modelkit.store.store import Store
from tests.unit.serve.serve_grpc import SERVICE, tensor_request
from tests.unit.serve.serve_models import iris, store_example
from tests.unit.serve.serve_process import Pod, running_pod, server_config

QUESTION = tensor_request(iris(), iris().rows[:1], raw=True).SerializeToString()

SPREADING = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": SERVICE}}
"""What a client that knows several pods is told: it watches their health, and leaves one that drains."""
RETRYING = {
    "methodConfig": [
        {
            "name": [{"service": SERVICE}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ]
}
"""What a client with one connection is told: a call that meets the end of its pod is made again, by another."""


@pytest.fixture
def config(tmp_path: Path) -> ServerConfig:
    root = tmp_path / "store"
    version = store_example(Store.open(StoreConfig(uri=f"file://{root}"), {}), iris())
    return server_config(root, version, "iris", drain_seconds=1.5)


class Client(threading.Thread):
    """Calls one after the other, on a channel that spreads its calls over all pods that it reaches."""

    def __init__(self, ports: list[int], config: dict[str, Any]) -> None:
        super().__init__()
        self._config = json.dumps(config)
        self.stopping = threading.Event()
        self.answered = 0
        self.failures: list[str] = []
        self._addresses = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)

    def run(self) -> None:
        options = [("grpc.service_config", self._config), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self._addresses, options) as channel:
            infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
            while not self.stopping.is_set():
                try:
                    assert pb.ModelInferResponse.FromString(infer(QUESTION, timeout=10)).model_name == "iris"
                except grpc.RpcError as error:
                    self.failures.append(f"{error.code()}: {error.details()}")
                self.answered += 1

    def wait_answers(self, count: int) -> None:
        wanted, deadline = self.answered + count, time.monotonic() + 20
        while self.answered < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def calls_answered(pod: Pod) -> float:
    for line in httpx.get(f"{pod.url}/metrics").text.splitlines():
        if line.startswith('modelloop_requests_total{code="OK",route="grpc_infer"}'):
            return float(line.split()[-1])
    return 0.0


@pytest.mark.parametrize("told", [SPREADING, RETRYING], ids=["health", "retries"])
def test_no_call_fails_while_a_pod_goes_away_under_load(
    config: ServerConfig, tmp_path: Path, told: dict[str, Any]
) -> None:
    with running_pod(config, tmp_path, "pod-0") as old, running_pod(config, tmp_path, "pod-1") as new:
        clients = [Client([old.grpc_port, new.grpc_port], told) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            for client in clients:
                client.wait_answers(20)
            assert calls_answered(old) > 0
            old.process.terminate()
            last = -1.0
            while told is SPREADING and last != (last := calls_answered(old)):
                clients[0].wait_answers(20)
            assert old.process.wait(20) == 0
            for client in clients:
                client.wait_answers(20)
        finally:
            for client in clients:
                client.stopping.set()
                client.join()
        assert [client.failures for client in clients] == [[]] * 4
        assert new.process.poll() is None
    assert "Traceback" not in old.log.read_text() + new.log.read_text()


def test_a_pod_says_that_it_drains_and_answers_on(config: ServerConfig, tmp_path: Path) -> None:
    with running_pod(config, tmp_path) as pod, grpc.insecure_channel(f"127.0.0.1:{pod.grpc_port}") as channel:
        watching = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=20)
        status = health_pb2.HealthCheckResponse
        assert status.FromString(next(watching)).status == status.SERVING
        pod.process.terminate()
        ready = channel.unary_unary(f"/{SERVICE}/ServerReady")
        while pb.ServerReadyResponse.FromString(ready(b"", timeout=10)).ready:
            time.sleep(0.01)
        assert channel.unary_unary(f"/{SERVICE}/ModelInfer")(QUESTION, timeout=10)
        assert pod.process.wait(20) == 0
