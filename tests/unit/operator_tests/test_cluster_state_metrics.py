"""What a scrape of the operator shows of the custom resources."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from modelkit.contract.codec import format_time
from modelloop.api.deployment import ModelDeploymentStatus
from modelloop.api.monitor import Check, ModelMonitorStatus
from modelloop.cluster import telemetry
from modelloop.cluster.cache import Cache
from modelloop.cluster.state_metrics import METRICS, copy_states, render_states
from tests.unit.operator_tests.operator_states import (
    NOW,
    SECOND,
    deployment_spec,
    digest_of,
    monitor_spec,
    served,
    training_spec,
    window,
)

DOCS = Path(__file__).resolve().parents[3] / "docs" / "operations.md"
ROW = re.compile(r"^\| (`modelloop_.*?) \|")
NAME = re.compile(r"`(modelloop_\w+)(?:\{([\w,]+)\})?`")
MODEL = {"namespace": "team", "model": "cancer"}
TRAINING = {"namespace": "team", "training": "cancer"}
MONITOR = {**MODEL, "monitor": "cancer"}
Object = dict[str, Any]
Shown = dict[tuple[str, frozenset[tuple[str, str]]], float]


def plain(model: Any) -> Object:
    found: Object = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return found


def body(kind: str, spec: Any, status: Any = None) -> Object:
    metadata = {"name": "cancer", "namespace": "team", "uid": kind, "resourceVersion": "7"}
    metadata["creationTimestamp"] = format_time(NOW - timedelta(days=1))
    return {"kind": kind, "metadata": metadata, "spec": plain(spec), "status": plain(status) if status else {}}


def show(*bodies: Object) -> Shown:
    """The samples of a scrape."""
    cache = Cache()
    for item in bodies:
        cache.put(item["kind"], item)
    page = render_states(copy_states(cache), NOW).decode()
    return {
        (sample.name.removeprefix("modelloop_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(shown: Shown, name: str, /, **labels: str) -> float | None:
    return shown.get((name, frozenset(labels.items())))


def deployment(**status: Any) -> Object:
    return body("ModelDeployment", deployment_spec(), ModelDeploymentStatus.model_validate(status))


def monitor(*windows: Any, **spec: Any) -> Object:
    return body("ModelMonitor", monitor_spec(**spec), ModelMonitorStatus(windows=windows, retrains=2))


def test_nothing_is_shown_of_no_object() -> None:
    assert show() == {}


def test_objects_without_a_status_are_shown() -> None:
    shown = show(
        body("ModelTraining", training_spec()), body("ModelDeployment", deployment_spec()),
        body("ModelMonitor", monitor_spec()),
    )  # fmt: skip
    assert value(shown, "deployment_info", **MODEL, training="cancer") == 1
    assert value(shown, "training_running", **TRAINING) == 0
    assert value(shown, "training_cpu_seconds_total", **TRAINING) == 0
    assert value(shown, "monitor_retrains_total", **MONITOR) == 0
    assert not any(name.startswith("monitor_window") for name, _ in shown)


@pytest.mark.parametrize(("status", "expected"), [("True", 1), ("False", 0), ("Unknown", -1)])
def test_a_condition_is_a_number_with_its_reason(status: str, expected: float) -> None:
    item = body("ModelTraining", training_spec())
    item["status"] = {"conditions": [{"type": "Ready", "status": status, "reason": "Rejected"}]}
    labels = {"kind": "ModelTraining", "namespace": "team", "name": "cancer", "type": "Ready", "reason": "Rejected"}
    assert value(show(item), "condition", **labels) == expected


def test_a_training_shows_its_champion_its_runs_and_what_they_cost() -> None:
    item = body("ModelTraining", training_spec(budget={"cpuHours": 2, "window": "24h"}))
    ends = [format_time(NOW - hours * timedelta(hours=1)) for hours in (1, 2, 3, 30)]
    item["status"] = {
        "run": {"number": 4},
        "champion": {"number": 2, "metric": "f1", "value": 0.94},
        "history": [
            {"verdict": "Rejected", "startTime": ends[1], "completionTime": ends[0]},
            {"verdict": "Rejected", "startTime": ends[2], "completionTime": ends[1]},
            {"verdict": "Approved", "startTime": ends[2], "completionTime": ends[2]},
        ],
        "total": {"runs": 3, "cpuSeconds": 90.5, "memoryGibSeconds": 8, "energyWattHours": 3, "co2eGrams": 2},
        "spent": [
            {"number": 3, "time": ends[0], "cpuSeconds": 1800},
            {"number": 1, "time": ends[3], "cpuSeconds": 9e9},
        ],
    }
    shown = show(item)
    assert value(shown, "training_running", **TRAINING) == 1
    assert value(shown, "training_champion_version", **TRAINING) == 2
    assert value(shown, "training_champion_score", **TRAINING, metric="f1") == 0.94
    name = "training_run_end_timestamp_seconds"
    assert value(shown, name, **TRAINING, verdict="Rejected") == (NOW - 3600 * SECOND).timestamp()
    assert value(shown, name, **TRAINING, verdict="Approved") == (NOW - 3 * 3600 * SECOND).timestamp()
    assert value(shown, "training_last_run_seconds", **TRAINING) == 3600
    assert value(shown, "training_cpu_seconds_total", **TRAINING) == 90.5
    assert value(shown, "training_price_total", **TRAINING) is None
    assert value(shown, "training_budget_used_ratio", **TRAINING) == 0.25, "what has left the window is forgiven"


def test_a_deployment_shows_its_versions_and_the_rollout_under_way() -> None:
    check = {"name": "Disagreement", "verdict": "Failed", "value": 0.4, "limit": 0.3}
    rollout = {
        "id": "x", "number": 2, "digest": digest_of(2), "strategy": "Canary", "state": "Stepping", "weight": 25,
        "startTime": NOW, "since": NOW, "checks": [check],
    }  # fmt: skip
    record = {"reason": "Errors", "startTime": NOW, "endTime": NOW, "result": "RolledBack", **plain(served(3))}
    del record["deployment"], record["since"]
    shown = show(
        deployment(
            replicas=3, readyReplicas=2, stable=plain(served(1)), candidate=plain(served(2)), rollout=rollout,
            history=[record],
        )
    )  # fmt: skip
    for role, number in (("stable", 1), ("candidate", 2)):
        label = digest_of(number)[7:23]
        assert value(shown, "deployment_version", **MODEL, role=role, version_digest=label) == number
    assert value(shown, "deployment_replicas", **MODEL) == 3
    assert value(shown, "deployment_ready_replicas", **MODEL) == 2
    assert value(shown, "rollout_weight", **MODEL) == 25
    assert value(shown, "rollout_check_value", **MODEL, check="Disagreement") == 0.4
    assert value(shown, "rollout_check_limit", **MODEL, check="Disagreement") == 0.3
    assert value(shown, "rollout_check_verdict", **MODEL, check="Disagreement", verdict="Failed") == 1
    assert value(shown, "rollout_end_timestamp_seconds", **MODEL, result="RolledBack") == NOW.timestamp()


def test_a_monitor_shows_the_newest_window_of_the_version_that_serves() -> None:
    found = Check(name="Drift", state="Breached", value=0.31, limit=0.2)
    newest = window(0).model_copy(update={"checks": (found, Check(name="Quality", state="Unknown"))})
    serving = deployment(stable=plain(served(1, NOW - timedelta(days=2))))
    shown = show(serving, monitor(newest, window(-60, state="OK")))
    assert value(shown, "monitor_window_end_timestamp_seconds", **MONITOR) == NOW.timestamp()
    assert value(shown, "monitor_window_rows", **MONITOR) == 500
    assert value(shown, "monitor_window_labels", **MONITOR) == 100
    assert value(shown, "monitor_check_value", **MONITOR, check="Drift") == 0.31
    assert value(shown, "monitor_check_limit", **MONITOR, check="Drift") == 0.2
    assert value(shown, "monitor_check_value", **MONITOR, check="Quality") is None
    states = {state: value(shown, "monitor_check_state", **MONITOR, check="Drift", state=state) for state in _STATES}
    assert states == {"OK": 0, "Breached": 1, "Unknown": 0}
    assert value(shown, "monitor_retrains_total", **MONITOR) == 2


_STATES = ("OK", "Breached", "Unknown")


def test_the_checks_of_a_version_that_no_longer_serves_are_not_shown() -> None:
    shown = show(deployment(stable=plain(served(2))), monitor(window(-60, number=1)))
    assert not any(name.startswith("monitor_check") for name, _ in shown)
    assert value(shown, "monitor_window_end_timestamp_seconds", **MONITOR) == (NOW - 3600 * SECOND).timestamp()


@pytest.mark.parametrize(
    ("item", "since", "due"),
    [
        pytest.param(monitor(window(-1)), -600, 0, id="after the newest window"),
        pytest.param(monitor(window(-100)), -60, -45, id="after a version began to serve"),
        pytest.param(monitor(), -3600, -24 * 60 + 15, id="after it was made"),
        pytest.param(monitor(window(-1), suspend=True), -600, None, id="while it is suspended"),
        pytest.param(monitor(window(-1), schedule="61 * * * *"), -600, None, id="no schedule"),
        pytest.param(monitor(window(-1), timeZone="Nowhere/Else"), -600, None, id="no time zone"),
    ],
)
def test_the_next_window_is_due(item: Object, since: int, due: int | None) -> None:
    shown = show(deployment(stable=plain(served(1, NOW + timedelta(minutes=since)))), item)
    expected = None if due is None else (NOW + timedelta(minutes=due)).timestamp()
    assert value(shown, "monitor_next_window_timestamp_seconds", **MONITOR) == expected


def test_no_window_is_due_while_nothing_serves() -> None:
    assert value(show(deployment(), monitor()), "monitor_next_window_timestamp_seconds", **MONITOR) is None


def test_series_vanish_with_their_object() -> None:
    cache, item = Cache(), body("ModelTraining", training_spec())
    cache.put(item["kind"], item)
    assert b'training="cancer"' in render_states(copy_states(cache), NOW)
    cache.remove(item["kind"], item)
    assert b'training="cancer"' not in render_states(copy_states(cache), NOW)


def _documented() -> dict[str, set[str]]:
    rows = [row[1] for line in DOCS.read_text().splitlines() if (row := ROW.match(line))]
    return {name: set(labels.split(",")) - {""} for row in rows for name, labels in NAME.findall(row)}


def test_the_documentation_lists_every_metric_with_its_labels() -> None:
    ours = [item for item in vars(telemetry).values() if isinstance(item, MetricWrapperBase)]
    expected = {
        (f"{family.name}_total" if family.type == "counter" else family.name): set(item._labelnames)
        for item in ours
        for family in item.describe()
    }
    registered = {family.name for family in REGISTRY.collect() if family.name.startswith("modelloop_")}
    assert registered <= {name.removesuffix("_total") for name in expected}
    assert not {f"modelloop_{name}" for name in METRICS} & {name.removesuffix("_total") for name in expected}
    for name, metric in METRICS.items():
        expected[f"modelloop_{name}" + "_total" * metric.is_counter] = set(metric.labels)
    assert _documented() == expected
