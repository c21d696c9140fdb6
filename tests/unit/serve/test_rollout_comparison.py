"""Both versions score the same requests: what is counted is what scikit-learn says, and nobody is answered twice."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelkit.contract.config import RuntimeConfig
from modelkit.contract.files import PROFILE
from modelkit.data.profile import build_profile
from modelkit.serve.errors import UnprocessableRequestError
from modelkit.store.captures import read_captured
from tests.unit.serve.rollout_peers import bad_peer, hang, says
from tests.unit.serve.serve_grpc import grpc_loop
from tests.unit.serve.serve_models import Example, cancer, diabetes
from tests.unit.serve.serve_process import free_port
from tests.unit.serve.serve_rollout import (
    Pods,
    RolloutPod,
    newer_cancer,
    newer_diabetes,
    rollout_pods,
    route,
    wait_until,
)


@pytest.fixture(scope="module")
def loop() -> Iterator[Any]:
    with grpc_loop() as found:
        yield found


@pytest.fixture
def pods(loop: Any, tmp_path: Path) -> Iterator[Pods]:
    with rollout_pods(tmp_path, loop) as found:
        yield found


def ask_all(pod: RolloutPod, rows: Any, size: int = 1) -> None:
    with pod.client() as client:
        for at in range(0, len(rows), size):
            values = rows[at : at + size].tolist()
            client.post("/predict", json={"features": values}, headers={"x-request-id": f"r{at}"}).raise_for_status()


@pytest.mark.parametrize("weight", [0, 40, 100])
@pytest.mark.parametrize("size", [1, 3])
def test_classes_are_compared_row_by_row(pods: Pods, weight: int, size: int) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=weight, compare=100))
    rows = cancer().rows[:60]
    ask_all(stable, rows, size)
    wait_until(lambda: stable.report().pairs.rows == 60)
    report = stable.report()
    mine, theirs = cancer().pipeline.predict(rows), newer_cancer().pipeline.predict(rows)
    shares = newer_cancer().pipeline.predict_proba(rows)[:, 1] - cancer().pipeline.predict_proba(rows)[:, 1]
    pairs = report.pairs
    assert (pairs.requests, pairs.failed, pairs.disagreements) == (60 // size, 0, int((mine != theirs).sum()))
    assert pairs.disagreements > 0
    assert pairs.shift_sum == pytest.approx(shares.sum(), abs=1e-3)
    assert pairs.shift_squares == pytest.approx((shares**2).sum(), abs=1e-3)
    assert pairs.own_counts == Counter(map(str, mine.tolist()))
    assert pairs.other_counts == Counter(map(str, theirs.tolist()))
    requests = 60 // size
    assert report.other_side.asked == report.other_side.answered == requests * weight // 100
    assert report.own_side.answered == requests - report.other_side.asked
    assert sum(report.own_side.latency.counts) == sum(report.other_side.latency.counts) == requests


@pytest.mark.parametrize("weight", [0, 50, 100])
def test_a_version_behind_a_runtime_shares_and_compares_as_any_other(pods: Pods, weight: int) -> None:
    back, newer = pods.pair()
    runtime = RuntimeConfig(address=f"http://{back.place}", protocol="V2", model_name="cancer")
    stable = pods.start(cancer(), runtime=runtime)
    stable.follow(route(stable, newer, weight=weight, compare=100))
    rows = cancer().rows[:20]
    ask_all(stable, rows)
    wait_until(lambda: stable.report().pairs.rows == 20)
    differences = cancer().pipeline.predict(rows) != newer_cancer().pipeline.predict(rows)
    assert stable.report().pairs.disagreements == int(differences.sum())
    assert stable.report().other_side.answered == 20 * weight // 100


def test_a_runtime_with_a_protocol_of_its_own_is_not_shared_but_counted(pods: Pods) -> None:
    back, newer = pods.pair()
    runtime = RuntimeConfig(address=f"http://{back.place}", protocol="Raw", model_name="cancer")
    stable = pods.start(cancer(), runtime=runtime)
    stable.follow(route(stable, newer, weight=100))
    assert stable.ask().raise_for_status().json()["version"] == "3"
    report = stable.report()
    assert "Raw" in report.problem
    assert (report.other, report.own_side.answered, newer.asked()) == ("", 1, 0)
    stable.run(stable.version.remote.relay._pool.close)


def with_profile(example: Example) -> Example:
    values = example.pipeline.predict(example.rows).ravel()
    profile = build_profile({"f0": values}, {"f0": "numeric"}, values, None, "Regression", None)
    return Example(
        example.signature, example.pipeline, example.rows, example.files | {PROFILE: json.dumps(profile).encode()}
    )


@pytest.mark.parametrize("weight", [0, 100])
def test_numbers_are_compared_in_standard_deviations(pods: Pods, weight: int) -> None:
    stable, newer = pods.start(with_profile(diabetes())), pods.start(newer_diabetes())
    stable.follow(route(stable, newer, weight=weight, compare=100))
    rows = diabetes().rows[:80]
    ask_all(stable, rows, 4)
    wait_until(lambda: stable.report().pairs.rows == 80)
    report = stable.report()
    mine, theirs = (found.pipeline.predict(rows).ravel() for found in (diabetes(), newer_diabetes()))
    shifts = (theirs - mine) / diabetes().pipeline.predict(diabetes().rows).std()
    assert not report.is_classification
    assert report.pairs.shift_sum == pytest.approx(shifts.sum(), rel=1e-3)
    assert report.pairs.shift_squares == pytest.approx((shifts**2).sum(), rel=1e-3)
    assert report.pairs.disagreements == int((np.abs(shifts) > 0.5).sum()) > 0
    assert sum(report.pairs.own_counts.values()) == sum(report.pairs.other_counts.values()) == 80
    edges = json.loads(with_profile(diabetes()).files[PROFILE])["predictions"]["edges"]
    expected = Counter(map(str, np.searchsorted(edges, theirs).tolist()))
    assert sum((Counter(report.pairs.other_counts) - expected).values()) <= 1  # float32 beside an edge


def test_without_a_profile_deviations_are_those_so_far(pods: Pods) -> None:
    stable, newer = pods.start(diabetes()), pods.start(newer_diabetes())
    stable.follow(route(stable, newer, compare=100))
    ask_all(stable, diabetes().rows[:20], 20)
    wait_until(lambda: stable.report().pairs.rows == 20)
    pairs = stable.report().pairs
    assert pairs.own_counts == pairs.other_counts == {}
    assert isfinite(pairs.shift_squares)


def test_the_share_of_the_comparison_is_exact_and_apart_from_the_weight(pods: Pods) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=25, compare=50))
    ask_all(stable, cancer().rows[:80])
    wait_until(lambda: stable.report().pairs.requests == 40)
    assert stable.report().other_side.answered == 20
    assert newer.asked() == 20 + 30


def captured(pod: RolloutPod) -> list[str]:
    pod.version.close()
    now = datetime.now(UTC)
    rows = read_captured(pod.store, "team", "cancer", now - timedelta(minutes=5), now + timedelta(minutes=5))
    return [row["digest"] for row in rows.meta.to_pylist()]


@pytest.mark.parametrize("weight", [0, 50, 100])
def test_a_row_is_captured_and_counted_once_by_the_version_that_answered_it(pods: Pods, weight: int) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=weight, compare=100))
    ask_all(stable, cancer().rows[:20])
    wait_until(lambda: stable.report().pairs.requests == 20)
    theirs = 20 * weight // 100
    assert newer.metric("modelloop_rows_total") == theirs
    assert stable.metric("modelloop_rows_total") == 20 - theirs
    newer.version.close()
    assert Counter(captured(stable)) == Counter({stable.digest: 20 - theirs, newer.digest: theirs})


@pytest.mark.parametrize("weight", [0, 100])
def test_a_version_without_an_answer_counts_as_one_that_failed(pods: Pods, weight: int) -> None:
    stable, newer = pods.pair()
    newer.break_down(UnprocessableRequestError("the model has no finite answer to row 0"))
    stable.follow(route(stable, newer, weight=weight, compare=100))
    ask_all(stable, cancer().rows[:10])
    wait_until(lambda: stable.report().pairs.requests == 10)
    pairs = stable.report().pairs
    assert (pairs.failed, pairs.rows, pairs.shift_sum, dict(pairs.other_counts)) == (10, 0, 0.0, {})
    assert dict(pairs.failures) == {"Refused": 10}


PREDICTIONS = {
    "NaN": b'{"p":[NaN]}',
    "null": b'{"p":[null]}',
    "too many": b'{"p":[1,0]}',
    "no list": b'{"p":1}',
    "no JSON": b"1",
    "lists": b'{"p":[[1]]}',
    "a probability of null": b'{"p":[1],"s":[null]}',
    "a probability above 1": b'{"p":[1],"s":[1.5]}',
    "infinite": b'{"p":[1],"s":[1e999]}',
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predictions_that_are_none_poison_no_sum(pods: Pods, name: str) -> None:
    stable = pods.start(cancer())
    text = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nmodelloop-predictions: %b\r\n\r\n{}" % PREDICTIONS[name]
    with bad_peer(says(text)) as bad:
        stable.follow(route(stable, bad.peer, compare=100))
        stable.ask().raise_for_status()
        wait_until(lambda: stable.report().pairs.requests == 1)
    pairs = stable.report().pairs
    assert (pairs.failed, dict(pairs.failures), pairs.rows) == (1, {"Incomparable": 1}, 0)
    assert b"modelloop-compare: 1\r\nmodelloop-copy: 1\r\n" in bad.received[0]


@pytest.mark.parametrize("rows", [10, 3000])
def test_what_is_too_much_for_a_header_is_not_compared(pods: Pods, rows: int) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=50, compare=100))
    values = np.resize(cancer().rows, (rows, 30)).round(1).tolist()
    for _ in range(2):
        stable.ask(values).raise_for_status()
    outcome = "Compared" if rows == 10 else "Skipped"
    wait_until(lambda: stable.metric("modelloop_route_copies_total", outcome=outcome) == 2)
    assert stable.report().pairs.rows == (20 if rows == 10 else 0)
    assert stable.report().pairs.failed == 0


def test_a_copy_delays_and_fails_no_answer(pods: Pods) -> None:
    stable = pods.start(cancer())
    with bad_peer(hang) as bad:
        stable.follow(route(stable, bad.peer, compare=100, timeout_seconds=0.2))
        for _ in range(8):
            assert stable.ask().raise_for_status().json()["version"] == "3"
        wait_until(lambda: stable.report().pairs.failed >= 5)
        report = stable.report()
    assert (report.own_side.answered, report.other_side.asked) == (8, 0)
    assert report.pairs.failed + report.other_side.skipped <= 8
    assert dict(report.pairs.failures) == {"Timeout": report.pairs.failed}
    assert report.other_side.latency.counts[-1] == report.pairs.failed, "no answer in time is later than any answer"


def test_a_refused_request_is_not_copied(pods: Pods) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, compare=100))
    assert stable.ask([[1.0]]).status_code == 400
    stable.ask().raise_for_status()
    wait_until(lambda: stable.report().pairs.requests == 1)
    assert newer.asked() == 1
    assert newer.metric("modelloop_requests_total", route="passed_on", code="400") == 0


def labelled(pod: RolloutPod, labels: dict[str, Any], **headers: str) -> None:
    items = [{"id": name, "label": label} for name, label in labels.items()]
    with pod.client() as client:
        client.post("/feedback", json=items, headers=headers).raise_for_status()


def test_labels_tell_which_version_was_right(pods: Pods) -> None:
    stable, newer = pods.pair()
    stable.follow(route(stable, newer, weight=50, compare=100))
    rows = cancer().rows[:40]
    ask_all(stable, rows)
    wait_until(lambda: stable.report().pairs.rows == 40)
    truth = [(at // 3) % 2 for at in range(40)]
    for _ in range(2):  # A row's truth counts once.
        labelled(stable, {f"r{at}": label for at, label in enumerate(truth)})
    wait_until(lambda: stable.report().labels.rows == 40)
    mine = cancer().pipeline.predict(rows) == truth
    theirs = newer_cancer().pipeline.predict(rows) == truth
    found = stable.report().labels
    assert (found.own_right, found.other_right) == (mine.sum(), theirs.sum())
    assert (found.own_wins, found.other_wins) == ((mine & ~theirs).sum(), (theirs & ~mine).sum())
    assert (found.own_loss, found.other_loss) == ((~mine).sum(), (~theirs).sum())
    assert found.difference_squares == (mine != theirs).sum()


def test_labels_of_numbers_tell_who_was_closer(pods: Pods) -> None:
    stable, newer = pods.start(diabetes()), pods.start(newer_diabetes())
    stable.follow(route(stable, newer, compare=100))
    rows = diabetes().rows[:10]
    ask_all(stable, rows, 10)
    wait_until(lambda: stable.report().pairs.rows == 10)
    truth = diabetes().pipeline.predict(rows).ravel() + 1
    labelled(stable, {"r0": truth.tolist()})
    wait_until(lambda: stable.report().labels.rows == 10)
    losses = [np.abs(found.pipeline.predict(rows).ravel() - truth) for found in (diabetes(), newer_diabetes())]
    found = stable.report().labels
    assert found.own_loss == pytest.approx(losses[0].sum(), rel=1e-3)
    assert found.other_loss == pytest.approx(losses[1].sum(), rel=1e-3)
    assert found.difference_squares == pytest.approx(((losses[1] - losses[0]) ** 2).sum(), rel=1e-3)
    assert (found.own_wins, found.own_right, found.other_right) == ((losses[0] < losses[1]).sum(), 0, 0)


def test_labels_find_the_pod_that_compared_the_request(pods: Pods) -> None:
    stable, newer = pods.pair()
    second = pods.start(cancer())
    places = [stable.place, second.place, f"127.0.0.1:{free_port()}"]
    for pod in (stable, second):
        pod.follow(route(pod, newer, compare=100, labels=places))
    for at, pod in enumerate((stable, second)):
        pod.ask(headers={"x-request-id": f"order-{at}"}).raise_for_status()
    wait_until(lambda: stable.report().pairs.rows == second.report().pairs.rows == 1)
    labelled(stable, {"order-0": 0, "order-1": 0, "order-9": 1})
    wait_until(lambda: stable.report().labels.rows == second.report().labels.rows == 1)
    wait_until(lambda: stable.metric("modelloop_route_labels_total", outcome="PassedOn") == 2)
    # Stored once, and passed on once.
    assert (stable.metric("modelloop_feedback_total"), second.metric("modelloop_feedback_total")) == (3, 0)
    assert second.metric("modelloop_requests_total", route="passed_feedback", code="202") == 1
    assert second.metric("modelloop_route_labels_total", outcome="PassedOn") == 0


def test_labels_go_nowhere_without_a_comparison(pods: Pods) -> None:
    stable, newer = pods.pair()
    second = pods.start(cancer())
    stable.follow(route(stable, newer, weight=50, labels=[second.place]))
    labelled(stable, {"order-1": 0})
    stable.ask().raise_for_status()
    assert second.metric("modelloop_requests_total", route="passed_feedback", code="202") == 0
