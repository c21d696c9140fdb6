"""Builds what watches a model: a CronJob and a ServiceAccount that may patch one status only."""

from datetime import datetime
from typing import Any

from modelkit.contract.codec import dumps
from modelkit.contract.config import StoreConfig, VersionRef
from modelkit.contract.monitoring import DriftConfig, MonitorConfig, QualityConfig
from modelloop.api.common import GROUP, Resources, VersionStatus, parse_duration
from modelloop.api.monitor import ModelMonitorSpec
from modelloop.desired import labels, names
from modelloop.desired.workload import (
    Main,
    Mounts,
    WorkloadSettings,
    build_pod_spec,
    store_secrets,
    store_uri,
)

KIND = "ModelMonitor"
CONTAINER = "monitor"
HISTORY_LIMIT = 10
"""Windows kept in status."""
_DEFAULT_RESOURCES = Resources(requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "512Mi"})


def build_cron_job(
    spec: ModelMonitorSpec,
    version: VersionStatus,
    since: datetime,
    *,
    namespace: str,
    name: str,
    uid: str,
    settings: WorkloadSettings,
) -> dict[str, Any]:
    """The CronJob that looks at what `version` answered since `since`."""
    config = MonitorConfig(
        namespace=namespace,
        name=name,
        deployment=spec.deployment_ref.name,
        version=VersionRef(number=version.number, path=version.path, digest=version.digest),
        version_since=since,
        store=StoreConfig(uri=store_uri(version.storage)),
        window_seconds=parse_duration(spec.window).total_seconds(),
        min_rows=spec.min_rows,
        history_limit=HISTORY_LIMIT,
        drift=DriftConfig(**spec.drift.model_dump()),
        quality=QualityConfig(**spec.quality.model_dump()),
    )
    object_labels = labels.object_labels(KIND, name)
    main = Main(
        name=CONTAINER,
        image=spec.image or settings.monitor_image,
        module="modelkit.monitor",
        config=dumps(config),
        resources=spec.resources,
        default_resources=_DEFAULT_RESOURCES,
    )
    pod_spec = build_pod_spec(
        main,
        settings,
        Mounts(store_claim=names.store_claim(version.storage.uri)),
        store_secrets(version.storage),
        restartPolicy="Never",
        serviceAccountName=names.monitor_account_name(name),
        automountServiceAccountToken=True,
    )
    cron_spec: dict[str, Any] = {
        "schedule": spec.schedule,
        "suspend": spec.suspend,
        "concurrencyPolicy": "Forbid",
        # A run that couldn't start in time is skipped: the next one looks at a window of the same length.
        "startingDeadlineSeconds": 120,
        "successfulJobsHistoryLimit": 1,
        "failedJobsHistoryLimit": 2,
        "jobTemplate": {
            "metadata": {"labels": object_labels},
            "spec": {
                "backoffLimit": 1,
                "activeDeadlineSeconds": 1800,
                "template": {"metadata": {"labels": object_labels}, "spec": pod_spec},
            },
        },
    }
    if spec.time_zone is not None:
        cron_spec["timeZone"] = spec.time_zone
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": _metadata(names.cron_job_name(name), namespace, name, uid),
        "spec": cron_spec,
    }


def build_access(*, namespace: str, name: str, uid: str) -> tuple[dict[str, Any], ...]:
    """ServiceAccount, Role and RoleBinding: read and patch the status of this one ModelMonitor, nothing else."""
    account = names.monitor_account_name(name)
    metadata = _metadata(account, namespace, name, uid)
    return (
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata,
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata,
            "rules": [
                {
                    "apiGroups": [GROUP],
                    "resources": ["modelmonitors/status"],
                    "resourceNames": [name],
                    "verbs": ["get", "patch"],
                }
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        },
    )


def _metadata(object_name: str, namespace: str, name: str, uid: str) -> dict[str, Any]:
    return {
        "name": object_name,
        "namespace": namespace,
        "labels": labels.object_labels(KIND, name),
        "ownerReferences": [labels.owner_reference(KIND, name, uid)],
    }
