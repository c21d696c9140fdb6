"""Whatever pods report, there is a verdict, it fits into the status, and it is Successful only for good reasons."""

import math
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.contract.route import LabelReport, LatencyReport, PairReport, RouteReport, SideReport
from modelloop.api.analysis import Analysis, CheckStatus, LatencyAnalysis, Prometheus, PrometheusCheck, QualityAnalysis
from modelloop.decide.analysis import AnalysisOutcome, CustomMeasurement, decide_analysis, merge_reports

CANDIDATE, STABLE = "sha256:candidate", "sha256:stable"
BOUNDS = (0.01, 0.1, 1.0)

COUNTS = st.integers(0, 5000) | st.integers(0, 5) | st.sampled_from([-1, 10**12, 10**400])
SUMS = st.floats() | st.floats(-100, 100)
NAMES = st.dictionaries(st.sampled_from(["a", "b", "c"]), COUNTS)
LATENCIES = st.builds(
    LatencyReport,
    bounds=st.just(BOUNDS) | st.lists(st.floats(), max_size=3).map(tuple),
    counts=st.lists(COUNTS, min_size=4, max_size=4).map(tuple) | st.just(()),
)
SIDES = st.builds(
    SideReport,
    asked=COUNTS,
    answered=COUNTS,
    failures=st.dictionaries(st.sampled_from(["Error", "Timeout"]), COUNTS),
    skipped=COUNTS,
    latency=LATENCIES,
)
PAIRS = st.builds(
    PairReport,
    requests=COUNTS,
    failed=COUNTS,
    rows=COUNTS,
    disagreements=COUNTS,
    shift_sum=SUMS,
    shift_squares=SUMS,
    own_counts=NAMES,
    other_counts=NAMES,
)
LABELS = st.builds(
    LabelReport,
    rows=COUNTS,
    own_wins=COUNTS,
    other_wins=COUNTS,
    own_loss=SUMS,
    other_loss=SUMS,
    difference_squares=SUMS,
)


@st.composite
def parts(draw: st.DrawFn) -> tuple[int, int, int]:
    """A whole and two parts of it."""
    one, other, rest = (draw(st.integers(0, 2000) | st.integers(0, 3)) for _ in range(3))
    return one + other + rest, one, other


@st.composite
def sensible_sides(draw: st.DrawFn) -> SideReport:
    asked, failed, timeouts = draw(parts())
    return SideReport(
        asked=asked,
        answered=asked - failed - timeouts,
        failures={"Error": failed, "Timeout": timeouts},
        skipped=draw(st.integers(0, 3)),
        latency=LatencyReport(bounds=BOUNDS, counts=(asked - failed - timeouts, *draw(parts()))),
    )


@st.composite
def sensible_reports(draw: st.DrawFn) -> RouteReport:
    """Counts that go together, with any sums."""
    requests, failed, _ = draw(parts())
    rows, disagreements, right = draw(parts())
    labelled, own, other = draw(parts())
    return RouteReport(
        digest=STABLE,
        other=CANDIDATE,
        measurement="now",
        is_classification=draw(st.booleans()),
        own_side=draw(sensible_sides()),
        other_side=draw(sensible_sides()),
        pairs=PairReport(
            requests=requests,
            failed=failed,
            rows=rows,
            disagreements=disagreements,
            shift_sum=draw(SUMS),
            shift_squares=draw(SUMS),
            own_counts={"a": right, "b": rows - right},
            other_counts={"a": rows - disagreements, "b": disagreements},
        ),
        labels=LabelReport(
            rows=labelled,
            own_wins=own,
            other_wins=other,
            own_loss=draw(SUMS),
            other_loss=draw(SUMS),
            difference_squares=draw(SUMS),
        ),
    )


REPORTS = sensible_reports() | st.builds(
    RouteReport,
    digest=st.sampled_from([STABLE, CANDIDATE]),
    other=st.sampled_from([STABLE, CANDIDATE, ""]),
    measurement=st.sampled_from(["now", "before"]),
    is_classification=st.booleans(),
    own_side=SIDES,
    other_side=SIDES,
    pairs=PAIRS,
    labels=LABELS,
)
ANALYSES = st.builds(
    Analysis,
    min_requests=st.sampled_from([1, 10, 100]),
    min_compared=st.sampled_from([1, 30]),
    false_rollback_rate=st.sampled_from([5e-324, 0.01, 0.2]),
    min_success_ratio=st.sampled_from([0, 0.5, 0.99, 0.999999]),
    latency=st.builds(
        LatencyAnalysis, max_p99=st.sampled_from([None, "50ms"]), max_ratio=st.sampled_from([1, 2, 1000])
    ),
    max_disagreement=st.sampled_from([0.001, 0.3, 1]),
    max_prediction_distance=st.sampled_from([0.001, 0.2, 1]),
    max_score_shift=st.sampled_from([None, 0.1]),
    quality=st.builds(QualityAnalysis, max_loss=st.sampled_from([0, 0.01, 1]), required=st.booleans()),
    failure_limit=st.sampled_from([None, 0, 2]),
    consecutive_failure_limit=st.sampled_from([None, 0, 2]),
    prometheus=st.sampled_from(
        [None, Prometheus(address="http://p", checks=(PrometheusCheck(name="errors", query="up", max=1.0),))]
    ),
)
CUSTOM = st.none() | st.builds(
    lambda value, error: {"errors": CustomMeasurement(time=datetime(2026, 1, 1, tzinfo=UTC), value=value, error=error)},
    st.none() | st.floats(),
    st.sampled_from(["", "no answer"]),
)


def look(
    analysis: Analysis,
    reports: list[RouteReport],
    records: dict[str, CheckStatus],
    custom: dict[str, CustomMeasurement] | None,
    *,
    is_baking: bool,
) -> AnalysisOutcome:
    measured = merge_reports(reports, CANDIDATE, STABLE, "now", is_baking=is_baking)
    return decide_analysis(analysis, measured, records, steps=3, custom=custom)


@settings(max_examples=80)
@given(ANALYSES, st.lists(st.lists(REPORTS, max_size=2), min_size=1, max_size=2), CUSTOM, st.booleans())
def test_any_numbers_give_a_verdict(
    analysis: Analysis, looks: list[list[RouteReport]], custom: dict[str, CustomMeasurement] | None, is_baking: bool
) -> None:
    records: dict[str, CheckStatus] = {}
    for reports in looks:
        outcome = look(analysis, reports, records, custom, is_baking=is_baking)
        records = {check.name: check for check in outcome.checks}
        assert len(records) == len(outcome.checks) <= 32
        for check in outcome.checks:
            numbers = (check.value, check.limit, check.low, check.high)
            assert all(number is None or math.isfinite(number) for number in numbers)
            assert CheckStatus.model_validate_json(check.model_dump_json(by_alias=True)) == check
        assert outcome.message or outcome.verdict == "Successful"
        assert (outcome.check == "") == (outcome.verdict == "Successful")
        if outcome.verdict == "Successful":
            assert outcome.requests >= analysis.min_requests


@settings(max_examples=40)
@given(ANALYSES, st.lists(REPORTS, min_size=1, max_size=2))
def test_a_verdict_does_not_depend_on_the_order_of_pods_or_on_what_was_asked_before(
    analysis: Analysis, reports: list[RouteReport]
) -> None:
    one, other = (look(analysis, order, {}, None, is_baking=False) for order in (reports, reports[::-1]))
    assert one.verdict == other.verdict
    assert one == look(analysis, reports, {}, None, is_baking=False)


GOOD_SIDES = st.integers(0, 3000).flatmap(
    lambda asked: st.integers(0, asked).map(
        lambda failed: SideReport(asked=asked, answered=asked - failed, failures={"Error": failed})
    )
)


@given(GOOD_SIDES, st.integers(1, 50))
def test_further_failures_never_make_a_candidate_better(side: SideReport, more: int) -> None:
    order = ["Failed", "Inconclusive", "Successful"]
    worse = SideReport(
        asked=side.asked + more, answered=side.answered, failures={"Error": side.failures["Error"] + more}
    )
    ranks = []
    for one in (worse, side):
        report = RouteReport(digest=STABLE, other=CANDIDATE, measurement="now", other_side=one)
        measured = merge_reports([report], CANDIDATE, STABLE, "now", is_baking=False)
        outcome = decide_analysis(Analysis(min_requests=1), measured, {}, steps=3)
        check = next(check for check in outcome.checks if check.name == "SuccessRatio")
        ranks.append(order.index(check.verdict))
    assert ranks[0] <= ranks[1] or side.asked == 0


@given(st.integers(0, 3000), st.integers(1, 3000), st.booleans())
def test_fewer_requests_than_wanted_are_never_successful(asked: int, wanted: int, is_compared: bool) -> None:
    """However well they went."""
    side = SideReport(asked=0 if is_compared else asked, answered=0 if is_compared else asked)
    pairs = (
        PairReport(requests=asked, rows=asked, own_counts={"a": asked}, other_counts={"a": asked})
        if is_compared
        else PairReport()
    )
    report = RouteReport(digest=STABLE, other=CANDIDATE, measurement="now", other_side=side, pairs=pairs)
    measured = merge_reports([report], CANDIDATE, STABLE, "now", is_baking=False)
    verdict = decide_analysis(Analysis(min_requests=wanted, min_compared=1), measured, {}, steps=3).verdict
    assert verdict == ("Successful" if asked >= wanted else "Inconclusive")
