"""Any history of rollouts: nothing unproven is promoted, nothing without a Ready pod is asked, and all of them end."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from modelloop.decide.analysis import CustomMeasurement
from modelloop.decide.deployment_state import ObservedDeployment
from modelloop.decide.looks import Evidence, look
from modelloop.decide.play import Play
from tests.unit.operator_tests.deployment_world import Health
from tests.unit.operator_tests.operator_states import digest_of
from tests.unit.operator_tests.rollout_world import GOOD, STEPS, Behaviour, RolloutWorld, canary

NUMBERS = st.integers(1, 4)
HEALTH: st.SearchStrategy[Health] = st.sampled_from(["good", "good", "good", "starting", "refusing", "crashing"])
BEHAVIOURS = st.sampled_from(
    [
        GOOD,
        Behaviour(errors=50),
        Behaviour(errors=50, failure="Timeout"),
        Behaviour(errors=50, failure="Unreachable"),
        Behaviour(errors=2),
        Behaviour(disagreements=90),
        Behaviour(is_slow=True),
        Behaviour(is_nan=True),
    ]
)
COMMANDS = st.sampled_from(["abort", "pause", "promote", "resume", "rollback"])
PROMETHEUS = {"address": "http://prometheus:9090", "checks": [{"name": "own", "query": "up", "max": 1}]}


@st.composite
def rollouts(draw: st.DrawFn) -> dict[str, Any]:
    """A spec.rollout and what else canary() takes."""
    analysis: dict[str, Any] = {
        "onFailure": draw(st.sampled_from(["Rollback", "Pause"])),
        "onNoTraffic": draw(st.sampled_from(["Rollback", "Pause"])),
        "onError": draw(st.sampled_from(["Rollback", "Pause"])),
        "interval": draw(st.sampled_from(["1s", "3s"])),
    }
    if draw(st.booleans()):
        analysis["prometheus"] = PROMETHEUS
    strategy = draw(st.sampled_from(["Canary", "Canary", "Canary", "BlueGreen", "Recreate"]))
    steps = draw(st.lists(st.sampled_from(STEPS[1:]), min_size=1, max_size=3))
    if draw(st.booleans()):
        steps = [STEPS[0], *steps]
    return {
        "strategy": strategy,
        "steps": steps,
        "promotion": draw(st.sampled_from(["Automatic", "Automatic", "Manual"])),
        "stepDeadline": draw(st.sampled_from(["20s", "1h"])),
        "pauseDeadline": "1h",
        "analysis": analysis,
    }


class RolloutLife(RuleBasedStateMachine):
    """Everything that may happen to a rollout, the loss of pods and of passes included."""

    @initialize(rollout=rollouts(), seconds=st.integers(0, 20))
    def begin(self, rollout: dict[str, Any], seconds: int) -> None:
        self.world: RolloutWorld = canary(**rollout)
        self.tokens = 0
        self.world.champion = 2
        self._run(seconds)

    @rule(crash=st.booleans())
    def reconcile(self, crash: bool) -> None:
        self._pass(crash=crash)

    def _pass(self, *, crash: bool = False) -> None:
        world, stored, observed = self.world, self.world.status, self.world.observe()
        handled = stored.handled
        plan = world.reconcile(crash_after_status=crash)
        status = world.status
        asked = status.handled != handled
        ready = {server.name for server in observed.servers if server.ready > 0}
        complete = {server.name for server in observed.servers if server.is_complete}
        assert stored.stable is None or status.stable is not None
        assert stored.stable is not None
        assert status.stable is not None
        if status.stable.digest != stored.stable.digest:
            was_previous = stored.previous is not None and stored.previous.digest == status.stable.digest
            assert status.stable.deployment in (ready if was_previous else complete)
        if not asked:
            self._check_verdict(observed)
        for route_rule in plan.route.rules:
            if status.candidate is not None and route_rule.other == status.candidate.digest:
                assert status.candidate.deployment in ready, "a version without a Ready pod is asked"
        digests = [version.digest for version in (status.stable, status.candidate, status.previous) if version]
        assert len(digests) == len(set(digests))
        assert (status.candidate is None) or status.rollout is not None
        assert status.rollout is None or status.rollout.state != "Baking" or status.rollout.digest == digests[0]

    def _check_verdict(self, observed: ObservedDeployment) -> None:
        """A step ends upwards by a Successful verdict, as nobody asked for more."""
        before, after = observed.status, self.world.status
        old, new = before.rollout, after.rollout
        if old is None or old.state != "Stepping" or before.stable is None or after.stable is None:
            return
        is_further = new is not None and new.id == old.id and (new.step > old.step or new.state == "Promoting")
        if is_further or (before.stable.digest != after.stable.digest and after.stable.digest == old.digest):
            evidence = Evidence(reports=observed.reports, custom=observed.custom)
            seen, _ = look(observed.spec, Play.of(before), evidence, self.world.now)
            assert seen.rollout is not None
            assert seen.rollout.verdict == "Successful", f"{old} -> {new}"

    @rule(seconds=st.integers(5, 30))
    def run(self, seconds: int) -> None:
        self._run(seconds)

    def _run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.world.wait(timedelta(seconds=1))
            self.world.follow()
            self.world._serve()
            self._pass()

    @rule(number=NUMBERS, seconds=st.integers(0, 20))
    def train(self, number: int, seconds: int) -> None:
        self.world.champion = number
        self._run(seconds)

    @rule(number=NUMBERS, health=HEALTH)
    def change_health(self, number: int, health: Health) -> None:
        self.world.make(number, health)

    @rule(number=NUMBERS, behaviour=BEHAVIOURS)
    def behave(self, number: int, behaviour: Behaviour) -> None:
        self.world.behaviours[number] = behaviour

    @rule(rate=st.sampled_from([0, 40, 400]))
    def change_traffic(self, rate: int) -> None:
        self.world.rate = rate
        self._run(12)

    @rule(value=st.sampled_from([0.5, 2.0, None]))
    def measure(self, value: float | None) -> None:
        error = "" if value is not None else "no answer"
        self.world.custom["own"] = CustomMeasurement(time=self.world.now, value=value, error=error)

    @rule(command=COMMANDS, is_full=st.booleans())
    def ask(self, command: str, is_full: bool) -> None:
        self.tokens += 1
        self.world.annotations[command] = f"{'full-' if is_full else ''}{self.tokens}"
        self._run(2)

    @rule(replicas=st.integers(0, 4))
    def scale(self, replicas: int) -> None:
        self.world.edit(replicas=replicas)

    @rule(number=NUMBERS)
    def lose_pods(self, number: int) -> None:
        for name, server in self.world.servers.items():
            if digest_of(number).removeprefix("sha256:").startswith(server.digest_label):
                self.world.servers[name] = replace(server, available=0, updated=0, total=0, pods=())
        self._pass()

    @rule(delay=st.sampled_from([timedelta(minutes=1), timedelta(minutes=5), timedelta(hours=2)]))
    def wait(self, delay: timedelta) -> None:
        self.world.wait(delay)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        for number in range(1, 6):
            world.make(number, "good")
        world.behaviours.clear()
        world.rate = 400
        world.annotations.clear()
        world.edit(replicas=max(world.spec.replicas, 1))
        for _ in range(60):
            world.wait(timedelta(minutes=30))
            world.settle(limit=20)
        assert world.status.rollout is None, world.status.rollout
        world.champion = 5
        world.edit(rollout={"bakeTime": "10s"})
        for _ in range(6):
            world.wait(timedelta(minutes=1))
            world.settle(limit=20)
        assert world.status.stable is not None
        assert (world.status.stable.number, world.answering) == (5, world.spec.replicas)
        assert (world.status.rollout, world.status.candidate, world.status.previous) == (None, None, None)
        assert len(world.servers) == 1


RolloutLife.TestCase.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRolloutLife = RolloutLife.TestCase
