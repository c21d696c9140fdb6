"""HTTP at the edge: methods, types, limits, ids, metrics, and failures that give nothing away."""

import asyncio
import re
import select
import socket
import zlib

import pytest

from modelkit.contract.config import CaptureConfig, LimitsConfig
from modelkit.serve.batch import Batch
from modelkit.serve.model import Answer
from tests.unit.serve.conftest import Serve, slow_down
from tests.unit.serve.serve_models import cancer, iris


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/cancer", "/metrics"])
async def test_head_is_answered_where_get_is(shared: Serve, path: str) -> None:
    served = shared(cancer())
    assert (await served.client.head(path)).status_code == (await served.client.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("PUT", "/predict", "POST"),
        ("HEAD", "/v2/models/cancer/infer", "POST"),
        ("DELETE", "/feedback", "POST"),
        ("POST", "/v2/health/ready", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_a_405_with_allow(shared: Serve, method: str, path: str, allowed: str) -> None:
    response = await shared(cancer()).client.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allowed
    assert method == "HEAD" or allowed in response.json()["error"]


@pytest.mark.parametrize("path", ["/", "/predict/", "/predict/more", "/../etc/passwd", "/%2e%2e"])
async def test_an_unknown_path_is_a_404(shared: Serve, path: str) -> None:
    response = await shared(cancer()).client.get(path)
    assert response.status_code == 404
    assert "/predict" in response.json()["error"]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/octet-stream", 415),
    ],
)
async def test_only_json_is_read(shared: Serve, content_type: str, status: int) -> None:
    body = b'{"features": [[5.1, 3.5, 1.4, 0.2]]}'
    response = await shared(iris()).client.post("/predict", content=body, headers={"Content-Type": content_type})
    assert response.status_code == status


async def test_a_compressed_body_is_a_415(shared: Serve) -> None:
    response = await shared(iris()).client.post(
        "/predict", content=zlib.compress(b"{}"), headers={"Content-Encoding": "deflate"}
    )
    assert response.status_code == 415
    assert "Content-Encoding" in response.json()["error"]


async def test_a_body_over_the_limit_is_a_413(serve: Serve) -> None:
    served = serve(iris(), limits=LimitsConfig(max_body_bytes=100))
    response = await served.client.post("/predict", content=b" " * 101)
    assert response.status_code == 413
    assert response.json()["error"] == "the body has 101 bytes; the limit is 100"
    assert response.headers["connection"] == "close"


def test_a_body_without_length_is_refused_as_soon_as_it_is_too_long(serve: Serve) -> None:
    served = serve(iris(), limits=LimitsConfig(max_body_bytes=100))
    with socket.create_connection(("127.0.0.1", served.loopback.port), timeout=10) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: pod\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not select.select([connection], [], [], 0)[0]:
            connection.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")


async def test_more_requests_at_once_than_the_limit_are_a_503_with_retry_after(serve: Serve) -> None:
    served = serve(iris(), limits=LimitsConfig(max_concurrent=2))
    release = slow_down(served)
    first = [asyncio.create_task(served.predict([[5.1, 3.5, 1.4, 0.2]])) for _ in range(2)]
    while served.app.engine.active < 2:
        await asyncio.sleep(0)
    refused = await served.predict([[5.1, 3.5, 1.4, 0.2]])
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert await served.metric("modelloop_requests_in_flight") == 2
    release.set()
    assert [response.status_code for response in await asyncio.gather(*first)] == [200, 200]
    assert (await served.predict([[5.1, 3.5, 1.4, 0.2]])).status_code == 200


async def test_an_answer_that_takes_too_long_is_a_504_and_keeps_its_place_until_it_is_done(serve: Serve) -> None:
    served = serve(iris(), limits=LimitsConfig(inference_seconds=0.05, max_concurrent=1))
    release = slow_down(served)
    assert (await served.predict([[5.1, 3.5, 1.4, 0.2]])).status_code == 504
    assert (await served.predict([[5.1, 3.5, 1.4, 0.2]])).status_code == 503
    release.set()
    while served.app.engine.active:
        await asyncio.sleep(0.001)
    assert (await served.predict([[5.1, 3.5, 1.4, 0.2]])).status_code == 200


async def test_an_unexpected_failure_is_a_500_without_its_message(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(iris())

    def fail(batch: Batch) -> Answer:
        raise RuntimeError("secret 5.1")

    served.version.service.model.predict = fail  # type: ignore[method-assign]
    response = await served.predict([[5.1, 3.5, 1.4, 0.2]])
    assert response.status_code == 500
    assert "secret" not in response.text + caplog.text
    (record,) = (record for record in caplog.records if record.name == "modelkit.serve.app")
    assert record.__dict__["error"] == "RuntimeError"
    assert record.__dict__["request_id"] == response.headers["x-request-id"]
    assert "test_serve_app.py" in record.__dict__["place"]
    assert record.exc_info is None


async def test_requests_rows_and_predictions_are_counted(serve: Serve) -> None:
    served = serve(iris())
    await served.predict(iris().values(60))
    await served.predict([[1]])
    await served.client.get("/nothing/here")
    assert await served.metric('modelloop_requests_total{code="200",route="predict"}') == 1
    assert await served.metric('modelloop_requests_total{code="400",route="predict"}') == 1
    assert await served.metric('modelloop_requests_total{code="404",route="unknown"}') == 1
    assert await served.metric('modelloop_request_duration_seconds_count{route="predict"}') == 2
    assert await served.metric("modelloop_rows_total") == 60
    assert await served.metric('modelloop_predictions_total{class="setosa"}') == 50
    assert await served.metric('modelloop_predictions_total{class="virginica"}') == 0
    text = (await served.client.get("/metrics")).text
    (line,) = (line for line in text.splitlines() if line.startswith("modelloop_model_info{"))
    assert re.fullmatch(r'modelloop_model_info\{digest="sha256:[0-9a-f]{64}",model="iris",version="3"\} 1\.0', line)


async def test_captured_rows_that_find_no_room_are_dropped_and_counted(serve: Serve) -> None:
    served = serve(iris(), capture=CaptureConfig(max_queue=5, flush_seconds=60))
    assert (await served.predict(iris().values(6))).status_code == 200
    assert await served.metric("modelloop_capture_dropped_rows_total") == 6
    assert await served.metric('modelloop_capture_queue_rows{stream="requests"}') == 0


async def test_draining_answers_everything_and_asks_clients_to_leave(serve: Serve) -> None:
    served = serve(iris())
    served.app.drain.begin()
    response = await served.predict(iris().values(1))
    assert (response.status_code, response.headers["connection"]) == (200, "close")
