"""The thin loop from outside: the three manifests, what the containers would answer, and the monitor's pod."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from modelkit.contract.codec import dumps, loads
from modelkit.contract.config import TrainerConfig
from modelkit.contract.environment import CONFIG
from modelkit.contract.files import report_directory, version_directory
from modelkit.contract.monitoring import MonitorConfig
from modelkit.contract.result import (
    ChampionResult,
    CheckResult,
    Difference,
    TrainingResult,
    WindowResult,
    termination_message,
)
from modelloop.cluster.resources import MODEL_MONITOR
from modelloop.desired import names
from tests.cluster.cluster_api import Api, Object, condition_of
from tests.cluster.cluster_node import Program, environment_of, failed, running, succeeded

API_VERSION = "modelloop.dev/v1alpha1"
NAME = "cancer"
ALL_CHILDREN: Object = {
    "replicas": 2,
    "autoscaling": {"minReplicas": 2, "maxReplicas": 4, "cpuUtilization": 70, "concurrency": 10},
    "networkPolicy": {"from": [{"podSelector": {}}, {"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}]},
}
"""The part of a ModelDeployment's spec that asks for an autoscaler, disruption budgets and a network policy."""
NEVER = "0 0 1 1 *"
"""A schedule that no test lives to see: the tests play the monitor's pod themselves."""


def training(namespace: str, name: str = NAME, **spec: Any) -> Object:
    """The smallest ModelTraining; `spec` replaces fields of its spec."""
    base = {
        "data": {"uri": "builtin://breast_cancer", "target": "target"},
        "candidates": [{"estimator": "LogisticRegression"}],
        "gates": [{"metric": "f1", "min": 0.9}],
    }
    return _custom("ModelTraining", namespace, name, base | spec)


def deployment(namespace: str, name: str = NAME, **spec: Any) -> Object:
    """The smallest ModelDeployment."""
    base = {"trainingRef": {"name": NAME}, "rollout": {"bakeTime": "1s"}}
    return _custom("ModelDeployment", namespace, name, base | spec)


def monitor(namespace: str, name: str = NAME, **spec: Any) -> Object:
    """The smallest ModelMonitor that asks for retrains."""
    return _custom("ModelMonitor", namespace, name, {"deploymentRef": {"name": NAME}, "schedule": NEVER} | spec)


def _custom(kind: str, namespace: str, name: str, spec: Object) -> Object:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def manifests(namespace: str, **serving: Any) -> tuple[Object, ...]:
    """The whole loop, as a user applies it; `serving` replaces fields of the deployment's spec."""
    return training(namespace), deployment(namespace, **serving), monitor(namespace, retrain={})


# -- what containers would do -------------------------------------------------------------------------------------


def digest_of(number: int) -> str:
    """The digest that the played trainer reports for a run; the same in every namespace, so that runs compare."""
    return f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}"


def trainer_config(pod: Object) -> TrainerConfig:
    """What the operator told a trainer."""
    return loads(TrainerConfig, environment_of(pod)[CONFIG])


def result_of(config: TrainerConfig) -> TrainingResult:
    """A good result: every run is a little better than the one before."""
    value = round(0.93 + 0.01 * config.number, 6)
    champion = None
    if config.champion is not None:
        old = round(0.93 + 0.01 * config.champion.number, 6)
        difference = Difference(value=value - old, low=value - old - 0.01, high=value - old + 0.01)
        champion = ChampionResult(
            number=config.champion.number, metrics={"f1": old}, differences={"f1": difference, "accuracy": difference}
        )
    return TrainingResult(
        outcome="Succeeded",
        digest=digest_of(config.number),
        path=version_directory(config.namespace, config.name, config.version),
        task="Classification",
        metric=config.metric,
        estimator=config.candidates[0].estimator,
        metrics={"f1": value, "accuracy": value},
        trivial={"f1": 0.5, "accuracy": 0.5},
        champion=champion,
        evaluated_on="Test" if config.feedback is None else "Recent",
        train_rows=400,
        test_rows=100,
        feedback_rows=80 if config.feedback else 0,
        format="Onnx",
    )


Change = Callable[[TrainerConfig, TrainingResult], TrainingResult]


def containers(change: Change = lambda _, result: result) -> Program:
    """What the three images would do; `change` alters what the trainer reports. An outcome Failed ends with 2."""

    def run(pod: Object) -> Sequence[Object]:
        match pod["spec"]["containers"][0]["name"]:
            case "trainer":
                config = trainer_config(pod)
                result = change(config, result_of(config))
                message = termination_message(result)
                end = failed(pod, 2, message) if result.outcome == "Failed" else succeeded(pod, message)
                return [running(pod), end]
            case "server":
                return [running(pod, ready=False), running(pod)]
            case _:
                return [running(pod), succeeded(pod)]

    return run


def refuse(reason: str, message: str) -> Change:
    """The trainer refuses its inputs."""
    return lambda _config, _result: TrainingResult(outcome="Failed", reason=reason, message=message)


def report(**fields: Any) -> Change:
    """The trainer reports other fields than it would."""
    return lambda _config, result: replace(result, **fields)


# -- the monitor's pod --------------------------------------------------------------------------------------------


def monitor_config(cron_job: Object) -> MonitorConfig:
    """What the operator tells the monitor's pods."""
    template = cron_job["spec"]["jobTemplate"]["spec"]["template"]
    return loads(MonitorConfig, environment_of(template)[CONFIG])


def breached_windows(config: MonitorConfig, count: int = 2) -> list[WindowResult]:
    """Windows in which quality was lost, with enough labels to retrain."""
    last = datetime.now(UTC).replace(microsecond=0)
    quality = CheckResult(name="Quality", state="Breached", message="f1 fell from 0.94 to 0.71", value=0.23, limit=0.05)
    windows = []
    for index in range(count):
        end = last - timedelta(seconds=60 * (count - 1 - index))
        windows.append(
            WindowResult(
                start=end - timedelta(seconds=60),
                end=end,
                version=config.version.number,
                digest=config.version.digest,
                rows=200,
                labels=100,
                checks=(quality,),
                report=report_directory(config.namespace, config.name, end),
            )
        )
    return windows


def patch_windows(api: Api, namespace: str, name: str, windows: Sequence[WindowResult]) -> Object:
    """Write windows as the monitor's pod does: server-side apply of `status.windows` and nothing else."""
    body = {
        "apiVersion": API_VERSION,
        "kind": "ModelMonitor",
        "metadata": {"name": name, "namespace": namespace},
        "status": {"windows": [json.loads(dumps(window)) for window in windows]},
    }
    return api.request(
        "PATCH",
        MODEL_MONITOR.path(namespace, name, "status"),
        body,
        "application/apply-patch+yaml",
        fieldManager="modelloop-monitor",
        force="true",
    )


# -- what the user sees -------------------------------------------------------------------------------------------


def is_ready(body: Object | None) -> bool:
    """Ready is True and tells of the newest spec."""
    ready = condition_of(body, "Ready")
    if body is None or ready.get("status") != "True":
        return False
    return bool(ready["observedGeneration"] == body["metadata"]["generation"])


def number_of(body: Object | None, role: str) -> int | None:
    """Number of the version in a role of the status: champion, stable, candidate or previous."""
    version = ((body or {}).get("status") or {}).get(role)
    return version["number"] if version else None


def server_of(number: int, name: str = NAME) -> str:
    """Name of the Deployment that serves a run's version."""
    return names.server_name(name, digest_of(number))
