"""Cron expressions, against a clock that is walked minute by minute."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelloop.decide.cron import MACROS, CronError, parse_cron

MINUTE = timedelta(minutes=1)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo")


def shown_at(moment: datetime, zone: ZoneInfo) -> list[datetime]:
    """What the wall clock shows, and what it would show if it weren't being put forward."""
    wall = moment.astimezone(zone).replace(tzinfo=None)
    skipped = (wall - size for size in (timedelta(minutes=30), timedelta(hours=1)))
    return [wall, *(clock for clock in skipped if clock.replace(tzinfo=zone).astimezone(UTC) == moment)]


def walk(expression: str, zone: str, start: datetime, days: int) -> list[datetime]:
    """The times of an expression of numbers, lists and `*`, read off a wall clock minute by minute."""
    fields = [None if text == "*" else {int(part) for part in text.split(",")} for text in expression.split()]
    minutes, hours, month_days, months, weekdays = fields
    found: list[datetime] = []
    done: set[datetime] = set()
    for step in range(days * 1440):
        moment = start + step * MINUTE
        clocks = shown_at(moment, ZoneInfo(zone))
        for clock in clocks if hours is not None else clocks[:1]:
            of_month = month_days is None or clock.day in month_days
            of_week = weekdays is None or clock.isoweekday() % 7 in weekdays
            any_day = month_days is None or weekdays is None
            fits = (
                (minutes is None or clock.minute in minutes)
                and (hours is None or clock.hour in hours)
                and (months is None or clock.month in months)
                and ((of_month and of_week) if any_day else (of_month or of_week))
            )
            if fits and (hours is None or clock not in done) and moment not in found[-1:]:
                done.add(clock)
                found.append(moment)
    return found


def listed(expression: str, zone: str, start: datetime, days: int = 3) -> list[datetime]:
    """The same by asking for the next time again and again."""
    cron, found, moment = parse_cron(expression, zone), [], start - timedelta(seconds=1)
    while (following := cron.next(moment)) is not None and following < start + timedelta(days=days):
        found.append(following)
        moment = following
    return found


def numbers(least: int, most: int) -> st.SearchStrategy[str]:
    some = st.lists(st.integers(least, most), min_size=1, max_size=3, unique=True)
    return st.one_of(st.just("*"), some.map(lambda found: ",".join(map(str, sorted(found)))))


EXPRESSIONS = st.tuples(
    st.lists(st.integers(0, 59), min_size=1, max_size=3, unique=True).map(lambda found: ",".join(map(str, found))),
    numbers(0, 23), numbers(1, 31), numbers(1, 12), numbers(0, 6),
).map(" ".join)  # fmt: skip
# Around every change of the clocks of 2026 in these zones, and on plain days.
STARTS = st.sampled_from(
    [datetime(2026, month, day, tzinfo=UTC) for month, day in
     ((1, 1), (2, 27), (3, 7), (3, 28), (4, 4), (6, 30), (10, 3), (10, 24), (10, 31), (12, 30))]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(expression=EXPRESSIONS, zone=st.sampled_from(ZONES), start=STARTS)
def test_the_times_are_those_that_a_clock_on_the_wall_shows(expression: str, zone: str, start: datetime) -> None:
    try:
        parse_cron(expression, zone)
    except CronError as exc:
        assert "never comes" in str(exc)  # noqa: PT017 - 31 February
        return
    assert listed(expression, zone, start, 2) == walk(expression, zone, start, 2)


@settings(max_examples=60, deadline=None)
@given(
    expression=EXPRESSIONS,
    zone=st.sampled_from(ZONES),
    moment=st.integers(0, 20 * 366 * 1440).map(lambda minutes: datetime(2020, 1, 1, tzinfo=UTC) + minutes * MINUTE),
)
def test_previous_is_the_other_side_of_next(expression: str, zone: str, moment: datetime) -> None:
    try:
        cron = parse_cron(expression, zone)
    except CronError:
        return
    following = cron.next(moment)
    assert following is not None
    assert following > moment
    assert cron.previous(following) == following
    before = cron.previous(moment)
    assert before is not None
    assert before <= moment
    assert cron.next(before) == following, "nothing lies between"


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("*/20 * * * *", "2026-03-01T10:40", "2026-03-01T11:00"),
        ("5/20 * * * *", "2026-03-01T10:05", "2026-03-01T10:25"),
        ("0 8-18/5 * * *", "2026-03-01T08:00", "2026-03-01T13:00"),
        ("0 0 * * MON-FRI", "2026-03-06T00:00", "2026-03-09T00:00"),
        ("0 0 * * 7", "2026-03-02T00:00", "2026-03-08T00:00"),
        ("0 0 * * sun,Wed", "2026-03-02T00:00", "2026-03-04T00:00"),
        ("0 0 1 JAN *", "2026-03-02T00:00", "2027-01-01T00:00"),
        ("0 0 13 * 5", "2026-03-01T00:00", "2026-03-06T00:00"),  # either day field is enough
        ("0 0 13 * ?", "2026-03-01T00:00", "2026-03-13T00:00"),
        ("0 0 29 2 *", "2096-03-01T00:00", "2104-02-29T00:00"),
        ("@weekly", "2026-03-02T00:00", "2026-03-08T00:00"),
        ("@Hourly", "2026-03-02T00:30", "2026-03-02T01:00"),
    ],
)
def test_the_dialect_is_that_of_a_cron_job(expression: str, after: str, expected: str) -> None:
    found = parse_cron(expression).next(datetime.fromisoformat(after).replace(tzinfo=UTC))
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_no_daily_run_is_lost_or_doubled_when_the_clocks_change() -> None:
    spring = listed("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 28, tzinfo=UTC))
    assert [moment.isoformat()[:16] for moment in spring] == [
        "2026-03-28T01:30", "2026-03-29T01:30", "2026-03-30T00:30",
    ]  # fmt: skip
    autumn = listed("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 24, tzinfo=UTC))
    assert [moment.isoformat()[:16] for moment in autumn] == [
        "2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30",
    ]  # fmt: skip


def test_a_schedule_of_every_hour_follows_the_hours_that_pass() -> None:
    for day in (datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)):
        found = listed("0 * * * *", "Europe/Berlin", day)
        assert found == [day + timedelta(hours=hours) for hours in range(72)]


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("* * * *", None, "five fields"),
        ("@reboot", None, "@daily"),
        ("60 * * * *", None, "minute must be within 0 and 59"),
        ("* 24 * * *", None, "hour must be within 0 and 23"),
        ("* * 0 * *", None, "day of the month must be within 1 and 31"),
        ("* * * 13 *", None, "month must be within 1 and 12"),
        ("* * * FOO *", None, "JAN"),
        ("* * * * 8", None, "day of the week must be within 0 and 7"),
        ("10-5 * * * *", None, "from low to high"),
        ("*/0 * * * *", None, "step"),
        ("*/x * * * *", None, "a number"),
        ("1,,2 * * * *", None, "a number"),
        ("0 0 31 2 *", None, "never comes"),
        ("0 0 * * *", "Mars/Olympus", "no time zone 'Mars/Olympus'"),
        ("0 0 * * *", "../etc/passwd", "no time zone"),
    ],
)
def test_what_is_wrong_is_named(expression: str, zone: str | None, words: str) -> None:
    with pytest.raises(CronError, match=r"^spec[.](schedule|timeZone): ") as caught:
        parse_cron(expression, zone)
    assert words in str(caught.value)


def test_every_macro_is_an_expression() -> None:
    for macro, expression in MACROS.items():
        assert parse_cron(macro).next(datetime(2026, 1, 5, tzinfo=UTC)) == parse_cron(expression).next(
            datetime(2026, 1, 5, tzinfo=UTC)
        )
