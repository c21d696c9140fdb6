"""A monitor, the deployment that it watches and the training behind it, without a cluster."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from modelloop.api.monitor import ModelMonitorSpec, ModelMonitorStatus, Window
from modelloop.decide.conditions import find_condition
from modelloop.decide.monitor import MonitorPlan, decide_monitor
from modelloop.decide.pods import ObservedPod
from modelloop.decide.reasons import ConditionType
from modelloop.decide.retrain import ObservedModel, ObservedMonitor
from tests.unit.operator_tests.operator_states import NOW, digest_of, monitor_spec, served, window

HOUR = timedelta(hours=1)


@dataclass
class MonitorWorld:
    """A monitor, the deployment that it watches and the training behind it."""

    spec: ModelMonitorSpec = field(default_factory=monitor_spec)
    status: ModelMonitorStatus = field(default_factory=ModelMonitorStatus)
    model: ObservedModel | None = field(
        default_factory=lambda: ObservedModel(
            deployment="cancer", training="cancer", digest=digest_of(1), champion_digest=digest_of(1)
        )
    )
    missing: str = ""
    pods: tuple[ObservedPod, ...] = ()
    scheduled: bool = True
    apply_error: str = ""
    token: str = ""
    generation: int = 1
    now: datetime = NOW
    plans: list[MonitorPlan] = field(default_factory=list)

    def observe(self) -> ObservedMonitor:
        return ObservedMonitor(
            name="drift",
            generation=self.generation,
            spec=self.spec,
            status=self.status,
            model=self.model,
            stable=served(1),
            missing=self.missing,
            scheduled=self.scheduled,
            pods=self.pods,
            apply_error=self.apply_error,
            token=self.token,
        )

    def reconcile(self) -> MonitorPlan:
        plan = decide_monitor(self.observe(), self.now)
        self.plans.append(plan)
        # As the API server would: what doesn't fit the schema is refused.
        text = plan.status.model_dump_json(by_alias=True, exclude_none=True)
        self.status = ModelMonitorStatus.model_validate_json(text)
        return plan

    def look(self, *windows: Window, is_clock_right: bool = True) -> MonitorPlan:
        """The monitor's pod writes windows, and a pass follows: after their end, where the clock is right."""
        if is_clock_right:
            self.now = max([self.now, *(item.end for item in windows)])
        ends = {item.end: item for item in (*self.status.windows, *windows)}
        kept = tuple(ends[end] for end in sorted(ends))[-10:]
        self.status = self.status.model_copy(update={"windows": kept})
        return self.reconcile()

    def answer(self, *, running: bool = False) -> None:
        """The training takes the latest request up."""
        assert self.model is not None
        assert self.status.retrain is not None
        self.model = replace(self.model, handled_id=self.status.retrain.id, training_running=running)


def alarmed(**fields: object) -> MonitorWorld:
    world = MonitorWorld(**fields)  # type: ignore[arg-type]
    world.look(window(-30), window(-15))
    return world


def retraining(world: MonitorWorld) -> tuple[str, str, str]:
    return condition(world, ConditionType.RETRAINING)


def condition(world: MonitorWorld, type_: ConditionType) -> tuple[str, str, str]:
    found = find_condition(world.status.conditions, type_)
    assert found is not None
    return found.status, found.reason, found.message
