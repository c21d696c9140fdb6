"""Builds the PodDisruptionBudgets of a ModelDeployment: what a drain of nodes may take at a time."""

from typing import Any

from modelloop.api.common import VersionStatus
from modelloop.api.deployment import ModelDeploymentSpec
from modelloop.api.serving import DisruptionBudget
from modelloop.desired import labels, names
from modelloop.desired.deployment import KIND, server_selector


def _find_budget(spec: ModelDeploymentSpec) -> DisruptionBudget | None:
    """The budget that the spec states, or one pod at a time where there may be several; None for no budget.

    A single pod gets none by itself: one that forbade its eviction would block the drain of its node for ever, and one
    that allowed it would say nothing.
    """
    if spec.disruption_budget is not None:
        return spec.disruption_budget
    most = spec.replicas if spec.autoscaling is None else max(spec.replicas, spec.autoscaling.max_replicas)
    return DisruptionBudget(max_unavailable=1) if most > 1 else None


def build_budget(
    spec: ModelDeploymentSpec, version: VersionStatus, *, namespace: str, name: str, uid: str
) -> dict[str, Any] | None:
    """The budget of the pods of one version, None when there is to be none. It has the name of the version's server.

    Every version in play has its own. One budget for all of them would count a candidate's Ready pods as a reason to
    evict those that serve, and a candidate's broken pods as a reason to block a drain; one that followed the Service
    would leave pods that serve without any while it turns.
    """
    budget = _find_budget(spec)
    if budget is None:
        return None
    selector = server_selector(name, version.digest)
    limits = {"maxUnavailable": budget.max_unavailable, "minAvailable": budget.min_available}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": names.server_name(name, version.digest),
            "namespace": namespace,
            "labels": {**labels.object_labels(KIND, name), **selector},
            "ownerReferences": [labels.owner_reference(KIND, name, uid)],
        },
        "spec": {
            "selector": {"matchLabels": selector},
            **{key: value for key, value in limits.items() if value is not None},
            # A pod that isn't Ready serves nobody: a drain need not wait until it does.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
