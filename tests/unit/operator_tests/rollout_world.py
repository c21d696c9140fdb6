"""A deployment world with traffic: the stable version's pods route as they are told, and report what came of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from modelkit.contract.route import LatencyReport, PairReport, RouteReport, SideReport
from modelloop.decide.analysis import CustomMeasurement
from modelloop.decide.deployment_state import DeploymentPlan, ObservedDeployment
from modelloop.decide.route import ObservedReport, RouteRule
from modelloop.decide.servers import Target
from tests.unit.operator_tests.deployment_world import DeploymentWorld
from tests.unit.operator_tests.operator_states import SECOND, deployment_spec, digest_of

BOUNDS = (0.01, 0.1, 1.0)

STEPS: list[dict[str, Any]] = [
    {"shadow": 100, "hold": "10s"},
    {"weight": 10, "hold": "10s"},
    {"weight": 50, "hold": "10s"},
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What a version does with each 100 requests."""

    errors: int = 0
    disagreements: int = 0
    """With every other version."""
    failure: str = "Error"
    """The kind of `errors`."""
    is_slow: bool = False
    is_nan: bool = False
    """Sums over its predictions aren't finite."""


GOOD = Behaviour()


@dataclass
class _Counts:
    asked: int = 0
    failed: int = 0
    own: int = 0
    own_failed: int = 0
    copies: int = 0
    copies_failed: int = 0
    disagreements: int = 0


@dataclass
class RolloutWorld(DeploymentWorld):
    """See the module."""

    rate: int = 400
    """Requests a second."""
    behaviours: dict[int, Behaviour] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    alarms: dict[str, str] = field(default_factory=dict)
    custom: dict[str, CustomMeasurement] = field(default_factory=dict)
    history: tuple[int, ...] = ()
    plan: DeploymentPlan | None = None
    is_deaf: bool = False
    """No pod has been asked yet."""
    served_wrong: int = 0
    """Requests that a version answered which had no Ready pod."""
    _counts: dict[str, _Counts] = field(default_factory=dict)

    def observe(self) -> ObservedDeployment:
        return replace(
            super().observe(),
            annotations=self.annotations,
            alarms=self.alarms,
            reports=self._reports(),
            custom=self.custom,
            fallback=self._fallback(),
        )

    def reconcile(self, *, crash_after_status: bool = False) -> DeploymentPlan:
        self.plan = super().reconcile(crash_after_status=crash_after_status)
        return self.plan

    def _fallback(self) -> Target | None:
        given_up = {entry.digest for entry in self.status.failed}
        stable = self.status.stable.digest if self.status.stable is not None else ""
        for record in self.status.history:
            if record.result == "Promoted" and record.digest not in given_up | {stable}:
                return self.target_of(record.number)
        return None

    def run(self, seconds: int, *, settle: bool = True) -> None:
        """Let time pass with traffic, second by second."""
        for _ in range(seconds):
            self.wait(SECOND)
            self.follow()
            self._serve()
            if settle:
                self.settle(limit=12)
            else:
                self.reconcile()

    def run_until_over(self, seconds: int = 3600) -> None:
        """Let time pass until no rollout is under way."""
        for _ in range(seconds):
            self.run(1)
            if self.status.rollout is None and self.status.candidate is None:
                return
        raise AssertionError(f"the rollout isn't over after {seconds} s: {self.status.rollout}")

    def _rule(self) -> RouteRule | None:
        stable = self.status.stable
        if self.plan is None or stable is None:
            return None
        return next((rule for rule in self.plan.route.rules if rule.digest == stable.digest), None)

    def _serve(self) -> None:
        """One second of requests."""
        stable, rule = self.status.stable, self._rule()
        if stable is None or self.plan is None:
            return
        counts = self._counts.setdefault(self.plan.route.measurement, _Counts())
        own = self._behaviour(stable.number)
        other = GOOD if rule is None else self._behaviour(self._number(rule.other))
        routed = 0 if rule is None else round(self.rate * rule.weight / 100)
        compared = 0 if rule is None else round(self.rate * rule.compare / 100)
        counts.own += self.rate - routed
        counts.own_failed += (self.rate - routed) * own.errors // 100
        counts.asked += routed
        counts.failed += routed * other.errors // 100
        counts.copies += compared
        counts.copies_failed += compared * other.errors // 100
        counts.disagreements += compared * max(own.disagreements, other.disagreements) // 100
        if rule is not None and routed and not self._ready(rule.other):
            self.served_wrong += routed

    def _ready(self, digest: str) -> bool:
        server = next(
            (item for item in self.servers.values() if digest.removeprefix("sha256:").startswith(item.digest_label)),
            None,
        )
        return server is not None and server.ready > 0

    def _behaviour(self, number: int) -> Behaviour:
        return self.behaviours.get(number, GOOD)

    @staticmethod
    def _number(digest: str) -> int:
        number = int(digest[-8:], 16)
        assert digest_of(number) == digest
        return number

    def _reports(self) -> tuple[ObservedReport, ...]:
        stable, rule = self.status.stable, self._rule()
        if stable is None or self.plan is None or self.is_deaf:
            return ()
        name = self.plan.route.measurement
        counts = self._counts.get(name, _Counts())
        other = "" if rule is None else rule.other
        behaviour = self._behaviour(self._number(other)) if other else GOOD
        report = RouteReport(
            digest=stable.digest,
            revision="r",
            measurement=name,
            other=other,
            seconds=1.0,
            own_side=_side(counts.own, counts.own_failed, self._behaviour(stable.number)),
            other_side=_side(counts.asked, counts.failed, behaviour),
            pairs=PairReport(
                requests=counts.copies,
                failed=counts.copies_failed,
                failures={behaviour.failure: counts.copies_failed} if counts.copies_failed else {},
                rows=counts.copies - counts.copies_failed,
                disagreements=min(counts.disagreements, counts.copies - counts.copies_failed),
                shift_sum=math.nan if behaviour.is_nan else 0.0,
                own_counts={"0": counts.copies - counts.copies_failed},
                other_counts={"0": counts.copies - counts.copies_failed},
            ),
        )
        return (ObservedReport(pod="stable-0", time=self.now, report=report),)


def _side(asked: int, failed: int, behaviour: Behaviour) -> SideReport:
    answered = asked - failed
    late = failed if behaviour.failure == "Timeout" else 0
    counts = (0, 0, answered, late) if behaviour.is_slow else (answered, 0, 0, late)
    failures: Mapping[str, int] = {behaviour.failure: failed} if failed else {}
    return SideReport(
        asked=asked, answered=answered, failures=failures, latency=LatencyReport(bounds=BOUNDS, counts=counts)
    )


def begin(world: RolloutWorld, number: int = 2) -> None:
    """The training has another champion."""
    world.champion = number
    world.settle()


def state(world: RolloutWorld) -> str:
    """Of the rollout; empty: there is none."""
    return "" if world.status.rollout is None else world.status.rollout.state


def told(world: RolloutWorld) -> list[str]:
    """The reasons of all events."""
    return [str(event.reason) for plan in world.plans for event in plan.events]


def last(world: RolloutWorld) -> tuple[int, str, str]:
    """How the last rollout ended."""
    record = world.status.history[0]
    return record.number, record.result, record.reason


def stable(world: RolloutWorld) -> int | None:
    """What serves."""
    return world.status.stable.number if world.status.stable is not None else None


def canary(**fields: Any) -> RolloutWorld:
    """A world in which version 1 serves, and the next one is rolled out by steps."""
    rollout: dict[str, Any] = {
        "strategy": "Canary",
        "steps": STEPS,
        "bakeTime": "20s",
        "stepDeadline": "2m",
        "analysis": {"interval": "2s"},
    }
    analysis = rollout["analysis"] | fields.pop("analysis", {})
    rollout |= fields | {"analysis": analysis}
    world = RolloutWorld(spec=deployment_spec(rollout=rollout, replicas=2))
    world.settle()
    world.wait(timedelta(minutes=5))
    world.settle()
    return world
