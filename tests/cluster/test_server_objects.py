"""A real API server takes what a deployment's spec makes, in a namespace that enforces the restricted standard."""

from typing import Any

import pytest

from modelloop.api.common import Storage, VersionStatus
from modelloop.api.deployment import ModelDeploymentSpec
from modelloop.api.network import NetworkAccess
from modelloop.cluster.equality import is_applied, with_applied_hash
from modelloop.desired.deployment import build_server, build_service
from modelloop.desired.network import build_network_policy
from modelloop.desired.route import build_peer, build_route, build_route_map, build_rule, build_version_service
from modelloop.desired.workload import WorkloadSettings
from tests.cluster.cluster_api import Api, Object
from tests.cluster.cluster_loop import deployment

SETTINGS = WorkloadSettings(trainer_image="t", server_image="example/server:1", monitor_image="m")
VERSION = VersionStatus(number=2, path="models/team/x/2-y", digest=f"sha256:{'0' * 64}", storage=Storage())
OTHER = f"sha256:{'1' * 64}"
SPECS: dict[str, Object] = {
    "the simplest": {},
    "encrypted, with tokens and hashed columns": {
        "tls": {"secretName": "cert"},
        "auth": {"secretName": "tokens"},
        "verify": {"secretName": "signing"},
        "capture": {"columns": [{"name": "zip", "action": "Hash"}], "hashKey": {"secretName": "capture"}},
        "service": {"type": "NodePort", "nodePort": 30080, "grpcNodePort": 30081},
    },
    "placed": {
        "nodeSelector": {"gpu": "yes"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "topologySpreadConstraints": [
            {"topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}
        ],
    },
    "behind another runtime": {
        "runtime": {
            "image": "example/triton:1",
            "port": 8000,
            "args": ["--model-repository=/models"],
            "env": [{"name": "LEVEL", "value": "1"}],
            "mountPath": "/models",
            "secretRef": {"name": "hub"},
            "resources": {"limits": {"memory": "8Gi", "nvidia.com/gpu": 1}},
        },
        "resources": {"limits": {"cpu": 2, "memory": "1Gi"}},
    },
    "behind a runtime of which nothing is known": {
        "runtime": {"image": "example/own:1", "port": 9000, "protocol": "Raw", "startupTimeout": "30m"}
    },
}


@pytest.fixture
def restricted(api: Api, namespace: str) -> str:
    """A namespace whose pods must keep the restricted standard."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.patch("Namespace", None, namespace, {"metadata": {"labels": labels}})
    return namespace


@pytest.fixture(params=SPECS.values(), ids=SPECS)
def spec(request: pytest.FixtureRequest, api: Api, namespace: str) -> ModelDeploymentSpec:
    """As the API server completes it."""
    fields: dict[str, Any] = request.param
    return ModelDeploymentSpec.model_validate(api.create(deployment(namespace, **fields), dry_run=True)["spec"])


def server(spec: ModelDeploymentSpec, namespace: str) -> Object:
    return build_server(spec, VERSION, namespace=namespace, name="cancer", uid="0-0", settings=SETTINGS)


def test_the_pod_is_admitted(api: Api, restricted: str, spec: ModelDeploymentSpec) -> None:
    template = server(spec, restricted)["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {**template["metadata"], "name": "cancer", "namespace": restricted}
    assert api.create(pod, dry_run=True)["spec"]["securityContext"]["runAsNonRoot"] is True


def test_what_is_made_for_a_version_comes_back_as_it_was_wanted(
    api: Api, namespace: str, spec: ModelDeploymentSpec
) -> None:
    """Else the operator would write it again and again."""
    place = {"namespace": namespace, "name": "cancer", "uid": "0-0"}
    rule = build_rule(spec, OTHER, weight=10, compare=1, is_guarded=True)
    route = build_route("1", {VERSION.digest: rule}, {OTHER: build_peer(1, "10.0.0.1")}, {})
    guarded = spec.model_copy(update={"network_policy": NetworkAccess()})
    objects = (
        server(spec, namespace),
        build_service(spec, VERSION.digest, **place),
        build_version_service(spec, VERSION.digest, **place),
        build_route_map(route, **place),
        build_network_policy(guarded, **place, operator_namespace="modelloop-system"),
    )
    for wanted in objects:
        assert wanted is not None
        desired = with_applied_hash(wanted)
        assert is_applied(desired, api.apply(desired, dry_run=True))
