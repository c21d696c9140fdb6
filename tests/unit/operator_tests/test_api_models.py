"""The API models: what the API server stores parses, and what is written parses back."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelkit.contract.metrics import METRICS
from modelkit.contract.result import CHECK_STATES, CheckResult, FeatureFinding, WindowResult
from modelloop.api.common import parse_duration
from modelloop.api.deployment import ModelDeploymentSpec, ModelDeploymentStatus
from modelloop.api.kinds import KINDS, Kind
from modelloop.api.monitor import Check, ModelMonitorSpec, ModelMonitorStatus, Window
from modelloop.api.monitor import FeatureFinding as ApiFinding
from modelloop.api.training import ModelTrainingSpec, ModelTrainingStatus
from modelloop.decide.conditions import MAX_MESSAGE
from modelloop.desired.monitor import HISTORY_LIMIT
from tests.unit.operator_tests.operator_states import deployment_spec, monitor_spec, training_spec

SPECS = {
    "ModelTraining": training_spec(),
    "ModelDeployment": deployment_spec(),
    "ModelMonitor": monitor_spec(),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_spec_with_all_its_defaults_parses_back(kind: Kind) -> None:
    spec = SPECS[kind.name]
    assert kind.spec.model_validate(spec.model_dump(mode="json", by_alias=True, exclude_none=True)) == spec


@pytest.mark.parametrize("status", [ModelTrainingStatus, ModelDeploymentStatus, ModelMonitorStatus])
def test_an_object_that_was_never_visited_has_an_empty_status(status: Any) -> None:
    assert status.model_validate({}).conditions == ()


@pytest.mark.parametrize("spec", [ModelTrainingSpec, ModelDeploymentSpec, ModelMonitorSpec])
def test_a_field_of_a_newer_release_is_ignored(spec: Any) -> None:
    plain = SPECS[spec.__name__.removesuffix("Spec")].model_dump(mode="json", by_alias=True, exclude_none=True)
    assert spec.model_validate(plain | {"newField": 1}) == spec.model_validate(plain)


def test_models_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        training_spec().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("24h", timedelta(hours=24)),
        ("1h30m", timedelta(minutes=90)),
        ("250ms", timedelta(milliseconds=250)),
        ("1m500ms", timedelta(seconds=60.5)),
        ("0s", timedelta(0)),
    ],
)
def test_a_duration(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@given(st.integers(0, 99999), st.integers(0, 59), st.integers(0, 59))
def test_a_duration_adds_its_parts(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == timedelta(hours=hours, minutes=minutes, seconds=seconds)


def test_the_monitors_record_and_the_status_have_the_same_fields() -> None:
    for contract, model in ((WindowResult, Window), (CheckResult, Check), (FeatureFinding, ApiFinding)):
        assert set(contract.__dataclass_fields__) == set(model.model_fields)  # type: ignore[attr-defined]


def test_the_windows_that_the_monitor_keeps_fit_the_status() -> None:
    schema = ModelMonitorStatus.model_json_schema()["properties"]["windows"]
    assert schema["maxItems"] >= HISTORY_LIMIT
    assert CHECK_STATES == ("OK", "Breached", "Unknown")
    assert (
        ModelMonitorSpec.model_validate(
            {"deploymentRef": {"name": "x"}, "schedule": "@hourly", "alarm": {"breaches": 10, "windows": 10}}
        ).alarm.windows
        <= HISTORY_LIMIT
    ), "an alarm must not need more windows than are kept"


def test_a_message_of_a_condition_always_fits() -> None:
    schema = ModelTrainingStatus.model_json_schema()["$defs"]["Condition"]["properties"]["message"]
    assert schema["maxLength"] >= MAX_MESSAGE


def test_every_metric_has_a_place_in_a_record() -> None:
    assert (
        len(METRICS)
        <= ModelTrainingStatus.model_json_schema()["$defs"]["RunRecord"]["properties"]["metrics"]["maxProperties"]
    )
