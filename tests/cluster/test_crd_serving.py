"""What users see of the three kinds besides errors: defaults, columns, short names, the category, scale, samples."""

import json
from pathlib import Path

import pytest
import yaml

from devcluster.cluster import Cluster
from tests.cluster.cluster_api import Api, Object
from tests.cluster.cluster_loop import NAME, deployment, manifests, monitor, training
from tests.cluster.crd_cases import read_spec_schema

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = sorted(path for path in (ROOT / "manifests/samples").rglob("*.yaml") if path.name != "kustomization.yaml")


@pytest.fixture
def applied(api: Api, namespace: str) -> str:
    """A namespace with one of each kind."""
    for body in manifests(namespace):
        api.apply(body)
    return namespace


def missing_defaults(schema: Object, value: object, path: str = "spec") -> list[str]:
    """Fields that have a default and don't show in a stored object."""
    if not isinstance(value, dict):
        return []
    missing = []
    for name, node in schema.get("properties", {}).items():
        if name in value:
            missing += missing_defaults(node, value[name], f"{path}.{name}")
        elif "default" in node:
            missing.append(f"{path}.{name}")
    return missing


@pytest.mark.parametrize("make", [training, deployment, monitor])
def test_get_shows_every_default(cluster: Cluster, applied: str, make: object) -> None:
    kind = {training: "ModelTraining", deployment: "ModelDeployment", monitor: "ModelMonitor"}[make]
    stored = yaml.safe_load(cluster.kubectl("-n", applied, "get", kind, NAME, "-o", "yaml"))
    assert missing_defaults(read_spec_schema(kind), stored["spec"]) == []


def test_defaults_within_a_retrain_that_says_nothing_show(api: Api, applied: str) -> None:
    retrain = api.get("ModelMonitor", applied, NAME)["spec"]["retrain"]
    assert retrain["cooldown"] == "1h"
    assert retrain["data"] == "Append"


def test_defaults_keep_what_is_said(api: Api, namespace: str) -> None:
    api.apply(deployment(namespace, replicas=0, rollout={"bakeTime": "2m"}))
    spec = api.get("ModelDeployment", namespace, NAME)["spec"]
    assert spec["replicas"] == 0
    stated = {name: spec["rollout"][name] for name in ("bakeTime", "progressDeadline", "strategy")}
    assert stated == {"bakeTime": "2m", "progressDeadline": "5m", "strategy": "BlueGreen"}


@pytest.mark.parametrize(
    ("short", "columns"),
    [
        ("mt", ["NAME", "READY", "REASON", "CHAMPION", "METRIC", "VALUE", "RUN", "PROGRESS", "AGE"]),
        ("md", ["NAME", "READY", "REASON", "STABLE", "CANDIDATE", "PODS", "ROLLOUT", "AGE"]),
        ("mm", ["NAME", "READY", "HEALTHY", "REASON", "SCHEDULE", "RETRAINS", "LAST", "AGE"]),
    ],
)
def test_a_short_name_prints_the_columns(cluster: Cluster, applied: str, short: str, columns: list[str]) -> None:
    header, row = cluster.kubectl("-n", applied, "get", short).splitlines()
    assert header.split() == columns
    assert row.split()[0] == NAME


def test_the_columns_show_what_the_status_says(cluster: Cluster, api: Api, applied: str) -> None:
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Approved",
        "message": "version 3 is the champion",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    champion = {
        "number": 3,
        "path": "models/a/b/3-0",
        "digest": "sha256:00",
        "metric": "f1",
        "value": 0.9625,
        "specHash": "0",
        "approvedTime": "2026-01-01T00:00:00Z",
    }
    api.patch("ModelTraining", applied, NAME, {"status": {"conditions": [condition], "champion": champion}}, "status")
    row = cluster.kubectl("-n", applied, "get", "mt", "--no-headers").split()
    assert row[:6] == [NAME, "True", "Approved", "3", "f1", "0.9625"]
    assert "version 3 is the champion" in cluster.kubectl("-n", applied, "get", "mt", "-o", "wide")


def test_the_category_lists_all_three(cluster: Cluster, applied: str) -> None:
    listed = json.loads(cluster.kubectl("-n", applied, "get", "modelloop", "-o", "json"))
    assert sorted(item["kind"] for item in listed["items"]) == ["ModelDeployment", "ModelMonitor", "ModelTraining"]


def test_scale_reads_and_writes_the_replicas(cluster: Cluster, api: Api, applied: str) -> None:
    scale = api.get("ModelDeployment", applied, NAME, "scale")
    assert scale["spec"]["replicas"] == 1
    scale["spec"]["replicas"] = 3
    path = f"/apis/modelloop.dev/v1alpha1/namespaces/{applied}/modeldeployments/{NAME}/scale"
    api.request("PUT", path, scale)
    assert api.get("ModelDeployment", applied, NAME)["spec"]["replicas"] == 3
    cluster.kubectl("-n", applied, "scale", f"md/{NAME}", "--replicas=2")
    assert api.get("ModelDeployment", applied, NAME)["spec"]["replicas"] == 2


def test_explain_tells_about_fields(cluster: Cluster) -> None:
    assert "alarms are reported only" in cluster.kubectl("explain", "mm.spec.retrain")
    assert "Distance above which a feature has drifted" in cluster.kubectl("explain", "mm.spec.drift.maxDistance")


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: "/".join(path.parts[-2:]))
def test_samples_pass_a_strict_dry_run(cluster: Cluster, path: Path) -> None:
    said = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(path))
    assert "(server dry run)" in said


@pytest.mark.parametrize(
    "path", [path for path in SAMPLES if path.parent.name == "minimal"], ids=lambda path: path.stem
)
def test_the_smallest_manifests_have_less_than_15_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 15


@pytest.mark.parametrize("how", [("--server-side",), ()], ids=["server side", "client side"])
def test_a_manifest_without_replicas_leaves_them_to_who_scales(
    cluster: Cluster, api: Api, namespace: str, how: tuple[str, ...]
) -> None:
    def apply(**fields: object) -> None:
        manifest = yaml.safe_dump(deployment(namespace, **fields))
        cluster.kubectl("apply", "--validate=strict", *how, "-f", "-", stdin=manifest)

    apply(autoscaling={"maxReplicas": 9})
    assert api.get("ModelDeployment", namespace, NAME)["spec"]["replicas"] == 1
    cluster.kubectl("-n", namespace, "scale", f"md/{NAME}", "--replicas=4")
    apply(autoscaling={"maxReplicas": 8})
    spec = api.get("ModelDeployment", namespace, NAME)["spec"]
    assert (spec["replicas"], spec["autoscaling"]["maxReplicas"]) == (4, 8)


def test_lists_with_defaults_are_replaced_as_a_whole(cluster: Cluster, api: Api, namespace: str) -> None:
    def apply(**fields: object) -> dict[str, object]:
        cluster.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(deployment(namespace, **fields)))
        spec: dict[str, object] = api.get("ModelDeployment", namespace, NAME)["spec"]
        return spec

    assert len(apply()["topologySpreadConstraints"]) == 2  # type: ignore[arg-type]
    assert apply(topologySpreadConstraints=[])["topologySpreadConstraints"] == []
    assert apply(networkPolicy={})["networkPolicy"] == {
        "from": [{"podSelector": {"matchLabels": {}, "matchExpressions": []}}]
    }
    assert apply(networkPolicy={"from": []})["networkPolicy"] == {"from": []}
