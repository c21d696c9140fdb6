"""Builds the NetworkPolicy of a ModelDeployment."""

from typing import Any

from modelkit.contract.environment import GRPC_PORT, HTTP_PORT
from modelloop.api.deployment import ModelDeploymentSpec
from modelloop.desired import labels
from modelloop.desired.deployment import KIND


def build_network_policy(spec: ModelDeploymentSpec, *, namespace: str, name: str, uid: str) -> dict[str, Any] | None:
    """The policy that `spec.networkPolicy` asks for, None when it doesn't.

    It holds for the pods of every version. The stated peers may connect to the ports for HTTP and gRPC, nobody to any
    other; where the pods connect to isn't restricted: stores have addresses that no policy can name. Probes come from
    the pod's own node, which network plugins let through.
    """
    access = spec.network_policy
    if access is None:
        return None
    peers = [peer.model_dump(mode="json", by_alias=True, exclude_defaults=True) for peer in access.peers]
    ports = [{"protocol": "TCP", "port": port} for port in (HTTP_PORT, GRPC_PORT)]
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
            # A rule with no peer at all would let everybody in.
            "ingress": [{"from": peers, "ports": ports}] if peers else [],
        },
    }
