"""Builds what watches a model: a CronJob and a ServiceAccount that may patch one status only."""

from datetime import datetime
from typing import Any, TypeVar

from modelkit.contract.codec import dumps
from modelkit.contract.config import StoreConfig, VersionRef
from modelkit.contract.environment import JOB_NAME
from modelkit.contract.files import NOTIFY_MOUNT
from modelkit.contract.monitoring import (
    AttributionConfig,
    CalibrationConfig,
    DataQualityConfig,
    DriftConfig,
    EstimatedQualityConfig,
    FairnessConfig,
    MonitorConfig,
    MultivariateConfig,
    NotifyConfig,
    QualityConfig,
    ReportConfig,
    ServiceConfig,
)
from modelloop.api.common import GROUP, Resources, VersionStatus, parse_duration
from modelloop.api.monitor import ModelMonitorSpec
from modelloop.api.monitor_checks import CalibrationCheck, EstimatedQualityCheck, MultivariateCheck
from modelloop.desired import labels, names
from modelloop.desired.workload import (
    Main,
    Mounts,
    SecretFolder,
    WorkloadSettings,
    build_pod_spec,
    store_secrets,
    store_uri,
)

KIND = "ModelMonitor"
CONTAINER = "monitor"
HISTORY_LIMIT = 10
"""Windows kept in status."""
TIMELINE_LIMIT = 60
"""Points kept in status for longer."""
_Part = TypeVar("_Part", MultivariateConfig, EstimatedQualityConfig, CalibrationConfig)
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
    config = _build_config(spec, version, since, namespace=namespace, name=name)
    object_labels = labels.object_labels(KIND, name)
    main = Main(
        name=CONTAINER,
        image=spec.image or settings.monitor_image,
        module="modelkit.monitor",
        config=dumps(config),
        resources=spec.resources,
        default_resources=_DEFAULT_RESOURCES,
        labels={JOB_NAME: "batch.kubernetes.io/job-name"},
    )
    pod_spec = build_pod_spec(
        main,
        settings,
        Mounts(store_claim=names.store_claim(version.storage.uri), secrets=_secrets(spec)),
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


def _build_config(
    spec: ModelMonitorSpec, version: VersionStatus, since: datetime, *, namespace: str, name: str
) -> MonitorConfig:
    service, report = spec.service, spec.report
    return MonitorConfig(
        namespace=namespace,
        name=name,
        deployment=spec.deployment_ref.name,
        version=VersionRef(number=version.number, path=version.path, digest=version.digest),
        version_since=since,
        store=StoreConfig(uri=store_uri(version.storage)),
        window_seconds=parse_duration(spec.window).total_seconds(),
        min_rows=spec.min_rows,
        history_limit=HISTORY_LIMIT,
        timeline_limit=TIMELINE_LIMIT,
        data_quality=DataQualityConfig(**spec.data_quality.model_dump()),
        drift=DriftConfig(**spec.drift.model_dump()),
        multivariate=_build_part(MultivariateConfig, spec.multivariate),
        quality=QualityConfig(**spec.quality.model_dump()),
        estimated_quality=_build_part(EstimatedQualityConfig, spec.estimated_quality),
        calibration=_build_part(CalibrationConfig, spec.calibration),
        service=ServiceConfig(
            max_error_rate=service.max_error_rate,
            max_latency_seconds=parse_duration(service.max_latency).total_seconds() if service.max_latency else None,
        )
        if service.enabled
        else None,
        fairness=FairnessConfig(**spec.fairness.model_dump()) if spec.fairness else None,
        attribution=AttributionConfig(**spec.attribution.model_dump()) if spec.attribution else None,
        report=ReportConfig(
            min_bin_rows=report.min_bin_rows, retention_seconds=parse_duration(report.retention).total_seconds()
        ),
        notify=NotifyConfig(directory=NOTIFY_MOUNT, format=spec.notify.format) if spec.notify else None,
    )


def _build_part(part: type[_Part], check: MultivariateCheck | EstimatedQualityCheck | CalibrationCheck) -> _Part | None:
    """A check's configuration; None when it is switched off."""
    return part(**check.model_dump(exclude={"enabled"})) if check.enabled else None


def _secrets(spec: ModelMonitorSpec) -> tuple[SecretFolder, ...]:
    if spec.notify is None:
        return ()
    return (SecretFolder(name="notify", secret=spec.notify.secret_name, path=NOTIFY_MOUNT),)


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
