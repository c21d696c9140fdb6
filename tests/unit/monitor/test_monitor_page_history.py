"""The report page over time: how it went, what was decided, and that anybody can read it."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from modelkit.contract.result import CHECKS, CheckResult, TimelinePoint
from modelkit.monitor.charts import draw_meter
from modelkit.monitor.charts_time import Line, Point, TimeChart, draw_time_chart, find_ticks
from modelkit.monitor.history import Decided, History, PastWindow, Retrain, Rollback
from modelkit.monitor.page import MAX_BYTES, build_page
from modelkit.monitor.page_overview import MEASURES
from modelkit.monitor.report import build_report
from modelkit.monitor.timeline import build_point
from tests.unit.monitor.test_monitor_page import CONFIG, END, check, examine

HOUR = timedelta(hours=1)
HOSTILE = '"><script>alert(1)</script>'


def build_history(count: int = 20, name: str = "age") -> History:
    """A version that got worse, a retrain, and the next version."""
    points = tuple(
        TimelinePoint(
            end=END - (count - index) * HOUR,
            version=1 if index >= count // 2 else 7,
            state=("OK", "Breached", "Unknown")[index % 3],
            rows=100 + index,
            labels=50,
            feature=name,
            drift=0.1 * index,
            quality=0.9 - 0.01 * index,
            estimated=0.88,
        )
        for index in range(count)
    )
    windows = tuple(
        PastWindow(end=point.end, version=point.version, digest="sha256:abc", states={"Drift": point.state, name: "OK"})
        for point in points[-9:]
    )
    return History(
        windows=windows,
        points=points,
        conditions={
            "Healthy": Decided(status="False", reason="Breached", message=f"Drift: {name}", since=END - 3 * HOUR),
            "Retraining": Decided(status="False", reason="CoolingDown", message=f"wait, {name}", since=None),
        },
        retrain=Retrain(
            id="r", time=END - 9 * HOUR, reason=f"2 of 3 {name}", since=END - 20 * HOUR, until=END, policy="Append"
        ),
        retrains=2,
        request_times=(END - 30 * HOUR, END - 9 * HOUR),
        rollback=Rollback(digest=f"sha256:{name}", time=END - 2 * HOUR, reason=f"alarm {name}"),
    )


def page_of(history: History | None = None, name: str = "age") -> bytes:
    return build_page(CONFIG, examine([name, "size"], shift=2.0, classes=[0, 1]), history)


def test_quality_drift_and_rows_are_drawn_over_the_windows() -> None:
    page = page_of(build_history())
    text = check(page).text
    assert text.index("Features that differ most") < text.index("Over time") < text.index("What was decided, and why")
    for title in ("Quality: accuracy", "Drift of the worst feature", "21 windows: 7 OK, 8 Breached, 6 Unknown"):
        assert title in text
    assert page.count(b'class="cross"') >= 8 + 7
    assert b"<title>2026-03-01 02:00: v1</title>" in page, "where another version began to serve"
    assert b"<title>2026-03-01 03:00: a retrain was asked for</title>" in page
    assert b"2026-02-28 06:00: a retrain" not in page, "before the first point"


def test_the_legend_names_only_what_is_drawn() -> None:
    point = TimelinePoint(end=END - HOUR, version=1, state="OK", rows=9, labels=9, quality=0.9)
    quiet = check(build_page(CONFIG, examine(["age"], classes=[0, 1]), History(points=(point,)))).text
    busy = check(page_of(build_history())).text
    for words in ("another version serves", "a retrain was asked for", "estimated"):
        assert words not in quiet
        assert words in busy
    assert "limit of the served version" in quiet


def test_the_first_window_has_no_past() -> None:
    text = check(page_of()).text
    assert "Over time" not in text
    assert "What was decided" not in text


def test_decisions_are_told_with_their_reasons() -> None:
    text = check(page_of(build_history())).text
    for part in (
        "4 of the latest 10 windows of version 1 are Breached",
        "False: CoolingDown",
        "wait, age",
        "asked for at 2026-03-01 03:00 UTC",
        "2 of 3 age",
        "2 so far",
        "of sha256:age",
    ):
        assert part in text


def test_every_check_has_a_card_with_its_value_beside_its_limit() -> None:
    examination = examine(["age"], classes=[0, 1])
    checks = tuple(
        CheckResult(name=name, state="Breached", message=f"about {name}", value=0.5, limit=0.25, rows=9)
        for name in CHECKS
    )
    page = build_page(CONFIG, replace(examination, result=replace(examination.result, checks=checks)))
    text = check(page).text
    assert set(MEASURES) == set(CHECKS)
    for name in CHECKS:
        card = re.search(rf'<li class="card breached" data-check="{name}">.*?</li>', page.decode(), re.DOTALL)
        assert card is not None
        assert f"about {name}" in card[0]
        assert "✕" in card[0]
        assert 'class="meter"' in card[0]
    assert text.count("at most") >= len(CHECKS) - 1
    assert "(at least 0.25)" in text
    assert "10 of 10 checks" in text


def test_a_check_of_a_later_release_has_a_card_too() -> None:
    examination = examine(["age"], classes=[0, 1])
    checks = (CheckResult(name=HOSTILE, state=HOSTILE, message=HOSTILE),)
    check(build_page(CONFIG, replace(examination, result=replace(examination.result, checks=checks))))


def test_nothing_that_the_cluster_tells_becomes_markup() -> None:
    checker = check(page_of(build_history(name=HOSTILE), name=HOSTILE))
    assert "script" not in checker.tags
    assert f"wait, {HOSTILE}" in checker.text


def test_a_full_status_and_the_longest_names_keep_the_page_small() -> None:
    names = [f"{index:04d}{'<&' * 400}" for index in range(400)]
    history = build_history(60, name="<&" * 500)
    page = build_page(CONFIG, examine(names, shift=2.0, classes=[0, 1]), history)
    check(page)
    assert len(page) < MAX_BYTES


def test_the_page_fits_a_phone_prints_and_follows_the_colour_scheme() -> None:
    page = page_of(build_history()).decode()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    for rule in ("@media print", "print-color-adjust: exact", "break-inside: avoid", "prefers-color-scheme: dark"):
        assert rule in page
    # Nothing has a width of its own that a phone hasn't.
    assert not re.search(r'<(?:table|svg|div|figure)[^>]* (?:width|style)="', page)
    assert re.search(r"\.scroll \{ overflow-x: auto", page)


def test_every_picture_has_words_and_every_sign_has_one() -> None:
    page = page_of(build_history()).decode()
    for picture in re.findall(r"<svg[^>]*>", page):
        assert 'aria-hidden="true"' in picture or re.search(r'role="img" aria-label="[^"]+"', picture)
    assert page.count("<figure") == page.count("<details") + 2, "quality and drift over time share one table; rows too"
    for state in re.findall(r'<span class="state.*?</span> .*?</span>', page):
        assert re.search(r'aria-hidden="true">[✓✕?]</span> \w+', state)
    for sign in re.findall(r'<span class="sign .*?</span></span>', page):
        assert re.search(r'class="hidden"> (OK|Breached|Unknown)<', sign)


def test_all_links_are_of_this_page() -> None:
    page = page_of(build_history()).decode()
    targets = re.findall(r'href="(.*?)"', page)
    assert targets
    assert {f"#{key}" for key in re.findall(r'<section id="(\w+)"', page)} == set(targets)


def test_the_report_for_programs_has_the_same() -> None:
    examination, history = examine(["age"], shift=2.0, classes=[0, 1]), build_history()
    report = json.loads(build_report(CONFIG, examination, history))
    assert report["format"] == 2
    assert report["state"] == "Breached"
    assert len(report["timeline"]) == 21
    assert report["timeline"][-1] == {
        "end": "2026-03-01T12:00:00Z",
        "version": 1,
        "state": "Breached",
        "rows": 120,
        "labels": 120,
        "feature": "age",
        "drift": report["features"][0]["distance"] and round(report["features"][0]["distance"], 6),
        "quality": 0.5,
        "error": examination.estimate and round(examination.estimate.error, 9),
    }
    assert report["decided"]["retrain"]["reason"] == "2 of 3 age"
    assert report["decided"]["requests"] == ["2026-02-28T06:00:00Z", "2026-03-01T03:00:00Z"]
    assert [found["type"] for found in report["decided"]["conditions"]] == ["Healthy", "Retraining"]
    assert report["limits"]["drift"]["falseDiscoveryRate"] == 0.01
    assert report["limits"]["quality"]["maxDrop"] == 0.05
    assert "service" not in report["limits"]


def test_the_point_of_a_window_without_rows_says_nothing_but_that() -> None:
    point = build_point(examine(["age"], rows=0))
    assert (point.state, point.rows, point.feature, point.drift, point.quality) == ("Unknown", 0, "", None, None)


# -- charts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (0.79, 0.98), (-3, 7), (0.5, 0.5), (0, 0), (1e-9, 2e-9), (12, 123456), (-0.00001, 0.00001)],
)
def test_ticks_are_few_round_and_reach_over_the_values(low: float, high: float) -> None:
    ticks = find_ticks(low, high)
    assert 3 <= len(ticks) <= 7
    step = ticks[1] - ticks[0]
    assert ticks[0] <= low + step * 1e-6
    assert ticks[-1] >= high - step * 1e-6


def test_points_stand_in_the_order_of_their_times_and_values() -> None:
    times = [datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in (0, 1, 4)]
    points = tuple(Point(time=time, value=value) for time, value in zip(times, (0.5, 0.9, 0.7), strict=True))
    chart = TimeChart(title="x", since=times[0], until=times[-1], lines=(Line(points=points),))
    places = [
        (float(x), float(y))
        for x, y in re.findall(r'<circle class="dot" cx="([\d.]+)" cy="([\d.]+)"', draw_time_chart(chart))
    ]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert places[1][0] - places[0][0] == pytest.approx((places[2][0] - places[1][0]) / 3, abs=0.2)
    assert places[0][1] > places[2][1] > places[1][1], "up is more"


@pytest.mark.parametrize(("value", "limit"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (-1.0, 0.2), (3.0, 0.2)])
def test_a_meter_never_leaves_its_scale(value: float, limit: float) -> None:
    drawn = draw_meter(value, limit, breached=value > limit)
    width, mark = re.search(r'width="([\d.]+)" y="1" height="4"/><path', drawn), re.search(r'd="M([\d.]+) ', drawn)
    assert width is not None
    assert mark is not None
    assert 0 <= float(width[1]) <= 100
    assert 0 <= float(mark[1]) <= 100
    if value != limit and max(value, limit) > 0:
        assert (float(width[1]) > float(mark[1])) == (value > limit)
