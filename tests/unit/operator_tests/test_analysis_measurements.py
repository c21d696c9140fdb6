"""Sums of what pods report: from the candidate's side, of this measurement only, and nothing that can't be."""

import math
from dataclasses import replace

import pytest

from modelkit.contract.route import LabelReport, LatencyReport, PairReport, RouteReport, SideReport
from modelloop.decide.analysis import Measurements, merge_reports

CANDIDATE, STABLE = "sha256:candidate", "sha256:stable"
REPORT = RouteReport(
    digest=STABLE,
    other=CANDIDATE,
    measurement="step-1",
    own_side=SideReport(asked=90, answered=90, latency=LatencyReport(bounds=(0.1, 1.0), counts=(80, 10, 0))),
    other_side=SideReport(
        asked=10,
        answered=8,
        failures={"Error": 1, "Timeout": 1},
        skipped=3,
        latency=LatencyReport(bounds=(0.1, 1.0), counts=(2, 5, 1)),
    ),
    pairs=PairReport(
        requests=20,
        failed=2,
        rows=18,
        disagreements=4,
        shift_sum=1.5,
        shift_squares=2.0,
        own_counts={"a": 10, "b": 8, "c": 0},
        other_counts={"a": 6, "b": 12},
    ),
    labels=LabelReport(rows=9, own_wins=3, other_wins=1, own_loss=2, other_loss=4, difference_squares=4),
)


def merge(*reports: RouteReport, is_baking: bool = False) -> Measurements:
    return merge_reports(reports, CANDIDATE, STABLE, "step-1", is_baking=is_baking)


def test_two_pods_count_twice_what_one_does() -> None:
    one, two = merge(REPORT), merge(REPORT, REPORT)
    assert (one.pods, two.pods) == (1, 2)
    assert (two.candidate.asked, two.candidate.answered, two.candidate.skipped) == (20, 16, 6)
    assert two.candidate.failures == {"Error": 2, "Timeout": 2}
    assert two.candidate.latency.counts == (4, 10, 2)
    assert two.stable.latency.counts == (160, 20, 0)
    assert (two.pairs.rows, two.pairs.failed, two.pairs.scored, two.pairs.shift_sum) == (36, 4, 36, 3.0)
    assert two.pairs.stable_counts == {"a": 20, "b": 16, "c": 0}
    assert (two.labels.rows, two.labels.candidate_wins, two.labels.stable_wins) == (18, 2, 6)
    assert (two.labels.candidate_loss, two.labels.stable_loss) == (8, 4)


@pytest.mark.parametrize(
    "report",
    [
        replace(REPORT, measurement="step-0"),
        replace(REPORT, measurement=""),
        replace(REPORT, digest=CANDIDATE, other=STABLE),
        replace(REPORT, digest="sha256:older"),
    ],
    ids=["another step", "no step", "the candidate's own pod", "a third version"],
)
def test_other_reports_count_nothing(report: RouteReport) -> None:
    assert merge(report) == Measurements()
    assert merge(REPORT, report) == merge(REPORT)


def test_a_pod_whose_rule_names_another_version_tells_of_its_own_only() -> None:
    merged = merge(replace(REPORT, other=""))
    assert merged.pods == 1
    assert merged.stable.asked == 90
    assert merged.candidate.asked == merged.pairs.requests == merged.labels.rows == 0


def test_in_the_bake_time_the_promoted_versions_pods_report() -> None:
    tried = merge(REPORT)
    baked = merge(replace(REPORT, digest=CANDIDATE, other=STABLE), is_baking=True)
    assert (baked.candidate, baked.stable) == (tried.stable, tried.candidate)
    assert (baked.pairs.candidate_counts, baked.pairs.stable_counts) == (
        tried.pairs.stable_counts,
        tried.pairs.candidate_counts,
    )
    assert baked.pairs.shift_sum == -tried.pairs.shift_sum
    assert (baked.labels.candidate_wins, baked.labels.stable_wins) == (tried.labels.stable_wins, 1)
    assert (baked.labels.candidate_loss, baked.labels.stable_loss) == (2, 4)


def test_in_the_bake_time_the_previous_versions_failures_are_not_the_candidates() -> None:
    baked = merge(replace(REPORT, digest=CANDIDATE, other=STABLE), is_baking=True)
    assert baked.pairs.failed == 0
    assert baked.pairs.scored == 18
    assert merge(replace(REPORT, digest=CANDIDATE, other=STABLE)).pods == 0


@pytest.mark.parametrize(
    ("report", "problem"),
    [
        (replace(REPORT, other_side=replace(REPORT.other_side, asked=-1)), "candidate asked: -1 isn't a count"),
        (replace(REPORT, own_side=replace(REPORT.own_side, asked=10**13)), "isn't a count"),
        (replace(REPORT, other_side=replace(REPORT.other_side, answered=11)), "candidate answered of asked: 11 of 10"),
        (replace(REPORT, other_side=replace(REPORT.other_side, failures={"Error": -2})), "candidate Error: -2"),
        (replace(REPORT, pairs=replace(REPORT.pairs, disagreements=19)), "disagreements of compared rows: 19 of 18"),
        (replace(REPORT, pairs=replace(REPORT.pairs, other_counts={"a": -1})), "candidate predictions of a: -1"),
        (replace(REPORT, labels=replace(REPORT.labels, own_wins=9)), "wins of labelled rows: 10 of 9"),
        (
            replace(
                REPORT, own_side=replace(REPORT.own_side, latency=LatencyReport(bounds=(1.0, 0.1), counts=(1, 2, 3)))
            ),
            "the stable version's latency has 3 counts for 2 bounds",
        ),
        (
            replace(REPORT, own_side=replace(REPORT.own_side, latency=LatencyReport(bounds=(0.1,), counts=(1,)))),
            "the stable version's latency has 1 counts for 1 bounds",
        ),
        (
            replace(
                REPORT, own_side=replace(REPORT.own_side, latency=LatencyReport(bounds=(math.nan,), counts=(1, 2)))
            ),
            "that don't fit",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_numbers_that_cannot_be_are_told(report: RouteReport, problem: str) -> None:
    assert problem in merge(report).problem


def test_pods_that_do_not_go_together_are_told() -> None:
    other = LatencyReport(bounds=(0.2, 1.0), counts=(1, 2, 3))
    assert "2 different sets of bounds" in merge(REPORT, replace(REPORT, own_side=SideReport(latency=other))).problem
    assert "some a regression" in merge(REPORT, replace(REPORT, is_classification=False)).problem
    assert merge(REPORT, REPORT).problem == ""


def test_a_pod_that_has_timed_nothing_yet_goes_with_all() -> None:
    new = replace(REPORT, own_side=SideReport(), other_side=SideReport())
    assert merge(new, REPORT).problem == ""
    assert merge(new, REPORT).stable.latency == REPORT.own_side.latency


def test_a_sum_that_is_not_finite_is_kept_for_the_checks() -> None:
    merged = merge(REPORT, replace(REPORT, pairs=replace(REPORT.pairs, shift_sum=math.nan)))
    assert math.isnan(merged.pairs.shift_sum)
    assert merged.problem == ""
