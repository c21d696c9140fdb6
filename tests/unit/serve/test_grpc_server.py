"""gRPC over a real connection: answers, statuses, limits, tokens, health, and the end."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from modelkit.contract.config import AuthConfig, LimitsConfig
from modelkit.serve.auth import Auth
from modelkit.serve.grpc import health_pb2
from modelkit.serve.grpc import inference_pb2 as pb
from modelkit.serve.grpc.calls import Calls
from modelkit.serve.grpc.server import GrpcServer
from modelkit.serve.v2_tensors import read_raw
from modelkit.store.captures import read_captured
from tests.unit.serve.serve_certificates import mount_pair, tls_config
from tests.unit.serve.serve_grpc import (
    SERVICE,
    GrpcServe,
    GrpcServed,
    add_input,
    grpc_loop,
    serve_grpc,
    tensor_request,
)
from tests.unit.serve.serve_models import cancer, iris, native, people

HEALTH = "grpc.health.v1.Health"
CODE = grpc.StatusCode
_Health = health_pb2.HealthCheckResponse


@pytest.fixture(scope="module")
def loop() -> Iterator[Any]:
    with grpc_loop() as found:
        yield found


@pytest.fixture
def serve(loop: Any, tmp_path: Path) -> Iterator[GrpcServe]:
    with ExitStack() as stack:
        yield partial(serve_grpc, stack, loop, tmp_path)


@pytest.fixture(scope="module")
def shared(loop: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcServe]:
    """Loaded once per example for all tests that only ask."""
    with ExitStack() as stack:
        yield cache(partial(serve_grpc, stack, loop, tmp_path_factory.mktemp("grpc")))


def question(served: GrpcServed, rows: int = 1, **fields: Any) -> pb.ModelInferRequest:
    request = tensor_request(served.example, served.example.rows[:rows], raw=True)
    request.MergeFrom(pb.ModelInferRequest(**fields))
    return request


def requests_counted(served: GrpcServed, route: str, code: CODE) -> float:
    found = served.version.service.metrics.registry.get_sample_value(
        "modelloop_requests_total", {"route": route, "code": code.name}
    )
    return found or 0.0


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def is_live(served: GrpcServed) -> bool:
    try:
        return pb.ServerLiveResponse.FromString(served.ask("ServerLive", timeout=1.0)).live
    except grpc.RpcError:
        return False


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("make", [cancer, iris, lambda: native("cancer")])
def test_answers_are_the_pipeline_s(shared: GrpcServe, make: Any, raw: bool) -> None:
    example = make()
    served = shared(example)
    answer = served.infer(tensor_request(example, example.rows[:20], raw=raw))
    labels, probabilities = answer.outputs
    assert (labels.name, probabilities.name, list(probabilities.shape)) == (
        "prediction",
        "probabilities",
        [20, len(example.signature.classes)],
    )
    if raw:
        found = np.frombuffer(answer.raw_output_contents[1], "<f8")
    else:
        found = np.array(probabilities.contents.fp64_contents)
        texts = [text.decode() for text in labels.contents.bytes_contents]
        assert (texts or list(labels.contents.int64_contents)) == example.predictions(20)
    np.testing.assert_allclose(found.reshape(20, -1), example.probabilities(20), atol=1e-5)


def test_columns_of_numbers_texts_and_booleans_are_answered(shared: GrpcServe) -> None:
    served = shared(people())
    request = pb.ModelInferRequest(model_name="people")
    for name, datatype in (("age", "FP64"), ("city", "BYTES"), ("vip", "BOOL"), ("visits", "INT64")):
        column = [row[people().names.index(name)] for row in people().values(9)][1:6]
        values = [("" if datatype == "BYTES" else float("nan")) if value is None else value for value in column]
        add_input(request, name, datatype, [5, 1], values, raw=True)
    request.outputs.add(name="prediction")
    (labels,) = served.infer(request).raw_output_contents
    assert read_raw("labels", "BYTES", (5,), labels, 10).tolist() == people().predictions(6)[1:]


def test_who_is_live_and_ready_is_told_and_what_is_served(shared: GrpcServe) -> None:
    served = shared(cancer())
    assert pb.ServerLiveResponse.FromString(served.ask("ServerLive")).live
    assert pb.ServerReadyResponse.FromString(served.ask("ServerReady")).ready
    for version in ("", "3"):
        asked = pb.ModelReadyRequest(name="cancer", version=version)
        assert pb.ModelReadyResponse.FromString(served.ask("ModelReady", asked)).ready
    assert pb.ServerMetadataResponse.FromString(served.ask("ServerMetadata")).name == "modelloop"
    metadata = served.ask("ModelMetadata", pb.ModelMetadataRequest(name="cancer"))
    assert [output.datatype for output in pb.ModelMetadataResponse.FromString(metadata).outputs] == ["INT64", "FP64"]


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata"])
def test_another_model_or_version_is_not_found(shared: GrpcServe, method: str) -> None:
    served = shared(cancer())
    for asked in (pb.ModelReadyRequest(name="other"), pb.ModelReadyRequest(name="cancer", version="2")):
        error = served.refused(method, asked)
        assert (error.code(), error.details()) == (
            CODE.NOT_FOUND,
            "this server has the model 'cancer' in version '3' and nothing else",
        )


def test_the_id_is_the_message_s_else_the_metadata_s_else_a_new_one(serve: GrpcServe) -> None:
    served = serve(iris())
    metadata = (("x-request-id", "of-metadata"),)
    assert served.infer(question(served, id="of-message"), metadata=metadata).id == "of-message"
    assert served.infer(question(served), metadata=metadata).id == "of-metadata"
    new = served.infer(question(served)).id
    assert len(new) == 32

    def captured() -> list[str]:
        now = datetime.now(UTC)
        day = timedelta(hours=1)
        return list(read_captured(served.store, "team", "iris", now - day, now + day).meta["id"].to_pylist())

    wait_until(lambda: len(captured()) == 3)
    assert sorted(captured()) == sorted(["of-message", "of-metadata", new])


def test_what_is_wrong_is_an_invalid_argument_with_the_id_in_the_trailers(shared: GrpcServe) -> None:
    served = shared(cancer())
    before = requests_counted(served, "grpc_infer", CODE.INVALID_ARGUMENT)
    wrong = question(served)
    wrong.inputs[0].shape[1] = 29
    error = served.refused("ModelInfer", wrong, metadata=(("x-request-id", "mine"),))
    assert (error.code(), error.details()) == (
        CODE.INVALID_ARGUMENT,
        "the input 'X' of [1, 29] FP64 must have 232 bytes; found 240",
    )
    assert ("x-request-id", "mine") in error.trailing_metadata()
    for options in ({"metadata": (("x-request-id", "a b"),)}, {"metadata": (("x-request-id", "a"),) * 2}):
        assert served.refused("ModelInfer", question(served), **options).code() == CODE.INVALID_ARGUMENT
    assert requests_counted(served, "grpc_infer", CODE.INVALID_ARGUMENT) == before + 3


def test_every_method_refuses_a_message_of_another_kind(shared: GrpcServe) -> None:
    served = shared(cancer())
    for method in ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"):
        assert served.refused(method, b"\xff").code() == CODE.INVALID_ARGUMENT
    assert served.refused("Check", b"\xff", service=HEALTH).code() == CODE.INVALID_ARGUMENT
    assert served.refused("RepositoryIndex").code() == CODE.UNIMPLEMENTED


def test_a_message_that_is_too_large_is_refused_also_when_it_comes_compressed(serve: GrpcServe) -> None:
    served = serve(cancer(), limits=LimitsConfig(max_body_bytes=100_000))
    for options in ({}, {"compression": grpc.Compression.Gzip}):
        error = served.refused("ModelInfer", b"\0" * 20_000_000, **options)
        assert error.code() == CODE.RESOURCE_EXHAUSTED
    assert served.infer(question(served), compression=grpc.Compression.Gzip).model_name == "cancer"


def test_more_calls_at_once_than_the_limit_are_unavailable_and_told_when_to_come_back(serve: GrpcServe) -> None:
    served = serve(iris(), limits=LimitsConfig(max_concurrent=1))
    release = served.slow_down()
    first = served.channel.unary_unary(f"/{SERVICE}/ModelInfer").future(question(served).SerializeToString())
    wait_until(lambda: served.engine.active == 1)
    error = served.refused("ModelInfer", question(served))
    assert error.code() == CODE.UNAVAILABLE
    assert {("retry-after", "1"), ("grpc-retry-pushback-ms", "1000")} <= set(error.trailing_metadata())
    assert pb.ServerLiveResponse.FromString(served.ask("ServerLive")).live
    release.set()
    assert pb.ModelInferResponse.FromString(first.result(10)).model_name == "iris"


def test_an_answer_that_takes_too_long_is_a_deadline_exceeded(serve: GrpcServe) -> None:
    served = serve(iris(), limits=LimitsConfig(inference_seconds=0.05))
    release = served.slow_down()
    error = served.refused("ModelInfer", question(served))
    assert (error.code(), error.details()) == (CODE.DEADLINE_EXCEEDED, "no answer within 0.05 s")
    release.set()


def test_a_client_that_stops_waiting_gives_its_place_back(serve: GrpcServe) -> None:
    served = serve(iris(), limits=LimitsConfig(max_concurrent=3))
    release = served.slow_down()
    calls = [
        served.channel.unary_unary(f"/{SERVICE}/ModelInfer").future(question(served).SerializeToString())
        for _ in range(3)
    ]
    wait_until(lambda: served.engine.active == 3)
    for call in calls:
        call.cancel()
    error = served.refused("ModelInfer", question(served), timeout=0.2)
    assert error.code() in (CODE.DEADLINE_EXCEEDED, CODE.UNAVAILABLE)
    release.set()
    wait_until(lambda: served.engine.active == 0)
    assert requests_counted(served, "grpc_infer", CODE.CANCELLED) >= 3
    assert served.infer(question(served)).model_name == "iris"


def test_an_unexpected_failure_says_nothing_of_itself(serve: GrpcServe, caplog: pytest.LogCaptureFixture) -> None:
    served = serve(iris())

    def fail(_: Any) -> Any:
        raise ValueError("secret value 42")

    served.version.service.model.predict = fail  # type: ignore[method-assign]
    error = served.refused("ModelInfer", question(served), metadata=(("x-request-id", "mine"),))
    assert (error.code(), error.details()) == (CODE.INTERNAL, "the server failed; its log names the request id")
    assert "secret" not in caplog.text
    assert [record.request_id for record in caplog.records if hasattr(record, "request_id")] == ["mine"]


def test_a_call_without_a_message_is_refused(shared: GrpcServe) -> None:
    served = shared(cancer())
    method = served.channel.stream_unary(f"/{SERVICE}/ModelInfer")
    with pytest.raises(grpc.RpcError) as found:
        method(iter(()), timeout=10)
    assert found.value.code() == CODE.INVALID_ARGUMENT


def test_a_message_that_does_not_come_ends_the_call(serve: GrpcServe) -> None:
    served = serve(cancer(), limits=LimitsConfig(body_seconds=0.01))
    release = threading.Event()

    def messages() -> Iterator[bytes]:
        release.wait(60)
        yield b""

    method = served.channel.stream_unary(f"/{SERVICE}/ModelInfer")
    # Again and again: whether the time was over once depended on how its float was rounded.
    ends = set()
    for _ in range(50):
        call = method.future(messages(), timeout=10)
        ends.add((call.code(), call.details()))
    release.set()
    assert ends == {(CODE.DEADLINE_EXCEEDED, "the message didn't arrive within 0.01 s")}


def test_a_trace_is_given_back(shared: GrpcServe) -> None:
    served = shared(cancer())
    trace = (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("tracestate", "a=1"))
    method = served.channel.unary_unary(f"/{SERVICE}/ModelInfer")
    _, call = method.with_call(question(served).SerializeToString(), metadata=trace)
    assert set(trace) <= set(call.trailing_metadata())
    assert set(trace) <= set(served.refused("ModelInfer", b"\xff", metadata=trace).trailing_metadata())


def test_only_probes_are_answered_without_a_token(serve: GrpcServe, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / "token").write_text("secret\n")
    served = serve(cancer(), auth=Auth(AuthConfig(directory=str(tokens))))
    for method in ("ModelInfer", "ModelMetadata", "ServerMetadata"):
        for metadata in ((), (("authorization", "Bearer wrong"),)):
            error = served.refused(method, question(served), metadata=metadata)
            assert error.code() == CODE.UNAUTHENTICATED
            assert "secret" not in error.details()
    assert served.infer(question(served), metadata=(("authorization", "Bearer secret"),)).model_name == "cancer"
    assert pb.ServerReadyResponse.FromString(served.ask("ServerReady")).ready
    assert served.ask("ModelReady", pb.ModelReadyRequest(name="cancer"))
    assert served.ask("Check", service=HEALTH)


def test_those_who_watch_the_health_cannot_take_every_place(serve: GrpcServe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelkit.serve.grpc.calls._MAX_WATCHERS", 2)
    served = serve(cancer())
    watch = served.channel.unary_stream(f"/{HEALTH}/Watch")
    watching = [watch(b"", timeout=30) for _ in range(2)]
    for call in watching:
        next(call)
    with pytest.raises(grpc.RpcError) as found:
        next(watch(b"", timeout=30))
    assert found.value.code() == CODE.RESOURCE_EXHAUSTED
    watching[0].cancel()

    def is_free() -> bool:
        try:
            return bool(next(watch(b"", timeout=30)))
        except grpc.RpcError:
            return False

    wait_until(is_free)


def test_health_is_told_and_its_end_to_those_who_watch(serve: GrpcServe) -> None:
    served = serve(cancer())
    for name in ("", SERVICE):
        asked = health_pb2.HealthCheckRequest(service=name)
        assert _Health.FromString(served.ask("Check", asked, service=HEALTH)).status == _Health.SERVING
    other = health_pb2.HealthCheckRequest(service="other")
    assert served.refused("Check", other, service=HEALTH).code() == CODE.NOT_FOUND
    watch = served.channel.unary_stream(f"/{HEALTH}/Watch")
    assert _Health.FromString(next(watch(other.SerializeToString()))).status == _Health.SERVICE_UNKNOWN
    watching = watch(b"", timeout=20)
    assert _Health.FromString(next(watching)).status == _Health.SERVING
    served.loop.call_soon_threadsafe(served.version.service.drain.begin)
    assert _Health.FromString(next(watching)).status == _Health.NOT_SERVING
    assert not pb.ServerReadyResponse.FromString(served.ask("ServerReady")).ready
    assert pb.ServerLiveResponse.FromString(served.ask("ServerLive")).live
    served.run(served.server.wait_closed(5.0))
    assert list(watching) == []


def test_what_is_in_flight_is_finished_when_the_server_closes(serve: GrpcServe) -> None:
    served = serve(iris())
    release = served.slow_down()
    call = served.channel.unary_unary(f"/{SERVICE}/ModelInfer").future(question(served).SerializeToString())
    wait_until(lambda: served.engine.active == 1)
    closing = threading.Thread(target=served.run, args=(served.server.wait_closed(10.0),))
    closing.start()
    wait_until(lambda: not is_live(served))
    release.set()
    assert pb.ModelInferResponse.FromString(call.result(10)).model_name == "iris"
    closing.join(10)
    assert not closing.is_alive()


def test_calls_are_encrypted_and_a_new_certificate_is_taken_while_it_runs(serve: GrpcServe, tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    mount_pair(folder, "first")
    served = serve(cancer(), tls=tls_config(folder))

    def ask() -> str:
        credentials = grpc.ssl_channel_credentials((folder / "tls.crt").read_bytes())
        options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(served.address, credentials, options) as channel:
            answer = channel.unary_unary(f"/{SERVICE}/ModelInfer")(question(served).SerializeToString(), timeout=10)
        return pb.ModelInferResponse.FromString(answer).model_name

    assert ask() == "cancer"
    mount_pair(folder, "second")
    assert ask() == "cancer"
    (folder / "tls.key").unlink()
    (folder / "tls.key").write_text("broken")
    assert ask() == "cancer"
    assert served.refused("ServerLive", timeout=2.0).code() == CODE.UNAVAILABLE


def test_clients_that_flood_with_pings_are_sent_away(shared: GrpcServe) -> None:
    served = shared(cancer())
    ping = struct.pack(">I", 8)[1:] + b"\x06\0\0\0\0\0" + b"\0" * 8
    with socket.create_connection(("127.0.0.1", served.server.port), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + ping * 50)
        received = b""
        while part := connection.recv(65_536):
            received += part
    assert b"too_many_pings" in received


def test_connections_beyond_the_limit_are_closed(serve: GrpcServe) -> None:
    served = serve(cancer(), limits=LimitsConfig(max_connections=5))
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", served.server.port), timeout=10))
            for _ in range(12)
        ]
        answered = 0
        for connection in connections:
            with suppress(ConnectionError):
                connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
                answered += connection.recv(1) != b""
    assert answered == 5


def test_a_connection_that_never_speaks_is_closed(serve: GrpcServe) -> None:
    served = serve(cancer(), limits=LimitsConfig(header_seconds=0.2))
    with socket.create_connection(("127.0.0.1", served.server.port), timeout=10) as connection:
        while connection.recv(65_536):
            pass


def test_two_servers_do_not_share_a_port(serve: GrpcServe) -> None:
    served = serve(cancer())
    other = GrpcServer(Calls(served.version.service, served.engine, None), LimitsConfig(), None, served.server.port)
    with pytest.raises(OSError, match="can't be listened on"):
        served.run(other.start())
