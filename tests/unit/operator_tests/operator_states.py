"""Specs, statuses and results that the tests of the control plane start from."""

from datetime import UTC, datetime, timedelta
from typing import Any

from modelkit.contract.codec import dumps
from modelkit.contract.result import ChampionResult, Difference, TrainingResult
from modelloop.api.deployment import ModelDeploymentSpec, ServedVersion
from modelloop.api.monitor import Check, ModelMonitorSpec, Window
from modelloop.api.training import ModelTrainingSpec
from modelloop.decide.pods import ObservedPod
from modelloop.desired.workload import WorkloadSettings

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
UID = "6f1c0a52-0000-4000-8000-000000000001"
SETTINGS = WorkloadSettings(
    trainer_image="example/trainer:1", server_image="example/server:1", monitor_image="example/monitor:1"
)


def digest_of(number: int) -> str:
    """A well-formed digest, another one for each number."""
    return f"sha256:{number:08x}{number:056x}"


def training_spec(**fields: Any) -> ModelTrainingSpec:
    """The smallest ModelTraining, with `fields` in addition."""
    return ModelTrainingSpec.model_validate(
        {
            "data": {"uri": "builtin://breast_cancer", "target": "target"},
            "candidates": [{"estimator": "LogisticRegression"}],
            "gates": [{"metric": "f1", "min": 0.9}],
        }
        | fields
    )


def deployment_spec(**fields: Any) -> ModelDeploymentSpec:
    """The smallest ModelDeployment, with `fields` in addition."""
    return ModelDeploymentSpec.model_validate({"trainingRef": {"name": "cancer"}} | fields)


def monitor_spec(**fields: Any) -> ModelMonitorSpec:
    """The smallest ModelMonitor that retrains, with `fields` in addition."""
    return ModelMonitorSpec.model_validate(
        {"deploymentRef": {"name": "cancer"}, "schedule": "*/15 * * * *", "retrain": {}} | fields
    )


def result(**fields: Any) -> TrainingResult:
    """What a trainer reports of a good version."""
    return TrainingResult(
        **(
            {
                "outcome": "Succeeded",
                "digest": digest_of(1),
                "path": "models/team/cancer/1-0a1b2c3d",
                "task": "Classification",
                "metric": "f1",
                "estimator": "LogisticRegression",
                "metrics": {"f1": 0.95, "accuracy": 0.96, "log_loss": 0.1},
                "trivial": {"f1": 0.6, "accuracy": 0.6, "log_loss": 0.7},
                "evaluated_on": "Test",
                "train_rows": 455,
                "test_rows": 114,
                "format": "Onnx",
            }
            | fields
        )
    )


def compared(value: float, low: float | None = None, high: float | None = None, metric: str = "f1") -> ChampionResult:
    """The champion, with the new version better by `value`."""
    difference = Difference(
        value=value, low=value - 0.01 if low is None else low, high=value + 0.01 if high is None else high
    )
    return ChampionResult(number=1, metrics={metric: 0.9}, differences={metric: difference})


def pod(name: str = "pod-1", **fields: Any) -> ObservedPod:
    """A pod that has just been made."""
    return ObservedPod(**({"name": name, "created": NOW, "phase": "Pending"} | fields))


def ended_pod(message: str | TrainingResult, exit_code: int = 0, **fields: Any) -> ObservedPod:
    """A pod whose main container has ended and left `message`."""
    text = message if isinstance(message, str) else dumps(message)
    phase = "Failed" if exit_code else "Succeeded"
    reason = "Error" if exit_code else "Completed"
    return pod(
        **({"phase": phase, "exit_code": exit_code, "terminated_reason": reason, "terminated_message": text} | fields)
    )


def served(number: int, since: datetime = NOW) -> ServedVersion:
    """A version in play."""
    digest = digest_of(number)
    return ServedVersion(
        number=number,
        path=f"models/team/cancer/{number}-0a1b2c3d",
        digest=digest,
        deployment=f"cancer-{number:010x}",
        since=since,
    )


def window(
    minutes: int = 0, *, state: str = "Breached", number: int = 1, labels: int = 100, check: str = "Drift"
) -> Window:
    """A window of an hour that ended `minutes` after NOW, with one check in `state`."""
    end = NOW + timedelta(minutes=minutes)
    return Window(
        start=end - timedelta(hours=1),
        end=end,
        version=number,
        digest=digest_of(number),
        rows=500,
        labels=labels,
        checks=(Check(name=check, state=state, message="3 of 30 features drifted"),),
        report="reports/team/cancer/x",
    )
