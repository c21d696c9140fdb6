"""Any history of a training, however absurd, converges and keeps the promises of the loop."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from modelloop.api.lifecycle import RunCost, ScheduleStatus, Spending
from modelloop.api.training import (
    ChampionStatus,
    HandledTrigger,
    ModelTrainingStatus,
    RunRecord,
    RunStatus,
    Trigger,
)
from modelloop.decide.pods import ObservedPod
from modelloop.decide.results import RESULT_GRACE
from modelloop.decide.runs import ObservedJob, ScrapedProgress
from modelloop.decide.training import decide_training
from modelloop.desired.training import begin_run, spec_hash
from tests.unit.operator_tests.operator_states import (
    NOW,
    UID,
    compared,
    digest_of,
    ended_pod,
    pod,
    result,
    training_spec,
)
from tests.unit.operator_tests.training_world import NAME, TrainingWorld

SPECS = (
    training_spec(),
    training_spec(seed=1),
    training_spec(retries=0),
    training_spec(image="example/other:1"),
    training_spec(gates=[]),
    training_spec(suspend=True),
    training_spec(queueName="team", tuning={"parallelism": 2}),
    training_spec(queueName="team", suspend=True),
    training_spec(approval="Manual", historyLimit=2),
    training_spec(schedule="*/30 * * * *", budget={"cpuHours": 1, "window": "2h"}, historyLimit=1),
)
REPORTS = st.sampled_from(
    [
        result(),
        result(champion=compared(0.1)),
        result(metrics={"f1": 0.2}),
        result(metrics={}),
        result(champion=compared(-0.2)),
        result(digest=None),
        "",
        "rubbish",
    ]
)
FAILURES = st.sampled_from(['{"outcome":"Failed","reason":"ColumnNotFound","message":"no"}', "Traceback", ""])
PODS = st.sampled_from(
    [
        pod(),
        pod(phase="Running", running=True),
        pod(waiting_reason="ErrImagePull"),
        pod(waiting_reason="CreateContainerConfigError", secrets=("keys",)),
        pod(unschedulable="0/1 nodes are available: 1 Insufficient cpu."),
        ended_pod(result()),
        ended_pod("", 1),
        ended_pod("", 137, terminated_reason="OOMKilled"),
    ]
)
TOKENS = st.sampled_from(["", "a", "b", "c"])
DELAYS = st.sampled_from([timedelta(0), timedelta(seconds=1), RESULT_GRACE, timedelta(hours=2)])


class TrainingLife(RuleBasedStateMachine):
    """Everything that may happen to a training, in any order, with lost, late and repeated passes."""

    @initialize(spec=st.sampled_from(SPECS), token=TOKENS)
    def begin(self, spec: object, token: str) -> None:
        self.world = TrainingWorld(spec=spec, token=token)  # type: ignore[arg-type]
        self.numbers: dict[str, int] = {}
        self.triggers: dict[tuple[str, str], int] = {}
        self.highest = 0

    @rule(crash=st.booleans())
    def reconcile(self, crash: bool) -> None:
        stored = self.world.status
        plan = self.world.reconcile(crash_after_status=crash)
        status = self.world.status
        assert status.runs >= stored.runs
        assert set(plan.expire_jobs).isdisjoint({stored.run.job} if stored.run else set())
        if plan.new_run is not None:
            assert stored.run is None or status.history[0].number == stored.run.number
            assert plan.new_run.number > self.highest
            self.highest = plan.new_run.number
            trigger = plan.new_run.trigger
            if trigger.reason in ("Requested", "Monitor"):
                self._asked_once(trigger)
        if status.champion != stored.champion:
            self._is_sound_choice(stored, status)
        if plan.new_run is not None:
            assert not self.world.spec.suspend
        assert set(plan.suspend_jobs).isdisjoint(plan.resume_jobs)
        for name in (*plan.suspend_jobs, *plan.resume_jobs):
            assert not self.world.jobs[name].queue if name in self.world.jobs else True

    def _is_sound_choice(self, stored: ModelTrainingStatus, status: ModelTrainingStatus) -> None:
        assert status.champion is not None
        record = next((item for item in status.history if item.number == status.champion.number), None)
        if record is None:  # a person confirmed the one that is the champion already
            assert stored.champion is not None
            assert status.champion.number == stored.champion.number
            return
        assert record.verdict == "Approved"
        assert (record.digest, record.number) == (status.champion.digest, status.champion.number)
        assert all(value == value for value in record.metrics.values())
        newest = next(item for item in status.history if item.verdict in ("Approved", "Rejected", "Inconclusive"))
        is_by_itself = self.world.spec.approval == "Automatic" and record.number == newest.number
        assert is_by_itself or status.champion.number == int(self.world.approve)

    def _asked_once(self, trigger: Trigger) -> None:
        source = f"monitor/{trigger.monitor}" if trigger.monitor else "annotation"
        handled = {entry.source: entry for entry in self.world.status.handled}
        assert handled[source].id == trigger.id
        key = (source, trigger.id)
        # A token that returns after another one is a new request; right after itself it isn't.
        assert self.triggers.get(key) != handled[source].number
        self.triggers[key] = handled[source].number

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @precondition(lambda self: self.world.status.run is not None and self.world.job in self.world.jobs)
    @rule(report=REPORTS, late=st.booleans())
    def complete(self, report: object, late: bool) -> None:
        if isinstance(report, str):
            self.world.complete(report)
        else:
            number = self.world.status.runs
            self.world.complete(replace(report, digest=report.digest and digest_of(number)))  # type: ignore[type-var,attr-defined]
        if late:
            self.world.lose_pods(self.world.job)

    @precondition(lambda self: self.world.status.run is not None and self.world.job in self.world.jobs)
    @rule(report=FAILURES)
    def fail(self, report: str) -> None:
        self.world.fail(report)

    @precondition(lambda self: self.world.status.run is not None)
    @rule(observed=PODS)
    def show(self, observed: ObservedPod) -> None:
        self.world.show(observed)

    @precondition(lambda self: self.world.created)
    @rule(data=st.data())
    def lose_job(self, data: st.DataObject) -> None:
        self.world.lose_job(data.draw(st.sampled_from(self.world.created)))

    @rule(spec=st.sampled_from(SPECS))
    def edit(self, spec: object) -> None:
        self.world.edit(spec)  # type: ignore[arg-type]

    @rule(token=TOKENS)
    def annotate(self, token: str) -> None:
        self.world.token = token

    @rule(number=st.sampled_from(["", "1", "2", "3", "7", "no"]))
    def approve(self, number: str) -> None:
        self.world.approve = number

    @precondition(lambda self: self.world.created)
    @rule(data=st.data(), suspended=st.booleans())
    def let_a_queue_decide(self, data: st.DataObject, suspended: bool) -> None:
        name = data.draw(st.sampled_from(self.world.created))
        job = self.world.jobs.get(name)
        if job is not None and job.queue and job.state == "Active":
            self.world.jobs[name] = replace(job, suspended=suspended)

    @rule(percent=st.integers(0, 100))
    def progress(self, percent: int) -> None:
        self.world.progress = ScrapedProgress(percent=percent, stage="Searching", time=self.world.now)

    @rule(monitor=st.sampled_from(["drift", "quality"]), number=st.integers(1, 3))
    def ask(self, monitor: str, number: int) -> None:
        self.world.ask(monitor, f"{monitor}/{number}", NOW + timedelta(hours=number))

    @rule(error=st.sampled_from(["", "the API server refused an object: exceeded quota"]))
    def refuse(self, error: str) -> None:
        self.world.apply_error = error

    @rule(delay=DELAYS)
    def wait(self, delay: timedelta) -> None:
        self.world.wait(delay)

    @invariant()
    def the_history_is_bounded_and_newest_first(self) -> None:
        numbers = [record.number for record in self.world.status.history]
        assert len(numbers) <= 10, "the default limit, and the highest of these specs"
        assert numbers == sorted(set(numbers), reverse=True)

    @invariant()
    def a_run_is_newer_than_every_record(self) -> None:
        status = self.world.status
        if status.run is not None and status.history:
            assert status.run.number > status.history[0].number

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.apply_error = ""
        self.world.wait(timedelta(hours=1))
        self.world.settle()
        active = [job for job in self.world.jobs.values() if job.state == "Active"]
        assert len(active) <= 1
        if not self.world.spec.suspend:
            assert bool(active) == (self.world.status.run is not None)
        elif active:
            assert active[0].suspended
            assert not active[0].queue
        assert len(self.world.worker_jobs) <= 1
        if self.world.worker_jobs:
            assert active
            assert not active[0].suspended


TrainingLife.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestTrainingLife = TrainingLife.TestCase


@st.composite
def arbitrary_status(draw: st.DrawFn) -> ModelTrainingStatus:
    """A status that no history explains: of another spec, half written, with gaps."""
    hashes = st.sampled_from(["", "other", *map(spec_hash, SPECS)])
    trigger = st.sampled_from(
        [Trigger(reason="Created"), Trigger(reason="ResultLost", id="1"), Trigger(reason="Monitor")]
    )
    numbers = draw(
        st.lists(st.integers(1, 30), max_size=10, unique=True).map(lambda found: sorted(found, reverse=True))
    )
    history = tuple(
        RunRecord(
            number=number,
            verdict=draw(st.sampled_from(["Approved", "Rejected", "Inconclusive", "Failed", "Superseded"])),
            reason=draw(st.sampled_from(["", "ResultLost", "Approved"])),
            trigger=draw(trigger),
            spec_hash=draw(hashes),
            pod_hash=draw(hashes),
            start_time=NOW,
            completion_time=NOW,
            path=draw(st.sampled_from([None, f"models/team/cancer/{number}-x"])),
            digest=draw(st.sampled_from([None, digest_of(number + 100)])),
            metric="f1",
            metrics=draw(st.sampled_from([{}, {"f1": 0.95}])),
            cost=draw(st.sampled_from([None, RunCost(cpu_seconds=1800)])),
        )
        for number in numbers
    )
    runs = draw(st.integers(max([0, *numbers]), 40))
    run: RunStatus | None = None
    if draw(st.booleans()):
        run = begin_run(
            draw(st.sampled_from(SPECS)),
            namespace="team",
            name=NAME,
            uid=UID,
            number=runs + 1,
            trigger=draw(trigger),
            champion=None,
            feedback=None,
            now=NOW,
        )
        runs += 1
    champion = None
    if draw(st.booleans()):
        champion = ChampionStatus(
            number=draw(st.integers(1, 40)),
            path="models/x",
            digest=digest_of(1),
            metric="f1",
            value=0.9,
            spec_hash=draw(hashes),
            approved_time=NOW,
            chosen_after=draw(st.sampled_from([None, 1, 40])),
        )
    handled = tuple(
        HandledTrigger(source=source, id=draw(TOKENS), number=draw(st.integers(1, 40)))
        for source in draw(st.sets(st.sampled_from(["annotation", "approve", "monitor/drift", "monitor/gone"])))
    )
    times = st.sampled_from([NOW - timedelta(days=400), NOW, NOW + timedelta(days=400)])
    schedule = None
    if draw(st.booleans()):
        expression = draw(st.sampled_from(["*/30 * * * *", "@daily", "rubbish"]))
        schedule = ScheduleStatus(expression=expression, next_schedule_time=draw(times))
    spent = [
        Spending(number=number, time=draw(times), cpu_seconds=4000.0) for number in draw(st.sets(st.integers(1, 40)))
    ]
    return ModelTrainingStatus(
        runs=runs,
        run=run,
        champion=champion,
        history=history,
        handled=handled,
        observed_generation=3,
        schedule=schedule,
        spent=tuple(spent[:64]),
    )


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    status=arbitrary_status(),
    spec=st.sampled_from(SPECS),
    states=st.lists(st.sampled_from(["Active", "Complete", "Failed"]), max_size=3),
    current=st.sampled_from(["Active", "Complete", "Failed", None]),
    pods=st.lists(PODS, max_size=3),
    token=TOKENS,
    approve=st.sampled_from(["", "1", "5", "a", "x"]),
    ids=st.dictionaries(st.sampled_from(["drift", "quality"]), st.sampled_from(["a", "b"])),
    error=st.sampled_from(["", "refused"]),
    ended=st.sampled_from([None, NOW, NOW + timedelta(days=1), NOW - timedelta(days=1)]),
)
def test_any_state_converges_and_a_further_pass_changes_nothing(
    status: ModelTrainingStatus,
    spec: object,
    states: list[str],
    current: str | None,
    pods: list[ObservedPod],
    token: str,
    approve: str,
    ids: dict[str, str],
    error: str,
    ended: object,
) -> None:
    world = TrainingWorld(spec=spec, status=status, token=token, approve=approve, apply_error=error)  # type: ignore[arg-type]
    for monitor, id_ in ids.items():
        world.ask(monitor, id_)
    for index, state in enumerate(states):
        world.jobs[f"job-{index}"] = ObservedJob(name=f"job-{index}", created=NOW, state=state)  # type: ignore[arg-type]
    if status.run is not None and current is not None:
        when = ended if current != "Active" else None
        world.jobs[world.job] = ObservedJob(name=world.job, created=NOW, state=current, ended=when)  # type: ignore[arg-type]
        world.pods[world.job] = tuple(replace(item, name=f"pod-{index}") for index, item in enumerate(pods))
    champion = world.status.champion
    world.settle(limit=6)
    plan = decide_training(world.observe(), world.now)
    assert plan.status == world.status
    assert plan.new_run is None
    assert plan.delete_jobs == () or error
    assert plan.expire_jobs == ()
    assert plan.events == ()
    assert plan.suspend_jobs == plan.resume_jobs == ()
    assert plan.job_wanted == (world.status.run is not None and not world.spec.suspend)
    if world.status.champion is not None and (champion is None or world.status.champion.number != champion.number):
        assert {"Approved"} == {
            record.verdict for record in world.status.history if record.digest == world.status.champion.digest
        }
