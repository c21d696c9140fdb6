"""The operator's settings: defaults, and errors that name the variable."""

import pytest

from modelloop.errors import SettingsError
from modelloop.settings import read_settings

IMAGES = {f"MODELLOOP_{kind}_IMAGE": f"example/{kind.lower()}:1" for kind in ("TRAINER", "SERVER", "MONITOR")}


def test_the_images_are_enough() -> None:
    settings = read_settings(IMAGES)
    assert settings.workloads.trainer_image == "example/trainer:1"
    assert settings.workloads.image_pull_policy == "IfNotPresent"
    assert settings.workloads.store_class is None
    assert settings.watch_namespaces == ()
    assert settings.pod_name
    assert settings.workers == 32


def test_everything_can_be_stated() -> None:
    settings = read_settings(
        IMAGES
        | {
            "MODELLOOP_IMAGE_PULL_POLICY": "Never",
            "MODELLOOP_STORE_SIZE": "10Gi",
            "MODELLOOP_STORE_CLASS": "fast",
            "MODELLOOP_STORE_ACCESS_MODE": "ReadWriteMany",
            "MODELLOOP_FINISHED_JOB_TTL": "60",
            "MODELLOOP_WATCH_NAMESPACES": "team-a, team-b,",
            "MODELLOOP_HTTP_HOST": "127.0.0.1",
            "MODELLOOP_HTTP_PORT": "9000",
            "MODELLOOP_WORKERS": "4",
            "MODELLOOP_AUDIT_SECONDS": "30",
            "MODELLOOP_LOG_LEVEL": "debug",
            "POD_NAME": "modelloop-0",
            "POD_NAMESPACE": "system",
        }
    )
    assert settings.watch_namespaces == ("team-a", "team-b")
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 9000)
    assert (settings.workers, settings.audit_seconds, settings.log_level) == (4, 30.0, "DEBUG")
    assert (settings.pod_name, settings.namespace) == ("modelloop-0", "system")
    assert settings.workloads.operator_namespace == "system"
    assert settings.workloads.finished_job_ttl == 60
    assert settings.workloads.store_access_mode == "ReadWriteMany"


@pytest.mark.parametrize("name", IMAGES)
def test_a_missing_image_is_named(name: str) -> None:
    for environment in ({**IMAGES, name: ""}, {key: value for key, value in IMAGES.items() if key != name}):
        with pytest.raises(SettingsError, match=name):
            read_settings(environment)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODELLOOP_WORKERS", "many"),
        ("MODELLOOP_WORKERS", "0"),
        ("MODELLOOP_WORKERS", "-1"),
        ("MODELLOOP_AUDIT_SECONDS", "0"),
        ("MODELLOOP_AUDIT_SECONDS", "1.5"),
        ("MODELLOOP_FINISHED_JOB_TTL", "-1"),
        ("MODELLOOP_HTTP_PORT", "0"),
        ("MODELLOOP_HTTP_PORT", "70000"),
        ("MODELLOOP_LOG_LEVEL", "LOUD"),
        ("MODELLOOP_IMAGE_PULL_POLICY", "Sometimes"),
        ("MODELLOOP_STORE_ACCESS_MODE", "ReadWrite"),
        ("MODELLOOP_STORE_SIZE", "big"),
        ("MODELLOOP_STORE_SIZE", "0"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_was_found(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({**IMAGES, name: value})
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)


def test_the_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        read_settings(IMAGES).workers = 1  # type: ignore[misc]
