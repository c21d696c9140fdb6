"""Whatever the other version does, the client gets this one's answer, and the failure is counted by its kind."""

import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelkit.contract.config import AuthConfig, LimitsConfig
from modelkit.serve.auth import Auth
from modelkit.serve.errors import InferenceTimeoutError, OverloadedError, UnprocessableRequestError
from tests.unit.serve.rollout_peers import Behave, bad_peer, drip, hang, says
from tests.unit.serve.serve_certificates import mount_pair, tls_config
from tests.unit.serve.serve_grpc import grpc_loop
from tests.unit.serve.serve_models import cancer
from tests.unit.serve.serve_rollout import Pods, RolloutPod, newer_cancer, rollout_pods, route, wait_until
from tests.unit.serve.serve_sockets import connect, post


@pytest.fixture(scope="module")
def loop() -> Iterator[Any]:
    with grpc_loop() as found:
        yield found


@pytest.fixture
def pods(loop: Any, tmp_path: Path) -> Iterator[Pods]:
    with rollout_pods(tmp_path, loop) as found:
        yield found


def answered(status: str, body: bytes = b"{}", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status.encode(), headers, len(body), body)


BAD: dict[str, tuple[Behave, str]] = {
    "answers 500": (says(answered("500 Internal Server Error")), "Error"),
    "answers 502": (says(answered("502 Bad Gateway")), "Error"),
    "is overloaded": (says(answered("503 Service Unavailable", headers=b"retry-after: 1\r\n")), "Error"),
    "limits its clients": (says(answered("429 Too Many Requests")), "Error"),
    "gives up": (says(answered("504 Gateway Timeout")), "Timeout"),
    "refuses": (says(answered("422 Unprocessable Entity")), "Refused"),
    "knows nobody": (says(answered("401 Unauthorized")), "Refused"),
    "sends elsewhere": (says(answered("307 Temporary Redirect", headers=b"location: http://a/\r\n")), "Error"),
    "changes the protocol": (says(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n"), "Error"),
    "speaks garbage": (says(b"\x00\x01\x02 no HTTP \r\n\r\n" * 9), "Error"),
    "speaks TLS": (says(b"\x15\x03\x01\x00\x02\x02\x28", closes=True), "Error"),
    "closes": (says(b"", closes=True), "Unreachable"),
    "closes in its head": (says(b"HTTP/1.1 200 OK\r\ncontent-le", closes=True), "Unreachable"),
    "closes in its body": (says(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nx", closes=True), "Error"),
    "has endless headers": (says(b"HTTP/1.1 200 OK\r\n" + b"abcdefgh: b\r\n" * 20_000), "Error"),
    "has a broken chunk": (says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), "Error"),
    "hangs": (hang, "Timeout"),
    "drips": (drip, "Timeout"),
}


@pytest.mark.parametrize("name", BAD)
def test_the_client_gets_this_versions_answer(pods: Pods, name: str) -> None:
    behave, kind = BAD[name]
    stable = pods.start(cancer())
    with bad_peer(behave) as bad:
        stable.follow(route(stable, bad.peer, weight=100, timeout_seconds=0.25 if kind == "Timeout" else 10.0))
        for _ in range(2):
            response = stable.ask().raise_for_status()
            assert (response.json()["version"], response.json()["predictions"]) == ("3", cancer().predictions(1))
        side = stable.report().other_side
    assert (side.asked, side.answered, dict(side.failures)) == (2, 0, {kind: 2})
    assert stable.report().own_side.asked == 0
    assert b"modelloop-hop: 1\r\n" in bad.received[0]
    assert stable.metric("modelloop_route_requests_total", to="other", outcome=kind) == 2


def test_headers_of_the_request_arrive_and_those_between_pods_are_ours(pods: Pods) -> None:
    stable = pods.start(cancer())
    sent = {
        "authorization": "Bearer secret",
        "x-request-id": "order-7",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "x-shop": "north",
        "modelloop-copy": "1",
        "modelloop-compare": "1",
    }
    with bad_peer(says(answered("500 Internal Server Error"), closes=True)) as bad:
        stable.follow(route(stable, bad.peer, weight=100))
        stable.ask(headers=sent).raise_for_status()
    head, _, body = bad.received[0].partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "post /predict http/1.1"
    for name in ("authorization", "x-request-id", "traceparent", "x-shop"):
        assert lines.count(f"{name}: {sent[name].lower()}") == 1
    assert [line for line in lines if line.startswith("modelloop")] == ["modelloop-hop: 1"]
    assert f"content-length: {len(body)}" in lines


def test_a_version_that_fails_is_left_alone_until_it_answers_again(pods: Pods) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=100))
    mend = newer.break_down()
    for _ in range(5):
        assert stable.ask().raise_for_status().json()["version"] == "3"
    for _ in range(20):
        assert stable.ask().raise_for_status().json()["version"] == "3"
    side = stable.report().other_side
    assert side.skipped >= 15
    assert side.asked + side.skipped == 25
    assert stable.report().own_side.answered == side.skipped
    mend()
    wait_until(lambda: stable.ask().json()["version"] == "4")
    assert stable.ask().json()["version"] == "4"


def test_no_more_requests_are_sent_at_once_than_the_other_version_may_have(pods: Pods) -> None:
    stable = pods.start(cancer(), limits=LimitsConfig(max_concurrent=3))
    newer = pods.start(newer_cancer())
    release = newer.slow_down()
    stable.follow(route(stable, newer, weight=100))
    body = b'{"features": [[' + b",".join([b"1.5"] * 30) + b"]]}"
    connections = [connect(stable.port) for _ in range(3)]
    for connection in connections:
        connection.sendall(post(body))
    wait_until(lambda: newer.engine.active == 3)
    assert stable.ask().json()["version"] == "3"
    assert stable.report().other_side.skipped == 1
    release.set()
    for connection in connections:
        assert b'"version":"4"' in connection.recv(65_536)
        connection.close()


def test_a_request_that_both_refuse_says_nothing_about_a_version(pods: Pods) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=100, compare=100))
    assert stable.ask([[1.0]]).status_code == 400
    report = stable.report()
    assert report.own_side.asked == report.other_side.asked == report.pairs.requests == 0


def test_what_only_the_other_version_refuses_counts(pods: Pods) -> None:
    stable, newer = pods.pair()
    newer.break_down(UnprocessableRequestError("no finite answer"))
    stable.follow(route(stable, newer, weight=100, compare=100))
    assert stable.ask().raise_for_status().json()["version"] == "3"
    report = stable.report()
    assert dict(report.other_side.failures) == {"Refused": 1}
    assert (report.pairs.requests, report.pairs.failed, report.pairs.rows) == (1, 1, 0)


def test_when_both_fail_the_client_gets_this_versions_error(pods: Pods) -> None:
    stable, newer = pods.pair()
    newer.break_down()
    stable.break_down(InferenceTimeoutError("no answer within 30 s"))
    stable.follow(route(stable, newer, weight=100, is_guarded=True))
    response = stable.ask()
    assert (response.status_code, response.json()) == (504, {"error": "no answer within 30 s"})
    assert dict(stable.report().other_side.failures) == {"Error": 1}


@pytest.mark.parametrize(
    ("error", "kind"), [(None, "Error"), (InferenceTimeoutError("too slow"), "Timeout")], ids=["fails", "is slow"]
)
def test_a_guarded_version_has_its_failures_answered(pods: Pods, error: Exception | None, kind: str) -> None:
    stable, newer = pods.pair()
    newer.break_down(error)
    # In the bake window: the version before guards the promoted one.
    newer.follow(route(newer, stable, is_guarded=True))
    for _ in range(3):
        assert newer.ask().raise_for_status().json()["version"] == "3"
    report = newer.report()
    assert (report.own_side.asked, report.own_side.answered, dict(report.own_side.failures)) == (3, 0, {kind: 3})
    assert report.other_side.asked == 0
    assert newer.ask([[1.0]]).status_code == 400
    stable.break_down()
    assert newer.ask().status_code == (500 if error is None else 504)


def test_an_overloaded_version_does_not_load_its_guard(pods: Pods) -> None:
    stable, newer = pods.pair()
    newer.break_down(OverloadedError("too much"))
    newer.follow(route(newer, stable, is_guarded=True))
    assert newer.ask().status_code == 503
    assert stable.asked() == 0


def reset(connection: socket.socket) -> None:
    """Go away in such a way that the server gets to know."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_an_answer_that_nobody_waits_for_any_more_is_not_asked_for(pods: Pods) -> None:
    stable, newer = pods.pair()
    release = newer.slow_down()
    stable.follow(route(stable, newer, weight=100))
    with connect(stable.port) as connection:
        connection.sendall(post(b'{"features": [[1.5]]}'.replace(b"1.5", b",".join([b"1.5"] * 30))))
        wait_until(lambda: newer.engine.active == 1)
        reset(connection)
    wait_until(lambda: stable.version.service.rollout.router.lane.breaker.in_flight == 0)
    release.set()
    assert stable.ask().json()["version"] == "4"


def test_a_client_that_lost_its_patience_with_the_other_version_counts_against_it(pods: Pods) -> None:
    stable = pods.start(cancer())
    with bad_peer(hang) as bad:
        stable.follow(route(stable, bad.peer, weight=100, timeout_seconds=0.4))
        body = b'{"features": [[1.5]]}'.replace(b"1.5", b",".join([b"1.5"] * 30))
        with connect(stable.port) as connection:
            connection.sendall(post(body))
            wait_until(lambda: len(bad.received) == 1)
            connection.settimeout(0.25)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            reset(connection)
        wait_until(lambda: stable.report().other_side.asked == 1)
    assert dict(stable.report().other_side.failures) == {"Timeout": 1}


def tls_pods(pods: Pods, folder: Path) -> tuple[RolloutPod, RolloutPod]:
    mount_pair(folder / "one", "one")
    return pods.pair(tls=tls_config(folder / "one"))


def test_encrypted_pods_know_each_other_by_their_certificate(pods: Pods, tmp_path: Path) -> None:
    stable, newer = tls_pods(pods, tmp_path)
    stable.follow(route(stable, newer, weight=100))
    assert [stable.ask().json()["version"] for _ in range(3)] == ["4"] * 3
    # Both servers take the renewed certificate up, each when it looks.
    mount_pair(tmp_path / "one", "two")
    for _ in range(3):
        assert stable.ask().json()["predictions"]
    follower = stable.version.service.rollout
    follower._trust_due = 0.0
    wait_until(lambda: len(follower._trust.known) == 2)
    wait_until(lambda: stable.ask().json()["version"] == "4")


def test_nobody_else_is_believed_to_be_a_pod(pods: Pods, tmp_path: Path) -> None:
    stable, _ = tls_pods(pods, tmp_path)
    mount_pair(tmp_path / "other", "other")
    stranger = pods.start(newer_cancer(), tls=tls_config(tmp_path / "other"))
    plain = pods.start(newer_cancer())
    for revision, other in enumerate((stranger, plain)):
        stable.follow(route(stable, other, revision=str(revision), measurement=str(revision), weight=100))
        assert [stable.ask().json()["version"] for _ in range(3)] == ["3"] * 3
        assert stable.report().other_side.failures["Unreachable"] == 3
        assert other.asked() == 0


def test_a_token_is_passed_on_and_its_refusal_is_not(pods: Pods, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "token").write_text("secret")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "token").write_text("another")
    stable = pods.start(cancer(), auth=Auth(AuthConfig(directory=str(tmp_path / "one"))))
    newer = pods.start(newer_cancer(), auth=Auth(AuthConfig(directory=str(tmp_path / "one"))))
    stranger = pods.start(newer_cancer(), auth=Auth(AuthConfig(directory=str(tmp_path / "two"))))
    header = {"authorization": "Bearer secret"}
    stable.follow(route(stable, newer, weight=100))
    assert stable.ask(headers=header).json()["version"] == "4"
    assert stable.ask().status_code == 401
    stable.follow(route(stable, stranger, revision="2", measurement="n", weight=100))
    assert stable.ask(headers=header).raise_for_status().json()["version"] == "3"
    assert dict(stable.report().other_side.failures) == {"Refused": 1}


def test_nobody_notices_a_storm_of_changes(pods: Pods) -> None:
    stable, newer = pods.pair()
    worse = pods.start(newer_cancer())
    worse.break_down()
    over, failures, count = threading.Event(), list[str](), [0, 0, 0, 0]

    def ask(number: int) -> None:
        with stable.client() as client:
            while not over.is_set():
                response = client.post("/predict", json={"features": cancer().values(1 + number)})
                count[number] += 1
                if response.status_code != 200:
                    failures.append(response.text)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    with bad_peer(hang) as hanging, bad_peer(says(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", closes=True)) as cut:
        others = [newer, worse, hanging.peer, cut.peer]
        for turn in range(24):
            rule = {"weight": 50 * (turn % 3), "compare": 50 * (turn % 2), "timeout_seconds": 0.1}
            config = route(stable, others[turn % 4], revision=str(turn), digest=f"sha256:{turn % 4}", **rule)
            stable.follow(replace(config, measurement=str(turn // 4)))
            before = sum(count)
            wait_until(lambda before=before: sum(count) > before + 20)
            if turn == 12:
                newer.stop()
        over.set()
        for thread in threads:
            thread.join(20)
    assert failures == []
    report = stable.report()
    assert report.own_side.failures == {}
    assert stable.metric("modelloop_requests_total", route="predict", code="200") == sum(count)
    wait_until(lambda: stable.version.service.rollout.router.lane.breaker.in_flight == 0)
    assert stable.engine.active == 0
