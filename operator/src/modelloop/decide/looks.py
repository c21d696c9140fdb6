"""Looks of the analysis at a rollout under way: when one is due, and what it says. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from modelloop.api.common import parse_duration
from modelloop.api.deployment import ModelDeploymentSpec
from modelloop.api.rollout import RolloutStatus
from modelloop.decide.analysis import AnalysisOutcome, CustomMeasurement, decide_analysis, merge_reports
from modelloop.decide.play import Play
from modelloop.decide.route import ObservedReport
from modelloop.decide.shares import measurement_of, steps_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was measured."""

    reports: tuple[ObservedReport, ...] = ()
    custom: Mapping[str, CustomMeasurement] = field(default_factory=dict)


def next_look(spec: ModelDeploymentSpec, rollout: RolloutStatus) -> datetime:
    """When the next look is due: an interval after the last one of this step, or after its beginning."""
    last = rollout.look_time if rollout.look_time and rollout.look_time > rollout.since else rollout.since
    return last + parse_duration(spec.rollout.analysis.interval)


def look(
    spec: ModelDeploymentSpec, play: Play, evidence: Evidence, now: datetime
) -> tuple[Play, AnalysisOutcome | None]:
    """The outcome of a look that is due, and `play` with what it found; None when none is due."""
    rollout, stable = play.rollout, play.stable
    other = play.previous if rollout is not None and rollout.state == "Baking" else play.candidate
    if rollout is None or stable is None or now < next_look(spec, rollout):
        return play, None
    is_baking = rollout.state == "Baking"
    candidate = stable.digest if is_baking else rollout.digest
    reference = "" if other is None else (other.digest if is_baking else stable.digest)
    measurements = merge_reports(
        [observed.report for observed in evidence.reports],
        candidate,
        reference,
        measurement_of(rollout),
        is_baking=is_baking,
    )
    is_first = rollout.look_time is None or rollout.look_time <= rollout.since
    records = {} if is_first else {check.name: check for check in rollout.checks}
    outcome = decide_analysis(
        spec.rollout.analysis,
        measurements,
        records,
        steps=len(steps_of(spec, rollout)) + 1,
        custom=evidence.custom,
    )
    play = play.with_rollout(
        look_time=now,
        verdict=outcome.verdict,
        check=outcome.check,
        message=outcome.message[:1024],
        requests=outcome.requests,
        checks=outcome.checks,
    )
    return play, outcome
