"""gRPC of a server as a pod runs it."""

import json
import socket
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
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


class Forwarder:
    """As a Service: a new connection leads to a pod that is in its endpoints by now, an old one where it led."""

    def __init__(self, port: int) -> None:
        self.target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        with suppress(OSError), self._listener:
            while True:
                client, _ = self._listener.accept()
                pod = socket.create_connection(("127.0.0.1", self.target))
                self._ends += (client, pod)
                for one, other in ((client, pod), (pod, client)):
                    threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    @staticmethod
    def _copy(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


def test_no_call_of_a_plain_client_fails_when_its_pod_goes(config: ServerConfig, tmp_path: Path) -> None:
    config = replace(config, drain_seconds=0.2, grpc_age_seconds=1.0)
    with ExitStack() as pods:
        old = pods.enter_context(running_pod(config, tmp_path, "pod-0"))
        service = Forwarder(old.grpc_port)
        clients = [Client([service.port], {}) for _ in range(8)]
        for client in clients:
            client.start()
        try:
            for turn in range(1, 4):
                new = pods.enter_context(running_pod(config, tmp_path, f"pod-{turn}"))
                for client in clients:
                    client.wait_answers(20)
                old.process.terminate()
                service.target = new.grpc_port
                assert old.process.wait(20) == 0
                for client in clients:
                    client.wait_answers(20)
                old = new
        finally:
            for client in clients:
                client.stopping.set()
                client.join()
            service.close()
    assert [client.failures for client in clients] == [[]] * 8


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
