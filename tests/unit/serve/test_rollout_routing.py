"""A share of the requests is answered by another version, exactly, and nobody notices when that one fails."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelkit.contract.codec import dumps
from modelkit.contract.route import PeerConfig
from modelkit.serve.v2_tensors import write_raw
from tests.unit.serve.serve_grpc import grpc_loop
from tests.unit.serve.serve_models import cancer
from tests.unit.serve.serve_process import free_port
from tests.unit.serve.serve_rollout import (
    PATHS,
    Pods,
    RolloutPod,
    forward,
    newer_cancer,
    rollout_pods,
    route,
    wait_until,
)
from tests.unit.serve.serve_sockets import connect, post, read_replies


@pytest.fixture(scope="module")
def loop() -> Iterator[Any]:
    with grpc_loop() as found:
        yield found


@pytest.fixture
def pods(loop: Any, tmp_path: Path) -> Iterator[Pods]:
    with rollout_pods(tmp_path, loop) as found:
        yield found


def versions(pod: RolloutPod, count: int, **headers: str) -> list[str]:
    with pod.client(headers=headers) as client:
        body = {"features": pod.example.values(1)}
        return [client.post("/predict", json=body).raise_for_status().json()["version"] for _ in range(count)]


@pytest.mark.parametrize(("weight", "count"), [(0, 0), (1, 2), (12.5, 25), (50, 100), (99.5, 199), (100, 200)])
def test_the_share_is_exact(pods: Pods, weight: float, count: int) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=weight))
    assert versions(stable, 200).count("4") == count == newer.asked()
    report = stable.report()
    assert (report.own_side.asked, report.own_side.answered) == (200 - count, 200 - count)
    assert (report.other_side.asked, report.other_side.answered) == (count, count)
    assert sum(report.other_side.latency.counts) == count
    assert (report.revision, report.measurement, report.other, report.problem) == ("1", "m", newer.digest, "")
    # Those passed on aren't clients' requests at the other version.
    assert newer.report().own_side.asked == 0


def bodies(rows: Any) -> dict[str, tuple[str, bytes, dict[str, str]]]:
    example = cancer()
    values = np.asarray(rows, dtype=np.float64)
    tensor = {"name": "X", "shape": list(values.shape), "datatype": "FP64"}
    raw = write_raw("FP64", values)
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(raw)}}]}).encode()
    plain = json.dumps({"features": rows}).encode()
    return {
        "plain": (PATHS["plain"], plain, {}),
        "records": (PATHS["plain"], json.dumps({"features": example.records(2)}).encode(), {}),
        "gzip": (PATHS["plain"], gzip.compress(plain), {"content-encoding": "gzip"}),
        "v1": (PATHS["v1"], json.dumps({"instances": rows}).encode(), {}),
        "v2": (PATHS["v2"], json.dumps({"inputs": [tensor | {"data": rows}]}).encode(), {}),
        "v2 binary": (
            PATHS["v2"],
            head + raw,
            {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"},
        ),
    }


@pytest.mark.parametrize("way", bodies([[0.0]]))
def test_the_other_versions_answer_goes_to_the_client_as_it_is(pods: Pods, way: str) -> None:
    stable, newer = pods.pair()
    path, body, headers = bodies(cancer().values(2))[way]
    headers = {"content-type": "application/json", "x-request-id": "order-7"} | headers
    with newer.client() as client:
        expected = client.post(path, content=body, headers=headers).raise_for_status()
    stable.follow(route(stable, newer, weight=100, compare=100))
    with stable.client() as client:
        found = client.post(path, content=body, headers=headers).raise_for_status()
        chunked = client.post(path, content=iter([body[:9], body[9:]]), headers=headers).raise_for_status()
    assert found.content == chunked.content == expected.content
    assert found.headers["content-type"] == expected.headers["content-type"]
    assert dict(found.headers) == dict(expected.headers)
    assert not any(name.startswith("modelloop") for name in found.headers)
    assert newer.asked() == 2


def test_whoever_names_a_version_or_asks_for_something_else_stays_here(pods: Pods) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=100))
    rows = cancer().values(2)
    with stable.client() as client:
        tensor = {"name": "X", "shape": [2, 30], "datatype": "FP64", "data": rows}
        for path, body in {
            "/v2/models/cancer/versions/3/infer": {"inputs": [tensor]},
            "/v1/models/cancer/versions/3:predict": {"instances": rows},
            "/evaluate": {"features": rows, "labels": [0, 1]},
            "/feedback": {"id": "a", "label": 1},
        }.items():
            client.post(path, json=body).raise_for_status()
        client.get("/v2/models/cancer").raise_for_status()
        client.head("/v2/models/cancer").raise_for_status()
    assert newer.asked() == 0


def test_a_request_that_was_passed_on_goes_no_further(pods: Pods) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=100))
    newer.follow(route(newer, stable, weight=100))
    assert versions(stable, 10) == ["4"] * 10
    assert versions(newer, 10) == ["3"] * 10
    assert (stable.asked(), newer.asked()) == (10, 10)
    assert stable.report().other_side.answered == newer.report().other_side.answered == 10
    assert stable.report().own_side.asked == newer.report().own_side.asked == 0


def test_a_key_leads_to_the_same_version_in_all_pods(pods: Pods) -> None:
    stable, newer = pods.pair()
    second = pods.start(cancer())
    found = []
    for revision, weight in (("1", 20), ("2", 60)):
        for pod in (stable, second):
            pod.follow(route(pod, newer, revision=revision, weight=weight, sticky_header="x-user"))
            found.append([versions(pod, 1, **{"X-User": f"user-{user}"})[0] for user in range(60)])
    assert found[0] == found[1]
    assert found[2] == found[3]
    few, more = ({user for user, version in enumerate(one) if version == "4"} for one in (found[0], found[2]))
    assert few < more
    assert 3 <= len(few) <= 24


@pytest.mark.parametrize("size", [1, 400])
def test_a_features_value_can_be_the_key(pods: Pods, size: int) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=50, sticky_column="f0"))
    rows = cancer().values(12)
    with stable.client() as client:
        ask = [client.post("/predict", json={"features": [row] * size}) for row in rows for _ in range(3)]
    found = [one.raise_for_status().json()["version"] for one in ask]
    assert all(len(set(found[at : at + 3])) == 1 for at in range(0, len(found), 3))
    assert set(found) == {"3", "4"}
    with stable.client() as client:
        assert client.post("/predict", json={"features": [[1.0]]}).status_code == 400


def test_a_change_is_in_effect_in_less_than_a_second(pods: Pods) -> None:
    stable, newer = pods.pair()
    for turn in range(4):
        start = time.monotonic()
        stable.mount_text(dumps(route(stable, newer, revision=str(turn), weight=100 * (turn % 2))))
        wait_until(lambda turn=turn: versions(stable, 1) == ["34"[turn % 2]] and stable.report().revision == str(turn))
        assert time.monotonic() - start < 1
    (stable.mount / "route.json").unlink()
    wait_until(lambda: stable.report().revision == "")
    assert (stable.report().other, stable.report().measurement) == ("", "")


BROKEN = {
    "no JSON": (b"{", "must be JSON"),
    "another shape": (b'{"revision": 1, "measurement": ""}', "revision must be"),
    "not text": (b"\xff\xfe", "JSON"),
    "too large": (b" " * 2_000_000, "bytes"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_does_not_fit_leaves_the_version_alone(pods: Pods, name: str) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=100))
    assert versions(stable, 1) == ["4"]
    content, expected = BROKEN[name]
    stable.mount_text(content)
    wait_until(lambda: stable.report().problem != "")
    report = stable.report()
    assert expected in report.problem
    assert (report.revision, report.other) == ("", "")
    assert versions(stable, 5) == ["3"] * 5
    assert (stable.report().measurement, stable.report().own_side.answered) == ("m", 5)
    stable.follow(route(stable, newer, revision="2", weight=100))
    assert (versions(stable, 1), stable.report().problem) == (["4"], "")


@pytest.mark.parametrize(
    "rule",
    [
        {"weight": 101.0},
        {"weight": -0.1},
        {"compare": 100.5},
        {"timeout_seconds": 0.0},
        {"timeout_seconds": 1e9},
        {"sticky_column": "f99"},
        {"sticky_header": "X User"},
    ],
    ids=str,
)
def test_a_rule_that_makes_no_sense_is_not_followed(pods: Pods, rule: dict[str, Any]) -> None:
    stable = pods.start(cancer())
    peer = PeerConfig(number=4, http="127.0.0.1:1", grpc="127.0.0.1:1")
    stable.mount_text(dumps(route(stable, peer, **({"weight": 100.0} | rule))))
    wait_until(lambda: stable.report().problem != "")
    assert next(iter(rule)) in stable.report().problem
    assert versions(stable, 3) == ["3"] * 3


def test_counts_begin_anew_with_a_measurement_and_only_then(pods: Pods) -> None:
    stable, newer = pods.pair()
    versions(stable, 3)
    assert (stable.report().measurement, stable.report().own_side.answered) == ("", 3)
    stable.follow(route(stable, newer, revision="1", weight=50))
    versions(stable, 4)
    stable.follow(route(stable, newer, revision="2", weight=100))
    versions(stable, 4)
    report = stable.report()
    assert (report.own_side.answered, report.other_side.answered) == (2, 6)
    stable.follow(route(stable, newer, revision="3", measurement="n", weight=100))
    assert (stable.report().other_side.answered, stable.report().measurement) == (0, "n")


def test_without_a_rule_clients_answers_and_failures_are_counted(pods: Pods) -> None:
    stable, newer = pods.pair()
    # As in a bake window: a route without a rule for the version that is promoted.
    newer.follow(route(stable, newer, weight=0))
    assert stable.ask([[1.0]]).status_code == 400
    versions(newer, 5)
    assert newer.ask([[1.0]]).status_code == 400
    newer.break_down()
    assert newer.ask().status_code == 500
    report = newer.report()
    assert (report.measurement, report.other) == ("m", "")
    assert (report.own_side.asked, report.own_side.answered, report.own_side.failures) == (6, 5, {"Error": 1})
    assert sum(report.own_side.latency.counts) >= 6


def test_pipelined_requests_are_answered_in_their_order(pods: Pods) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=50))
    body = json.dumps({"features": cancer().values(1)}).encode()
    with connect(stable.port) as connection:
        connection.sendall(b"".join(post(body, headers=b"X-Request-Id: r%d\r\n" % at) for at in range(20)))
        replies = read_replies(connection, 20)
    assert [reply.headers["x-request-id"] for reply in replies] == [f"r{at}" for at in range(20)]
    assert [reply.json["version"] for reply in replies] == ["3", "4"] * 10


def test_a_pod_that_stops_gets_its_answers_from_the_other_version_first(pods: Pods) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=100))
    release = newer.slow_down()
    body = json.dumps({"features": cancer().values(1)}).encode()
    with connect(stable.port) as connection:
        connection.sendall(post(body))
        wait_until(lambda: newer.engine.active == 1)
        for _ in range(2):
            stable.stop()
        wait_until(lambda: stable.app.is_draining)
        release.set()
        (reply,) = read_replies(connection, 1)
    assert (reply.status, reply.json["version"]) == (200, "4")
    wait_until(stable.stopped.is_set)


def test_clients_of_a_version_that_leaves_are_asked_to_come_back_elsewhere(pods: Pods) -> None:
    stable, newer = pods.pair()
    with connect(stable.port) as connection:
        body = json.dumps({"features": cancer().values(1)}).encode()
        connection.sendall(post(body))
        (reply,) = read_replies(connection, 1)
        assert (reply.json["version"], "connection" in reply.headers) == ("3", False)
        stable.follow(route(stable, newer, weight=100, is_leaving=True))
        connection.sendall(post(body))
        (reply,) = read_replies(connection, 1)
        assert (reply.json["version"], reply.headers["connection"]) == ("4", "close")
        assert connection.recv(1) == b""


def test_an_address_that_leads_nowhere_yet_costs_the_other_version_nothing(
    pods: Pods, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelkit.serve.rollout.lane.REACH_SECONDS", 60.0)
    stable, newer = pods.pair()
    port = free_port()
    config = route(
        stable, PeerConfig(number=4, http=f"127.0.0.1:{port}", grpc=newer.peer.grpc), weight=100, compare=100
    )
    stable.mount_text(dumps(config))
    wait_until(lambda: stable.report().revision == "1")
    assert versions(stable, 20) == ["3"] * 20
    other = stable.report().other_side
    assert (other.asked, dict(other.failures)) == (0, {})
    assert other.skipped >= 20
    with forward(port, newer.port):
        wait_until(lambda: versions(stable, 1) == ["4"])


def test_a_closed_port_costs_nobody_an_answer(pods: Pods) -> None:
    stable = pods.start(cancer())
    peer = PeerConfig(number=4, http=f"127.0.0.1:{free_port()}", grpc=f"127.0.0.1:{free_port()}")
    stable.follow(route(stable, peer, weight=100))
    assert versions(stable, 40) == ["3"] * 40
    report = stable.report()
    assert report.other_side.failures["Unreachable"] >= 5
    assert report.other_side.asked + report.other_side.skipped == 40
    assert report.own_side.asked == report.other_side.skipped
    assert newer_cancer().signature.number == 4
