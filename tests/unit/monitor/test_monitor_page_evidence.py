"""What each check has measured is drawn, told in numbers, and left out where it wasn't looked at."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
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
from modelkit.monitor.page import build_page
from modelkit.monitor.report import build_report
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


@dataclass(frozen=True)
class Expected:
    metric: str = "accuracy"
    value: float = 0.81
    low: float = 0.79
    high: float = 0.83
    reference: float = 0.94
    rows: int = 500


@dataclass(frozen=True)
class CurveBin:
    confidence: float
    right: float
    reference_confidence: float
    reference_right: float
    rows: int = 40
    reference_rows: int = 80


@dataclass(frozen=True)
class Curve:
    error: float = 0.12
    reference_error: float = 0.02
    labels: int = 120
    bins: tuple[CurveBin, ...] = (
        CurveBin(0.62, 0.50, 0.61, 0.60),
        CurveBin(0.78, 0.65, 0.79, 0.80),
        CurveBin(0.97, 0.81, 0.96, 0.95),
    )


@dataclass(frozen=True)
class Importance:
    feature: str
    drop: float


@dataclass(frozen=True)
class Separated:
    auc: float = 0.83
    p_value: float = 1e-9
    rows: int = 400
    importances: tuple[Importance, ...] = (Importance(HOSTILE, 0.21), Importance("size", 0.02), Importance("age", 0.0))


@dataclass(frozen=True)
class Mattering:
    feature: str
    reference: float
    window: float


@dataclass(frozen=True)
class Attributed:
    similarity: float = 0.71
    p_value: float = 0.001
    rows: int = 200
    reference_rows: int = 200
    features: tuple[Mattering, ...] = (Mattering("age", 3.0, 1.0), Mattering(HOSTILE, 1.0, 3.0))


@dataclass(frozen=True)
class Group:
    group: str
    rows: int
    value: float
    difference: float


@dataclass(frozen=True)
class Compared:
    column: str = "city"
    metric: str = "statistical parity"
    value: float = 0.3
    limit: float = 0.1
    p_value: float = 0.0004
    breached: bool = True
    groups: tuple[Group, ...] = (Group("Ulm", 200, 0.6, 0.1), Group(HOSTILE, 190, 0.3, -0.2))


@dataclass(frozen=True)
class Fair:
    disparities: tuple[Compared, ...] = (Compared(),)
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Times:
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True)
class Step:
    start: datetime
    requests: int
    errors: int
    latency: Times


@dataclass(frozen=True)
class Served:
    codes: Mapping[int, int]
    series: tuple[Step, ...]
    requests: int = 1200
    errors: int = 36
    error_rate: float = 0.03
    timed: int = 1164
    latency: Times = Times(0.012, 0.09, 0.31)
    per_second: float = 0.33
    busiest_per_second: float = 1.5
    busiest: datetime = END - timedelta(minutes=20)
    step_seconds: float = 300.0


def served() -> Served:
    steps = tuple(
        Step(
            END - timedelta(minutes=60 - 5 * index),
            100 - 90 * (index == 4),
            3 * (index > 6),
            Times(0.01, 0.08 + 0.01 * index, 0.2 + 0.01 * index) if index != 4 else Times(None, None, None),
        )
        for index in range(12)
    )
    return Served(codes={200: 1164, 503: 36}, series=steps)


@dataclass(frozen=True)
class Examined(Examination):
    """An examination with all that checks leave behind."""

    expected: Any = None
    reliability: Any = None
    separation: Any = None
    attributions: Any = None
    fairness: Any = None
    service: Any = None


def examined(**evidence: Any) -> Examined:
    base = examine(["age", "size"], shift=2.0, classes=[0, 1])
    names = ("MultivariateDrift", "AttributionDrift", "EstimatedQuality", "Calibration", "Fairness", "Service")
    more = tuple(CheckResult(name=name, state="Breached", message="", value=0.2, limit=0.1) for name in names)
    result = replace(base.result, checks=(*base.result.checks, *more))
    found = {item.name: getattr(base, item.name) for item in fields(base)}
    return Examined(**{**found, "result": result, **evidence})


def full() -> Examined:
    return examined(
        expected=Expected(),
        reliability=Curve(),
        separation=Separated(),
        attributions=Attributed(),
        fairness=Fair(),
        service=served(),
    )


@pytest.mark.parametrize(
    ("name", "found", "parts"),
    [
        ("expected", Expected(), ["accuracy, without labels", "estimated for 500 rows", "0.79 to 0.83"]),
        ("reliability", Curve(), ["Calibration", "error 0.12 on 120 labels, 0.02 on", "97 %", "81 %"]),
        ("separation", Separated(), ["All features together", "of 0.83 (0.5: not at all, limit 0.6)", "0.21"]),
        ("attributions", Attributed(), ["What the answers are made of", "order 0.71, at least 0.9", "75 %", "25 %"]),
        ("fairness", Fair(), ["city", "statistical parity: difference 0.3, limit 0.1", "Ulm", "190", "-0.2"]),
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
    nothing = examined(service=replace(served(), requests=0, series=()), fairness=Fair(disparities=()))
    page = build_page(FULL, nothing)
    assert b"<h2>Service</h2>" not in page
    assert b"<h2>Groups</h2>" not in page


def test_many_groups_are_told_by_their_extremes() -> None:
    groups = tuple(Group(f"group {index:02d}", 50, 1 - index / 100, 0.0) for index in range(60))
    text = check(build_page(FULL, examined(fairness=Fair((replace(Compared(), groups=groups),))))).text
    assert "group 00" in text
    assert "group 59" in text
    assert "group 30" not in text


def test_the_timeline_remembers_what_was_to_be_expected() -> None:
    assert build_point(examined(expected=Expected())).estimated == 0.81
    assert build_point(examined()).estimated is None


def test_programs_get_the_same_evidence() -> None:
    evidence = json.loads(build_report(FULL, full()))["evidence"]
    assert evidence["service"]["busiestPerSecond"] == 1.5
    assert evidence["service"]["codes"] == {"200": 1164, "503": 36}
    assert evidence["calibration"]["bins"][0]["referenceRight"] == 0.6
    assert evidence["fairness"]["disparities"][0]["groups"][1]["group"] == HOSTILE
    assert json.loads(build_report(CONFIG, examine(["age"])))["evidence"]["service"] is None
