"""Builds the NetworkPolicy of a ModelDeployment."""

from typing import Any

from modelkit.contract.environment import GRPC_PORT, HTTP_PORT
from modelloop.api.deployment import ModelDeploymentSpec
from modelloop.desired import labels
from modelloop.desired.deployment import KIND

OPERATOR_LABELS = {"app.kubernetes.io/name": "modelloop", "app.kubernetes.io/component": "operator"}
"""Of the operator's own pod, as manifests/install makes it."""


def build_network_policy(
    spec: ModelDeploymentSpec, *, namespace: str, name: str, uid: str, operator_namespace: str
) -> dict[str, Any] | None:
    """The policy that `spec.networkPolicy` asks for, None when it doesn't.

    It holds for the pods of every version. The stated peers may connect to the ports for HTTP and gRPC, nobody to any
    other. So may the pods themselves, which ask each other while a version is tried, and the operator over HTTP, which
    asks how it does. Where the pods connect to isn't restricted: stores have addresses that no policy can name. Probes
    come from the pod's own node, which network plugins let through.
    """
    access = spec.network_policy
    if access is None:
        return None
    peers = [peer.model_dump(mode="json", by_alias=True, exclude_defaults=True) for peer in access.peers]
    own = {"podSelector": {"matchLabels": {labels.DEPLOYMENT: name}}}
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": operator_namespace}},
        "podSelector": {"matchLabels": dict(OPERATOR_LABELS)},
    }
    http, grpc = ({"protocol": "TCP", "port": port} for port in (HTTP_PORT, GRPC_PORT))
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels.object_labels(KIND, name),
            "ownerReferences": [labels.owner_reference(KIND, name, uid)],
        },
        "spec": {
            "podSelector": {"matchLabels": {labels.DEPLOYMENT: name}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [*peers, own], "ports": [http, grpc]}, {"from": [operator], "ports": [dict(http)]}],
        },
    }
