"""The server as a pod runs it: start, refusal, drain under load, and a real socket's rough edges."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from modelkit.contract.config import AuthConfig, CaptureConfig, LimitsConfig, ServerConfig, StoreConfig, VersionRef
from modelkit.store.captures import read_captured
from modelkit.store.store import Store
from tests.unit.serve.serve_certificates import mount_pair, tls_config
from tests.unit.serve.serve_models import iris, store_example
from tests.unit.serve.serve_process import Pod, running_pod, server_config, start_pod, wait_ready

BODY = {"features": iris().values(1)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def version(root: Path) -> VersionRef:
    return store_example(Store.open(StoreConfig(uri=f"file://{root}"), {}), iris())


@pytest.fixture
def config(root: Path, version: VersionRef) -> ServerConfig:
    return server_config(root, version, "iris")


def refusal(config: ServerConfig, folder: Path) -> tuple[int, dict[str, str]]:
    """Exit code and termination message of a pod that must not start."""
    pod = start_pod(config, folder)
    code = pod.process.wait(30)
    return code, json.loads(pod.termination_log.read_text())


def test_a_version_with_a_flipped_byte_is_refused(config: ServerConfig, root: Path, tmp_path: Path) -> None:
    model = root / config.version.path / "model.onnx"
    content = bytearray(model.read_bytes())
    content[100] ^= 1
    model.write_bytes(content)
    code, message = refusal(config, tmp_path)
    assert code == 2
    assert (message["outcome"], message["reason"]) == ("Failed", "DigestMismatch")
    assert "model.onnx" in message["message"]


def test_a_configuration_that_does_not_fit_is_refused(config: ServerConfig, tmp_path: Path) -> None:
    code, message = refusal(replace(config, namespace=5), tmp_path)  # type: ignore[arg-type]
    assert (code, message["reason"]) == (2, "BadConfig")
    assert "ServerConfig.namespace must be of type str" in message["message"]


def test_what_was_queued_is_written_before_the_process_ends(config: ServerConfig, root: Path, tmp_path: Path) -> None:
    patient = replace(config, capture=CaptureConfig(flush_seconds=3600))
    with running_pod(patient, tmp_path) as pod:
        answer = httpx.post(f"{pod.url}/predict", json=BODY).json()
        httpx.post(f"{pod.url}/feedback", json={"id": answer["id"], "label": "setosa"}).raise_for_status()
        assert pod.stop() == 0
    store = Store.open(config.store, {})
    now = datetime.now(UTC)
    rows = read_captured(store, "team", "iris", now - timedelta(minutes=5), now + timedelta(minutes=5))
    assert rows.meta["label"].to_pylist() == ["setosa"]
    assert "setosa" not in pod.log.read_text()
    assert "Traceback" not in pod.log.read_text()


class Client(threading.Thread):
    """Sends one request after the other over kept connections to whoever is listed as ready."""

    def __init__(self, ready: list[str]) -> None:
        super().__init__()
        self.ready, self.stopping = ready, threading.Event()
        self.answered, self.failures = 0, list[str]()

    def run(self) -> None:
        with httpx.Client() as client:
            while not self.stopping.is_set():
                url = self.ready[self.answered % len(self.ready)]
                try:
                    response = client.post(f"{url}/predict", json=BODY)
                    if response.status_code != 200:
                        self.failures.append(response.text)
                except httpx.HTTPError as exc:
                    self.failures.append(repr(exc))
                self.answered += 1


def forget_late(pod: Pod, ready: list[str], delay: float) -> None:
    """What endpoints do: notice that the pod isn't ready, and take it from the list a little later."""
    while httpx.get(f"{pod.url}/v2/health/ready").status_code == 200:
        time.sleep(0.01)
    time.sleep(delay)
    ready.remove(pod.url)


def test_no_request_fails_while_a_pod_is_replaced_under_load(config: ServerConfig, tmp_path: Path) -> None:
    draining = replace(config, drain_seconds=2.5)
    with running_pod(draining, tmp_path, "pod-0") as old, running_pod(draining, tmp_path, "pod-1") as new:
        ready = [old.url]
        clients = [Client(ready) for _ in range(4)]
        for client in clients:
            client.start()
        while not all(client.answered > 5 for client in clients):
            time.sleep(0.01)
        ready.append(new.url)
        old.process.terminate()
        forget_late(old, ready, 0.3)
        assert old.process.poll() is None
        assert old.process.wait(20) == 0
        count = clients[0].answered
        while clients[0].answered < count + 10:
            time.sleep(0.01)
        for client in clients:
            client.stopping.set()
            client.join()
        assert [client.failures for client in clients] == [[]] * 4


@pytest.fixture
def small(config: ServerConfig, tmp_path: Path) -> Iterator[Pod]:
    """A pod that takes bodies up to 64 KiB."""
    with running_pod(replace(config, limits=LimitsConfig(max_body_bytes=65_536)), tmp_path) as pod:
        yield pod


def exchange(pod: Pod, *parts: bytes) -> bytes:
    """Send the parts and read until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", int(pod.url.rpartition(":")[2])), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
        return answer


def test_a_real_socket_gets_its_answers(small: Pod) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: pod\r\nContent-Type: application/json\r\n"
    body = json.dumps(BODY).encode()

    # A body in pieces, its length unknown.
    pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:5], body[5:])]
    answer = exchange(small, head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n", *pieces, b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")

    # A client that sends its too long body before it reads still gets the answer.
    length = b"Content-Length: 1000000\r\n\r\n"
    assert exchange(small, head + length, b" " * 1_000_000).startswith(b"HTTP/1.1 413 ")

    # One that asks first isn't told to go on.
    answer = exchange(small, head + b"Expect: 100-continue\r\n" + length)
    assert answer.startswith(b"HTTP/1.1 413 ")

    # An endless body is cut off.
    endless = [b"10000\r\n" + b" " * 65_536 + b"\r\n"] * 40 + [b"0\r\n\r\n"]
    assert exchange(small, head + b"Transfer-Encoding: chunked\r\n\r\n", *endless).startswith(b"HTTP/1.1 413 ")

    # A client that goes away half-way leaves nothing behind.
    with socket.create_connection(("127.0.0.1", int(small.url.rpartition(":")[2]))) as connection:
        connection.sendall(head + b"Content-Length: 100\r\n\r\n{")
    wait_ready(small)
    assert httpx.post(f"{small.url}/predict", json=BODY).status_code == 200
    assert small.stop() == 0
    assert "Traceback" not in small.log.read_text()
    assert "error" not in small.log.read_text().lower()


def test_a_pod_with_a_certificate_and_tokens_answers_who_has_one_over_tls_alone(
    config: ServerConfig, tmp_path: Path
) -> None:
    mount_pair(tmp_path / "tls", "pod")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "client").write_text("s3cret")
    auth = AuthConfig(directory=str(tmp_path / "tokens"))
    pod = start_pod(replace(config, tls=tls_config(tmp_path / "tls"), auth=auth), tmp_path)
    url = pod.url.replace("http://127.0.0.1", "https://localhost")
    context = ssl.create_default_context(cafile=str(tmp_path / "tls" / "tls.crt"))
    try:
        with httpx.Client(verify=context, base_url=url) as client:
            deadline = time.monotonic() + 30
            while True:
                assert pod.process.poll() is None, pod.log.read_text()
                try:
                    assert client.get("/v2/health/ready").status_code == 200
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            assert client.post("/predict", json=BODY).status_code == 401
            assert client.post("/predict", json=BODY, headers={"Authorization": "Bearer s3cret"}).status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{pod.url}/v2/health/ready")
        assert pod.stop() == 0
        assert "s3cret" not in pod.log.read_text()
    finally:
        if pod.process.poll() is None:
            pod.process.kill()
        pod.process.wait()


def test_a_pod_whose_tokens_are_missing_is_refused(config: ServerConfig, tmp_path: Path) -> None:
    code, message = refusal(replace(config, auth=AuthConfig(directory=str(tmp_path / "nothing"))), tmp_path)
    assert (code, message["reason"]) == (2, "BadTokens")
