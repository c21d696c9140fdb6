"""The manifests of the installation: least privilege, restricted pods, one place for image names."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from modelkit.contract.environment import HTTP_PORT

ROOT = Path(__file__).resolve().parents[3]
INSTALL = ROOT / "manifests" / "install"
WORKLOAD_IMAGES = ("trainer", "server", "monitor")


def read_objects() -> list[dict[str, Any]]:
    """All Kubernetes objects written in manifests/install, not those it refers to."""
    kustomization = yaml.safe_load((INSTALL / "kustomization.yaml").read_text())
    files = [INSTALL / each for each in kustomization["resources"] if (INSTALL / each).is_file()]
    return [each for file in files for each in yaml.safe_load_all(file.read_text())]


def find(kind: str) -> dict[str, Any]:
    """The only object of a kind."""
    (found,) = [each for each in read_objects() if each["kind"] == kind]
    return found


def rules() -> list[dict[str, Any]]:
    """Every rule of every role."""
    return [rule for each in read_objects() if each["kind"] in {"Role", "ClusterRole"} for rule in each["rules"]]


def operator_container() -> dict[str, Any]:
    """The operator's container."""
    (container,) = find("Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_no_rule_has_a_wildcard() -> None:
    assert all("*" not in value for rule in rules() for values in rule.values() for value in values)


def test_no_rule_touches_secrets() -> None:
    assert all("secrets" not in resource for rule in rules() for resource in rule["resources"])


def test_no_rule_lets_the_operator_escalate_or_run_commands() -> None:
    verbs = {verb for rule in rules() for verb in rule["verbs"]}
    assert verbs <= {"get", "list", "watch", "create", "patch", "update", "delete"}
    subresources = {resource for rule in rules() for resource in rule["resources"] if "/" in resource}
    assert {each.split("/")[1] for each in subresources} == {"status", "finalizers"}


def test_the_operator_never_writes_what_users_wrote() -> None:
    for rule in rules():
        for resource in rule["resources"]:
            if rule["apiGroups"] == ["modelloop.dev"] and "/" not in resource:
                assert set(rule["verbs"]) == {"get", "list", "watch"}


def test_claims_can_not_be_deleted() -> None:
    for rule in rules():
        if "persistentvolumeclaims" in rule["resources"]:
            assert "delete" not in rule["verbs"]


def test_the_operator_holds_what_it_hands_on_to_monitors() -> None:
    assert any(
        {"get", "patch"} <= set(rule["verbs"]) and "modelmonitors/status" in rule["resources"] for rule in rules()
    )


def test_the_lease_is_the_only_cluster_object_of_the_own_namespace() -> None:
    role = find("Role")
    assert role["metadata"]["namespace"] == "modelloop-system"
    assert [rule["resources"] for rule in role["rules"]] == [["leases"]]


@pytest.mark.parametrize("path", ["manifests/install/namespace.yaml", "manifests/samples/cancer/namespace.yaml"])
def test_namespaces_admit_restricted_pods_only(path: str) -> None:
    namespace = yaml.safe_load((ROOT / path).read_text())
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_operator_pod_is_restricted_with_a_read_only_root() -> None:
    pod = find("Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert operator_container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_probes_and_the_service_ask_the_port_that_the_container_names() -> None:
    container = operator_container()
    assert container["ports"] == [{"name": "http", "containerPort": HTTP_PORT}]
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {each["port"] for each in asked.values()} == {"http"}
    assert (asked["livenessProbe"]["path"], asked["readinessProbe"]["path"]) == ("/healthz", "/readyz")
    service = find("Service")
    assert service["spec"]["ports"] == [{"name": "http", "port": HTTP_PORT, "targetPort": "http"}]
    labels = find("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_one_block_names_all_four_images() -> None:
    kustomization = yaml.safe_load((INSTALL / "kustomization.yaml").read_text())
    block = [each["name"] for each in kustomization["images"]]
    assert block == [f"modelloop-{each}" for each in ("operator", *WORKLOAD_IMAGES)]
    environment = {each["name"]: each.get("value") for each in operator_container()["env"]}
    used = [environment[f"MODELLOOP_{each.upper()}_IMAGE"] for each in WORKLOAD_IMAGES]
    assert [operator_container()["image"], *used] == block


def test_every_generated_crd_is_installed() -> None:
    kustomization = yaml.safe_load((ROOT / "crds" / "kustomization.yaml").read_text())
    generated = {path.name for path in (ROOT / "crds").glob("modelloop.dev_*.yaml")}
    assert set(kustomization["resources"]) == generated
