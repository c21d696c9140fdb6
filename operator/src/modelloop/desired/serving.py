"""Builds what a server is told and given: its configuration, its Secrets as files, its probes, its spread."""

import math
from typing import Any

from modelkit.contract.config import (
    AuthConfig,
    BatchingConfig,
    CaptureConfig,
    LimitsConfig,
    RuntimeConfig,
    ServerConfig,
    StoreConfig,
    TlsConfig,
    VersionRef,
)
from modelkit.contract.files import CAPTURE_KEY, TLS_MOUNT, TOKENS_MOUNT
from modelloop.api.common import VersionStatus, parse_duration
from modelloop.api.deployment import ModelDeploymentSpec
from modelloop.api.serving import Capture, Limits
from modelloop.desired.workload import PUBLIC_KEY, KeyFile, SecretFolder, parse_quantity, store_uri

_DRAIN_SECONDS = 5
_GRPC_AGE_SECONDS = 7
"""With gRPC's spread less than bake.MIN_BAKE: when a version that was taken back goes, nobody is connected to its pods
any more. A TLS handshake so often costs nothing that one would notice."""
_GRPC_LEAVE_SECONDS = 9
"""Until clients of gRPC have gone: the age, gRPC's spread of it and a second without calls."""
_FLUSH_SECONDS = 25
"""For the last captures, after the last answer."""
_CERTIFICATE, _PRIVATE_KEY = "tls.crt", "tls.key"
_POD_TEMPLATE_HASH = "pod-template-hash"
"""The Deployment controller's label: pods of an older template don't count in the spread of the newer one's."""


def build_server_config(
    spec: ModelDeploymentSpec, version: VersionStatus, *, namespace: str, name: str
) -> ServerConfig:
    """What the server of one version is told."""
    limits = _build_limits(spec.limits)
    return ServerConfig(
        namespace=namespace,
        deployment=name,
        version=VersionRef(number=version.number, path=version.path, digest=version.digest),
        store=StoreConfig(uri=store_uri(version.storage)),
        capture=_build_capture(spec.capture),
        limits=limits,
        batching=BatchingConfig(max_rows=spec.batching.max_rows),
        drain_seconds=_DRAIN_SECONDS,
        grpc_age_seconds=_GRPC_AGE_SECONDS,
        public_key=None if find_key(spec, version) is None else PUBLIC_KEY,
        tls=None
        if spec.tls is None
        else TlsConfig(certificate_path=f"{TLS_MOUNT}/{_CERTIFICATE}", key_path=f"{TLS_MOUNT}/{_PRIVATE_KEY}"),
        auth=None if spec.auth is None else AuthConfig(directory=TOKENS_MOUNT),
        runtime=_build_runtime(spec, name, limits.inference_seconds),
    )


def _build_limits(limits: Limits) -> LimitsConfig:
    """Sizes in bytes, times in seconds."""
    return LimitsConfig(
        max_header_bytes=_bytes(limits.max_header_size),
        max_body_bytes=_bytes(limits.max_body_size),
        max_rows=limits.max_rows,
        max_depth=limits.max_depth,
        max_text_bytes=_bytes(limits.max_text_size),
        max_concurrent=limits.max_concurrent,
        max_connections=limits.max_connections,
        header_seconds=_seconds(limits.header_timeout),
        body_seconds=_seconds(limits.body_timeout),
        inference_seconds=_seconds(limits.inference_timeout),
    )


def _build_capture(capture: Capture) -> CaptureConfig:
    by_action = {
        action: tuple(column.name for column in capture.columns if column.action == action)
        for action in ("Drop", "Hash")
    }
    return CaptureConfig(
        sample_percent=capture.sample_percent,
        drop=by_action["Drop"],
        hash=by_action["Hash"],
        key_path=CAPTURE_KEY if capture.hash_key is not None else None,
        retention_seconds=None if capture.retention is None else _seconds(capture.retention),
    )


def _build_runtime(spec: ModelDeploymentSpec, name: str, timeout_seconds: float) -> RuntimeConfig | None:
    runtime = spec.runtime
    if runtime is None:
        return None
    return RuntimeConfig(
        address=f"http://127.0.0.1:{runtime.port}",
        protocol=runtime.protocol,
        model_name=runtime.model_name or name,
        timeout_seconds=timeout_seconds,
    )


def find_key(spec: ModelDeploymentSpec, version: VersionStatus) -> KeyFile | None:
    """The key that the version must be signed with: the deployment's, or else the one that its training signed with."""
    secret = spec.verify.secret_name if spec.verify is not None else version.signing_secret
    return None if secret is None else KeyFile(secret=secret, path=PUBLIC_KEY)


def find_secrets(spec: ModelDeploymentSpec) -> tuple[SecretFolder, ...]:
    """The Secrets that the server reads as files."""
    folders = []
    if spec.tls is not None:
        keys = (_CERTIFICATE, _PRIVATE_KEY)
        folders.append(SecretFolder(name="tls", secret=spec.tls.secret_name, path=TLS_MOUNT, keys=keys))
    if spec.auth is not None:
        folders.append(SecretFolder(name="tokens", secret=spec.auth.secret_name, path=TOKENS_MOUNT))
    if spec.capture.hash_key is not None:
        path, _, key = CAPTURE_KEY.rpartition("/")
        secret = spec.capture.hash_key.secret_name
        folders.append(SecretFolder(name="capture-key", secret=secret, path=path, keys=(key,)))
    return tuple(folders)


def build_probes(spec: ModelDeploymentSpec) -> dict[str, Any]:
    """The server's probes, encrypted when all that it speaks is."""
    scheme = {} if spec.tls is None else {"scheme": "HTTPS"}

    def probe(path: str, period: int, failures: int) -> dict[str, Any]:
        return {
            "httpGet": {"path": path, "port": "http", **scheme},
            "periodSeconds": period,
            "failureThreshold": failures,
            "timeoutSeconds": 2,
        }

    return {
        "readinessProbe": probe("/v2/health/ready", 2, 3),
        "livenessProbe": probe("/v2/health/live", 10, 6),
        "startupProbe": probe("/v2/health/live", 1, 120),
    }


def build_spread(spec: ModelDeploymentSpec, selector: dict[str, str]) -> dict[str, Any]:
    """The part of a pod's spec that spreads the pods of one version; nothing when the spec states no constraint."""
    constraints = [
        {
            **constraint.model_dump(mode="json", by_alias=True, exclude_none=True),
            "labelSelector": {"matchLabels": dict(selector)},
            "matchLabelKeys": [_POD_TEMPLATE_HASH],
        }
        for constraint in spec.topology_spread_constraints
    ]
    return {"topologySpreadConstraints": constraints} if constraints else {}


def grace_seconds(spec: ModelDeploymentSpec) -> int:
    """How long a pod may take to end: draining, clients that go, the longest inference, and the last captures."""
    return _DRAIN_SECONDS + _GRPC_LEAVE_SECONDS + math.ceil(_seconds(spec.limits.inference_timeout)) + _FLUSH_SECONDS


def _bytes(quantity: int | str) -> int:
    return math.floor(parse_quantity(quantity))


def _seconds(duration: str) -> float:
    return parse_duration(duration).total_seconds()
