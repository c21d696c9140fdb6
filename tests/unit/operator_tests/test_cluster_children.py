"""Autoscaler, disruption budgets and network policy in whole passes: they follow the spec and hold up nothing."""

from datetime import timedelta
from typing import Any

import pytest

from modelloop.cluster.cache import Key
from modelloop.desired.labels import DIGEST
from modelloop.desired.names import digest_label, server_name
from tests.unit.operator_tests.api_server import ApiServer, CrashError
from tests.unit.operator_tests.operator_states import digest_of
from tests.unit.operator_tests.whole_operator import Operator, complete, condition, essence, loop_server, settled

Object = dict[str, Any]
SCALER, BUDGET, POLICY = "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"
EVERYTHING = {"replicas": 2, "autoscaling": {"minReplicas": 2, "maxReplicas": 4}, "networkPolicy": {}}


def with_children(server: ApiServer, **spec: Any) -> ApiServer:
    """The loop, whose deployment asks for everything."""
    server.change("ModelDeployment", "cancer", spec=EVERYTHING | spec)
    return server


def settled_loop(**spec: Any) -> tuple[ApiServer, Operator]:
    server = with_children(loop_server(), **spec)
    operator = Operator(server)
    settled(server, operator)
    operator.wait(timedelta(minutes=5))
    settled(server, operator)
    return server, operator


def edit(server: ApiServer, operator: Operator, **spec: Any) -> None:
    operator.cluster.observe("ModelDeployment", server.change("ModelDeployment", "cancer", spec=spec))
    settled(server, operator)


def retrain(server: ApiServer, operator: Operator, seed: int) -> None:
    operator.cluster.observe("ModelTraining", server.change("ModelTraining", "cancer", spec={"seed": seed}))


def names_of(server: ApiServer, kind: str) -> set[str]:
    return {name for found, _, name in server.objects if found == kind}


def budgets_of(*numbers: int) -> set[str]:
    return {server_name("cancer", digest_of(number)) for number in numbers}


def test_all_children_are_there_and_a_restart_writes_nothing() -> None:
    server, _ = settled_loop()
    assert (names_of(server, SCALER), names_of(server, POLICY)) == ({"cancer"}, {"cancer"})
    assert names_of(server, BUDGET) == budgets_of(1)
    assert condition(server, "ModelDeployment", "cancer", "Ready")["status"] == "True"
    count = len(server.writes)
    Operator(server).work()
    assert server.writes[count:] == []


def test_a_crash_after_any_write_of_a_rollout_with_all_children_leads_to_the_same_end() -> None:
    def tell(crash_after: int | None) -> ApiServer:
        server = with_children(loop_server())
        server.crash_after = crash_after
        operator = Operator(server)
        steps = [
            lambda _: None,
            lambda operator: operator.wait(timedelta(minutes=5)),
            lambda operator: retrain(server, operator, 5),
            lambda operator: operator.wait(timedelta(minutes=5)),
        ]
        for step in steps:
            try:
                step(operator)
                settled(server, operator)
            except CrashError:
                operator = Operator(server, operator.now)
                settled(server, operator)
        operator.wait(timedelta(minutes=5))
        settled(server, operator)
        return server

    reference = tell(None)
    assert names_of(reference, BUDGET) == budgets_of(2)
    for crash_after in range(1, len(reference.writes) + 1):
        server = tell(crash_after)
        assert server.crash_after is None
        children = (SCALER, BUDGET, POLICY, "Deployment", "Service")
        assert [key for key in server.objects if key[0] in children] != []
        kept = {key: value for key, value in essence(server).items() if key.split("/")[0] in children}
        expected = {key: value for key, value in essence(reference).items() if key.split("/")[0] in children}
        assert kept == expected, f"after write {crash_after}: {reference.writes[crash_after - 1]}"


def test_the_policy_holds_before_there_is_a_pod() -> None:
    server, _ = settled_loop()
    order = [write for write in server.writes if "/cancer" in write]
    assert order.index(f"apply {POLICY}/cancer") < order.index(
        f"apply Deployment/{server_name('cancer', digest_of(1))}"
    )


def test_the_autoscaler_comes_when_there_are_pods_that_it_may_look_at() -> None:
    server = with_children(loop_server())
    server.refused = {"Deployment"}
    operator = Operator(server)
    settled(server, operator)
    assert names_of(server, SCALER) == set()
    server.refused = set()
    operator.wait(timedelta(seconds=30))
    settled(server, operator)
    assert names_of(server, SCALER) == {"cancer"}


def test_what_the_spec_no_longer_asks_for_goes() -> None:
    server, operator = settled_loop()
    edit(server, operator, autoscaling=None, networkPolicy=None, replicas=1)
    for kind in (SCALER, BUDGET, POLICY):
        assert names_of(server, kind) == set(), kind
    assert condition(server, "ModelDeployment", "cancer", "Ready")["status"] == "True"


@pytest.mark.parametrize("kind", [SCALER, BUDGET, POLICY])
def test_what_belongs_to_somebody_else_stays_though_it_has_our_labels_and_the_spec_asks_for_none(kind: str) -> None:
    server = loop_server()
    labels = {"app.kubernetes.io/managed-by": "modelloop", "modelloop.dev/deployment": "cancer"}
    server.add({"kind": kind, "metadata": {"name": "cancer", "namespace": "team", "labels": labels}, "spec": {}})
    operator = Operator(server)
    settled(server, operator)
    assert names_of(server, kind) == {"cancer"}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (SCALER, {"maxReplicas": 50}),
        (BUDGET, {"maxUnavailable": 2}),
        (POLICY, {"ingress": [{}]}),
    ],
)
def test_what_somebody_edits_is_put_right_and_what_somebody_deletes_comes_back(kind: str, change: Object) -> None:
    server, operator = settled_loop()
    (name,) = names_of(server, kind)
    before = server.objects[kind, "team", name]["spec"]
    operator.cluster.observe(kind, server.change(kind, name, spec=change))
    operator.work()
    assert server.objects[kind, "team", name]["spec"] == before
    gone = server.objects.pop((kind, "team", name))
    server.version += 1
    gone["metadata"]["resourceVersion"] = str(server.version)
    operator.cluster.observe_deletion(kind, gone)
    operator.work()
    assert server.objects[kind, "team", name]["spec"] == before


@pytest.mark.parametrize("kind", [SCALER, BUDGET])
def test_what_somebody_else_has_made_under_the_name_is_told_and_left_alone_and_the_model_serves(kind: str) -> None:
    server = with_children(loop_server())
    (name,) = {"cancer"} if kind == SCALER else budgets_of(1)
    server.add({"kind": kind, "metadata": {"name": name, "namespace": "team"}, "spec": {"theirs": True}})
    operator = Operator(server)
    settled(server, operator)
    assert server.objects[kind, "team", name]["spec"] == {"theirs": True}
    told = condition(server, "ModelDeployment", "cancer", "Stalled")
    assert told["reason"] == "ApplyFailed"
    assert f"{kind} {name!r} exists already and belongs to somebody else" in told["message"]
    assert condition(server, "ModelDeployment", "cancer", "Available")["status"] == "True"
    assert server.objects["Service", "team", "cancer"]["spec"]["selector"][DIGEST] == digest_label(digest_of(1))
    del server.objects[kind, "team", name]
    operator.cache.forget(Key(kind, "team", name))  # it has no label that a watch would have told of
    operator.wait(timedelta(seconds=30))
    settled(server, operator)
    assert condition(server, "ModelDeployment", "cancer", "Ready")["status"] == "True"


def test_no_server_starts_without_the_policy_that_was_asked_for() -> None:
    server = with_children(loop_server())
    server.refused = {POLICY}
    operator = Operator(server)
    settled(server, operator)
    assert names_of(server, "Deployment") == set()
    assert condition(server, "ModelDeployment", "cancer", "Stalled")["reason"] == "ApplyFailed"
    server.refused = set()
    operator.wait(timedelta(seconds=30))
    settled(server, operator)
    assert condition(server, "ModelDeployment", "cancer", "Ready")["status"] == "True"


@pytest.mark.parametrize("kind", [SCALER, BUDGET, POLICY])
def test_what_is_refused_of_one_child_holds_up_neither_what_serves_nor_the_other_children(kind: str) -> None:
    server, operator = settled_loop(autoscaling=None, networkPolicy=None, replicas=1)
    server.refused = {kind}
    edit(server, operator, **EVERYTHING, disruptionBudget={"maxUnavailable": 1})
    (deployment,) = (body for (found, _, _), body in server.objects.items() if found == "Deployment")
    assert deployment["spec"]["replicas"] == 2
    for other in {SCALER, BUDGET, POLICY} - {kind}:
        assert len(names_of(server, other)) == 1, other
    assert names_of(server, kind) == set()
    assert (
        condition(server, "ModelDeployment", "cancer", "Available")["message"] == "version 1 answers from 2 of 2 pods"
    )
    assert condition(server, "ModelDeployment", "cancer", "Stalled")["reason"] == "ApplyFailed"


def test_a_rollout_waits_for_a_policy_that_is_refused_and_goes_on_after_it() -> None:
    server, operator = settled_loop(networkPolicy=None)
    server.refused = {POLICY}
    edit(server, operator, networkPolicy={})
    retrain(server, operator, 5)
    settled(server, operator)
    assert names_of(server, "Deployment") == budgets_of(1)
    server.refused = set()
    operator.wait(timedelta(seconds=30))
    settled(server, operator)
    assert names_of(server, "Deployment") == budgets_of(1, 2)
    assert server.objects["ModelDeployment", "team", "cancer"]["status"]["stable"]["number"] == 2


def test_every_version_in_play_has_a_budget_at_every_write_of_a_rollout() -> None:
    server, operator = settled_loop()
    retrain(server, operator, 5)
    settled(server, operator)
    service = server.objects["Service", "team", "cancer"]["spec"]["selector"]
    assert service[DIGEST] == digest_label(digest_of(2))
    assert names_of(server, BUDGET) == budgets_of(1, 2)
    flip = len(server.writes) - 1 - server.writes[::-1].index("apply Service/cancer")
    (new,) = budgets_of(2)
    assert server.writes.index(f"apply {BUDGET}/{new}") < flip, "covered before it serves"
    operator.wait(timedelta(minutes=5))
    settled(server, operator)
    assert names_of(server, BUDGET) == budgets_of(2)


def test_an_autoscaler_that_changes_the_count_in_the_middle_of_a_rollout_sizes_both_versions() -> None:
    server, operator = settled_loop()
    retrain(server, operator, 5)
    operator.work()
    for (kind, _, _), body in list(server.objects.items()):
        if kind == "Job" and not body.get("status"):
            complete(server, body)
    operator.see()
    operator.work()
    assert server.objects["ModelDeployment", "team", "cancer"]["status"]["candidate"]["number"] == 2
    operator.cluster.observe("ModelDeployment", server.change("ModelDeployment", "cancer", spec={"replicas": 4}))
    operator.work()
    sizes = {name: body["spec"]["replicas"] for (kind, _, name), body in server.objects.items() if kind == "Deployment"}
    assert sizes == dict.fromkeys(budgets_of(1, 2), 4)
    settled(server, operator)
    status = server.objects["ModelDeployment", "team", "cancer"]["status"]
    assert (status["stable"]["number"], status["replicas"], status["readyReplicas"]) == (2, 4, 4)


@pytest.mark.parametrize("kind", [SCALER, BUDGET])
def test_what_a_controller_counts_wakes_nobody(kind: str) -> None:
    server, operator = settled_loop()
    (name,) = names_of(server, kind)
    assert operator.cluster.observe(kind, server.change(kind, name, status={"currentReplicas": 2}))
    assert operator.woken == []
    assert operator.cluster.observe(kind, server.change(kind, name, spec={"maxReplicas": 9}))
    assert operator.woken == [Key("ModelDeployment", "team", "cancer")]
