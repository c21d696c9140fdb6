"""What a CustomResourceDefinition says beside the schema: names, printer columns, subresources."""

from dataclasses import dataclass
from typing import Any

from modelloop.api.common import ApiModel, cel
from modelloop.api.deployment import ModelDeploymentSpec, ModelDeploymentStatus
from modelloop.api.monitor import ModelMonitorSpec, ModelMonitorStatus
from modelloop.api.training import ModelTrainingSpec, ModelTrainingStatus

MAX_NAME = 52
"""Longest metadata.name: names of children add a suffix and must still fit 63 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """An additional printer column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""

    def to_crd(self) -> dict[str, Any]:
        """As in `additionalPrinterColumns`."""
        column: dict[str, Any] = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.priority:
            column["priority"] = self.priority
        return column | ({"description": self.description} if self.description else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One custom resource."""

    name: str
    plural: str
    short_name: str
    spec: type[ApiModel]
    status: type[ApiModel]
    columns: tuple[Column, ...]
    scale: dict[str, str] | None = None
    description: str = ""


def _condition(condition: str, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{condition}")].{field}'


_READY = Column(name="Ready", path=_condition("Ready"))
_REASON = Column(name="Reason", path=_condition("Ready", "reason"))
_AGE = Column(name="Age", path=".metadata.creationTimestamp", type="date")
_MESSAGE = Column(name="Message", path=_condition("Ready", "message"), priority=1)

TRAINING = Kind(
    name="ModelTraining",
    plural="modeltrainings",
    short_name="mt",
    spec=ModelTrainingSpec,
    status=ModelTrainingStatus,
    description="Keeps one machine-learning model trained: runs, gates, versions and the champion.",
    columns=(
        _READY,
        _REASON,
        Column(name="Champion", path=".status.champion.number", type="integer"),
        Column(name="Metric", path=".status.champion.metric"),
        Column(name="Value", path=".status.champion.value", type="number"),
        Column(name="Run", path=".status.run.number", type="integer", description="The run under way."),
        Column(name="Progress", path=".status.run.progress.percent", type="integer", description="Percent of the run."),
        Column(name="Next", path=".status.schedule.nextScheduleTime", type="string", priority=1),
        Column(name="Estimator", path=".status.champion.estimator", priority=1),
        Column(name="Digest", path=".status.champion.digest", priority=1),
        _MESSAGE,
        _AGE,
    ),
)
DEPLOYMENT = Kind(
    name="ModelDeployment",
    plural="modeldeployments",
    short_name="md",
    spec=ModelDeploymentSpec,
    status=ModelDeploymentStatus,
    description="Serves the champion of a ModelTraining and rolls a new one out without a failed request.",
    columns=(
        _READY,
        _REASON,
        Column(name="Stable", path=".status.stable.number", type="integer"),
        Column(name="Candidate", path=".status.candidate.number", type="integer"),
        Column(name="Pods", path=".status.readyReplicas", type="integer"),
        Column(name="Rollout", path=".status.rollout.state", description="What the rollout under way does."),
        Column(name="Weight", path=".status.rollout.weight", type="number", priority=1, description="Percent."),
        Column(name="Step", path=".status.rollout.position", priority=1),
        Column(name="Verdict", path=".status.rollout.verdict", priority=1),
        Column(name="Address", path=".status.address", priority=1),
        Column(name="Digest", path=".status.stable.digest", priority=1),
        _MESSAGE,
        _AGE,
    ),
    scale={
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    },
)
MONITOR = Kind(
    name="ModelMonitor",
    plural="modelmonitors",
    short_name="mm",
    spec=ModelMonitorSpec,
    status=ModelMonitorStatus,
    description="Watches what a ModelDeployment answers and asks for retraining when it goes bad.",
    columns=(
        _READY,
        Column(name="Healthy", path=_condition("Healthy")),
        Column(name="Reason", path=_condition("Healthy", "reason")),
        Column(name="Schedule", path=".spec.schedule"),
        Column(name="Retrains", path=".status.retrains", type="integer"),
        Column(name="Last", path=".status.lastWindowTime", type="date"),
        Column(name="Message", path=_condition("Healthy", "message"), priority=1),
        _AGE,
    ),
)
KINDS = (TRAINING, DEPLOYMENT, MONITOR)

NAME_RULE = cel(
    f"self.metadata.name.size() <= {MAX_NAME} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    f"metadata.name must be at most {MAX_NAME} lower-case letters, digits and dashes and start with a letter",
)
