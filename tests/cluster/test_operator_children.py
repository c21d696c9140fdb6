"""What somebody deletes or changes of the operator's objects is made good; finished work isn't done again."""

from collections.abc import Callable

import pytest

from modelloop.desired.labels import DIGEST, MANAGED_BY, RUN
from modelloop.desired.names import digest_label
from tests.cluster.cluster_api import Api, Object, wait_for
from tests.cluster.cluster_loop import (
    ALL_CHILDREN,
    NAME,
    containers,
    digest_of,
    is_ready,
    manifests,
    server_of,
    training,
)
from tests.cluster.cluster_node import Node, running
from tests.cluster.cluster_operator import OperatorProcess

Operators = Callable[..., OperatorProcess]
ACCESS = f"{NAME}-monitor"


@pytest.fixture
def looping(api: Api, node: Node, namespace: str, operator: Operators) -> OperatorProcess:
    """All three Ready."""
    node.play(namespace, containers())
    for body in manifests(namespace, **ALL_CHILDREN):
        api.apply(body)
    process = operator()
    for kind in ("ModelTraining", "ModelDeployment", "ModelMonitor"):
        wait_for(lambda kind=kind: is_ready(api.get(kind, namespace, NAME)), what=f"a Ready {kind}")
    return process


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Service", NAME),
        ("Deployment", server_of(1)),
        ("CronJob", NAME),
        ("ServiceAccount", ACCESS),
        ("Role", ACCESS),
        ("RoleBinding", ACCESS),
        ("HorizontalPodAutoscaler", NAME),
        ("PodDisruptionBudget", server_of(1)),
        ("NetworkPolicy", NAME),
    ],
)
def test_a_deleted_child_comes_back(api: Api, namespace: str, looping: OperatorProcess, kind: str, name: str) -> None:
    old = api.get(kind, namespace, name)["metadata"]["uid"]
    api.delete(kind, namespace, name)
    wait_for(
        lambda: (found := api.find(kind, namespace, name)) and found["metadata"]["uid"] != old, what=f"a new {kind}"
    )
    for custom in ("ModelDeployment", "ModelMonitor"):
        wait_for(lambda custom=custom: is_ready(api.get(custom, namespace, NAME)), what=f"a Ready {custom}")


CHANGES: dict[str, tuple[str, str, Object]] = {
    "the selector of the Service": ("Service", NAME, {"spec": {"selector": {DIGEST: "another"}}}),
    "the size of a server": ("Deployment", server_of(1), {"spec": {"replicas": 3}}),
    "the schedule of the CronJob": ("CronJob", NAME, {"spec": {"schedule": "* * * * *"}}),
    "the account of the monitor's pods": (
        "CronJob",
        NAME,
        {"spec": {"jobTemplate": {"spec": {"template": {"spec": {"serviceAccountName": "default"}}}}}},
    ),
    "the target of the autoscaler": (
        "HorizontalPodAutoscaler",
        NAME,
        {"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": server_of(1)}}},
    ),
    "the limit of a disruption budget": ("PodDisruptionBudget", server_of(1), {"spec": {"maxUnavailable": 2}}),
    "the peers of the network policy": ("NetworkPolicy", NAME, {"spec": {"ingress": [{}]}}),
    "the label that the operator watches by": ("Service", NAME, {"metadata": {"labels": {MANAGED_BY: "somebody"}}}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_undone_of(api: Api, namespace: str, looping: OperatorProcess, change: str) -> None:
    kind, name, patch = CHANGES[change]
    before = api.get(kind, namespace, name)
    api.patch(kind, namespace, name, patch)

    def is_undone() -> bool:
        now = api.get(kind, namespace, name)
        return bool(now["spec"] == before["spec"] and now["metadata"]["labels"] == before["metadata"]["labels"])

    wait_for(is_undone, what=f"{kind} as it was")
    assert api.get("Service", namespace, NAME)["spec"]["selector"][DIGEST] == digest_label(digest_of(1))


def test_a_finished_job_that_was_deleted_is_not_run_again(
    api: Api, node: Node, namespace: str, looping: OperatorProcess
) -> None:
    (job,) = api.list("Job", namespace)
    api.delete("Job", namespace, job["metadata"]["name"])
    wait_for(lambda: not api.list("Job", namespace), what="the Job to go")
    api.apply(training(namespace, "other"))
    wait_for(lambda: is_ready(api.get("ModelTraining", namespace, "other")), what="later work to be done")
    assert api.get("ModelTraining", namespace, NAME)["status"]["runs"] == 1
    assert node.created[namespace][f"Job/{job['metadata']['name']}"] == 1
    assert is_ready(api.get("ModelTraining", namespace, NAME))


@pytest.mark.parametrize("moment", ["while watches tell of it", "before the watches have begun"])
def test_a_job_at_work_that_was_deleted_is_made_again_as_the_same_run(
    api: Api, node: Node, namespace: str, operator: Operators, moment: str
) -> None:
    node.play(namespace, lambda pod: [running(pod)])
    api.apply(training(namespace))
    process = operator(overrides={"modelloop.cluster.sync.WATCH_LAG": 1.0})
    (job,) = wait_for(lambda: api.list("Job", namespace), what="a Job", every=0.02)
    if moment == "while watches tell of it":
        told = 'modelloop_watch_events_total{kind="Job"}'
        wait_for(lambda: told in process.probe("/metrics")[1], what="a watch of Jobs")
    node.play(namespace, containers())
    api.delete("Job", namespace, job["metadata"]["name"])
    wait_for(lambda: is_ready(api.get("ModelTraining", namespace, NAME)), what="a Ready training")
    assert api.get("ModelTraining", namespace, NAME)["status"]["runs"] == 1
    assert [body["metadata"]["name"] for body in api.list("Job", namespace)] == [job["metadata"]["name"]]
    assert node.created[namespace][f"Job/{job['metadata']['name']}"] == 2
    assert process.probe("/healthz")[0] == 200


def test_a_spec_change_that_does_not_change_the_result_starts_no_run(
    api: Api, namespace: str, looping: OperatorProcess
) -> None:
    api.apply(training(namespace, retries=5))
    wait_for(
        lambda: api.get("ModelTraining", namespace, NAME)["status"]["observedGeneration"] == 2, what="the new spec seen"
    )
    assert is_ready(api.get("ModelTraining", namespace, NAME))
    assert len(api.list("Job", namespace, RUN)) == 1


def test_scaling_a_deployment_scales_its_server(api: Api, node: Node, namespace: str, looping: OperatorProcess) -> None:
    path = f"/apis/modelloop.dev/v1alpha1/namespaces/{namespace}/modeldeployments/{NAME}/scale"
    scale = api.request("GET", path)
    scale["spec"]["replicas"] = 3
    api.request("PUT", path, scale)
    wait_for(lambda: api.request("GET", path)["status"]["replicas"] == 3, what="three replicas")
    wait_for(lambda: is_ready(api.get("ModelDeployment", namespace, NAME)), what="a Ready deployment")
    assert api.get("ModelDeployment", namespace, NAME)["status"]["readyReplicas"] == 3
