"""Builds the HorizontalPodAutoscaler of a ModelDeployment."""

from typing import Any

from modelkit.contract.environment import IN_FLIGHT_METRIC
from modelloop.api.common import API_VERSION, parse_duration
from modelloop.api.deployment import ModelDeploymentSpec
from modelloop.api.serving import Autoscaling
from modelloop.desired import labels
from modelloop.desired.deployment import KIND

_DEFAULT_CPU_UTILIZATION = 80
"""Percent, when the spec names no metric; as the API server's own default for an autoscaler without metrics."""


def build_autoscaler(spec: ModelDeploymentSpec, *, namespace: str, name: str, uid: str) -> dict[str, Any] | None:
    """The autoscaler that `spec.autoscaling` asks for, None when it doesn't.

    It scales the ModelDeployment by its scale subresource, never a Deployment: during a rollout it sees the pods that
    serve, and all versions in play get the count that it wants.
    """
    scaling = spec.autoscaling
    if scaling is None:
        return None
    seconds = int(parse_duration(scaling.scale_down_stabilization).total_seconds())
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels.object_labels(KIND, name),
            "ownerReferences": [labels.owner_reference(KIND, name, uid)],
        },
        "spec": {
            "scaleTargetRef": {"apiVersion": API_VERSION, "kind": KIND, "name": name},
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": _metrics(scaling),
            # Up at once, as the default is: requests that wait are worth more than a pod that wasn't needed.
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": seconds}},
        },
    }


def _metrics(scaling: Autoscaling) -> list[dict[str, Any]]:
    metrics = []
    cpu = scaling.cpu_utilization
    if cpu is None and scaling.concurrency is None:
        cpu = _DEFAULT_CPU_UTILIZATION
    if cpu is not None:
        target = {"type": "Utilization", "averageUtilization": cpu}
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": target}})
    if scaling.concurrency is not None:
        pods = {
            "metric": {"name": IN_FLIGHT_METRIC},
            "target": {"type": "AverageValue", "averageValue": str(scaling.concurrency)},
        }
        metrics.append({"type": "Pods", "pods": pods})
    return metrics
