"""How many pods serve, under the real controllers: the scale subresource, an autoscaler, and evictions."""

import json
from collections.abc import Callable, Sequence

import pytest

from devcluster.cluster import Cluster
from modelloop.desired.labels import DEPLOYMENT, DIGEST
from modelloop.desired.names import digest_label
from tests.cluster.cluster_api import Api, Object, condition_of, wait_for
from tests.cluster.cluster_loop import (
    NAME,
    containers,
    deployment,
    digest_of,
    is_ready,
    number_of,
    server_of,
    training,
)
from tests.cluster.cluster_node import Node, Program, running
from tests.cluster.cluster_operator import OperatorProcess

Operators = Callable[..., OperatorProcess]
Start = Callable[..., OperatorProcess]
SCALER, BUDGET, POLICY = "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"
SLOW = 40.0
"""Seconds in which the autoscaler, which looks every 2 s, has done something for sure."""


@pytest.fixture
def start(api: Api, node: Node, namespace: str, operator: Operators) -> Start:
    """Serves version 1 as the given fields of the spec say."""

    def begin(**spec: object) -> OperatorProcess:
        node.play(namespace, containers())
        api.apply(training(namespace))
        api.apply(deployment(namespace, **spec))
        process = operator()
        wait_for(lambda: is_ready(api.get("ModelDeployment", namespace, NAME)), what="a version that serves")
        return process

    return begin


def never_ready(number: int) -> Program:
    """Pods of one version start and don't become Ready; all other containers do well."""

    def run(pod: Object) -> Sequence[Object]:
        is_meant = pod["metadata"]["labels"].get(DIGEST) == digest_label(digest_of(number))
        return [running(pod, ready=False)] if is_meant else containers()(pod)

    return run


def pods_of(api: Api, namespace: str, number: int) -> list[Object]:
    """The pods of a version that aren't being deleted."""
    selector = f"{DEPLOYMENT}={NAME},{DIGEST}={digest_label(digest_of(number))}"
    return [pod for pod in api.list("Pod", namespace, selector) if "deletionTimestamp" not in pod["metadata"]]


def make_ready(api: Api, namespace: str, number: int) -> None:
    """What the kubelet writes when the readiness probes of a version's pods succeed."""
    for pod in pods_of(api, namespace, number):
        if condition_of(pod, "Ready").get("status") != "True":
            api.patch("Pod", namespace, pod["metadata"]["name"], {"status": running(pod)}, "status")


def scale_of(api: Api, namespace: str) -> Object:
    """The scale subresource."""
    return api.get("ModelDeployment", namespace, NAME, "scale")


def retrain(api: Api, namespace: str) -> None:
    """Ask for version 2."""
    api.patch("ModelTraining", namespace, NAME, {"metadata": {"annotations": {"modelloop.dev/run": "again"}}})


def candidate_is_tried(api: Api, namespace: str) -> None:
    """Wait until version 2 has pods."""
    wait_for(lambda: pods_of(api, namespace, 2), what="pods of version 2")
    assert number_of(api.get("ModelDeployment", namespace, NAME), "candidate") == 2


# -- by hand ------------------------------------------------------------------------------------------------------


def test_kubectl_scales_a_deployment_to_zero_and_back(cluster: Cluster, api: Api, namespace: str, start: Start) -> None:
    start()
    for count in (3, 0, 2):
        cluster.kubectl("-n", namespace, "scale", f"md/{NAME}", f"--replicas={count}")
        wait_for(lambda count=count: len(pods_of(api, namespace, 1)) == count, what=f"{count} pods")
        wait_for(lambda: is_ready(api.get("ModelDeployment", namespace, NAME)), what="a Ready deployment")
        wait_for(lambda count=count: scale_of(api, namespace)["status"]["replicas"] == count, what="its count")
        reason = condition_of(api.get("ModelDeployment", namespace, NAME), "Ready")["reason"]
        assert reason == ("Serving" if count else "ScaledToZero")
        wait_for(lambda count=count: len(api.list(BUDGET, namespace)) == (count > 1), what="a budget for several only")


def test_a_new_count_in_the_middle_of_a_rollout_is_for_both_versions_and_the_scale_tells_of_those_that_serve(
    cluster: Cluster, api: Api, node: Node, namespace: str, start: Start
) -> None:
    start(replicas=2)
    node.play(namespace, never_ready(2))
    retrain(api, namespace)
    candidate_is_tried(api, namespace)
    cluster.kubectl("-n", namespace, "scale", f"md/{NAME}", "--replicas=4")
    wait_for(lambda: [len(pods_of(api, namespace, number)) for number in (1, 2)] == [4, 4], what="4 pods of each")
    wait_for(lambda: scale_of(api, namespace)["status"]["replicas"] == 4, what="the count of the stable pods")
    selector = scale_of(api, namespace)["status"]["selector"]
    selected = [pod["metadata"]["name"] for pod in api.list("Pod", namespace, selector)]
    assert selected == [pod["metadata"]["name"] for pod in pods_of(api, namespace, 1)]
    make_ready(api, namespace, 2)
    wait_for(lambda: number_of(api.get("ModelDeployment", namespace, NAME), "stable") == 2, what="the promotion")
    scale = scale_of(api, namespace)
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (4, 4)
    selected = [pod["metadata"]["name"] for pod in api.list("Pod", namespace, scale["status"]["selector"])]
    assert selected == [pod["metadata"]["name"] for pod in pods_of(api, namespace, 2)]


# -- by an autoscaler ---------------------------------------------------------------------------------------------


def test_the_real_autoscaler_sets_the_count_through_the_scale_subresource(
    cluster: Cluster, api: Api, namespace: str, start: Start
) -> None:
    start(autoscaling={"minReplicas": 2, "maxReplicas": 4})
    wait_for(lambda: len(pods_of(api, namespace, 1)) == 2, SLOW, what="the least pods")
    wait_for(lambda: scale_of(api, namespace)["status"]["replicas"] == 2, what="their count")
    (row,) = cluster.kubectl("-n", namespace, "get", "hpa", "--no-headers").splitlines()
    assert row.split()[:2] == [NAME, f"ModelDeployment/{NAME}"]
    wait_for(
        lambda: condition_of(api.get(SCALER, namespace, NAME), "AbleToScale").get("status") == "True",
        SLOW,
        what=f"an autoscaler that can scale; {api.get(SCALER, namespace, NAME).get('status')}",
    )
    # A GitOps tool that applies its manifest, which doesn't name the count, doesn't undo what the autoscaler has done.
    wait_for(lambda: api.get("ModelDeployment", namespace, NAME)["spec"]["replicas"] == 2, SLOW, what="a set count")
    api.apply(deployment(namespace, autoscaling={"minReplicas": 3, "maxReplicas": 4}))
    assert api.get("ModelDeployment", namespace, NAME)["spec"]["replicas"] == 2
    wait_for(lambda: len(pods_of(api, namespace, 1)) == 3, SLOW, what="the least pods of the new spec")
    wait_for(lambda: api.get("ModelDeployment", namespace, NAME)["spec"]["replicas"] == 3, SLOW, what="a set count")
    told = [event["reason"] for event in api.list("Event", namespace) if event["involvedObject"]["kind"] == SCALER]
    assert "SuccessfulRescale" in told
    api.apply(deployment(namespace))
    wait_for(lambda: api.find(SCALER, namespace, NAME) is None, what="an autoscaler that goes")
    assert api.get("ModelDeployment", namespace, NAME)["spec"]["replicas"] == 3, "the count stays"


def test_the_autoscaler_rests_at_zero_and_works_again_from_one(
    cluster: Cluster, api: Api, namespace: str, start: Start
) -> None:
    start(autoscaling={"minReplicas": 2, "maxReplicas": 4})
    wait_for(lambda: len(pods_of(api, namespace, 1)) == 2, SLOW, what="the least pods")
    cluster.kubectl("-n", namespace, "scale", f"md/{NAME}", "--replicas=0")
    wait_for(
        lambda: condition_of(api.get(SCALER, namespace, NAME), "ScalingActive").get("reason") == "ScalingDisabled",
        SLOW,
        what="an autoscaler that rests",
    )
    wait_for(lambda: not pods_of(api, namespace, 1), what="no pods")
    cluster.kubectl("-n", namespace, "scale", f"md/{NAME}", "--replicas=1")
    wait_for(lambda: len(pods_of(api, namespace, 1)) == 2, SLOW, what="the least pods again")


def test_the_autoscaler_works_in_the_middle_of_a_rollout(api: Api, node: Node, namespace: str, start: Start) -> None:
    start(autoscaling={"minReplicas": 1, "maxReplicas": 4})
    node.play(namespace, never_ready(2))
    retrain(api, namespace)
    candidate_is_tried(api, namespace)
    api.apply(deployment(namespace, autoscaling={"minReplicas": 3, "maxReplicas": 4}))
    wait_for(lambda: [len(pods_of(api, namespace, n)) for n in (1, 2)] == [3, 3], SLOW, what="3 pods of each")
    assert number_of(api.get("ModelDeployment", namespace, NAME), "stable") == 1
    make_ready(api, namespace, 2)
    wait_for(lambda: number_of(api.get("ModelDeployment", namespace, NAME), "stable") == 2, what="the promotion")
    wait_for(lambda: is_ready(api.get("ModelDeployment", namespace, NAME)), what="a Ready deployment")
    assert len(pods_of(api, namespace, 2)) == 3


@pytest.mark.parametrize("kind", [SCALER, POLICY])
def test_what_a_user_has_made_under_the_same_name_is_left_alone_and_told(
    api: Api, namespace: str, start: Start, kind: str
) -> None:
    start()
    specs: dict[str, tuple[str, Object]] = {
        SCALER: (
            "autoscaling/v2",
            {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mine"}, "maxReplicas": 9},
        ),
        POLICY: ("networking.k8s.io/v1", {"podSelector": {"matchLabels": {"app": "mine"}}}),
    }
    version, spec = specs[kind]
    theirs = api.create(
        {"apiVersion": version, "kind": kind, "metadata": {"name": NAME, "namespace": namespace}, "spec": spec}
    )
    api.apply(deployment(namespace, autoscaling={"maxReplicas": 3}, networkPolicy={}))
    wait_for(
        lambda: condition_of(api.get("ModelDeployment", namespace, NAME), "Stalled").get("reason") == "ApplyFailed",
        what="a condition that tells",
    )
    told = condition_of(api.get("ModelDeployment", namespace, NAME), "Stalled")["message"]
    assert f"{kind} {NAME!r} exists already and belongs to somebody else" in told
    assert api.get(kind, namespace, NAME)["spec"] == theirs["spec"]
    assert condition_of(api.get("ModelDeployment", namespace, NAME), "Available")["status"] == "True"
    api.delete(kind, namespace, NAME)
    wait_for(lambda: is_ready(api.get("ModelDeployment", namespace, NAME)), what="a Ready deployment")
    assert api.get(kind, namespace, NAME)["metadata"]["ownerReferences"][0]["kind"] == "ModelDeployment"


# -- evictions ----------------------------------------------------------------------------------------------------


def allowed(api: Api, namespace: str, number: int) -> int:
    """How many pods of a version may be evicted, once the disruption controller has seen its budget."""
    body = api.find(BUDGET, namespace, server_of(number))
    status = (body or {}).get("status", {})
    if body is None or status.get("observedGeneration") != body["metadata"]["generation"]:
        return -1
    return int(status.get("disruptionsAllowed", -1))


def test_evictions_take_one_pod_at_a_time_and_wait_for_its_replacement(
    api: Api, node: Node, namespace: str, start: Start
) -> None:
    start(replicas=3)
    wait_for(lambda: allowed(api, namespace, 1) == 1, what="a budget that allows one")
    node.play(namespace, never_ready(1))
    first, second, third = pods_of(api, namespace, 1)
    assert api.evict(first)
    wait_for(lambda: allowed(api, namespace, 1) == 0, what="a budget that is used up")
    assert not api.evict(second)
    assert not api.evict(third)
    replacement = wait_for(
        lambda: [
            pod for pod in pods_of(api, namespace, 1)
            if pod["metadata"]["name"] not in {each["metadata"]["name"] for each in (first, second, third)}
        ],
        what="a replacement",
    )  # fmt: skip
    wait_for(
        lambda: condition_of(api.get("Pod", namespace, replacement[0]["metadata"]["name"]), "Ready"), what="it runs"
    )
    # The API server says "try again" when somebody writes to the pod meanwhile, as the operator does once.
    wait_for(lambda: api.evict(replacement[0]), timeout=5.0, what="the eviction of a pod that serves nobody")
    wait_for(lambda: len(pods_of(api, namespace, 1)) == 3, what="another replacement")
    wait_for(lambda: allowed(api, namespace, 1) == 0, what="the same budget")
    make_ready(api, namespace, 1)
    wait_for(lambda: make_ready(api, namespace, 1) or allowed(api, namespace, 1) == 1, what="the budget again")
    assert api.evict(second)


def test_no_eviction_in_a_rollout_counts_the_pods_of_another_version(
    api: Api, node: Node, namespace: str, start: Start
) -> None:
    start(replicas=2, disruptionBudget={"minAvailable": 2}, rollout={"bakeTime": "1h"})
    node.play(namespace, never_ready(2))
    retrain(api, namespace)
    candidate_is_tried(api, namespace)
    wait_for(lambda: [allowed(api, namespace, n) for n in (1, 2)] == [0, 0], what="a budget of each version")
    assert not any(api.evict(pod) for pod in pods_of(api, namespace, 1)), "the candidate's pods don't replace them"
    assert api.evict(pods_of(api, namespace, 2)[0])
    wait_for(lambda: len(pods_of(api, namespace, 2)) == 2, what="its replacement")
    wait_for(
        lambda: make_ready(api, namespace, 2) or number_of(api.get("ModelDeployment", namespace, NAME), "stable") == 2,
        what="the promotion",
    )
    wait_for(lambda: allowed(api, namespace, 2) == 0, what="a budget that has counted")
    assert not any(api.evict(pod) for pod in pods_of(api, namespace, 2)), "those of the previous version neither"


def test_a_single_pod_holds_up_no_drain(api: Api, namespace: str, start: Start) -> None:
    start()
    assert api.list(BUDGET, namespace) == []
    (pod,) = pods_of(api, namespace, 1)
    assert api.evict(pod)
    wait_for(lambda: is_ready(api.get("ModelDeployment", namespace, NAME)), what="a Ready deployment")


# -- what the API server makes of it ------------------------------------------------------------------------------


def test_peers_of_every_form_are_stored_as_stated(api: Api, namespace: str, start: Start) -> None:
    peers = [
        {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["shop"]}]}},
        {"podSelector": {}, "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
    ]
    start(networkPolicy={"from": peers})
    stored = api.get(POLICY, namespace, NAME)["spec"]
    own = {"podSelector": {"matchLabels": {"modelloop.dev/deployment": NAME}}}
    assert stored["ingress"][0]["from"] == [*peers, own]
    assert json.dumps(stored["ingress"][0]["ports"]).count("TCP") == 2
    api.apply(deployment(namespace, networkPolicy={"from": []}))
    wait_for(
        lambda: api.get(POLICY, namespace, NAME)["spec"]["ingress"][0]["from"] == [own],
        what="a policy that lets nobody in but our own",
    )
    wait_for(lambda: is_ready(api.get("ModelDeployment", namespace, NAME)), what="a Ready deployment")
    version = api.get(POLICY, namespace, NAME)["metadata"]["resourceVersion"]
    api.patch("ModelDeployment", namespace, NAME, {"metadata": {"labels": {"look": "again"}}})
    api.apply(deployment(namespace, networkPolicy={"from": []}, replicas=2))
    wait_for(lambda: scale_of(api, namespace)["status"]["replicas"] == 2, what="later work to be done")
    assert api.get(POLICY, namespace, NAME)["metadata"]["resourceVersion"] == version, "nothing was written again"
