"""Builds what serves a model: one Deployment per version in play and the public Service."""

from typing import Any

from modelkit.contract.codec import dumps
from modelkit.contract.config import CaptureConfig, ServerConfig, StoreConfig, VersionRef
from modelkit.contract.environment import HTTP_PORT
from modelloop.api.common import Resources, VersionStatus
from modelloop.api.deployment import ModelDeploymentSpec
from modelloop.desired import labels, names
from modelloop.desired.workload import (
    PUBLIC_KEY,
    KeyFile,
    Main,
    Mounts,
    WorkloadSettings,
    build_pod_spec,
    content_hash,
    store_secrets,
    store_uri,
)

KIND = "ModelDeployment"
CONTAINER = "server"
DRAIN_SECONDS = 5
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
) -> dict[str, Any]:
    """The Deployment that serves `version` and never another."""
    key = spec.verify.secret_name if spec.verify is not None else version.signing_secret
    config = ServerConfig(
        namespace=namespace,
        deployment=name,
        version=VersionRef(number=version.number, path=version.path, digest=version.digest),
        store=StoreConfig(uri=store_uri(version.storage)),
        capture=CaptureConfig(sample_percent=spec.capture.sample_percent),
        drain_seconds=DRAIN_SECONDS,
        public_key=None if key is None else PUBLIC_KEY,
    )
    selector = server_selector(name, version.digest)
    object_labels = {**labels.object_labels(KIND, name), **selector}
    main = Main(
        name=CONTAINER,
        image=spec.image or settings.server_image,
        module="modelkit.serve",
        config=dumps(config),
        resources=spec.resources,
        default_resources=_DEFAULT_RESOURCES,
        ports={"http": HTTP_PORT},
        extra={
            "readinessProbe": _probe("/v2/health/ready", period=2, failures=3),
            "livenessProbe": _probe("/v2/health/live", period=10, failures=6),
            "startupProbe": _probe("/v2/health/live", period=1, failures=120),
        },
    )
    mounts = Mounts(
        store_claim=names.store_claim(version.storage.uri),
        key=None if key is None else KeyFile(secret=key, path=PUBLIC_KEY),
    )
    pod_spec = build_pod_spec(
        main,
        settings,
        mounts,
        store_secrets(version.storage),
        # The longest inference and the last captures too.
        terminationGracePeriodSeconds=DRAIN_SECONDS + 55,
    )
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
            "replicas": spec.replicas,
            "revisionHistoryLimit": 1,
            # No pod that serves is taken away before its replacement is Ready.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {
                    "labels": object_labels,
                    "annotations": {
                        "prometheus.io/scrape": "true",
                        "prometheus.io/port": str(HTTP_PORT),
                        "prometheus.io/path": "/metrics",
                    },
                },
                "spec": pod_spec,
            },
        },
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
    }


def build_service(spec: ModelDeploymentSpec, digest: str, *, namespace: str, name: str, uid: str) -> dict[str, Any]:
    """The public Service; its selector names the version with `digest`, so a promotion is one flip."""
    port: dict[str, Any] = {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}
    if spec.service.node_port is not None:
        port["nodePort"] = spec.service.node_port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels.object_labels(KIND, name),
            "ownerReferences": [labels.owner_reference(KIND, name, uid)],
        },
        "spec": {"type": spec.service.type, "selector": server_selector(name, digest), "ports": [port]},
    }


def service_address(namespace: str, name: str) -> str:
    """URL of the public Service inside the cluster."""
    return f"http://{name}.{namespace}.svc"
