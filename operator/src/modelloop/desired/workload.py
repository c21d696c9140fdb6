"""The parts that all workload pods share: restricted security, the store's volume, the configuration."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from modelkit.contract.environment import CONFIG, DATA_ENV_PREFIX, STORE_ENV_PREFIX
from modelkit.contract.files import DATA_MOUNT, STORE_MOUNT, WORK_MOUNT
from modelkit.contract.route import ROUTE_MOUNT
from modelloop.api.common import Resources, Storage
from modelloop.desired import names
from modelloop.desired.labels import MANAGED_BY, MANAGER

USER_ID = 65532
"""Numeric, so that the kubelet can prove that it isn't root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSettings:
    """What the installation decides about workloads, as opposed to the user's spec."""

    trainer_image: str
    server_image: str
    monitor_image: str
    image_pull_policy: str = "IfNotPresent"
    store_size: str = "5Gi"
    store_class: str | None = None
    store_access_mode: str = "ReadWriteOnce"
    finished_job_ttl: int = 3600
    operator_namespace: str = "modelloop-system"
    """Where the operator runs, whose questions network policies let through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Secrets whose keys a pod gets as environment variables, by name."""

    store: str | None = None
    data: str | None = None


PRIVATE_KEY = "/var/lib/modelloop/key/private.pem"
PUBLIC_KEY = "/var/lib/modelloop/key/public.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """One file of a Secret: the other half of a key pair stays where it is."""

    secret: str
    path: str
    """PRIVATE_KEY or PUBLIC_KEY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFolder:
    """A Secret as a folder of files."""

    name: str
    """Of the volume."""
    secret: str
    path: str
    keys: tuple[str, ...] = ()
    """Which of its keys; empty: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """An emptyDir where a container sees it."""

    name: str
    path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounts:
    """Volumes of a pod."""

    store_claim: str | None = None
    data_claim: str | None = None
    key: KeyFile | None = None
    secrets: tuple[SecretFolder, ...] = ()
    others: tuple[Mount, ...] = ()
    """Volumes that a run's containers share."""
    route: str | None = None
    """The ConfigMap with the route of the pods that serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Main:
    """The main container of a workload pod."""

    name: str
    image: str
    module: str
    config: str
    resources: Resources
    default_resources: Resources
    arguments: tuple[str, ...] = ()
    """After the module's name."""
    ports: dict[str, int] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    """Environment variables that hold labels of the pod."""
    extra: dict[str, Any] = field(default_factory=dict)


def build_container_security() -> dict[str, Any]:
    """What the restricted Pod Security Standard asks of a container, and a root that nothing writes to."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def build_pod_spec(
    main: Main,
    settings: WorkloadSettings,
    mounts: Mounts,
    secrets: Secrets,
    *,
    before: Sequence[dict[str, Any]] = (),
    **fields: Any,
) -> dict[str, Any]:
    """A pod spec that the restricted Pod Security Standard admits.

    `before` are init containers and sidecars, whose emptyDirs are made. `fields` are added to the pod's spec.
    """
    container, volumes = build_container(main, settings, mounts, secrets)
    known = {volume["name"] for volume in volumes}
    shared = dict.fromkeys(mount["name"] for entry in before for mount in entry["volumeMounts"])
    volumes.extend({"name": name, "emptyDir": {}} for name in shared if name not in known)
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"initContainers": list(before)} if before else {}),
        "containers": [container],
        "volumes": volumes,
        **fields,
    }


def build_container(
    main: Main, settings: WorkloadSettings, mounts: Mounts, secrets: Secrets
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A container of one of our own images, and the volumes that it mounts."""
    volumes: list[dict[str, Any]] = [{"name": "work", "emptyDir": {}}]
    volume_mounts: list[dict[str, Any]] = [{"name": "work", "mountPath": WORK_MOUNT}]
    if mounts.store_claim:
        volumes.append({"name": "store", "persistentVolumeClaim": {"claimName": mounts.store_claim}})
        volume_mounts.append({"name": "store", "mountPath": STORE_MOUNT})
    if mounts.data_claim:
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": mounts.data_claim, "readOnly": True}})
        volume_mounts.append({"name": "data", "mountPath": f"{DATA_MOUNT}/{mounts.data_claim}", "readOnly": True})
    for folder in _secret_folders(mounts):
        volumes.append(_build_secret_volume(folder))
        volume_mounts.append({"name": folder.name, "mountPath": folder.path, "readOnly": True})
    if mounts.route is not None:
        # Optional: pods don't wait for it. As a folder: the kubelet never refreshes a file that is mounted by subPath.
        volumes.append({"name": "route", "configMap": {"name": mounts.route, "optional": True}})
        volume_mounts.append({"name": "route", "mountPath": ROUTE_MOUNT, "readOnly": True})
    volumes.extend({"name": mount.name, "emptyDir": {}} for mount in mounts.others)
    volume_mounts.extend(build_mount(mount) for mount in mounts.others)
    container: dict[str, Any] = {
        "name": main.name,
        "image": main.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": ["-m", main.module, *main.arguments],
        "env": [
            {"name": CONFIG, "value": main.config},
            {"name": "POD_NAME", "valueFrom": _field("metadata.name")},
            *([{"name": "POD_IP", "valueFrom": _field("status.podIP")}] if mounts.route is not None else []),
            *(
                {"name": variable, "valueFrom": _field(f"metadata.labels['{label}']")}
                for variable, label in main.labels.items()
            ),
            {"name": "HOME", "value": WORK_MOUNT},
            {"name": "TMPDIR", "value": WORK_MOUNT},
        ],
        "resources": build_resources(main.resources, main.default_resources),
        "securityContext": build_container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": volume_mounts,
        **main.extra,
    }
    sources = [
        {"prefix": prefix, "secretRef": {"name": secret}}
        for prefix, secret in ((STORE_ENV_PREFIX, secrets.store), (DATA_ENV_PREFIX, secrets.data))
        if secret
    ]
    if sources:
        container["envFrom"] = sources
    if main.ports:
        container["ports"] = [
            {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in main.ports.items()
        ]
    return container, volumes


def _field(path: str) -> dict[str, Any]:
    return {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}


def _secret_folders(mounts: Mounts) -> tuple[SecretFolder, ...]:
    if mounts.key is None:
        return mounts.secrets
    folder, _, name = mounts.key.path.rpartition("/")
    return (SecretFolder(name="key", secret=mounts.key.secret, path=folder, keys=(name,)), *mounts.secrets)


def _build_secret_volume(folder: SecretFolder) -> dict[str, Any]:
    # Optional: what is missing is then told by the container, not by a pod that waits for ever.
    secret: dict[str, Any] = {"secretName": folder.secret, "defaultMode": 0o440, "optional": True}
    if folder.keys:
        secret["items"] = [{"key": key, "path": key} for key in folder.keys]
    return {"name": folder.name, "secret": secret}


def build_mount(mount: Mount) -> dict[str, Any]:
    """As in a container."""
    read_only = {"readOnly": True} if mount.read_only else {}
    return {"name": mount.name, "mountPath": mount.path, **read_only}


def build_resources(stated: Resources, default: Resources) -> dict[str, Any]:
    """Requests and limits: what the spec states, and the defaults for what it doesn't.

    A default request never exceeds a stated limit: the API server would refuse the pod.
    """
    limits = {**default.limits, **stated.limits}
    requests = {**default.requests, **stated.requests}
    for name in default.requests:
        if name in stated.limits and name not in stated.requests:
            requests[name] = min((requests[name], limits[name]), key=parse_quantity)
    for name in default.limits:
        if name in stated.requests and name not in stated.limits:
            limits[name] = max((requests[name], limits[name]), key=parse_quantity)
    return {
        "limits": {name: str(amount) for name, amount in sorted(limits.items())},
        "requests": {name: str(amount) for name, amount in sorted(requests.items())},
    }


_UNITS = {
    "": Fraction(1), "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000),
    **{unit: Fraction(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Fraction(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)")


def parse_quantity(quantity: int | str) -> Fraction:
    """A Kubernetes quantity such as `500m`, `2Gi` or 3 in its base unit, exactly: 0.7 is 700m. Raises ValueError."""
    match = _QUANTITY.fullmatch(str(quantity))
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"expected a quantity such as 500m or 2Gi; found {quantity!r}")
    return Fraction(match[1]) * _UNITS[match[2]]


def build_store_claim(namespace: str, settings: WorkloadSettings, claim: str) -> dict[str, Any]:
    """The claim that holds a namespace's models. It has no owner: model versions outlive their custom resources."""
    spec: dict[str, Any] = {
        "accessModes": [settings.store_access_mode],
        "resources": {"requests": {"storage": settings.store_size}},
    }
    if settings.store_class is not None:
        spec["storageClassName"] = settings.store_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim,
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/name": "modelloop-store",
                "app.kubernetes.io/part-of": "modelloop",
                MANAGED_BY: MANAGER,
            },
        },
        "spec": spec,
    }


def store_uri(storage: Storage) -> str:
    """The store's address as seen inside a pod."""
    return f"file://{STORE_MOUNT}" if names.store_claim(storage.uri) else storage.uri


def store_secrets(storage: Storage) -> Secrets:
    """The store's Secret, when it has one."""
    return Secrets(store=storage.secret_ref.name if storage.secret_ref else None)


def content_hash(value: Any) -> str:
    """A short hash of plain data, the same for equal data."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
