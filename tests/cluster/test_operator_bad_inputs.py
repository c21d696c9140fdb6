"""Bad inputs end in a condition that names the thing and what to do, and the condition goes when they are mended."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from devcluster.cluster import Cluster
from tests.cluster.cluster_api import Api, Object, condition_of, wait_for
from tests.cluster.cluster_loop import NAME, containers, deployment, is_ready, monitor, number_of, training
from tests.cluster.cluster_node import Node, Program, crashing, failed, running, unschedulable, waiting
from tests.cluster.cluster_operator import OperatorProcess
from tests.cluster.cluster_proxy import kubeconfig_for

Operators = Callable[..., OperatorProcess]
ROOT = Path(__file__).resolve().parents[2]
TOLD_WITHIN = 30.0
NOWHERE = "registry.example/nowhere:1"


def wait_for_reason(api: Api, kind: str, namespace: str, reason: str, *parts: str) -> None:
    """Ready is False for this reason and its message has these parts; Stalled says the same."""
    wait_for(
        lambda: condition_of(api.get(kind, namespace, NAME), "Ready").get("reason") == reason,
        TOLD_WITHIN,
        what=f"{kind} to say {reason}; it says {condition_of(api.find(kind, namespace, NAME), 'Ready')}",
    )
    body = api.get(kind, namespace, NAME)
    ready = condition_of(body, "Ready")
    assert ready["status"] == "False"
    for part in parts:
        assert part in ready["message"]
    assert condition_of(body, "Stalled").get("status") == "True"


def wait_until_mended(api: Api, kind: str, namespace: str) -> None:
    """Ready, and not Stalled."""
    wait_for(lambda: is_ready(api.get(kind, namespace, NAME)), 60, what=f"a Ready {kind}")
    assert condition_of(api.get(kind, namespace, NAME), "Stalled") == {}


def pod_of(api: Api, namespace: str) -> Object:
    """The only pod of a namespace, once it is there."""
    pods = wait_for(lambda: api.list("Pod", namespace), what="a pod")
    return pods[0]


def write_pod_status(api: Api, pod: Object, status: Object) -> None:
    """What a kubelet or scheduler writes."""
    metadata = pod["metadata"]
    api.patch("Pod", metadata["namespace"], metadata["name"], {"status": status}, "status")


def where_image(image: str, program: Program) -> Program:
    """Pods of one image do this, all others work."""
    return lambda pod: (program if pod["spec"]["containers"][0]["image"] == image else containers())(pod)


def no_pull(pod: Object) -> list[Object]:
    """The kubelet can't pull its image."""
    return [waiting(pod, "ErrImagePull", "failed to resolve reference: 404 Not Found")]


def test_a_deployment_of_a_training_that_is_not_there(
    api: Api, node: Node, namespace: str, operator: Operators
) -> None:
    node.play(namespace, containers())
    api.apply(deployment(namespace))
    operator()
    text = "spec.trainingRef.name: there is no ModelTraining 'cancer' in this namespace; create it or correct the name"
    wait_for_reason(api, "ModelDeployment", namespace, "TrainingNotFound", text)
    api.apply(training(namespace))
    wait_until_mended(api, "ModelDeployment", namespace)


def test_a_monitor_of_a_deployment_that_is_not_there(api: Api, node: Node, namespace: str, operator: Operators) -> None:
    node.play(namespace, containers())
    api.apply(monitor(namespace))
    operator()
    text = "spec.deploymentRef.name: there is no ModelDeployment 'cancer' in this namespace"
    wait_for_reason(api, "ModelMonitor", namespace, "DeploymentNotFound", text)
    api.apply(training(namespace))
    api.apply(deployment(namespace))
    wait_until_mended(api, "ModelMonitor", namespace)


def test_a_trainer_image_that_can_not_be_pulled(api: Api, node: Node, namespace: str, operator: Operators) -> None:
    node.play(namespace, where_image(NOWHERE, no_pull))
    api.apply(training(namespace, image=NOWHERE))
    operator()
    wait_for_reason(api, "ModelTraining", namespace, "ImagePullFailed", NOWHERE, "404 Not Found", "spec.image")
    api.apply(training(namespace, image="registry.example/trainer:2"))
    wait_until_mended(api, "ModelTraining", namespace)
    assert number_of(api.get("ModelTraining", namespace, NAME), "champion") == 2


def test_a_server_image_that_can_not_be_pulled_while_version_1_serves(
    api: Api, node: Node, namespace: str, operator: Operators
) -> None:
    node.play(namespace, where_image(NOWHERE, no_pull))
    api.apply(training(namespace))
    api.apply(deployment(namespace))
    operator()
    wait_until_mended(api, "ModelDeployment", namespace)
    api.apply(deployment(namespace, image=NOWHERE))
    wait_for_reason(api, "ModelDeployment", namespace, "ImagePullFailed", NOWHERE, "version 1 answers meanwhile")
    body = api.get("ModelDeployment", namespace, NAME)
    assert condition_of(body, "Available")["status"] == "True"
    assert body["status"]["readyReplicas"] == 1
    api.apply(deployment(namespace))
    wait_until_mended(api, "ModelDeployment", namespace)


def test_a_trainer_that_runs_out_of_memory(api: Api, node: Node, namespace: str, operator: Operators) -> None:
    def run(pod: Object) -> list[Object]:
        if pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "64Mi":
            return [running(pod), failed(pod, 137, reason="OOMKilled")]
        return list(containers()(pod))

    node.play(namespace, run)
    api.apply(training(namespace, retries=0, resources={"limits": {"memory": "64Mi"}}))
    operator()
    wait_for(
        lambda: condition_of(api.get("ModelTraining", namespace, NAME), "Ready").get("reason") == "OutOfMemory",
        TOLD_WITHIN,
        what="OutOfMemory",
    )
    message = condition_of(api.get("ModelTraining", namespace, NAME), "Ready")["message"]
    assert "memory limit of 64Mi" in message
    assert "raise spec.resources.limits.memory" in message
    api.apply(training(namespace, retries=0, resources={"limits": {"memory": "1Gi"}}))
    wait_until_mended(api, "ModelTraining", namespace)


def test_a_claim_that_is_not_bound(api: Api, node: Node, namespace: str, operator: Operators) -> None:
    api.apply(training(namespace))
    operator()
    pod = pod_of(api, namespace)
    text = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
    write_pod_status(api, pod, unschedulable(text))
    wait_for_reason(api, "ModelTraining", namespace, "ClaimNotBound", "'modelloop-store'", text, "kubectl describe pvc")
    node.play(namespace, containers())
    wait_until_mended(api, "ModelTraining", namespace)
    assert number_of(api.get("ModelTraining", namespace, NAME), "champion") == 1


def test_a_secret_that_is_not_there(api: Api, node: Node, namespace: str, operator: Operators) -> None:
    api.apply(training(namespace, storage={"uri": "s3://bucket/models", "secretRef": {"name": "keys"}}))
    operator()
    pod = pod_of(api, namespace)
    write_pod_status(api, pod, waiting(pod, "CreateContainerConfigError", 'secret "keys" not found'))
    wait_for_reason(
        api, "ModelTraining", namespace, "ContainerConfigError", "Secret 'keys'", "create it in this namespace"
    )
    node.play(namespace, containers())
    wait_until_mended(api, "ModelTraining", namespace)


@pytest.mark.parametrize("serves", [False, True], ids=["at first", "while version 1 serves without it"])
def test_a_certificate_that_is_not_there_is_named_and_waited_for(
    api: Api, node: Node, namespace: str, operator: Operators, serves: bool
) -> None:
    said = {"outcome": "Failed", "reason": "BadCertificate", "message": "/var/lib/modelloop/tls/tls.crt isn't there"}

    def run(pod: Object) -> list[Object]:
        if any(volume["name"] == "tls" for volume in pod["spec"]["volumes"]):
            return [running(pod, ready=False), crashing(pod, 2, json.dumps(said))]
        return list(containers()(pod))

    node.play(namespace, run)
    api.apply(training(namespace))
    operator()
    if serves:
        api.apply(deployment(namespace))
        wait_until_mended(api, "ModelDeployment", namespace)
    api.apply(deployment(namespace, tls={"secretName": "churn-cert"}))
    words = ["the Secret 'churn-cert', which must be in this namespace with tls.crt and tls.key"]
    words += ["version 1 answers meanwhile"] if serves else []
    wait_for_reason(api, "ModelDeployment", namespace, "BadCertificate", *words)
    body = api.get("ModelDeployment", namespace, NAME)
    assert body["status"].get("failed", []) == [], "the Secret may come yet"
    # The kubelet tries again once the Secret is there.
    for pod in api.list("Pod", namespace, "app.kubernetes.io/component=server"):
        if any(volume["name"] == "tls" for volume in pod["spec"]["volumes"]):
            write_pod_status(api, pod, running(pod))
    wait_until_mended(api, "ModelDeployment", namespace)
    assert api.get("ModelDeployment", namespace, NAME)["status"]["address"] == f"https://{NAME}.{namespace}.svc"


def test_a_quota_that_forbids_the_pods_of_a_job(api: Api, node: Node, namespace: str, operator: Operators) -> None:
    node.play(namespace, containers())
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": namespace},
        "spec": {"hard": {"pods": "0"}},
    }
    api.create(quota)
    wait_for(lambda: api.get("ResourceQuota", namespace, "none")["status"].get("hard"), what="the quota to count")
    api.apply(training(namespace))
    operator()
    wait_for_reason(api, "ModelTraining", namespace, "PodsNotCreated", "kubectl describe job", "quota")
    api.delete("ResourceQuota", namespace, "none")
    wait_until_mended(api, "ModelTraining", namespace)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"schedule": "61 * * * *"}, "61"), ({"timeZone": "Mars/Olympus"}, "Mars/Olympus")],
    ids=["schedule", "time zone"],
)
def test_a_monitor_whose_cron_job_the_api_server_refuses(
    api: Api, node: Node, namespace: str, operator: Operators, wrong: Object, named: str
) -> None:
    node.play(namespace, containers())
    api.apply(training(namespace))
    api.apply(deployment(namespace))
    api.apply(monitor(namespace, **wrong))
    operator()
    wait_for_reason(api, "ModelMonitor", namespace, "ApplyFailed", named)
    api.apply(monitor(namespace))
    wait_until_mended(api, "ModelMonitor", namespace)


def test_a_service_of_the_users_own_is_left_alone(api: Api, node: Node, namespace: str, operator: Operators) -> None:
    node.play(namespace, containers())
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80}]},
    }
    before = api.create(theirs)
    api.apply(training(namespace))
    api.apply(deployment(namespace))
    operator()
    text = "Service 'cancer' exists already and belongs to somebody else; delete or rename it"
    wait_for_reason(api, "ModelDeployment", namespace, "ApplyFailed", text)
    assert api.get("Service", namespace, NAME) == before
    api.delete("Service", namespace, NAME)
    wait_until_mended(api, "ModelDeployment", namespace)


# -- permissions -------------------------------------------------------------------------------------------------------


def installed_rules() -> list[Object]:
    """The rules of the installed ClusterRole and Role."""
    documents = yaml.safe_load_all((ROOT / "manifests/install/rbac.yaml").read_text())
    return [rule for body in documents if body["kind"] in ("ClusterRole", "Role") for rule in body["rules"]]


def grant(api: Api, namespace: str, rules: list[Object]) -> None:
    """Let the ServiceAccount `operator` do no more than this in its namespace."""
    metadata = {"name": "operator", "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    api.apply({"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": rules})
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "operator"},
        "subjects": [{"kind": "ServiceAccount", **metadata}],
    }
    api.apply(binding)


def without_verbs(rules: list[Object], resource: str, *verbs: str) -> list[Object]:
    """Rules in which a resource's verbs are fewer."""
    result = []
    for rule in rules:
        others = [name for name in rule["resources"] if name != resource]
        if len(others) < len(rule["resources"]):
            kept = [verb for verb in rule["verbs"] if verb not in verbs]
            result += [{**rule, "resources": [resource], "verbs": kept}] if kept else []
        result += [{**rule, "resources": others}] if others else []
    return result


@pytest.fixture
def kubeconfig(cluster: Cluster, api: Api, namespace: str, tmp_path: Path) -> Path:
    """Logs in as the ServiceAccount `operator` of the test's namespace, which may do nothing yet."""
    grant(api, namespace, [])
    authority = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]["certificate-authority-data"]
    assert base64.b64decode(authority)
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(kubeconfig_for(cluster.server, api.token(namespace, "operator"), authority)))
    return path


def test_the_installed_rights_are_enough_for_the_whole_loop(
    api: Api, node: Node, namespace: str, operator: Operators, kubeconfig: Path
) -> None:
    node.play(namespace, containers())
    grant(api, namespace, installed_rules())
    for body in (training(namespace), deployment(namespace), monitor(namespace)):
        api.apply(body)
    operator(kubeconfig=kubeconfig)
    for kind in ("ModelTraining", "ModelDeployment", "ModelMonitor"):
        wait_until_mended(api, kind, namespace)


def test_a_namespace_in_which_the_operator_may_not_make_jobs(
    api: Api, node: Node, namespace: str, operator: Operators, kubeconfig: Path
) -> None:
    node.play(namespace, containers())
    grant(api, namespace, without_verbs(installed_rules(), "jobs", "create", "patch"))
    api.apply(training(namespace))
    operator(kubeconfig=kubeconfig)
    wait_for_reason(api, "ModelTraining", namespace, "ApplyFailed", "jobs.batch", "forbidden")
    grant(api, namespace, installed_rules())
    wait_until_mended(api, "ModelTraining", namespace)


def test_an_operator_that_may_not_list_says_so_and_is_not_ready(
    api: Api, node: Node, namespace: str, operator: Operators, kubeconfig: Path
) -> None:
    node.play(namespace, containers())
    grant(api, namespace, without_verbs(installed_rules(), "jobs", "list"))
    api.apply(training(namespace))
    process = operator(kubeconfig=kubeconfig)
    wait_for(lambda: "cannot list resource" in process.tail(), what="a line in the log")
    assert process.probe("/readyz")[0] == 503
    grant(api, namespace, installed_rules())
    wait_until_mended(api, "ModelTraining", namespace)
