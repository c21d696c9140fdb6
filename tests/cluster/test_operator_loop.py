"""The thin loop on a real API server with the real controllers: train, gate, serve, watch, retrain, serve again."""

from collections.abc import Callable, Iterator

import pytest

from devcluster.cluster import Cluster
from modelkit.contract.config import FeedbackConfig
from modelloop.desired.labels import DIGEST, RUN
from modelloop.desired.names import digest_label
from tests.cluster.cluster_api import Api, ApiError, Object, server_context, wait_for
from tests.cluster.cluster_loop import (
    NAME,
    breached_windows,
    containers,
    digest_of,
    is_ready,
    manifests,
    monitor,
    monitor_config,
    number_of,
    patch_windows,
    server_of,
    trainer_config,
)
from tests.cluster.cluster_node import Node
from tests.cluster.cluster_operator import OperatorProcess


@pytest.fixture
def looping(api: Api, node: Node, namespace: str, operator: Callable[..., OperatorProcess]) -> OperatorProcess:
    """The whole loop applied, an operator and a node at work."""
    node.play(namespace, containers())
    for body in manifests(namespace):
        api.apply(body)
    return operator()


@pytest.fixture
def monitor_pod(cluster: Cluster, api: Api, namespace: str, looping: OperatorProcess) -> Iterator[Api]:
    """The API server as the monitor's ServiceAccount sees it."""
    wait_for(lambda: is_ready(api.get("ModelMonitor", namespace, NAME)), what="a Ready monitor")
    token = api.token(namespace, f"{NAME}-monitor")
    made = Api(cluster.server, server_context(cluster.kubeconfig), token)
    yield made
    made.close()


def test_a_training_becomes_a_restricted_job_and_its_result_the_champion(
    api: Api, namespace: str, looping: OperatorProcess
) -> None:
    wait_for(lambda: is_ready(api.get("ModelTraining", namespace, NAME)), what="a Ready training")
    status = api.get("ModelTraining", namespace, NAME)["status"]
    assert status["champion"]["digest"] == digest_of(1)
    assert status["champion"]["value"] == 0.94
    assert "run" not in status
    assert [(run["number"], run["verdict"]) for run in status["history"]] == [(1, "Approved")]
    (job,) = api.list("Job", namespace, "modelloop.dev/training")
    pod = job["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    wait_for(
        lambda: "ttlSecondsAfterFinished" in api.list("Job", namespace, "modelloop.dev/training")[0]["spec"],
        what="a time to live of the latched Job",
    )


def test_pods_of_the_operator_pass_the_restricted_pod_security_standard(
    api: Api, node: Node, namespace: str, operator: Callable[..., OperatorProcess]
) -> None:
    enforce = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    api.patch("Namespace", None, namespace, enforce)
    node.play(namespace, containers())
    for body in manifests(namespace):
        api.apply(body)
    operator()
    wait_for(lambda: is_ready(api.get("ModelDeployment", namespace, NAME)), what="a served model")


def test_the_champion_is_served_by_a_deployment_of_its_own(api: Api, namespace: str, looping: OperatorProcess) -> None:
    wait_for(lambda: is_ready(api.get("ModelDeployment", namespace, NAME)), what="a Ready deployment")
    served = api.get("ModelDeployment", namespace, NAME)
    assert number_of(served, "stable") == 1
    assert served["status"]["address"] == f"http://{NAME}.{namespace}.svc"
    service = api.get("Service", namespace, NAME)
    assert service["spec"]["selector"][DIGEST] == digest_label(digest_of(1))
    (made,) = api.list("Deployment", namespace)
    assert made["metadata"]["name"] == server_of(1)
    scale = api.get("ModelDeployment", namespace, NAME, "scale")
    assert scale["status"]["replicas"] == 1
    assert len(api.list("Pod", namespace, scale["status"]["selector"])) == 1


def test_the_monitor_gets_a_schedule_and_rights_on_one_status(
    api: Api, namespace: str, looping: OperatorProcess
) -> None:
    wait_for(lambda: is_ready(api.get("ModelMonitor", namespace, NAME)), what="a Ready monitor")
    cron_job = api.get("CronJob", namespace, NAME)
    assert cron_job["spec"]["concurrencyPolicy"] == "Forbid"
    assert monitor_config(cron_job).version.digest == digest_of(1)
    account = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"]
    (rule,) = api.get("Role", namespace, account)["rules"]
    assert (rule["resources"], rule["resourceNames"]) == (["modelmonitors/status"], [NAME])
    assert api.get("RoleBinding", namespace, account)["subjects"][0]["name"] == account


def test_breached_windows_lead_to_a_retrain_with_feedback_and_to_the_next_version(
    api: Api, namespace: str, monitor_pod: Api
) -> None:
    windows = breached_windows(monitor_config(api.get("CronJob", namespace, NAME)))
    patch_windows(monitor_pod, namespace, NAME, windows)
    wait_for(lambda: number_of(api.get("ModelTraining", namespace, NAME), "champion") == 2, what="version 2")
    (second,) = api.list("Pod", namespace, f"{RUN}=2")
    config = trainer_config(second)
    assert config.trigger == "Monitor"
    assert config.feedback == FeedbackConfig(
        deployment=NAME, since=windows[0].start, until=windows[-1].end, policy="Append"
    )
    assert config.champion is not None
    assert config.champion.digest == digest_of(1)
    wait_for(lambda: number_of(api.get("ModelDeployment", namespace, NAME), "stable") == 2, what="version 2 serving")
    told = api.get("ModelMonitor", namespace, NAME)["status"]
    assert told["retrains"] == 1
    assert len(told["windows"]) == 2
    wait_for(
        lambda: monitor_config(api.get("CronJob", namespace, NAME)).version.digest == digest_of(2),
        what="a monitor that looks at version 2",
    )


def test_the_selector_flips_only_after_the_new_version_is_ready_and_the_old_one_goes_after_the_bake(
    api: Api, node: Node, namespace: str, looping: OperatorProcess
) -> None:
    wait_for(lambda: is_ready(api.get("ModelDeployment", namespace, NAME)), what="version 1 serving")
    held: list[Object] = []

    def slow_server(pod: Object) -> list[Object]:
        if pod["metadata"]["labels"].get(DIGEST) == digest_label(digest_of(2)):
            held.append(pod)
            return []
        return list(containers()(pod))

    node.play(namespace, slow_server)
    run = {"metadata": {"annotations": {"modelloop.dev/run": "again"}}}
    api.patch("ModelTraining", namespace, NAME, run)
    wait_for(lambda: held, what="a pod of version 2")
    during = api.get("ModelDeployment", namespace, NAME)
    assert (number_of(during, "stable"), number_of(during, "candidate")) == (1, 2)
    assert api.get("Service", namespace, NAME)["spec"]["selector"][DIGEST] == digest_label(digest_of(1))
    assert len(api.list("Deployment", namespace)) == 2
    for status in containers()(held[0]):
        api.patch("Pod", namespace, held[0]["metadata"]["name"], {"status": status}, "status")
    wait_for(
        lambda: api.get("Service", namespace, NAME)["spec"]["selector"][DIGEST] == digest_label(digest_of(2)),
        what="the flip",
    )
    after = api.get("ModelDeployment", namespace, NAME)
    assert (number_of(after, "stable"), number_of(after, "previous")) == (2, 1)
    assert api.find("Deployment", namespace, server_of(1)), "the old version is kept warm"
    wait_for(lambda: [each["metadata"]["name"] for each in api.list("Deployment", namespace)] == [server_of(2)], 20)
    wait_for(lambda: is_ready(api.get("ModelDeployment", namespace, NAME)), what="a Ready deployment")


def test_a_monitor_pod_may_patch_its_own_status_and_nothing_else(api: Api, namespace: str, monitor_pod: Api) -> None:
    api.apply(monitor(namespace, "other"))
    patch_windows(monitor_pod, namespace, NAME, [])

    def refused(call: Callable[[], object]) -> None:
        with pytest.raises(ApiError) as caught:
            call()
        assert caught.value.status == 403

    refused(lambda: patch_windows(monitor_pod, namespace, "other", []))
    refused(lambda: monitor_pod.patch("ModelMonitor", namespace, NAME, {"spec": {"suspend": True}}))
    refused(lambda: monitor_pod.list("ModelMonitor", namespace))
    for kind in ("Secret", "Pod", "ModelTraining", "ConfigMap"):
        refused(lambda kind=kind: monitor_pod.list(kind, namespace))


def test_kubectl_waits_for_ready_on_all_three_kinds(cluster: Cluster, namespace: str, looping: OperatorProcess) -> None:
    said = cluster.kubectl(
        "-n", namespace, "wait", "--for=condition=Ready", "--timeout=30s", f"mt/{NAME}", f"md/{NAME}", f"mm/{NAME}"
    )
    assert said.count("condition met") == 3
