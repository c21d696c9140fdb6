"""What `kubectl apply -k` of the installation and the samples does on a real API server, without storing anything."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ("operator", "trainer", "server", "monitor")
DRY_RUN = (
    "apply",
    "--server-side",
    "--dry-run=server",
    "--validate=strict",
    "--field-manager=packaging-test",
    "-f",
    "-",
)


def render(cluster: Cluster, folder: Path) -> list[dict[str, Any]]:
    """The objects of a kustomization, as the cluster's own kubectl renders them."""
    return list(yaml.safe_load_all(cluster.kubectl("kustomize", str(folder))))


def apply_dry(cluster: Cluster, objects: list[dict[str, Any]]) -> str:
    """What the API server would say to the objects: schema, CEL rules, unknown fields and admission, but no write."""
    return cluster.kubectl(*DRY_RUN, stdin=yaml.safe_dump_all(objects))


def move_to(namespace: str, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same objects in a namespace that is there, since a dry run doesn't make one."""
    return [each | {"metadata": each["metadata"] | {"namespace": namespace}} for each in objects]


@pytest.fixture(scope="module")
def kinds(cluster: Cluster) -> Cluster:
    """The cluster, with the three kinds installed."""
    cluster.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
    cluster.kubectl(
        "wait", "--for=condition=Established", "--timeout=60s", "crd", "-l", "app.kubernetes.io/part-of=modelloop"
    )
    return cluster


def test_the_api_server_accepts_the_installation(kinds: Cluster) -> None:
    objects = render(kinds, ROOT / "manifests" / "install")
    namespaced = [each for each in objects if "namespace" in each["metadata"]]
    assert {each["metadata"]["namespace"] for each in namespaced} == {"modelloop-system"}
    others = [each for each in objects if "namespace" not in each["metadata"]]
    said = apply_dry(kinds, others) + apply_dry(kinds, move_to("default", namespaced))
    assert said.count("serverside-applied") == len(objects)
    assert "Warning" not in said


def test_one_block_of_an_overlay_renames_all_four_images(cluster: Cluster, tmp_path: Path) -> None:
    base = tmp_path / "manifests"
    base.symlink_to(ROOT / "manifests")
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


def test_the_api_server_accepts_the_sample_of_the_demo(kinds: Cluster) -> None:
    objects = render(kinds, ROOT / "manifests" / "samples" / "cancer")
    custom = [each for each in objects if each["kind"] != "Namespace"]
    assert {each["metadata"]["namespace"] for each in custom} == {"modelloop-demo"}
    assert apply_dry(kinds, move_to("default", custom)).count("serverside-applied") == 3


@pytest.mark.parametrize("name", ["training", "deployment", "monitor"])
def test_the_api_server_accepts_the_smallest_manifest(kinds: Cluster, name: str) -> None:
    sample = yaml.safe_load((ROOT / "manifests" / "samples" / "minimal" / f"{name}.yaml").read_text())
    assert "serverside-applied" in apply_dry(kinds, move_to("default", [sample]))
