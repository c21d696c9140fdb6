"""A runtime with a protocol of its own: everything is passed on as it is, pieces as they come, within our limits."""

import hashlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelkit.contract.config import AuthConfig, LimitsConfig
from tests.unit.runtime.runtime_world import World, readiness, wait_until
from tests.unit.serve.serve_models import cancer
from tests.unit.serve.serve_process import Pod, start_pod

PROGRAM = Path(__file__).parent / "raw_server.py"
CHAT = "/v1/chat/completions"


@contextmanager
def raw_server(world: World) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, str(PROGRAM), str(world.port)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Pod]]:
    """Our server before the raw one, with tokens and small limits."""
    folder = tmp_path_factory.mktemp("raw")
    (folder / "tokens").mkdir()
    (folder / "tokens" / "ann").write_text("secret-of-ann")
    world = World.of(folder, cancer(), "Raw", timeout_seconds=2.0)
    limits = LimitsConfig(max_body_bytes=1000, max_concurrent=4, inference_seconds=1.0)
    with raw_server(world), world.front(auth=AuthConfig(directory=str(folder / "tokens")), limits=limits) as pod:
        yield world, pod


def client(pod: Pod, **headers: str) -> httpx.Client:
    return httpx.Client(base_url=pod.url, headers={"Authorization": "Bearer secret-of-ann"} | headers)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_any_request_arrives_as_it_was_sent(passed: tuple[World, Pod], method: str) -> None:
    _, pod = passed
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = {"X-Request-Id": "r-7", "traceparent": trace, "Connection": "X-Mine", "X-Mine": "hop", "Accept": "x/y"}
    with client(pod, **sent) as ask:
        answer = ask.request(method, "/v1/any%20thing?a=1&b=%2F", content=b"\x00\xffbody")
    assert answer.status_code == 201
    found = answer.json()
    assert (found["method"], found["path"], found["body"]) == (method, "/v1/any%20thing?a=1&b=%2F", "\x00\xffbody")
    headers = found["headers"]
    assert (headers["x-request-id"], headers["traceparent"], headers["accept"]) == ("r-7", trace, "x/y")
    assert "authorization" not in headers, "the token is for this server"
    assert "x-mine" not in headers
    assert (answer.headers["x-request-id"], answer.headers["x-own"]) == ("r-7", "yes")
    assert answer.headers["content-type"] == "application/x-own"
    assert "x-hop" not in answer.headers


def test_answers_without_a_body_are_passed_on(passed: tuple[World, Pod]) -> None:
    _, pod = passed
    with client(pod) as ask:
        assert ask.get("/empty").status_code == 204
        head = ask.head("/anything")
        assert (head.status_code, head.content) == (201, b"")
        assert ask.get("/after").status_code == 201


def test_events_reach_the_client_as_they_come(passed: tuple[World, Pod]) -> None:
    _, pod = passed
    with client(pod) as ask, ask.stream("POST", CHAT, json={"stream": True}) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = (line for line in answer.iter_lines() if line)
        assert next(lines) == "data: 1"
        httpx.get(f"http://127.0.0.1:{passed[0].port}/go")
        assert list(lines) == ["data: 2"]


def test_an_old_client_gets_the_events_without_chunks(passed: tuple[World, Pod]) -> None:
    world, pod = passed
    httpx.get(f"http://127.0.0.1:{world.port}/go")
    with socket.create_connection(("127.0.0.1", int(pod.url.rpartition(":")[2]))) as connection:
        head = f"POST {CHAT} HTTP/1.0\r\nAuthorization: Bearer secret-of-ann\r\nContent-Length: 2\r\n\r\n{{}}"
        connection.sendall(head.encode())
        data = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body == b"data: 1\n\ndata: 2\n\n"


def test_a_large_answer_is_whole(passed: tuple[World, Pod]) -> None:
    _, pod = passed
    wanted = hashlib.sha256(b"".join(bytes([index]) * 65_536 for index in range(256))).hexdigest()
    with client(pod) as ask:
        for _ in range(3):
            assert hashlib.sha256(ask.get("/big").content).hexdigest() == wanted


def test_pipelined_requests_are_answered_in_order_around_a_stream(passed: tuple[World, Pod]) -> None:
    world, pod = passed
    httpx.get(f"http://127.0.0.1:{world.port}/go")
    token = "Host: pod\r\nAuthorization: Bearer secret-of-ann\r\n"
    asked = f"GET /one HTTP/1.1\r\n{token}\r\nPOST {CHAT} HTTP/1.1\r\n{token}Content-Length: 2\r\n\r\n{{}}"
    asked += f"GET /two HTTP/1.1\r\n{token}Connection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(pod.url.rpartition(":")[2]))) as connection:
        connection.sendall(asked.encode())
        data = b"".join(iter(lambda: connection.recv(65_536), b""))
    places = [data.index(word) for word in (b'"/one"', b"data: 1", b"data: 2", b'"/two"')]
    assert places == sorted(places)


def test_a_runtime_that_dies_within_its_answer_ends_the_connection(passed: tuple[World, Pod]) -> None:
    _, pod = passed
    with client(pod) as ask, pytest.raises(httpx.RemoteProtocolError), ask.stream("GET", "/half") as answer:
        list(answer.iter_bytes())


def test_a_client_that_leaves_ends_the_runtimes_work_and_gives_its_place_back(passed: tuple[World, Pod]) -> None:
    world, pod = passed
    for _ in range(6):
        httpx.get(f"http://127.0.0.1:{world.port}/go")
        with client(pod) as ask, ask.stream("POST", CHAT, json={"endless": True}) as answer:
            next(answer.iter_lines())
        direct = f"http://127.0.0.1:{world.port}/gone"
        wait_until(lambda direct=direct: httpx.get(direct).status_code == 200, "the runtime sees that nobody reads")
    with client(pod) as ask:
        assert ask.get("/still").status_code == 201


def test_our_own_paths_tokens_and_limits_hold(passed: tuple[World, Pod]) -> None:
    _, pod = passed
    assert readiness(pod) == 200
    assert httpx.get(f"{pod.url}/anything").status_code == 401
    with client(pod) as ask:
        assert ask.post("/anything", content=b"x" * 1001).status_code == 413
        assert ask.post("/feedback", json={"id": "r-7", "label": 1}).status_code == 202
        late = ask.get("/hang")
        assert late.status_code == 504
        assert "within 1 s" in late.json()["error"]
    metrics = httpx.get(f"{pod.url}/metrics").text
    assert 'modelloop_requests_total{code="201",route="raw"}' in metrics


def test_a_runtime_that_is_gone_is_a_503_and_the_pod_is_not_ready(tmp_path: Path) -> None:
    world = World.of(tmp_path, cancer(), "Raw")
    pod = start_pod(world.config, tmp_path)
    try:
        wait_until(lambda: readiness(pod) == 503, "live, not ready")
        gone: Any = httpx.get(f"{pod.url}/v1/models")
        assert (gone.status_code, gone.headers["retry-after"]) == (503, "1")
        with raw_server(world):
            wait_until(lambda: readiness(pod) == 200, "ready")
            assert httpx.get(f"{pod.url}/v1/models").status_code == 201
        # The connection that was kept is dead.
        assert httpx.get(f"{pod.url}/v1/models").status_code == 503
        assert pod.stop() == 0
    finally:
        pod.process.kill()
        pod.process.wait()
