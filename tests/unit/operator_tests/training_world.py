"""A small pure cluster for ModelTraining: Jobs appear, run and end; a pass is what the reconciler does with a plan."""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta

from modelkit.contract.result import TrainingResult
from modelloop.api.training import Feedback, ModelTrainingSpec, ModelTrainingStatus, RunRecord
from modelloop.decide.conditions import find_condition
from modelloop.decide.pods import ObservedPod
from modelloop.decide.reasons import ConditionType
from modelloop.decide.runs import ObservedJob, ObservedTraining, RetrainWish, ScrapedProgress
from modelloop.decide.schedule import find_schedule_problem
from modelloop.decide.training import TrainingPlan, decide_training
from modelloop.desired.names import worker_job_name
from modelloop.desired.training import begin_run, find_spec_problem, pod_hash, spec_hash
from tests.unit.operator_tests.operator_states import NOW, UID, ended_pod, pod, result, training_spec

NAME = "cancer"


@dataclass
class TrainingWorld:
    """What is stored and what runs."""

    spec: ModelTrainingSpec = field(default_factory=training_spec)
    status: ModelTrainingStatus = field(default_factory=ModelTrainingStatus)
    generation: int = 1
    now: datetime = NOW
    jobs: dict[str, ObservedJob] = field(default_factory=dict)
    pods: dict[str, tuple[ObservedPod, ...]] = field(default_factory=dict)
    """Pods by the name of their Job."""
    token: str = ""
    approve: str = ""
    progress: ScrapedProgress | None = None
    cpus: float = 1.0
    worker_jobs: dict[str, ObservedJob] = field(default_factory=dict)
    wishes: dict[str, RetrainWish] = field(default_factory=dict)
    apply_error: str = ""
    plans: list[TrainingPlan] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    """Names of the Jobs that were made, in order."""

    def observe(self) -> ObservedTraining:
        run = self.status.run
        return ObservedTraining(
            uid=UID,
            generation=self.generation,
            spec=self.spec,
            status=self.status,
            spec_hash=spec_hash(self.spec),
            pod_hash=pod_hash(self.spec),
            run_token=self.token,
            approve_token=self.approve,
            progress=self.progress,
            cpus=self.cpus,
            memory_gib=1.0,
            worker_jobs=tuple(self.worker_jobs.values()),
            wishes=tuple(self.wishes.values()),
            jobs=tuple(self.jobs.values()),
            pods=self.pods.get(run.job, ()) if run is not None else (),
            apply_error=self.apply_error,
            spec_problem=find_spec_problem(self.spec) or find_schedule_problem(self.spec),
        )

    def reconcile(self, *, crash_after_status: bool = False) -> TrainingPlan:
        """One pass. With `crash_after_status` nothing is made after the status is written."""
        plan = decide_training(self.observe(), self.now)
        self.plans.append(plan)
        status = plan.status
        if plan.new_run is not None:
            run = begin_run(
                self.spec,
                namespace="team",
                name=NAME,
                uid=UID,
                number=plan.new_run.number,
                trigger=plan.new_run.trigger,
                champion=status.champion,
                feedback=plan.new_run.feedback,
                now=self.now,
            )
            status = status.model_copy(update={"run": run})
        # As the API server would: what doesn't fit the schema is refused.
        self.status = ModelTrainingStatus.model_validate_json(status.model_dump_json(by_alias=True, exclude_none=True))
        if crash_after_status:
            return plan
        for name in plan.delete_jobs:
            self.lose_job(name)
        for name in plan.suspend_jobs:
            self.jobs[name] = replace(self.jobs[name], suspended=True)
        for name in plan.resume_jobs:
            self.jobs[name] = replace(self.jobs[name], suspended=False)
        for name in plan.expire_jobs:
            self.jobs[name] = replace(self.jobs[name], ttl_set=True)
        run = self.status.run
        if run is not None and plan.job_wanted and not self.apply_error and run.job not in self.jobs:
            self._make_job(run.job)
        if run is not None and plan.workers_wanted and not self.apply_error:
            name = worker_job_name(run.job)
            self.worker_jobs.setdefault(name, ObservedJob(name=name, created=self.now, state="Active"))
        return plan

    def _make_job(self, name: str) -> None:
        queue = self.spec.queue_name or ""
        self.jobs[name] = ObservedJob(
            name=name, created=self.now, started=self.now, state="Active", queue=queue, suspended=bool(queue)
        )
        self.created.append(name)
        if not queue:
            self.start_pod(name)

    def start_pod(self, name: str) -> None:
        """The Job controller makes the Job's pod, and it runs."""
        self.pods[name] = (pod(f"{name}-a", created=self.now, started=self.now, phase="Running", running=True),)

    def settle(self, limit: int = 5) -> int:
        """Pass until nothing changes any more; how many passes that took."""
        for count in range(1, limit + 1):
            before = (self.status, dict(self.jobs))
            self.reconcile()
            if (self.status, dict(self.jobs)) == before:
                return count
        raise AssertionError(f"still changing after {limit} passes")

    # -- what happens in the cluster --------------------------------------------------------------------------------

    @property
    def job(self) -> str:
        """The Job of the run under way."""
        assert self.status.run is not None
        return self.status.run.job

    def complete(self, report: TrainingResult | str) -> None:
        """The current Job's pod ends well and leaves `report`."""
        self._end(ended_pod(report, name=f"{self.job}-a", created=self.now), "Complete")

    def fail(self, report: TrainingResult | str, exit_code: int = 2) -> None:
        """The current Job's pod ends badly and the Job with it."""
        self._end(ended_pod(report, exit_code, name=f"{self.job}-a", created=self.now), "Failed")

    def _end(self, ended: ObservedPod, state: str) -> None:
        self.pods[self.job] = (ended,)
        self.end_job(state)

    def end_job(self, state: str) -> None:
        """The current Job ends; its pods stay as they are."""
        name = self.job
        self.jobs[name] = replace(self.jobs[name], state=state, ended=self.now)

    def show(self, observed: ObservedPod) -> None:
        """The current Job's only pod is in this state."""
        self.pods[self.job] = (observed,)

    def lose_job(self, name: str) -> None:
        """Somebody deletes a Job, and its pods go with it."""
        self.jobs.pop(name, None)
        self.worker_jobs.pop(name, None)
        self.pods.pop(name, None)

    def lose_pods(self, name: str) -> None:
        """Somebody deletes a Job's pods."""
        self.pods[name] = ()

    def edit(self, spec: ModelTrainingSpec) -> None:
        """The user changes the spec."""
        self.spec = spec
        self.generation += 1

    def ask(self, monitor: str, id_: str, until: datetime = NOW) -> RetrainWish:
        """A monitor asks for a retrain."""
        feedback = Feedback(deployment=NAME, since=until - timedelta(hours=1), until=until, policy="Append")
        self.wishes[monitor] = RetrainWish(monitor=monitor, id=id_, feedback=feedback)
        return self.wishes[monitor]

    def wait(self, delay: timedelta) -> None:
        self.now += delay


def begun(**fields: object) -> TrainingWorld:
    """A world whose first run is under way."""
    world = TrainingWorld(**fields)  # type: ignore[arg-type]
    world.settle()
    return world


def trained(**fields: object) -> TrainingWorld:
    """A world with version 1 as champion."""
    world = begun(**fields)
    world.complete(result())
    world.settle()
    return world


def condition(world: TrainingWorld, type_: ConditionType) -> tuple[str, str, str]:
    found = find_condition(world.status.conditions, type_)
    assert found is not None, f"no condition {type_}"
    return found.status, found.reason, found.message


def last(world: TrainingWorld) -> RunRecord:
    return world.status.history[0]


def lenient_json(report: TrainingResult) -> str:
    """A result as an image that isn't strict would write it: with NaN and Infinity."""
    return json.dumps({key: value for key, value in asdict(report).items() if value is not None})
