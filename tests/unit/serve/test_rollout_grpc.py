"""Calls are shared between versions as REST requests are."""

import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from modelkit.contract.config import LimitsConfig
from modelkit.contract.route import PeerConfig
from modelkit.serve.errors import InferenceTimeoutError, UnprocessableRequestError
from modelkit.serve.grpc import inference_pb2 as pb
from tests.unit.serve.rollout_peers import bad_peer, hang, says
from tests.unit.serve.serve_certificates import mount_pair, tls_config
from tests.unit.serve.serve_grpc import SERVICE, grpc_loop, tensor_request
from tests.unit.serve.serve_models import cancer
from tests.unit.serve.serve_process import free_port
from tests.unit.serve.serve_rollout import Pods, RolloutPod, newer_cancer, rollout_pods, route, wait_until


@pytest.fixture(scope="module")
def loop() -> Iterator[Any]:
    with grpc_loop() as found:
        yield found


@pytest.fixture
def pods(loop: Any, tmp_path: Path) -> Iterator[Pods]:
    with rollout_pods(tmp_path, loop) as found:
        yield found


class Client:
    """A connection to one pod."""

    def __init__(self, pod: RolloutPod, certificate: bytes | None = None) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", "localhost")]
        address = f"127.0.0.1:{pod.grpc.port}"
        if certificate is None:
            self.channel = grpc.insecure_channel(address, options)
        else:
            self.channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(certificate), options)

    def ask(self, first: int = 0, rows: int = 1, *, raw: bool = True, version: str = "", **options: Any) -> Any:
        request = tensor_request(cancer(), cancer().rows[first : first + rows], raw=raw)
        request.model_version = version
        infer = self.channel.unary_unary(f"/{SERVICE}/ModelInfer")
        reply, call = infer.with_call(request.SerializeToString(), **({"timeout": 20.0} | options))
        assert not any(name.startswith("modelloop") for name, _ in call.trailing_metadata() or ())
        return pb.ModelInferResponse.FromString(reply)

    def versions(self, count: int, **options: Any) -> list[str]:
        return [self.ask(**options).model_version for _ in range(count)]


@pytest.mark.parametrize(("weight", "count"), [(0, 0), (30, 12), (100, 40)])
@pytest.mark.parametrize("raw", [True, False])
def test_the_share_is_exact(pods: Pods, weight: float, count: int, raw: bool) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=weight))
    assert Counter(Client(stable).versions(40, raw=raw))["4"] == count
    report = stable.report()
    assert (report.own_side.answered, report.other_side.answered) == (40 - count, count)
    assert newer.metric("modelloop_requests_total", route="passed_on", code="OK") == count


@pytest.mark.parametrize("weight", [0, 50, 100])
def test_calls_are_compared_row_by_row(pods: Pods, weight: int) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=weight, compare=100))
    client = Client(stable)
    for at in range(0, 60, 3):
        client.ask(at, 3)
    wait_until(lambda: stable.report().pairs.rows == 60)
    rows = cancer().rows[:60]
    mine, theirs = cancer().pipeline.predict(rows), newer_cancer().pipeline.predict(rows)
    pairs = stable.report().pairs
    assert (pairs.requests, pairs.failed, pairs.disagreements) == (20, 0, int((mine != theirs).sum()))
    assert newer.metric("modelloop_rows_total") == 60 * weight // 100


def test_a_call_that_names_its_version_stays_here_and_one_that_was_passed_on_too(pods: Pods) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=100))
    newer.follow(route(newer, stable, weight=100))
    client = Client(stable)
    assert client.versions(3, version="3") == ["3"] * 3
    assert client.versions(3) == ["4"] * 3
    assert client.versions(3, metadata=[("modelloop-hop", "1")]) == ["3"] * 3
    assert Client(newer).versions(3) == ["3"] * 3


def test_the_key_is_metadata(pods: Pods) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=50, sticky_header="x-user"))
    client = Client(stable)
    calls = [client.versions(2, metadata=[("x-user", f"user-{user}")]) for user in range(20)]
    assert all(len(set(found)) == 1 for found in calls)
    assert {found[0] for found in calls} == {"3", "4"}
    rest = [stable.ask(headers={"x-user": f"user-{user}"}).json()["version"] for user in range(20)]
    assert rest == [found[0] for found in calls]


def test_another_versions_failures_are_answered_here(pods: Pods) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=100))
    client = Client(stable)
    failures = {
        "Refused": UnprocessableRequestError("no finite answer"),
        "Error": None,
        "Timeout": InferenceTimeoutError("too slow"),
    }
    for kind, error in failures.items():
        mend = newer.break_down(error)
        assert client.versions(1) == ["3"]
        assert stable.report().other_side.failures[kind] == 1
        mend()
    assert client.versions(1) == ["4"]


@pytest.mark.parametrize("name", ["closed", "garbage", "hangs"])
def test_what_is_no_server_is_answered_for(pods: Pods, name: str) -> None:
    stable = pods.start(cancer())
    with bad_peer(hang if name == "hangs" else says(b"no HTTP/2 at all\r\n\r\n")) as bad:
        place = f"127.0.0.1:{free_port()}" if name == "closed" else bad.peer.http
        stable.follow(route(stable, PeerConfig(number=4, http=place, grpc=place), weight=100, timeout_seconds=0.3))
        assert Client(stable).versions(3) == ["3"] * 3
        side = stable.report().other_side
    assert side.asked == sum(side.failures.values()) == 3
    assert set(side.failures) <= {"Unreachable", "Timeout"}


def test_a_clients_deadline_leaves_time_for_this_version(pods: Pods) -> None:
    stable, newer = pods.pair()
    release = newer.slow_down()
    stable.follow(route(stable, newer, weight=100, timeout_seconds=20.0))
    assert Client(stable).ask(timeout=2.0).model_version == "3"
    release.set()
    assert dict(stable.report().other_side.failures) == {"Timeout": 1}


def test_a_call_that_both_refuse_says_nothing(pods: Pods) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=100, compare=100))
    infer = Client(stable).channel.unary_unary(f"/{SERVICE}/ModelInfer")
    for message in (b"\xff", pb.ModelInferRequest(model_name="cancer").SerializeToString()):
        with pytest.raises(grpc.RpcError) as refused:
            infer(message, timeout=20)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    report = stable.report()
    assert report.own_side.asked == report.other_side.asked == 0


def test_a_guarded_version_has_its_failures_answered(pods: Pods) -> None:
    stable, newer = pods.pair()
    newer.break_down()
    newer.follow(route(newer, stable, is_guarded=True))
    assert Client(newer).versions(3) == ["3"] * 3
    assert dict(newer.report().own_side.failures) == {"Error": 3}


def test_large_calls_are_shared_too(pods: Pods) -> None:
    stable, newer = pods.pair(limits=LimitsConfig(max_body_bytes=8 * 1024 * 1024))
    stable.follow(route(stable, newer, weight=100))
    response = Client(stable).ask(0, 500)
    assert (response.model_version, response.outputs[0].shape[0]) == ("4", 500)


def test_encrypted_pods_know_each_other_by_their_certificate(pods: Pods, tmp_path: Path) -> None:
    mount_pair(tmp_path / "one", "one")
    mount_pair(tmp_path / "two", "two")
    stable, newer = pods.pair(tls=tls_config(tmp_path / "one"))
    stranger = pods.start(newer_cancer(), tls=tls_config(tmp_path / "two"))
    certificate = (tmp_path / "one" / "tls.crt").read_bytes()
    assert ssl.PEM_cert_to_DER_cert(certificate.decode())
    client = Client(stable, certificate)
    stable.follow(route(stable, newer, weight=100))
    assert client.versions(3) == ["4"] * 3
    mount_pair(tmp_path / "one", "renewed")
    follower = stable.version.service.rollout
    follower._trust_due = 0.0
    wait_until(lambda: len(follower._trust.known) == 2)
    wait_until(lambda: client.versions(1) == ["4"])
    stable.follow(route(stable, stranger, revision="2", measurement="n", weight=100))
    assert client.versions(3) == ["3"] * 3
    assert dict(stable.report().other_side.failures) == {"Unreachable": 3}
