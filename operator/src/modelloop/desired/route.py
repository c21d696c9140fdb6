"""Builds how the pods of a ModelDeployment share its traffic: a Service for each version, and the route.

The route names pods of other versions by the address of their Service, which the API server gives it: a name would
have to be looked up for a connection, and a version whose address isn't known yet gets no traffic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from modelkit.contract.codec import dumps, to_plain
from modelkit.contract.environment import GRPC_PORT, HTTP_PORT
from modelkit.contract.route import ROUTE_FILE, PeerConfig, RouteConfig, RuleConfig
from modelloop.api.common import parse_duration
from modelloop.api.deployment import ModelDeploymentSpec
from modelloop.api.rollout import Sticky
from modelloop.desired import labels, names
from modelloop.desired.deployment import KIND, build_ports, server_selector
from modelloop.desired.workload import content_hash


def build_version_service(
    spec: ModelDeploymentSpec, digest: str, *, namespace: str, name: str, uid: str
) -> dict[str, Any]:
    """The Service of the pods of one version, which the other versions' pods ask. It has the name of their server."""
    selector = server_selector(name, digest)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": names.server_name(name, digest),
            "namespace": namespace,
            "labels": {**labels.object_labels(KIND, name), **selector},
            "ownerReferences": [labels.owner_reference(KIND, name, uid)],
        },
        # Only pods that are Ready are ever asked: publishNotReadyAddresses is left out, as the API server leaves it out
        # of what it stores when it isn't set.
        "spec": {"type": "ClusterIP", "selector": selector, "ports": build_ports(spec, http_port=HTTP_PORT)},
    }


def build_peer(number: int, address: str) -> PeerConfig:
    """The pods of version `number` behind the IP `address` of their Service."""
    return PeerConfig(number=number, http=host_port(address, HTTP_PORT), grpc=host_port(address, GRPC_PORT))


def host_port(address: str, port: int) -> str:
    """`<host>:<port>` of an IP address; IPv6 in brackets (RFC 3986, section 3.2.2)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def build_rule(
    spec: ModelDeploymentSpec, other: str, *, weight: float, compare: float, is_guarded: bool, is_leaving: bool = False
) -> RuleConfig:
    """What pods do with requests: shares in percent, and what the spec says of how `other` is asked."""
    # Where all requests go the same way there is nothing to keep, and no column that a version could lack.
    sticky = (spec.rollout.sticky if 0 < weight < 100 else None) or Sticky()
    return RuleConfig(
        other=other,
        weight=weight,
        compare=compare,
        is_guarded=is_guarded,
        is_leaving=is_leaving,
        timeout_seconds=parse_duration(spec.rollout.candidate_timeout).total_seconds(),
        sticky_header=None if sticky.header is None else sticky.header.lower(),
        sticky_column=sticky.column,
    )


def build_route(
    measurement: str,
    wanted: Mapping[str, RuleConfig],
    peers: Mapping[str, PeerConfig],
    pods: Mapping[str, Sequence[str]],
) -> RouteConfig:
    """What the pods are told, all by digest: the rules that are wanted, and addresses.

    `peers` are the versions whose Service has an address; a rule for another one is left out. `pods` are the IP
    addresses of the Ready pods.
    """
    rules = {digest: rule for digest, rule in sorted(wanted.items()) if rule.other in peers}
    comparing = (digest for digest, rule in rules.items() if rule.compare > 0)
    addresses = {host_port(address, HTTP_PORT) for digest in comparing for address in pods.get(digest, ())}
    others = sorted({rule.other for rule in rules.values()})
    route = RouteConfig(
        revision="",
        measurement=measurement,
        peers={digest: peers[digest] for digest in others},
        rules=rules,
        labels=tuple(sorted(addresses)),
    )
    return replace(route, revision=content_hash(to_plain(route)))


def build_route_map(route: RouteConfig, *, namespace: str, name: str, uid: str) -> dict[str, Any]:
    """The ConfigMap that the pods of every version mount."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.route_name(name),
            "namespace": namespace,
            "labels": labels.object_labels(KIND, name),
            "annotations": {labels.ROUTE_REVISION_ANNOTATION: route.revision},
            "ownerReferences": [labels.owner_reference(KIND, name, uid)],
        },
        "data": {ROUTE_FILE: dumps(route)},
    }
