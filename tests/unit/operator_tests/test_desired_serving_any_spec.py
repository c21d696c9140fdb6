"""The pods that serve, whatever valid spec they come from: admitted, the same each time, told and given enough."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.environment import CONFIG
from modelloop.api.common import Storage
from tests.unit.operator_tests.pod_checks import find_dangling, find_violations
from tests.unit.operator_tests.serving_pods import config, pod, server, version

Object = dict[str, Any]
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
