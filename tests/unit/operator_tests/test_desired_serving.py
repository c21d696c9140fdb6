"""The pods that serve: what the server is told and given, whatever valid spec they come from."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.codec import loads
from modelkit.contract.config import (
    AuthConfig,
    BatchingConfig,
    CaptureConfig,
    LimitsConfig,
    RuntimeConfig,
    ServerConfig,
    TlsConfig,
)
from modelkit.contract.environment import CONFIG, RUNTIME_MODEL
from modelloop.api.common import Storage, VersionStatus
from modelloop.desired.deployment import build_server, build_service, service_address
from tests.unit.operator_tests.operator_states import SETTINGS, UID, deployment_spec, digest_of
from tests.unit.operator_tests.pod_checks import find_dangling, find_violations, pod_spec

Object = dict[str, Any]
RUNTIME = {"image": "example/triton:1", "port": 8000}
HASHED = {"columns": [{"name": "zip", "action": "Hash"}], "hashKey": {"secretName": "capture"}}


def version(**fields: Any) -> VersionStatus:
    return VersionStatus(number=2, path="models/team/x/2-y", digest=digest_of(2), **fields)


def server(*, of: VersionStatus | None = None, **fields: Any) -> Object:
    """The Deployment of a spec with `fields`."""
    spec = deployment_spec(**fields)
    return build_server(spec, of or version(), namespace="team", name="cancer", uid=UID, settings=SETTINGS)


def pod(**fields: Any) -> Object:
    found = pod_spec(server(**fields))
    assert found is not None
    return found


def config_of(container: Object) -> ServerConfig:
    text = next(entry["value"] for entry in container["env"] if entry["name"] == CONFIG)
    return loads(ServerConfig, text)


def config(**fields: Any) -> ServerConfig:
    return config_of(pod(**fields)["containers"][0])


def service(**fields: Any) -> Object:
    found: Object = build_service(deployment_spec(**fields), digest_of(2), namespace="team", name="cancer", uid=UID)
    return found["spec"]


def secret_volumes(item: Object) -> dict[str, Object]:
    return {volume["secret"]["secretName"]: volume["secret"] for volume in item["volumes"] if "secret" in volume}


# -- whatever the spec ----------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "keys", "churn-tls"])
SECRETS = st.fixed_dictionaries({"secretName": NAMES})
TIMES = st.sampled_from(["1ms", "100ms", "1s", "90s", "1h"])
SIZES = st.sampled_from(["1Ki", "16Ki", "1M", "1.5Mi", 2048])
COUNTS = st.integers(4, 1000)
VARIABLES = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["A", "HOME", "TMPDIR"]), "value": st.text(max_size=5)}),
    unique_by=lambda entry: str(entry["name"]),
    max_size=3,
)
WORDS = st.lists(st.text(max_size=8), max_size=3)
RUNTIMES = st.fixed_dictionaries(
    {"image": st.just("example/triton:1"), "port": st.sampled_from([80, 8000, 65535])},
    optional={
        "protocol": st.sampled_from(["V2", "V1", "Raw"]),
        "command": WORDS,
        "args": WORDS,
        "env": VARIABLES,
        "secretRef": st.fixed_dictionaries({"name": NAMES}),
        "modelName": st.sampled_from(["churn", "team/churn_v2"]),
        "mountPath": st.sampled_from(["/models", "/var/lib/modelloop/models", "/opt/a/b"]),
        "readinessPath": st.just("/health"),
        "startupTimeout": st.sampled_from(["1s", "7s", "24h"]),
        "resources": st.just({"limits": {"nvidia.com/gpu": 1}}),
    },
)
CAPTURES = st.fixed_dictionaries(
    {"hashKey": SECRETS},
    optional={
        "samplePercent": st.integers(0, 100),
        "columns": st.lists(
            st.fixed_dictionaries(
                {"name": st.text(min_size=1, max_size=9), "action": st.sampled_from(["Drop", "Hash"])}
            ),
            max_size=4,
            unique_by=lambda column: column["name"],
        ),
        "retention": st.sampled_from(["1m", "720h"]),
    },
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "limits": st.fixed_dictionaries(
            {},
            optional={
                **dict.fromkeys(("maxBodySize", "maxHeaderSize", "maxTextSize"), SIZES),
                **dict.fromkeys(("headerTimeout", "bodyTimeout", "inferenceTimeout"), TIMES),
                **dict.fromkeys(("maxRows", "maxDepth", "maxConcurrent", "maxConnections"), COUNTS),
            },
        ),
        "batching": st.fixed_dictionaries({"maxRows": COUNTS}),
        "capture": CAPTURES,
        "tls": SECRETS,
        "auth": SECRETS,
        "verify": SECRETS,
        "runtime": RUNTIMES,
        "topologySpreadConstraints": st.lists(
            st.fixed_dictionaries({"topologyKey": st.sampled_from(["zone", "rack"]), "maxSkew": COUNTS}), max_size=1
        ),
        "nodeSelector": st.dictionaries(NAMES, NAMES, max_size=2),
        "tolerations": st.lists(st.just({"operator": "Exists"}), max_size=1),
        "priorityClassName": NAMES,
        "runtimeClassName": NAMES,
        "image": st.just("example/server:1"),
    },
)
STORAGES = st.sampled_from([Storage(), Storage.model_validate({"uri": "s3://models/x", "secretRef": {"name": "s3"}})])
UNRELATED: list[Object] = [
    {"replicas": 7},
    {"service": {"type": "NodePort", "nodePort": 30080, "grpcNodePort": 30081}},
    {"autoscaling": {"maxReplicas": 9, "concurrency": 3}},
    {"disruptionBudget": {"minAvailable": "50%"}},
    {"networkPolicy": {"from": []}},
    {"rollout": {"bakeTime": "1h", "progressDeadline": "1h"}},
]


@given(fields=SPECS, storage=STORAGES)
def test_any_spec_gives_a_pod_that_the_restricted_standard_admits(fields: Object, storage: Storage) -> None:
    built = pod(of=version(storage=storage), **fields)
    assert find_violations(built) == []
    assert find_dangling(built) == []
    containers = built["containers"] + built.get("initContainers", [])
    assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in containers)
    assert built["automountServiceAccountToken"] is False


@given(fields=SPECS)
def test_the_same_spec_gives_the_same_bytes(fields: Object) -> None:
    text = json.dumps(server(**fields))
    assert json.dumps(server(**json.loads(json.dumps(fields)))) == text


@given(fields=SPECS, unrelated=st.sampled_from(UNRELATED))
def test_what_isnt_about_the_pods_leaves_their_template_alone(fields: Object, unrelated: Object) -> None:
    def template(item: Object) -> Object:
        hashed: Object = item["metadata"]["annotations"]
        return hashed | item["spec"]["template"]

    assert template(server(**fields | unrelated)) == template(server(**fields))


@given(fields=SPECS)
def test_every_container_of_ours_is_told_the_same(fields: Object) -> None:
    built = pod(**fields)
    told = [
        entry["value"]
        for container in built.get("initContainers", []) + built["containers"]
        for entry in container["env"]
        if entry["name"] == CONFIG
    ]
    assert len(set(told)) == 1
    assert len(told) == (2 if "runtime" in fields else 1)


@given(fields=SPECS)
def test_what_the_server_is_told_to_read_is_mounted(fields: Object) -> None:
    built = pod(**fields)
    main, told = built["containers"][0], config(**fields)
    mounts = [mount["mountPath"] for mount in main["volumeMounts"]]
    read = [told.public_key, told.capture.key_path]
    read += [] if told.tls is None else [told.tls.certificate_path, told.tls.key_path]
    read += [] if told.auth is None else [f"{told.auth.directory}/any"]
    for path in filter(None, read):
        assert sum(path.startswith(f"{mount}/") for mount in mounts) == 1, path


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
    assert pod()["terminationGracePeriodSeconds"] == 60
    assert pod(limits={"inferenceTimeout": "5m"})["terminationGracePeriodSeconds"] == 330
    assert pod(limits={"inferenceTimeout": "1ms"})["terminationGracePeriodSeconds"] == 31


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
    secrets = [mount for mount in built["containers"][0]["volumeMounts"] if mount.get("readOnly")]
    assert len(secrets) == 4


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


# -- another runtime ------------------------------------------------------------------------------------------------


def test_a_runtime_starts_after_the_version_is_there_and_ends_after_the_server() -> None:
    built = pod(runtime=RUNTIME)
    fetch, runtime = built["initContainers"]
    (main,) = built["containers"]
    assert (fetch["name"], runtime["name"], main["name"]) == ("fetch", "runtime", "server")
    assert fetch["args"] == ["-m", "modelkit.serve.runtime.fetch"]
    assert fetch["image"] == main["image"]
    assert "restartPolicy" not in fetch
    assert runtime["restartPolicy"] == "Always", "a native sidecar: ended when the main container has ended"
    assert "readinessProbe" not in fetch
    assert "ports" not in fetch


def test_the_runtime_sees_the_verified_version_read_only_and_no_store_and_no_secret() -> None:
    fields: Object = {"tls": {"secretName": "cert"}, "auth": {"secretName": "tokens"}, "verify": {"secretName": "sig"}}
    built = pod(runtime=RUNTIME | {"mountPath": "/models"}, **fields)
    fetch, runtime = built["initContainers"]
    assert {mount["name"] for mount in runtime["volumeMounts"]} == {"models", "runtime-scratch"}
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in runtime["volumeMounts"]
    (told,) = [entry["value"] for entry in runtime["env"] if entry["name"] == RUNTIME_MODEL]
    assert re.fullmatch(r"/models/[a-z-]+/[0-9]+", told), "where it is, for a command with $(MODELLOOP_MODEL) in it"
    assert not any(entry["name"] == CONFIG for entry in runtime["env"])
    assert "envFrom" not in runtime
    assert {mount["name"] for mount in fetch["volumeMounts"]} == {"work", "store", "key", "models"}
    models = next(mount for mount in fetch["volumeMounts"] if mount["name"] == "models")
    assert models == {"name": "models", "mountPath": "/var/lib/modelloop/models"}
    assert {"name": "models", "emptyDir": {}} in built["volumes"]
    (main,) = built["containers"]
    assert not {"models", "runtime-scratch"} & {mount["name"] for mount in main["volumeMounts"]}


def test_the_server_is_told_where_the_runtime_answers() -> None:
    told = config(runtime=RUNTIME | {"protocol": "V1"}, limits={"inferenceTimeout": "2m"}).runtime
    assert told == RuntimeConfig(
        address="http://127.0.0.1:8000", protocol="V1", model_name="cancer", timeout_seconds=120.0
    )
    named = config(runtime=RUNTIME | {"modelName": "churn"}).runtime
    assert named is not None
    assert (named.model_name, named.protocol) == ("churn", "V2")


@pytest.mark.parametrize(
    ("fields", "check"),
    [
        ({}, {"httpGet": {"path": "/v2/health/ready", "port": "runtime"}}),
        ({"protocol": "V1"}, {"httpGet": {"path": "/v1/models/cancer", "port": "runtime"}}),
        ({"protocol": "V1", "modelName": "a"}, {"httpGet": {"path": "/v1/models/a", "port": "runtime"}}),
        ({"protocol": "Raw"}, {"tcpSocket": {"port": "runtime"}}),
        ({"protocol": "Raw", "readinessPath": "/health"}, {"httpGet": {"path": "/health", "port": "runtime"}}),
    ],
)
def test_a_runtime_is_ready_when_its_protocol_says_so(fields: Object, check: Object) -> None:
    _, runtime = pod(runtime=RUNTIME | fields)["initContainers"]
    assert check.items() <= runtime["readinessProbe"].items()
    assert check.items() <= runtime["startupProbe"].items()


@pytest.mark.parametrize(("time", "tries"), [("10m", 120), ("1s", 1), ("7s", 2), ("24h", 17_280)])
def test_a_runtime_may_take_its_time_to_start(time: str, tries: int) -> None:
    _, runtime = pod(runtime=RUNTIME | {"startupTimeout": time})["initContainers"]
    probe = runtime["startupProbe"]
    assert (probe["periodSeconds"], probe["failureThreshold"]) == (5, tries)


def test_a_runtime_is_run_as_the_spec_says() -> None:
    fields = {
        "command": ["tritonserver"],
        "args": ["--model-repository=/models"],
        "env": [{"name": "LEVEL", "value": "1"}, {"name": "HOME", "value": "/opt"}],
        "secretRef": {"name": "hub"},
        "resources": {"limits": {"memory": "8Gi", "nvidia.com/gpu": 1}},
    }
    _, runtime = pod(runtime=RUNTIME | fields)["initContainers"]
    assert (runtime["command"], runtime["args"]) == (fields["command"], fields["args"])
    assert {"name": "HOME", "value": "/opt"} in runtime["env"], "what the user says goes before what we would"
    assert runtime["envFrom"] == [{"secretRef": {"name": "hub"}}]
    assert runtime["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": "1"}
    assert runtime["ports"] == [{"name": "runtime", "containerPort": 8000, "protocol": "TCP"}]
