"""The operator's settings, read once from the environment at start and frozen."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelloop.desired.workload import WorkloadSettings, parse_quantity
from modelloop.errors import SettingsError

_LOG_LEVELS = ("INFO", "DEBUG", "WARNING", "ERROR", "CRITICAL")
_ACCESS_MODES = ("ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `manifests/install` states in the operator's environment."""

    workloads: WorkloadSettings
    pod_name: str
    """Identity in the Lease: a restarted container of the same pod goes on at once."""
    namespace: str
    """Where the operator runs and its Lease lives."""
    watch_namespaces: tuple[str, ...] = ()
    """Empty: all namespaces."""
    http_host: str = "0.0.0.0"  # noqa: S104 - probes and scrapes come from outside the pod
    http_port: int = 8080
    workers: int = 32
    """Reconciles at a time."""
    audit_seconds: float = 120.0
    """How often the cache is held against the API server."""
    log_level: str = "INFO"


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from MODELLOOP_* variables; raises SettingsError naming the variable."""
    images = {kind: _required(environ, f"MODELLOOP_{kind}_IMAGE") for kind in ("TRAINER", "SERVER", "MONITOR")}
    namespace = environ.get("POD_NAMESPACE", "modelloop-system")
    workloads = WorkloadSettings(
        trainer_image=images["TRAINER"],
        server_image=images["SERVER"],
        monitor_image=images["MONITOR"],
        image_pull_policy=_one_of(environ, "MODELLOOP_IMAGE_PULL_POLICY", ("IfNotPresent", "Always", "Never")),
        store_size=_quantity(environ, "MODELLOOP_STORE_SIZE", "5Gi"),
        store_class=environ.get("MODELLOOP_STORE_CLASS") or None,
        store_access_mode=_one_of(environ, "MODELLOOP_STORE_ACCESS_MODE", _ACCESS_MODES),
        finished_job_ttl=_integer(environ, "MODELLOOP_FINISHED_JOB_TTL", 3600, least=0),
        operator_namespace=namespace,
    )
    return Settings(
        workloads=workloads,
        pod_name=environ.get("POD_NAME") or socket.gethostname(),
        namespace=namespace,
        watch_namespaces=tuple(
            name.strip() for name in environ.get("MODELLOOP_WATCH_NAMESPACES", "").split(",") if name.strip()
        ),
        http_host=environ.get("MODELLOOP_HTTP_HOST", "0.0.0.0"),  # noqa: S104
        http_port=_integer(environ, "MODELLOOP_HTTP_PORT", 8080, most=65535),
        workers=_integer(environ, "MODELLOOP_WORKERS", 32),
        audit_seconds=float(_integer(environ, "MODELLOOP_AUDIT_SECONDS", 120)),
        log_level=_one_of(environ, "MODELLOOP_LOG_LEVEL", _LOG_LEVELS),
    )


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise SettingsError(f"{name} must be set to an image reference; manifests/install sets it")
    return value


def _integer(environ: Mapping[str, str], name: str, default: int, *, least: int = 1, most: int | None = None) -> int:
    text = environ.get(name, "")
    if not text:
        return default
    try:
        number = int(text)
    except ValueError as exc:
        raise SettingsError(f"{name} must be a whole number; found {text!r}") from exc
    if number < least or (most is not None and number > most):
        bounds = f"at least {least}" + (f" and at most {most}" if most is not None else "")
        raise SettingsError(f"{name} must be {bounds}; found {text!r}")
    return number


def _one_of(environ: Mapping[str, str], name: str, choices: Sequence[str]) -> str:
    """One of `choices`, in any case; the first when it isn't set."""
    value = environ.get(name) or choices[0]
    found = next((choice for choice in choices if choice.lower() == value.lower()), None)
    if found is None:
        raise SettingsError(f"{name} must be one of {', '.join(choices)}; found {value!r}")
    return found


def _quantity(environ: Mapping[str, str], name: str, default: str) -> str:
    text = environ.get(name) or default
    try:
        usable = parse_quantity(text) > 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"{name} must be a quantity above 0 such as 5Gi; found {text!r}")
    return text
