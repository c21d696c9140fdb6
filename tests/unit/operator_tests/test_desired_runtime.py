"""The pods in which another model server answers: what is fetched for it, what it sees, when it is ready."""

import re
from typing import Any

import pytest

from modelkit.contract.config import RuntimeConfig
from modelkit.contract.environment import CONFIG, RUNTIME_MODEL
from tests.unit.operator_tests.serving_pods import config, pod

Object = dict[str, Any]
RUNTIME = {"image": "example/triton:1", "port": 8000}


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
