"""A ModelMonitor's spec reaches its pod whole, and nothing else does."""

from dataclasses import fields
from typing import Any

import pytest

from modelkit.contract.codec import loads
from modelkit.contract.monitoring import (
    CalibrationConfig,
    EstimatedQualityConfig,
    MonitorConfig,
    MultivariateConfig,
    NotifyConfig,
    ReportConfig,
    ServiceConfig,
)
from modelloop.api.common import Storage, VersionStatus
from modelloop.api.monitor import ModelMonitorSpec
from modelloop.desired.monitor import build_cron_job
from tests.unit.operator_tests.operator_states import NOW, SETTINGS, digest_of, monitor_spec

WHOLE: dict[str, Any] = {
    "dataQuality": {"maxExcess": 0.11, "maxDuplicates": 0.4},
    "drift": {"method": "Wasserstein", "maxDistance": 0.3, "falseDiscoveryRate": 0.05, "maxDriftedShare": 0.1},
    "multivariate": {"maxAuc": 0.7, "significance": 0.002, "rows": 1234},
    "quality": {"metric": "f1", "maxDrop": 0.1, "minLabels": 9},
    "estimatedQuality": {"maxDrop": 0.07},
    "calibration": {"maxError": 0.08},
    "service": {"maxErrorRate": 0.02, "maxLatency": "250ms"},
    "fairness": {
        "columns": ["sex", "age"],
        "positiveClass": "yes",
        "maxParityDifference": 0.2,
        "maxOpportunityDifference": 0.3,
        "minRows": 44,
    },
    "attribution": {"minSimilarity": 0.8, "rows": 99},
    "report": {"minBinRows": 9, "retention": "48h"},
    "notify": {"secretName": "hooks", "format": "Slack"},
}


VERSION = VersionStatus(number=2, path="models/team/x/2-y", digest=digest_of(2), storage=Storage())


def build(spec: ModelMonitorSpec) -> dict[str, Any]:
    item = build_cron_job(spec, VERSION, NOW, namespace="team", name="drift", uid="u-1", settings=SETTINGS)
    pod: dict[str, Any] = item["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return pod


def environment(pod: dict[str, Any]) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in pod["containers"][0]["env"]}


def config_of(**parts: Any) -> MonitorConfig:
    return loads(MonitorConfig, environment(build(monitor_spec(**parts)))["MODELLOOP_CONFIG"])


def test_every_part_of_the_spec_reaches_the_pod() -> None:
    spec, config = monitor_spec(**WHOLE), config_of(**WHOLE)
    for part in ("data_quality", "drift", "multivariate", "quality", "estimated_quality", "calibration", "fairness"):
        stated = getattr(spec, part).model_dump(exclude={"enabled"})
        assert {
            field.name: getattr(getattr(config, part), field.name) for field in fields(getattr(config, part))
        } == stated
    assert config.service == ServiceConfig(max_error_rate=0.02, max_latency_seconds=0.25)
    assert config.attribution is not None
    assert (config.attribution.min_similarity, config.attribution.rows) == (0.8, 99)
    assert config.report == ReportConfig(min_bin_rows=9, retention_seconds=48 * 3600.0)
    assert config.notify == NotifyConfig(directory="/var/lib/modelloop/notify", format="Slack")


def test_an_empty_spec_and_the_contract_have_the_same_defaults() -> None:
    config = config_of()
    bare = MonitorConfig(
        namespace=config.namespace,
        name=config.name,
        deployment=config.deployment,
        version=config.version,
        version_since=config.version_since,
        store=config.store,
        window_seconds=config.window_seconds,
        multivariate=MultivariateConfig(),
        estimated_quality=EstimatedQualityConfig(),
        calibration=CalibrationConfig(),
        service=ServiceConfig(),
    )
    assert config == bare


@pytest.mark.parametrize("part", ["multivariate", "estimatedQuality", "calibration", "service"])
def test_a_check_that_is_switched_off_is_not_in_the_configuration(part: str) -> None:
    config = config_of(**{part: {"enabled": False}})
    name = {"estimatedQuality": "estimated_quality"}.get(part, part)
    assert getattr(config, name) is None


def test_the_pod_knows_its_job_whose_name_tells_when_it_was_due() -> None:
    found = environment(build(monitor_spec()))["MODELLOOP_JOB_NAME"]
    assert found["fieldRef"]["fieldPath"] == "metadata.labels['batch.kubernetes.io/job-name']"


def test_the_webhooks_secret_is_mounted_and_a_missing_one_keeps_no_window_from_being_looked_at() -> None:
    assert [volume["name"] for volume in build(monitor_spec())["volumes"]] == ["work", "store"]
    pod = build(monitor_spec(**WHOLE))
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "notify")
    assert volume["secret"] == {"secretName": "hooks", "defaultMode": 0o440, "optional": True}
    mount = next(mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "notify")
    assert mount == {"name": "notify", "mountPath": "/var/lib/modelloop/notify", "readOnly": True}
