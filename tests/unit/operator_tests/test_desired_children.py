"""What stands beside the servers of a ModelDeployment: autoscaler, disruption budgets, network policy."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from modelkit.contract.environment import GRPC_PORT, HTTP_PORT
from modelloop.api.common import VersionStatus
from modelloop.desired import labels
from modelloop.desired.autoscaling import build_autoscaler
from modelloop.desired.availability import build_budget
from modelloop.desired.deployment import build_server, server_selector
from modelloop.desired.network import build_network_policy
from tests.unit.operator_tests.operator_states import SETTINGS, UID, deployment_spec, digest_of
from tests.unit.operator_tests.pod_checks import pod_spec
from tests.unit.operator_tests.test_desired_objects import build_all

Object = dict[str, Any]
PLACE = {"namespace": "team", "name": "cancer", "uid": UID}
OWN: Object = {"podSelector": {"matchLabels": {labels.DEPLOYMENT: "cancer"}}}
OPERATOR = {"operator_namespace": "modelloop-system"}


def version(number: int = 2) -> VersionStatus:
    return VersionStatus(number=number, path="models/team/x/2-y", digest=digest_of(number))


def autoscaler(**autoscaling: Any) -> Object:
    built = build_autoscaler(deployment_spec(autoscaling=autoscaling), **PLACE)
    assert built is not None
    return built


def budget(**fields: Any) -> Object | None:
    return build_budget(deployment_spec(**fields), version(), **PLACE)


def policy(**access: Any) -> Object:
    built = build_network_policy(deployment_spec(networkPolicy=access), **PLACE, **OPERATOR)
    assert built is not None
    return built


def pod_labels(number: int = 2, name: str = "cancer") -> dict[str, str]:
    server = build_server(deployment_spec(), version(number), namespace="team", name=name, uid=UID, settings=SETTINGS)
    found: dict[str, str] = server["spec"]["template"]["metadata"]["labels"]
    return found


def test_nothing_stands_beside_a_server_that_nobody_asked_for() -> None:
    spec = deployment_spec()
    assert build_autoscaler(spec, **PLACE) is None
    assert build_budget(spec, version(), **PLACE) is None
    assert build_network_policy(spec, **PLACE, **OPERATOR) is None


def test_every_child_is_owned_watched_and_built_the_same_each_time() -> None:
    spec = deployment_spec(autoscaling={"maxReplicas": 3}, networkPolicy={})

    def build() -> list[Object | None]:
        return [
            build_autoscaler(spec, **PLACE),
            build_budget(spec, version(), **PLACE),
            build_network_policy(spec, **PLACE, **OPERATOR),
        ]

    for child, again in zip(build(), build(), strict=True):
        assert child is not None
        assert child == again
        metadata = child["metadata"]
        assert metadata["ownerReferences"] == [labels.owner_reference("ModelDeployment", "cancer", UID)]
        assert labels.object_labels("ModelDeployment", "cancer").items() <= metadata["labels"].items()


# -- autoscaler -----------------------------------------------------------------------------------------------------


def test_the_autoscaler_scales_the_model_deployment_and_no_server() -> None:
    spec = autoscaler(minReplicas=2, maxReplicas=7, scaleDownStabilization="90s")["spec"]
    assert spec["scaleTargetRef"] == {
        "apiVersion": "modelloop.dev/v1alpha1",
        "kind": "ModelDeployment",
        "name": "cancer",
    }
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 7)
    assert spec["behavior"] == {"scaleDown": {"stabilizationWindowSeconds": 90}}


CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
IN_FLIGHT = {
    "type": "Pods",
    "pods": {
        "metric": {"name": "modelloop_requests_in_flight"},
        "target": {"type": "AverageValue", "averageValue": "12"},
    },
}


@pytest.mark.parametrize(
    ("stated", "metrics"),
    [({}, [CPU]), ({"cpuUtilization": 80}, [CPU]), ({"concurrency": 12}, [IN_FLIGHT]),
     ({"cpuUtilization": 80, "concurrency": 12}, [CPU, IN_FLIGHT])],
    ids=["neither", "cpu", "concurrency", "both"],
)  # fmt: skip
def test_the_autoscaler_looks_at_what_the_spec_names(stated: Object, metrics: list[Object]) -> None:
    assert autoscaler(maxReplicas=3, **stated)["spec"]["metrics"] == metrics


# -- disruption budget ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "limits"),
    [
        ({}, None),
        ({"replicas": 0}, None),
        ({"replicas": 2}, {"maxUnavailable": 1}),
        ({"replicas": 1, "autoscaling": {"maxReplicas": 1}}, None),
        ({"replicas": 1, "autoscaling": {"maxReplicas": 2}}, {"maxUnavailable": 1}),
        ({"replicas": 1, "disruptionBudget": {"minAvailable": 1}}, {"minAvailable": 1}),
        ({"replicas": 9, "disruptionBudget": {"maxUnavailable": "25%"}}, {"maxUnavailable": "25%"}),
        ({"replicas": 9, "disruptionBudget": {"maxUnavailable": 0}}, {"maxUnavailable": 0}),
        ({"replicas": 0, "disruptionBudget": {"minAvailable": "50%"}}, {"minAvailable": "50%"}),
    ],
)
def test_a_budget_is_what_the_spec_states_or_one_pod_at_a_time_of_several(
    fields: Object, limits: Object | None
) -> None:
    built = budget(**fields)
    assert (built is None) == (limits is None)
    if built is not None:
        stated = {key: built["spec"][key] for key in ("maxUnavailable", "minAvailable") if key in built["spec"]}
        assert stated == limits
        assert built["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_each_version_has_a_budget_of_its_own_pods_only() -> None:
    spec = deployment_spec(replicas=2)
    built = {number: build_budget(spec, version(number), **PLACE) for number in (1, 2)}
    assert len({item["metadata"]["name"] for item in built.values() if item}) == 2
    for number, item in built.items():
        assert item is not None
        selector = item["spec"]["selector"]["matchLabels"]
        assert selector == server_selector("cancer", digest_of(number))
        assert selector.items() <= pod_labels(number).items()
        assert not selector.items() <= pod_labels(3 - number).items()
        assert not selector.items() <= pod_labels(number, "other").items()


# -- network policy -------------------------------------------------------------------------------------------------


def test_the_policy_holds_for_the_servers_of_every_version_and_for_no_other_pod() -> None:
    selector = policy()["spec"]["podSelector"]["matchLabels"]
    for number in (1, 2):
        assert selector.items() <= pod_labels(number).items()
    assert not selector.items() <= pod_labels(name="other").items()
    for kind, item in build_all().items():
        if kind in ("Job", "CronJob") and pod_spec(item):
            template = item["spec"].get("jobTemplate", item)["spec"]["template"]
            assert not selector.items() <= template["metadata"]["labels"].items(), kind


def test_the_stated_peers_may_connect_to_the_two_ports_and_nobody_else_to_anything() -> None:
    peers = [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
        {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["shop", "till"]}]}},
        {"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}, "namespaceSelector": {}},
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
    ]
    spec = policy(**{"from": peers})["spec"]
    http, grpc = ({"protocol": "TCP", "port": port} for port in (HTTP_PORT, GRPC_PORT))
    assert spec["ingress"][0] == {"from": [*peers, OWN], "ports": [http, grpc]}
    assert spec["policyTypes"] == ["Ingress"], "egress isn't restricted"


def test_the_operator_may_ask_the_pods_over_http_and_no_other_pod_of_its_namespace() -> None:
    (_, rule) = policy()["spec"]["ingress"]
    (peer,) = rule["from"]
    assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "modelloop-system"}}
    assert rule["ports"] == [{"protocol": "TCP", "port": HTTP_PORT}]
    install = Path(__file__).resolve().parents[3] / "manifests" / "install"
    (operator,) = yaml.safe_load_all((install / "deployment.yaml").read_text())
    assert peer["podSelector"]["matchLabels"].items() <= operator["spec"]["template"]["metadata"]["labels"].items()


def test_pods_of_all_versions_may_ask_each_other() -> None:
    for number in (1, 2):
        assert OWN["podSelector"]["matchLabels"].items() <= pod_labels(number).items()


def test_without_peers_the_pods_of_the_namespace_may_connect_and_with_an_empty_list_only_our_own() -> None:
    assert policy()["spec"]["ingress"][0]["from"] == [{"podSelector": {}}, OWN]
    assert policy(**{"from": []})["spec"]["ingress"][0]["from"] == [OWN], "a rule without peers would let everybody in"
