"""What each check has measured is drawn, told in numbers, and left out where it wasn't looked at."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelkit.contract.monitoring import (
    AttributionConfig,
    CalibrationConfig,
    EstimatedQualityConfig,
    FairnessConfig,
    MultivariateConfig,
    ServiceConfig,
)
from modelkit.contract.result import CheckResult
from modelkit.monitor.attribution import AttributionComparison, FeatureAttribution
from modelkit.monitor.calibration import Reliability, ReliabilityBin
from modelkit.monitor.estimated import ExpectedQuality
from modelkit.monitor.fairness import Disparity, Fairness, GroupShare
from modelkit.monitor.multivariate import Importance, Separation
from modelkit.monitor.page import build_page
from modelkit.monitor.report import build_report
from modelkit.monitor.service import Latency, ServiceEvidence, ServicePoint
from modelkit.monitor.timeline import build_point
from modelkit.monitor.window import Examination
from tests.unit.monitor.test_monitor_page import CONFIG, END, check, examine

HOSTILE = "<script>x</script>"
FULL = replace(
    CONFIG,
    multivariate=MultivariateConfig(),
    estimated_quality=EstimatedQualityConfig(),
    calibration=CalibrationConfig(),
    service=ServiceConfig(max_latency_seconds=0.25),
    fairness=FairnessConfig(columns=("city",)),
    attribution=AttributionConfig(),
)


EXPECTED = ExpectedQuality(
    method="CBPE", metric="accuracy", value=0.81, low=0.79, high=0.83, reference=0.94, drop=0.13, p_value=1e-5, rows=500
)
CURVE = Reliability(
    bins=tuple(
        ReliabilityBin(
            rows=40,
            confidence=confidence,
            right=right,
            reference_rows=80,
            reference_confidence=reference,
            reference_right=reference_right,
        )
        for confidence, right, reference, reference_right in (
            (0.62, 0.50, 0.61, 0.60),
            (0.78, 0.65, 0.79, 0.80),
            (0.97, 0.81, 0.96, 0.95),
        )
    ),
    error=0.12,
    reference_error=0.02,
    excess=0.1,
    p_value=1e-4,
    brier=0.2,
    reference_brier=0.1,
    labels=120,
)
SEPARATED = Separation(
    auc=0.83,
    p_value=1e-9,
    rows=400,
    importances=(
        Importance(feature=HOSTILE, drop=0.21),
        Importance(feature="size", drop=0.02),
        Importance(feature="age", drop=0),
    ),
)
ATTRIBUTED = AttributionComparison(
    similarity=0.71,
    p_value=0.001,
    rows=200,
    reference_rows=200,
    features=(
        FeatureAttribution(feature="age", reference=3.0, window=1.0),
        FeatureAttribution(feature=HOSTILE, reference=1.0, window=3.0),
    ),
)
COMPARED = Disparity(
    column="city",
    metric="statistical parity",
    value=0.3,
    limit=0.1,
    p_value=0.0004,
    breached=True,
    groups=(GroupShare("Ulm", 200, 0.6, 0.1), GroupShare(HOSTILE, 190, 0.3, -0.2)),
)
FAIR = Fairness((COMPARED,), ())


def served() -> ServiceEvidence:
    steps = tuple(
        ServicePoint(
            start=END - timedelta(minutes=60 - 5 * index),
            requests=100 - 90 * (index == 4),
            errors=3 * (index > 6),
            latency=Latency(p50=0.01, p95=0.08 + 0.01 * index, p99=0.2 + 0.01 * index)
            if index != 4
            else Latency(p50=None, p95=None, p99=None),
        )
        for index in range(12)
    )
    return ServiceEvidence(
        requests=1200,
        errors=36,
        error_rate=0.03,
        p_value=1e-6,
        codes={200: 1164, 503: 36},
        timed=1164,
        latency=Latency(p50=0.012, p95=0.09, p99=0.31),
        p99_low=0.28,
        per_second=0.33,
        busiest_per_second=1.5,
        busiest=END - timedelta(minutes=20),
        step_seconds=300.0,
        series=steps,
        objects=2,
        skipped=0,
    )


def examined(**evidence: Any) -> Examination:
    """An examination with what checks leave behind."""
    base = examine(["age", "size"], shift=2.0, classes=[0, 1])
    names = ("MultivariateDrift", "AttributionDrift", "EstimatedQuality", "Calibration", "Fairness", "Service")
    more = tuple(CheckResult(name=name, state="Breached", message="", value=0.2, limit=0.1) for name in names)
    result = replace(base.result, checks=(*base.result.checks, *more))
    return replace(base, **{"result": result, **evidence})


def full() -> Examination:
    return examined(
        expected=EXPECTED,
        reliability=CURVE,
        separation=SEPARATED,
        attributions=ATTRIBUTED,
        fairness=FAIR,
        service=served(),
    )


@pytest.mark.parametrize(
    ("name", "found", "parts"),
    [
        ("expected", EXPECTED, ["accuracy, without labels", "estimated for 500 rows", "0.79 to 0.83"]),
        ("reliability", CURVE, ["Calibration", "error 0.12 on 120 labels, 0.02 on", "97 %", "81 %"]),
        ("separation", SEPARATED, ["All features together", "of 0.83 (0.5: not at all, limit 0.6)", "0.21"]),
        ("attributions", ATTRIBUTED, ["What the answers are made of", "order 0.71, at least 0.9", "75 %", "25 %"]),
        ("fairness", FAIR, ["city", "statistical parity: difference 0.3, limit 0.1", "Ulm", "190", "-0.2"]),
        ("service", served(), ["36, 3 % of the requests", "p50 12 ms, p95 90 ms, p99 310 ms", "at most 250 ms", "503"]),
    ],
)
def test_what_a_check_measured_is_drawn_and_told(name: str, found: Any, parts: list[str]) -> None:
    with_it, without = build_page(FULL, examined(**{name: found})), build_page(FULL, examined())
    text = check(with_it).text
    assert [part for part in parts if part not in text] == []
    assert with_it.count(b"<svg") > without.count(b"<svg")
    assert with_it.count(b"<table") > without.count(b"<table")


def test_all_of_it_is_one_small_escaped_page() -> None:
    page = build_page(FULL, full())
    checker = check(page)
    assert "script" not in checker.tags
    assert HOSTILE in checker.text
    assert len(page) < 200_000
    order = ["How the features change together", "Quality", "Groups", "Service", "All features"]
    places = [page.index(f"<h2>{title}</h2>".encode()) for title in order]
    assert places == sorted(places)


def test_the_card_of_the_service_tells_shares_of_errors_from_seconds() -> None:
    def page(value: float, limit: float) -> str:
        base = examined()
        checks = (CheckResult(name="Service", state="Breached", message="", value=value, limit=limit),)
        return check(build_page(FULL, replace(base, result=replace(base.result, checks=checks)))).text

    assert "3 % of the requests failed (at most 1 %)" in page(0.03, 0.01)
    assert "0.31 s, the 99th percentile of the times (at most 0.25)" in page(0.31, 0.25)


def test_a_part_that_is_not_configured_is_not_drawn() -> None:
    page = build_page(CONFIG, full())
    for title in (b"<h2>Service</h2>", b"<h2>How the features change together</h2>", b"Calibration</b>"):
        assert title not in page


def test_a_service_without_a_request_and_groups_that_were_too_small_draw_nothing() -> None:
    nothing = examined(service=replace(served(), requests=0, busiest=None, series=()), fairness=Fairness((), ()))
    page = build_page(FULL, nothing)
    assert b"<h2>Service</h2>" not in page
    assert b"<h2>Groups</h2>" not in page


def test_many_groups_are_told_by_their_extremes() -> None:
    groups = tuple(GroupShare(f"group {index:02d}", 50, 1 - index / 100, 0.0) for index in range(60))
    text = check(build_page(FULL, examined(fairness=Fairness((replace(COMPARED, groups=groups),), ())))).text
    assert "group 00" in text
    assert "group 59" in text
    assert "group 30" not in text


def test_the_timeline_remembers_what_was_to_be_expected() -> None:
    assert build_point(examined(expected=EXPECTED)).estimated == 0.81
    assert build_point(examined()).estimated is None


def test_programs_get_the_same_evidence() -> None:
    evidence = json.loads(build_report(FULL, full()))["evidence"]
    assert evidence["service"]["busiestPerSecond"] == 1.5
    assert evidence["service"]["codes"] == {"200": 1164, "503": 36}
    assert evidence["calibration"]["bins"][0]["referenceRight"] == 0.6
    assert evidence["fairness"]["disparities"][0]["groups"][1]["group"] == HOSTILE
    assert json.loads(build_report(CONFIG, examine(["age"])))["evidence"]["service"] is None
