"""Builds the containers of a pod in which another model server answers: the one that fetches the version, and it.

The runtime is a native sidecar: it starts after the version is there, before our server, and ends after it, so that
what the server still has to answer while it drains finds its runtime.
"""

import math
from dataclasses import replace
from typing import Any

from modelkit.contract.environment import RUNTIME_MODEL
from modelkit.contract.files import RUNTIME_MODELS
from modelloop.api.common import parse_duration
from modelloop.api.runtime import FETCH_CONTAINER, RUNTIME_CONTAINER, Runtime
from modelloop.desired.users import build_users_container
from modelloop.desired.workload import Main, Mount, Mounts, Secrets, WorkloadSettings, build_container

_MODELS = Mount(name="models", path=RUNTIME_MODELS)
_PERIOD = 5
"""Seconds between probes."""


def build_runtime_steps(
    runtime: Runtime, name: str, number: int, server: Main, settings: WorkloadSettings, mounts: Mounts, secrets: Secrets
) -> tuple[dict[str, Any], ...]:
    """The init containers: the first verifies the version and lays it out, the second serves it as long as the pod is.

    `name` is the ModelDeployment's, `number` the version's, `server` the container that asks the runtime.
    """
    step = replace(server, name=FETCH_CONTAINER, module="modelkit.serve.runtime.fetch", ports={}, extra={})
    # It needs the key that the version is signed with, and none of the Secrets that are about clients.
    fetch, _ = build_container(step, settings, replace(mounts, secrets=(), route=None, others=(_MODELS,)), secrets)
    return fetch, _build_runtime(runtime, name, number, settings)


def _build_runtime(runtime: Runtime, name: str, number: int, settings: WorkloadSettings) -> dict[str, Any]:
    folder = f"{runtime.mount_path}/{runtime.model_name or name}/{number}"
    container = build_users_container(
        RUNTIME_CONTAINER,
        runtime,
        settings,
        variables={RUNTIME_MODEL: folder},
        mounts=(replace(_MODELS, path=runtime.mount_path, read_only=True),),
    )
    check = _build_check(runtime, name)
    tries = math.ceil(parse_duration(runtime.startup_timeout).total_seconds() / _PERIOD)
    return container | {
        "restartPolicy": "Always",
        # Not the log's end, as elsewhere: model servers log what they are asked, and the message is copied into status.
        "terminationMessagePolicy": "File",
        "ports": [{"name": "runtime", "containerPort": runtime.port, "protocol": "TCP"}],
        "startupProbe": {**check, "periodSeconds": _PERIOD, "failureThreshold": tries, "timeoutSeconds": 2},
        # No liveness probe: one that is busy must not be ended for it, and one that ends is started again anyway.
        "readinessProbe": {**check, "periodSeconds": _PERIOD, "failureThreshold": 3, "timeoutSeconds": 2},
    }


def _build_check(runtime: Runtime, name: str) -> dict[str, Any]:
    path = runtime.readiness_path
    if path is None and runtime.protocol == "V2":
        path = "/v2/health/ready"
    elif path is None and runtime.protocol == "V1":
        path = f"/v1/models/{runtime.model_name or name}"
    if path is None:
        return {"tcpSocket": {"port": "runtime"}}
    return {"httpGet": {"path": path, "port": "runtime"}}
