"""Builds what serves a model: one Deployment per version in play and the public Service."""

from typing import Any

from modelkit.contract.codec import dumps
from modelkit.contract.environment import GRPC_PORT, HTTP_PORT
from modelloop.api.common import Resources, VersionStatus
from modelloop.api.deployment import ModelDeploymentSpec
from modelloop.desired import labels, names
from modelloop.desired.placement import build_placement
from modelloop.desired.runtime import build_runtime_steps
from modelloop.desired.serving import (
    build_probes,
    build_server_config,
    build_spread,
    find_key,
    find_secrets,
    grace_seconds,
)
from modelloop.desired.workload import (
    Main,
    Mounts,
    WorkloadSettings,
    build_pod_spec,
    content_hash,
    store_secrets,
)

KIND = "ModelDeployment"
CONTAINER = "server"
_DEFAULT_RESOURCES = Resources(requests={"cpu": "100m", "memory": "192Mi"}, limits={"memory": "512Mi"})


def server_selector(name: str, digest: str) -> dict[str, str]:
    """Labels that select the pods of one version of a ModelDeployment."""
    return {labels.DEPLOYMENT: name, labels.DIGEST: names.digest_label(digest)}


def build_server(
    spec: ModelDeploymentSpec,
    version: VersionStatus,
    *,
    namespace: str,
    name: str,
    uid: str,
    settings: WorkloadSettings,
    replicas: int | None = None,
) -> dict[str, Any]:
    """The Deployment that serves `version` and never another; with `replicas` pods, or as many as the spec wants."""
    selector = server_selector(name, version.digest)
    object_labels = {**labels.object_labels(KIND, name), **selector}
    pod_spec = _build_pod_spec(spec, version, selector, namespace=namespace, name=name, settings=settings)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": names.server_name(name, version.digest),
            "namespace": namespace,
            "labels": object_labels,
            "annotations": {labels.TEMPLATE_HASH_ANNOTATION: content_hash(pod_spec)},
            "ownerReferences": [labels.owner_reference(KIND, name, uid)],
        },
        "spec": {
            "replicas": spec.wanted_replicas if replicas is None else replicas,
            "revisionHistoryLimit": 1,
            # No pod that serves is taken away before its replacement is Ready.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {
                    "labels": object_labels,
                    "annotations": {
                        "prometheus.io/scrape": "true",
                        "prometheus.io/scheme": _scheme(spec),
                        "prometheus.io/port": str(HTTP_PORT),
                        "prometheus.io/path": "/metrics",
                    },
                },
                "spec": pod_spec,
            },
        },
    }


def _build_pod_spec(
    spec: ModelDeploymentSpec,
    version: VersionStatus,
    selector: dict[str, str],
    *,
    namespace: str,
    name: str,
    settings: WorkloadSettings,
) -> dict[str, Any]:
    main = Main(
        name=CONTAINER,
        image=spec.image or settings.server_image,
        module="modelkit.serve",
        config=dumps(build_server_config(spec, version, namespace=namespace, name=name)),
        resources=spec.resources,
        default_resources=_DEFAULT_RESOURCES,
        ports={"http": HTTP_PORT, "grpc": GRPC_PORT},
        extra=build_probes(spec),
    )
    mounts = Mounts(
        store_claim=names.store_claim(version.storage.uri),
        key=find_key(spec, version),
        secrets=find_secrets(spec),
        # In the pods of every version: a promotion changes no template.
        route=names.route_name(name),
    )
    secrets = store_secrets(version.storage)
    return build_pod_spec(
        main,
        settings,
        mounts,
        secrets,
        before=()
        if spec.runtime is None
        else build_runtime_steps(spec.runtime, name, version.number, main, settings, mounts, secrets),
        terminationGracePeriodSeconds=grace_seconds(spec),
        **build_spread(spec, selector),
        **build_placement(spec),
    )


def build_service(spec: ModelDeploymentSpec, digest: str, *, namespace: str, name: str, uid: str) -> dict[str, Any]:
    """The public Service; its selector names the version with `digest`, so a promotion is one flip."""
    ports = build_ports(spec, http_port=80)
    for port, node_port in zip(ports, (spec.service.node_port, spec.service.grpc_node_port), strict=True):
        if node_port is not None:
            port["nodePort"] = node_port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels.object_labels(KIND, name),
            "ownerReferences": [labels.owner_reference(KIND, name, uid)],
        },
        "spec": {"type": spec.service.type, "selector": server_selector(name, digest), "ports": ports},
    }


def build_ports(spec: ModelDeploymentSpec, *, http_port: int) -> list[dict[str, Any]]:
    """A Service's ports for REST and gRPC. REST without encryption is on `http_port`."""
    encrypted = spec.tls is not None
    http: dict[str, Any] = {"name": "http", "port": http_port, "targetPort": "http", "protocol": "TCP"}
    if encrypted:
        http |= {"name": "https", "port": 443 if http_port == 80 else http_port, "appProtocol": "https"}
    # HTTP/2 without encryption has to be said: nothing in the first bytes of a connection tells of it.
    protocol = "https" if encrypted else "kubernetes.io/h2c"
    grpc = {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "protocol": "TCP", "appProtocol": protocol}
    return [http, grpc]


def _scheme(spec: ModelDeploymentSpec) -> str:
    return "http" if spec.tls is None else "https"


def service_address(spec: ModelDeploymentSpec, *, namespace: str, name: str) -> str:
    """URL of the public Service inside the cluster."""
    return f"{_scheme(spec)}://{name}.{namespace}.svc"
