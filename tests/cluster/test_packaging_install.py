"""What `kubectl apply -k` of the installation and the samples does on a real API server.

Only what does nothing by itself is stored: the kinds, the namespaces and the permissions. The rest is a dry run, which
goes through the schema, the CEL rules and admission.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / "manifests" / "install"
SAMPLES = ROOT / "manifests" / "samples"
IMAGES = ("operator", "trainer", "server", "monitor")
APPLY = ("apply", "--server-side", "--validate=strict", "--warnings-as-errors")
OPERATOR = "system:serviceaccount:modelloop-system:modelloop-operator"


def render(cluster: Cluster, folder: Path) -> list[dict[str, Any]]:
    """The objects of a kustomization, as the cluster's own kubectl renders them."""
    return list(yaml.safe_load_all(cluster.kubectl("kustomize", str(folder))))


def apply_dry(cluster: Cluster, *arguments: str) -> list[str]:
    """What the API server would do, one line per object. A warning, of Pod Security for instance, is an error."""
    return cluster.kubectl(*APPLY, "--dry-run=server", "--field-manager=packaging-test", *arguments).splitlines()


@pytest.fixture(scope="module")
def kinds(cluster: Cluster) -> Cluster:
    """The cluster, with the three kinds, the namespaces and the operator's permissions."""
    cluster.kubectl(*APPLY, "-k", str(ROOT / "crds"))
    wait = ("wait", "--for=condition=Established", "--timeout=60s")
    cluster.kubectl(*wait, *(f"crd/model{each}.modelloop.dev" for each in ("trainings", "deployments", "monitors")))
    namespaces = (INSTALL / "namespace.yaml", SAMPLES / "cancer" / "namespace.yaml")
    for file in (*namespaces, INSTALL / "rbac.yaml"):
        cluster.kubectl(*APPLY, "-f", str(file))
    return cluster


@pytest.mark.parametrize("folder", [INSTALL, SAMPLES / "cancer"], ids=["installation", "sample of the demo"])
def test_the_api_server_accepts_everything_without_a_warning(kinds: Cluster, folder: Path) -> None:
    said = apply_dry(kinds, "-k", str(folder))
    assert len(said) == len(render(kinds, folder))
    assert all(line.endswith("serverside-applied (server dry run)") for line in said)


@pytest.mark.parametrize("name", ["training", "deployment", "monitor"])
def test_the_api_server_accepts_the_smallest_manifest(kinds: Cluster, name: str) -> None:
    assert len(apply_dry(kinds, "-n", "default", "-f", str(SAMPLES / "minimal" / f"{name}.yaml"))) == 1


def test_the_installation_stays_in_its_namespace(cluster: Cluster) -> None:
    found = {each["metadata"].get("namespace", "modelloop-system") for each in render(cluster, INSTALL)}
    assert found == {"modelloop-system"}


def test_one_block_of_an_overlay_renames_all_four_images(cluster: Cluster, tmp_path: Path) -> None:
    for part in ("crds", "manifests"):
        (tmp_path / part).symlink_to(ROOT / part)
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    names = [
        {"name": f"modelloop-{each}", "newName": f"registry.example.com/ml/{each}", "newTag": "v7"} for each in IMAGES
    ]
    kustomization = {"resources": ["../manifests/install"], "images": names}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (deployment,) = [each for each in render(cluster, overlay) if each["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert container["image"] == "registry.example.com/ml/operator:v7"
    for each in ("trainer", "server", "monitor"):
        assert environment[f"MODELLOOP_{each.upper()}_IMAGE"] == f"registry.example.com/ml/{each}:v7"


def may(cluster: Cluster, verb: str, resource: str, namespace: str) -> bool:
    """Whether the API server lets the operator do it. `resource` is `group/resource` or `/resource/subresource`."""
    group, name, *subresource = resource.split("/")
    attributes = {"verb": verb, "group": group, "resource": name, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": OPERATOR, "resourceAttributes": attributes | {"subresource": "".join(subresource)}},
    }
    said = cluster.kubectl("create", "-f", "-", "-o", "jsonpath={.status.allowed}", stdin=yaml.safe_dump(review))
    return said == "true"


@pytest.mark.parametrize(
    ("verb", "resource", "namespace"),
    [
        ("create", "batch/jobs", "anywhere"),
        ("patch", "apps/deployments", "anywhere"),
        ("patch", "autoscaling/horizontalpodautoscalers", "anywhere"),
        ("delete", "policy/poddisruptionbudgets", "anywhere"),
        ("create", "networking.k8s.io/networkpolicies", "anywhere"),
        ("patch", "modelloop.dev/modeltrainings/status", "anywhere"),
        ("create", "coordination.k8s.io/leases", "modelloop-system"),
    ],
)
def test_the_operator_may_do_its_work(kinds: Cluster, verb: str, resource: str, namespace: str) -> None:
    assert may(kinds, verb, resource, namespace)


@pytest.mark.parametrize(
    ("verb", "resource", "namespace"),
    [
        ("get", "/secrets", "modelloop-system"),
        ("list", "/secrets", ""),
        ("patch", "modelloop.dev/modeltrainings", "anywhere"),
        ("patch", "modelloop.dev/modeldeployments/scale", "anywhere"),
        ("update", "modelloop.dev/modeldeployments/scale", "anywhere"),
        ("create", "/pods/eviction", "anywhere"),
        ("delete", "/persistentvolumeclaims", "anywhere"),
        ("create", "/pods", "anywhere"),
        ("create", "/pods/exec", "anywhere"),
        ("create", "rbac.authorization.k8s.io/clusterroles", ""),
        ("update", "coordination.k8s.io/leases", "kube-system"),
    ],
)
def test_the_operator_may_do_nothing_else(kinds: Cluster, verb: str, resource: str, namespace: str) -> None:
    assert not may(kinds, verb, resource, namespace)
