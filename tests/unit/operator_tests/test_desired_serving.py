"""The pods that serve: what the server is told and given, and where it runs."""

from typing import Any

import pytest

from modelkit.contract.config import AuthConfig, BatchingConfig, CaptureConfig, LimitsConfig, TlsConfig
from modelloop.desired.deployment import build_server, build_service, service_address
from tests.unit.operator_tests.operator_states import SETTINGS, UID, deployment_spec, digest_of
from tests.unit.operator_tests.pod_checks import find_dangling
from tests.unit.operator_tests.serving_pods import config, pod, server, version

Object = dict[str, Any]
HASHED = {"columns": [{"name": "zip", "action": "Hash"}], "hashKey": {"secretName": "capture"}}


def service(**fields: Any) -> Object:
    found: Object = build_service(deployment_spec(**fields), digest_of(2), namespace="team", name="cancer", uid=UID)
    return found["spec"]


def secret_volumes(item: Object) -> dict[str, Object]:
    return {volume["secret"]["secretName"]: volume["secret"] for volume in item["volumes"] if "secret" in volume}


# -- what the server is told ----------------------------------------------------------------------------------------


def test_an_empty_spec_tells_the_server_its_own_defaults() -> None:
    told = config()
    assert told.limits == LimitsConfig()
    assert told.batching == BatchingConfig()
    assert told.capture == CaptureConfig()
    assert (told.tls, told.auth, told.runtime, told.public_key) == (None, None, None, None)


def test_limits_arrive_in_bytes_and_seconds() -> None:
    limits = {
        "maxBodySize": "2Mi", "maxHeaderSize": "8Ki", "maxTextSize": 1000, "maxRows": 5, "maxDepth": 6,
        "maxConcurrent": 7, "maxConnections": 8, "headerTimeout": "1s", "bodyTimeout": "1m30s",
        "inferenceTimeout": "250ms",
    }  # fmt: skip
    assert config(limits=limits).limits == LimitsConfig(
        max_header_bytes=8192,
        max_body_bytes=2 * 1024**2,
        max_rows=5,
        max_depth=6,
        max_text_bytes=1000,
        max_concurrent=7,
        max_connections=8,
        header_seconds=1.0,
        body_seconds=90.0,
        inference_seconds=0.25,
    )
    assert config(batching={"maxRows": 1}).batching == BatchingConfig(max_rows=1)


def test_columns_are_dropped_or_hashed_and_the_key_is_a_file() -> None:
    columns = [
        {"name": "zip", "action": "Hash"},
        {"name": "name", "action": "Drop"},
        {"name": "mail", "action": "Hash"},
    ]
    capture = {"samplePercent": 5, "columns": columns, "hashKey": {"secretName": "capture"}, "retention": "36h"}
    assert config(capture=capture).capture == CaptureConfig(
        sample_percent=5,
        drop=("name",),
        hash=("zip", "mail"),
        key_path="/var/lib/modelloop/capture-key/key",
        retention_seconds=129_600.0,
    )


def test_the_grace_period_is_long_enough_for_the_longest_inference() -> None:
    assert pod()["terminationGracePeriodSeconds"] == 69
    assert pod(limits={"inferenceTimeout": "5m"})["terminationGracePeriodSeconds"] == 339
    assert pod(limits={"inferenceTimeout": "1ms"})["terminationGracePeriodSeconds"] == 40


# -- Secrets --------------------------------------------------------------------------------------------------------


def test_secrets_are_mounted_by_name_and_may_be_missing() -> None:
    built = pod(tls={"secretName": "cert"}, auth={"secretName": "tokens"}, capture=HASHED, verify={"secretName": "sig"})
    volumes = secret_volumes(built)
    assert {name: [item["key"] for item in volume.get("items", [])] for name, volume in volumes.items()} == {
        "cert": ["tls.crt", "tls.key"],
        "tokens": [],
        "capture": ["key"],
        "sig": ["public.pem"],
    }
    assert all(volume["optional"] and volume["defaultMode"] == 0o440 for volume in volumes.values())
    secrets = {volume["name"] for volume in built["volumes"] if "secret" in volume}
    mounts = [mount for mount in built["containers"][0]["volumeMounts"] if mount["name"] in secrets]
    assert len(mounts) == 4
    assert all(mount["readOnly"] for mount in mounts)


def test_one_secret_may_serve_several_ends() -> None:
    same = {"secretName": "all"}
    assert find_dangling(pod(tls=same, auth=same, verify=same, capture={**HASHED, "hashKey": same})) == []


def test_tls_turns_probes_service_and_address_to_https() -> None:
    tls = {"secretName": "cert"}
    assert config(tls=tls).tls == TlsConfig(
        certificate_path="/var/lib/modelloop/tls/tls.crt", key_path="/var/lib/modelloop/tls/tls.key"
    )
    (main,) = pod(tls=tls)["containers"]
    probes = [main[name]["httpGet"] for name in ("readinessProbe", "livenessProbe", "startupProbe")]
    assert {probe["scheme"] for probe in probes} == {"HTTPS"}
    assert server(tls=tls)["spec"]["template"]["metadata"]["annotations"]["prometheus.io/scheme"] == "https"
    assert [(port["name"], port["port"], port["appProtocol"]) for port in service(tls=tls)["ports"]] == [
        ("https", 443, "https"),
        ("grpc", 8081, "https"),
    ]
    assert service_address(deployment_spec(tls=tls), namespace="team", name="x") == "https://x.team.svc"
    assert service_address(deployment_spec(), namespace="team", name="x") == "http://x.team.svc"


def test_tokens_are_a_folder() -> None:
    assert config(auth={"secretName": "tokens"}).auth == AuthConfig(directory="/var/lib/modelloop/tokens")


# -- ports, nodes ---------------------------------------------------------------------------------------------------


def test_rest_and_grpc_have_ports() -> None:
    (main,) = pod()["containers"]
    assert {port["name"]: port["containerPort"] for port in main["ports"]} == {"http": 8080, "grpc": 8081}
    fixed = service(service={"type": "NodePort", "nodePort": 30080, "grpcNodePort": 30081})
    assert fixed["ports"] == [
        {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "nodePort": 30080},
        {
            "name": "grpc",
            "port": 8081,
            "targetPort": "grpc",
            "protocol": "TCP",
            "appProtocol": "kubernetes.io/h2c",
            "nodePort": 30081,
        },
    ]
    assert not any("nodePort" in port for port in service()["ports"])


def test_pods_of_a_version_are_spread_over_nodes_and_zones_as_well_as_may_be() -> None:
    built = server()
    constraints = built["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert [item["topologyKey"] for item in constraints] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    for item in constraints:
        assert (item["maxSkew"], item["whenUnsatisfiable"]) == (1, "ScheduleAnyway")
        assert item["labelSelector"] == built["spec"]["selector"]
        assert item["matchLabelKeys"] == ["pod-template-hash"]


def test_the_spread_can_be_replaced_or_left_to_the_scheduler() -> None:
    strict = {"topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}
    (constraint,) = pod(topologySpreadConstraints=[strict])["topologySpreadConstraints"]
    assert strict.items() <= constraint.items()
    assert "topologySpreadConstraints" not in pod(topologySpreadConstraints=[])


def test_pods_go_where_the_spec_says() -> None:
    placement = {
        "nodeSelector": {"gpu": "yes"},
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }
    assert placement.items() <= pod(**placement).items()
    assert not placement.keys() & pod().keys()


def test_what_is_built_shares_nothing_with_the_spec() -> None:
    spec = deployment_spec(nodeSelector={"gpu": "yes"}, affinity={"podAntiAffinity": {}})
    place: Object = {"namespace": "team", "name": "cancer", "uid": UID, "settings": SETTINGS}
    first = build_server(spec, version(), **place)["spec"]["template"]["spec"]
    first["nodeSelector"]["gpu"] = first["affinity"]["podAntiAffinity"]["x"] = "no"
    second = build_server(spec, version(), **place)["spec"]["template"]["spec"]
    assert (second["nodeSelector"], second["affinity"]) == ({"gpu": "yes"}, {"podAntiAffinity": {}})


@pytest.mark.parametrize(
    ("replicas", "autoscaling", "pods"),
    [
        (1, None, 1),
        (1, {"minReplicas": 3, "maxReplicas": 9}, 3),
        (5, {"minReplicas": 3, "maxReplicas": 9}, 5),
        (12, {"minReplicas": 3, "maxReplicas": 9}, 12),
        (0, {"minReplicas": 3, "maxReplicas": 9}, 0),
    ],
)
def test_there_are_no_fewer_pods_than_the_autoscaler_would_leave(
    replicas: int, autoscaling: Object | None, pods: int
) -> None:
    fields = {} if autoscaling is None else {"autoscaling": autoscaling}
    assert server(replicas=replicas, **fields)["spec"]["replicas"] == pods
