"""Whole passes over an in-memory API server: refusals end in the status, crashes duplicate nothing."""

import asyncio
import copy
from datetime import timedelta

import pytest

from modelloop.cluster.cache import Key, key_of
from modelloop.desired.names import digest_label, server_name
from tests.unit.operator_tests.api_server import ApiServer, CrashError
from tests.unit.operator_tests.operator_states import NOW, digest_of
from tests.unit.operator_tests.whole_operator import (
    TRAINING,
    Operator,
    breached_window,
    condition,
    essence,
    loop_server,
    settled,
)


def test_the_three_smallest_manifests_end_ready() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    operator.wait(timedelta(minutes=5))
    settled(server, operator)
    for kind, name in (("ModelTraining", "cancer"), ("ModelDeployment", "cancer"), ("ModelMonitor", "drift")):
        assert condition(server, kind, name, "Ready")["status"] == "True", kind
        assert not condition(server, kind, name, "Stalled")
    service = server.objects["Service", "team", "cancer"]
    assert service["spec"]["selector"]["modelloop.dev/version-digest"] == digest_label(digest_of(1))
    jobs = [body for (kind, _, _), body in server.objects.items() if kind == "Job"]
    assert [job["spec"]["ttlSecondsAfterFinished"] for job in jobs] == [3600]


def test_a_restart_writes_nothing() -> None:
    server = loop_server()
    settled(server, Operator(server))
    count = len(server.writes)
    restarted = Operator(server)
    restarted.work()
    assert server.writes[count:] == []


def test_a_crash_after_any_write_loses_nothing_and_makes_nothing_twice() -> None:
    reference = loop_server()
    settled(reference, Operator(reference))
    total = len(reference.writes)
    assert total >= 10
    for crash_after in range(1, total + 1):
        server = loop_server()
        server.crash_after = crash_after
        operator = Operator(server)
        crashed = False
        for _ in range(2):
            try:
                settled(server, operator)
            except CrashError:
                crashed = True
                operator = Operator(server)
        assert crashed
        assert essence(server) == essence(reference), f"after write {crash_after}: {server.writes[crash_after - 1]}"
        assert sum(kind == "Job" for kind, _, _ in server.objects) == 1


@pytest.mark.parametrize(
    ("kind", "name", "child"),
    [
        ("ModelTraining", "cancer", "Job"),
        ("ModelTraining", "cancer", "PersistentVolumeClaim"),
        ("ModelDeployment", "cancer", "Deployment"),
        ("ModelDeployment", "cancer", "Service"),
        ("ModelMonitor", "drift", "CronJob"),
        ("ModelMonitor", "drift", "Role"),
    ],
)
def test_what_the_api_server_refuses_ends_in_the_status_and_clears_itself(kind: str, name: str, child: str) -> None:
    server = loop_server()
    server.refused = {child}
    operator = Operator(server)
    settled(server, operator)
    ready = condition(server, kind, name, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ApplyFailed")
    assert "exceeded quota" in ready["message"]
    assert condition(server, kind, name, "Stalled")["status"] == "True"
    assert operator.later[Key(kind, "team", name)] <= timedelta(seconds=30)
    server.refused = set()
    operator.wait(timedelta(seconds=30))
    settled(server, operator)
    assert condition(server, kind, name, "Ready")["status"] == "True"
    assert not condition(server, kind, name, "Stalled")


@pytest.mark.parametrize(
    ("child", "name", "owner"),
    [
        ("Service", "cancer", ("ModelDeployment", "cancer")),
        ("Role", "drift-monitor", ("ModelMonitor", "drift")),
        ("ServiceAccount", "drift-monitor", ("ModelMonitor", "drift")),
    ],
)
def test_a_refusal_long_after_everything_was_ready_is_shown_at_once(
    child: str, name: str, owner: tuple[str, str]
) -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    operator.wait(timedelta(minutes=5))
    settled(server, operator)
    gone = server.objects.pop((child, "team", name))
    server.refused = {child}
    server.version += 1
    gone["metadata"]["resourceVersion"] = str(server.version)
    operator.cluster.observe_deletion(child, gone)
    operator.work()
    assert condition(server, *owner, "Stalled")["reason"] == "ApplyFailed"
    server.refused = set()
    operator.wait(timedelta(seconds=30))
    assert (child, "team", name) in server.objects
    assert not condition(server, *owner, "Stalled")


def test_a_selector_that_somebody_changes_is_put_right() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    operator.cluster.observe("Service", server.change("Service", "cancer", spec={"selector": {"app": "mine"}}))
    operator.work()
    selector = server.objects["Service", "team", "cancer"]["spec"]["selector"]
    assert selector["modelloop.dev/version-digest"] == digest_label(digest_of(1))


def test_a_label_that_somebody_takes_away_is_put_back_though_it_told_the_owner() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    name = next(name for kind, _, name in server.objects if kind == "Deployment")
    labels = {"modelloop.dev/deployment": None}
    operator.cluster.observe("Deployment", server.change("Deployment", name, metadata={"labels": labels}))
    operator.work()
    assert server.objects["Deployment", "team", name]["metadata"]["labels"]["modelloop.dev/deployment"] == "cancer"
    assert condition(server, "ModelDeployment", "cancer", "Ready")["status"] == "True"


def test_a_status_that_somebody_else_wrote_meanwhile_is_read_again() -> None:
    server = loop_server()
    operator = Operator(server)
    server.change("ModelTraining", "cancer", metadata={"annotations": {"modelloop.dev/run": "now"}})
    settled(server, operator)
    status = server.objects["ModelTraining", "team", "cancer"]["status"]
    assert status["runs"] == 1
    assert [entry["id"] for entry in status["handled"]] == ["now"]


def test_a_deleted_custom_resource_is_left_alone() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    count = len(server.writes)
    body = server.objects["ModelTraining", "team", "cancer"]
    body = body | {"metadata": body["metadata"] | {"deletionTimestamp": "2026-03-01T13:00:00Z"}}
    operator.cluster.observe("ModelTraining", server.add(body))
    operator.work()
    assert server.writes[count:] == []
    assert asyncio.run(operator.reconciler.reconcile(key_of("ModelTraining", TRAINING))) is None


def test_a_candidate_that_is_refused_does_not_hold_up_the_service_of_the_stable_version() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    operator.wait(timedelta(minutes=5))
    operator.cluster.observe("ModelTraining", server.change("ModelTraining", "cancer", spec={"seed": 5}))
    server.refused = {"Service"}
    settled(server, operator)
    assert server.objects["ModelDeployment", "team", "cancer"]["status"]["stable"]["number"] == 2
    operator.cluster.observe("ModelTraining", server.change("ModelTraining", "cancer", spec={"seed": 6}))
    server.refused = {"Service", f"Deployment/cancer-{digest_of(3)[7:17]}"}
    settled(server, operator)
    server.refused -= {"Service"}
    operator.wait(timedelta(seconds=30))
    selector = server.objects["Service", "team", "cancer"]["spec"]["selector"]
    assert selector["modelloop.dev/version-digest"] == digest_label(digest_of(2))


def test_a_new_version_is_rolled_out_and_the_previous_one_goes_after_the_bake_time() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    operator.wait(timedelta(minutes=5))
    operator.cluster.observe("ModelTraining", server.change("ModelTraining", "cancer", spec={"seed": 5}))
    settled(server, operator)
    selector = server.objects["Service", "team", "cancer"]["spec"]["selector"]
    assert selector["modelloop.dev/version-digest"] == digest_label(digest_of(2))
    assert sum(kind == "Deployment" for kind, _, _ in server.objects) == 2
    operator.wait(timedelta(minutes=1))
    settled(server, operator)
    assert sum(kind == "Deployment" for kind, _, _ in server.objects) == 1
    reasons = [event.reason for event in operator.recorder.events]
    assert reasons.count("Approved") == 2
    assert reasons.count("Promoted") == 2


def test_a_warm_version_is_kept_at_the_size_that_is_wanted_and_takes_over_again_at_once() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    operator.wait(timedelta(minutes=5))
    operator.cluster.observe("ModelTraining", server.change("ModelTraining", "cancer", spec={"seed": 5}))
    settled(server, operator)
    warm = server_name("cancer", digest_of(1))
    before = server.objects["Deployment", "team", warm]["spec"]["template"]
    change = {"replicas": 3, "image": "example/server:2"}
    operator.cluster.observe("ModelDeployment", server.change("ModelDeployment", "cancer", spec=change))
    settled(server, operator)
    spec = server.objects["Deployment", "team", warm]["spec"]
    assert (spec["replicas"], spec["template"]) == (3, before), "nothing but its size follows the spec"
    approve = {"annotations": {"modelloop.dev/approve": "1"}}
    back = server.change("ModelTraining", "cancer", metadata=approve, spec={"seed": None})
    operator.cluster.observe("ModelTraining", back)
    operator.work()
    settled(server, operator)
    status = server.objects["ModelDeployment", "team", "cancer"]["status"]
    assert (status["stable"]["number"], status["previous"]["number"]) == (1, 2)
    assert status["readyReplicas"] == 3
    selector = server.objects["Service", "team", "cancer"]["spec"]["selector"]
    assert selector["modelloop.dev/version-digest"] == digest_label(digest_of(1))


def test_drift_ends_in_one_retrain_whose_version_is_served() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    operator.wait(timedelta(minutes=5))
    windows = [breached_window(NOW + timedelta(minutes=minutes)) for minutes in (1, 2)]
    operator.cluster.observe("ModelMonitor", server.change("ModelMonitor", "drift", status={"windows": windows}))
    settled(server, operator)
    training = server.objects["ModelTraining", "team", "cancer"]["status"]
    assert training["runs"] == 2
    assert training["history"][0]["trigger"]["reason"] == "Monitor"
    assert training["champion"]["feedback"]["until"] == windows[-1]["end"]
    assert server.objects["ModelDeployment", "team", "cancer"]["status"]["stable"]["number"] == 2
    monitor = server.objects["ModelMonitor", "team", "drift"]["status"]
    assert monitor["retrains"] == 1
    assert monitor["windows"] == windows, "only the monitor's pod writes them"
    operator.wait(timedelta(days=1))
    settled(server, operator)
    assert server.objects["ModelTraining", "team", "cancer"]["status"]["runs"] == 2


def test_a_crash_after_any_write_of_a_retrain_asks_and_trains_once() -> None:
    served = loop_server()
    first = Operator(served)
    settled(served, first)
    first.wait(timedelta(minutes=5))
    quiet = len(served.writes)

    def drifted(crash_after: int | None) -> tuple[ApiServer, int]:
        server = copy.deepcopy(served)
        operator = Operator(server, first.now)
        server.crash_after = None if crash_after is None else quiet + crash_after
        windows = [breached_window(NOW + timedelta(minutes=minutes)) for minutes in (1, 2)]
        operator.cluster.observe("ModelMonitor", server.change("ModelMonitor", "drift", status={"windows": windows}))
        for _ in range(2):
            try:
                settled(server, operator)
            except CrashError:
                operator = Operator(server, operator.now)
        return server, len(server.writes) - quiet

    reference, total = drifted(None)
    for crash_after in range(1, total + 1):
        server, _ = drifted(crash_after)
        assert essence(server) == essence(reference), f"after write {crash_after} of {total}"


def test_a_refusal_does_not_put_off_the_end_of_the_bake_time() -> None:
    server = loop_server()
    operator = Operator(server)
    spec = {"rollout": {"bakeTime": "13s"}}
    operator.cluster.observe("ModelDeployment", server.change("ModelDeployment", "cancer", spec=spec))
    settled(server, operator)
    operator.wait(timedelta(minutes=5))
    operator.cluster.observe("ModelTraining", server.change("ModelTraining", "cancer", spec={"seed": 5}))
    settled(server, operator)
    server.refused = {"NetworkPolicy"}
    change = server.change("ModelDeployment", "cancer", spec={"networkPolicy": {}})
    operator.cluster.observe("ModelDeployment", change)
    settled(server, operator)
    assert condition(server, "ModelDeployment", "cancer", "Stalled")["reason"] == "ApplyFailed"
    key = Key("ModelDeployment", "team", "cancer")
    waits = []
    while server.objects["ModelDeployment", "team", "cancer"]["status"].get("previous"):
        assert sum(waits, timedelta(0)) < timedelta(seconds=13)
        waits.append(operator.later[key])
        operator.wait(operator.later[key])
    assert waits == [timedelta(seconds=10), timedelta(seconds=3)]
