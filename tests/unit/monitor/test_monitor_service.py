"""The check of the service: what the servers' own counts say, beyond chance, and when they say nothing."""

from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.codec import ContractError, dumps
from modelkit.contract.monitoring import ServiceConfig
from modelkit.contract.result import CheckResult
from modelkit.contract.service import BOUNDS_RATIO, FORMAT, LATENCY_BOUNDS, ServiceHour, ServiceMinute, is_timed
from modelkit.monitor.gathering import gather_window
from modelkit.monitor.minutes import MAX_OBJECT_BYTES, RequestCounts, gather_requests
from modelkit.monitor.reference import read_reference
from modelkit.monitor.report import build_report
from modelkit.monitor.service import (
    ServiceEvidence,
    check_service,
    lower_bound,
    measure_service,
    read_percentiles,
    read_quantile,
)
from modelkit.monitor.window import examine_window
from tests.unit.monitor.conftest import END, World, draw_rows

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
BOUNDS = (END - HOUR, END)
DIGEST = "sha256:" + "0" * 64
CONFIG = ServiceConfig()
MIN_ROWS = 50


def bucket(seconds: float) -> int:
    return bisect_left(LATENCY_BOUNDS, seconds)


def histogram(times: Any) -> np.ndarray:
    return np.bincount(np.searchsorted(LATENCY_BOUNDS, times), minlength=len(LATENCY_BOUNDS) + 1)


def minute(codes: dict[int, int], seconds: float = 0.01) -> ServiceMinute:
    timed = sum(count for status, count in codes.items() if is_timed(status))
    return ServiceMinute(
        codes={str(status): count for status, count in codes.items()},
        latency={str(bucket(seconds)): timed} if timed else {},
    )


def hour_of(start: datetime, minutes: dict[int, ServiceMinute], digest: str = DIGEST) -> ServiceHour:
    return ServiceHour(
        format=FORMAT, digest=digest, version=3, hour=start, minutes={str(n): found for n, found in minutes.items()}
    )


def count(codes: dict[int, int], times: Any = (), bounds: tuple[datetime, datetime] = BOUNDS) -> RequestCounts:
    """A window with these requests in its first minute; `times` of those that are timed."""
    counts = RequestCounts(bounds)
    latency = {str(index): n for index, n in enumerate(histogram(times).tolist()) if n}
    counts.add(hour_of(END - HOUR, {0: replace(minute(codes), latency=latency)}))
    return counts


def check(counts: RequestCounts, config: ServiceConfig = CONFIG, rows: int = 100) -> CheckResult:
    return check_service(measure_service(counts, config), config, rows, MIN_ROWS)


def check_codes(codes: dict[int, int], config: ServiceConfig = CONFIG) -> CheckResult:
    counts = RequestCounts(BOUNDS)
    counts.add(hour_of(END - HOUR, {0: minute(codes)}))
    return check(counts, config)


def count_alarms(codes: Sequence[dict[int, int]]) -> int:
    """How many windows, of a minute each, are Breached."""
    alarms = 0
    for found in codes:
        counts = RequestCounts((END - HOUR, END - HOUR + MINUTE))
        counts.add(hour_of(END - HOUR, {0: minute(found)}))
        alarms += check(counts).state == "Breached"
    return alarms


# -- errors ---------------------------------------------------------------------------------------------------------


def test_errors_beyond_the_limit_are_told_with_their_codes() -> None:
    result = check_codes({200: 940, 503: 40, 500: 15, 404: 5})
    assert result.state == "Breached"
    assert result.message.startswith(
        "5.5 % of 1,000 requests ended as the server's error, more than 1 % (p < 0.0001); "
        "503 (refused) 4 %, 500 (failed) 1.5 %, 404 (the client's) 0.5 %; p50 "
    )
    assert result.message.endswith("0.278 requests/s, 16.7/s in the busiest minute of 2026-03-01T11:00:00Z")
    assert (result.value, result.limit, result.rows) == (0.055, 0.01, 1000)
    assert [(found.name, found.value) for found in result.worst] == [("503", 0.04), ("500", 0.015), ("404", 0.005)]


def test_one_error_among_few_requests_is_no_alarm_and_says_so() -> None:
    result = check_codes({200: 59, 500: 1})
    assert result.state == "OK"
    assert "1.7 % of 60 requests ended as the server's error, more than 1 %, which chance explains (p = 0.45)" in (
        result.message
    )


def test_what_clients_do_wrong_is_told_and_never_judged() -> None:
    result = check_codes({200: 10, 400: 500, 404: 100, 499: 50, 501: 10})
    assert result.state == "OK"
    assert result.value == 0
    assert "none of 670 requests ended as the server's error; 400 (the client's) 75 %" in result.message
    assert [found.name for found in result.worst] == ["400", "404", "499", "501"]


def test_time_outs_and_refusals_are_the_server_s_errors() -> None:
    for status in (429, 500, 502, 503, 504):
        assert check_codes({200: 900, status: 100}).state == "Breached"


def test_a_limit_of_none_lets_no_error_pass() -> None:
    strict = ServiceConfig(max_error_rate=0.0)
    assert check_codes({200: 1000}, strict).state == "OK"
    assert check_codes({200: 999, 500: 1}, strict).state == "Breached"


def test_at_the_highest_rate_that_is_allowed_one_window_in_a_hundred_alarms_at_most() -> None:
    generator = np.random.default_rng(1)
    for requests in (100, 2000, 100_000):
        errors = generator.binomial(requests, CONFIG.max_error_rate, 1000)
        alarms = count_alarms([{200: requests - n, 500: n} for n in errors.tolist()])
        assert alarms <= 20  # of 1,000 at a level of 1 %: more than 20 has a chance of 0.1 %


@pytest.mark.parametrize(("requests", "rate", "least"), [(200, 0.1, 0.98), (1000, 0.03, 0.95), (20_000, 0.0135, 0.95)])
def test_rates_above_the_limit_are_found(requests: int, rate: float, least: float) -> None:
    generator = np.random.default_rng(2)
    errors = generator.binomial(requests, rate, 1000).tolist()
    assert count_alarms([{200: requests - n, 500: n} for n in errors]) >= 1000 * least


# -- times ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.0001, 59, exclude_min=True), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_percentiles_are_those_of_the_raw_times_but_for_the_width_of_a_bucket(times: list[float], share: float) -> None:
    exact = float(np.quantile(times, share, method="inverted_cdf"))
    found = read_quantile(histogram(times), share)
    assert found is not None
    assert exact / BOUNDS_RATIO - 1e-12 <= found <= exact * BOUNDS_RATIO + 1e-12


def test_percentiles_of_many_times_are_closer_than_the_width_of_a_bucket() -> None:
    times = np.random.default_rng(3).lognormal(-4, 0.8, 100_000)
    found = read_percentiles(histogram(times))
    assert [found.p50, found.p95, found.p99] == pytest.approx(np.quantile(times, [0.5, 0.95, 0.99]).tolist(), rel=0.02)


def test_times_beyond_the_last_bound_count_as_a_minute_and_none_as_nothing() -> None:
    assert read_quantile(histogram([100.0] * 5), 0.5) == 60.0
    assert read_quantile(histogram([]), 0.5) is None
    assert lower_bound(histogram([])) == 0
    result = check(count({504: 100}, [100.0] * 100), ServiceConfig(max_error_rate=1.0))
    assert "p50 60 s or more, p95 60 s or more" in result.message


def test_slow_requests_are_told_with_the_limit() -> None:
    config = ServiceConfig(max_latency_seconds=0.5)
    result = check(count({200: 1000}, [0.02] * 950 + [0.8] * 50), config)
    assert result.state == "Breached"
    assert "p50 19" in result.message
    assert "above the limit of 500 ms (at least 710 ms)" in result.message
    assert result.limit == 0.5
    assert result.value == pytest.approx(0.8, rel=BOUNDS_RATIO - 1)
    assert check(count({200: 1000}, [0.02] * 950 + [0.8] * 50)).state == "OK"


def test_a_few_slow_requests_among_few_are_no_alarm_and_say_so() -> None:
    result = check(count({200: 100}, [0.02] * 98 + [0.8] * 2), ServiceConfig(max_latency_seconds=0.5))
    assert result.state == "OK"
    assert "which may be below the limit of 500 ms" in result.message


def test_errors_come_before_slowness_in_the_value() -> None:
    config = ServiceConfig(max_latency_seconds=0.5)
    result = check(count({200: 800, 503: 200}, [0.8] * 800), config)
    assert (result.value, result.limit) == (0.2, 0.01)
    assert "above the limit of 500 ms" in result.message


def test_refusals_do_not_make_a_slow_service_look_quick() -> None:
    config = ServiceConfig(max_latency_seconds=0.5, max_error_rate=1.0)
    assert check(count({200: 100, 503: 100_000}, [0.8] * 100), config).state == "Breached"


def windows_of(times: np.ndarray, limit: float) -> int:
    """How many of the windows [windows, requests] are Breached."""
    config, bounds = ServiceConfig(max_latency_seconds=limit), (END - HOUR, END - HOUR + MINUTE)
    windows = [count({200: len(window)}, window, bounds) for window in times]
    return sum(check(counts, config).state == "Breached" for counts in windows)


@pytest.mark.parametrize("limit", [0.5, 0.47])
def test_at_the_limit_one_window_in_twenty_alarms_at_most(limit: float) -> None:
    generator = np.random.default_rng(4)
    times = generator.lognormal(0, 1, (1000, 1000)) * (limit / np.exp(2.3263))  # whose 99th percentile is the limit
    assert windows_of(times, limit) <= 70  # of 1,000 at a level of 5 %: more has a chance of 0.2 %


def test_a_percentile_well_above_the_limit_is_found() -> None:
    generator = np.random.default_rng(5)
    times = generator.lognormal(0, 1, (300, 1000)) * (0.5 / np.exp(2.3263)) * 1.6
    assert windows_of(times, 0.5) >= 285


# -- when nothing is said --------------------------------------------------------------------------------------------


def test_too_few_requests_are_unknown() -> None:
    result = check_codes({500: 49})
    assert (result.state, result.rows) == ("Unknown", 49)
    assert result.message == "49 requests in the window; at least 50 are needed"


def test_rows_without_counts_tell_of_servers_of_an_older_release() -> None:
    result = check(RequestCounts(BOUNDS), rows=700)
    assert result.state == "Unknown"
    assert result.message == (
        "the servers captured 700 rows but wrote no counts of their requests: those of an older release don't; "
        "update the server image"
    )


def test_nothing_at_all_is_unknown() -> None:
    result = check(RequestCounts(BOUNDS), rows=0)
    assert result.state == "Unknown"
    assert result.message == "the servers wrote of no request in the window; at least 50 are needed"


def test_a_window_shorter_than_a_minute_has_nothing_to_say() -> None:
    assert check(RequestCounts((END, END + timedelta(seconds=20)))).state == "Unknown"


# -- adding up -------------------------------------------------------------------------------------------------------

MINUTES = st.dictionaries(st.sampled_from([200, 404, 500, 503, 504]), st.integers(0, 50), max_size=3).map(minute)
HOURS = st.builds(
    hour_of,
    st.sampled_from([END - 3 * HOUR, END - 2 * HOUR, END - HOUR, END]),
    st.dictionaries(st.integers(0, 59), MINUTES, max_size=5),
)


def evidence_of(hours: Sequence[ServiceHour], bounds: tuple[datetime, datetime]) -> ServiceEvidence:
    counts = RequestCounts(bounds)
    for hour in hours:
        counts.add(hour)
    return measure_service(counts, CONFIG)


@given(st.lists(HOURS, max_size=8), st.integers(0, 8), st.randoms(use_true_random=False))
def test_pods_add_up_in_any_order_and_however_they_are_grouped(hours: list[ServiceHour], cut: int, random: Any) -> None:
    bounds = (END - 2 * HOUR - 20 * MINUTE, END + 10 * MINUTE)
    whole = evidence_of(hours, bounds)
    shuffled = hours[:]
    random.shuffle(shuffled)
    one, two = RequestCounts(bounds), RequestCounts(bounds)
    for part, found in ((one, shuffled[:cut]), (two, shuffled[cut:])):
        for hour in found:
            part.add(hour)
    one.merge(two)
    assert measure_service(one, CONFIG) == whole


@given(st.lists(HOURS, max_size=8), st.integers(0, 6 * 3600))
def test_windows_that_meet_share_no_request_and_miss_none(hours: list[ServiceHour], cut: int) -> None:
    start, end = END - 3 * HOUR, END + HOUR + MINUTE
    middle = min(end, start + timedelta(seconds=cut))
    parts = [evidence_of(hours, bounds) for bounds in ((start, middle), (middle, end))]
    whole = evidence_of(hours, (start, end))
    assert sum(part.requests for part in parts) == whole.requests
    assert sum(part.errors for part in parts) == whole.errors
    expected = sum(sum(found.codes.values()) for hour in hours for found in hour.minutes.values())
    assert whole.requests == expected


@pytest.mark.parametrize(("hours", "step", "points"), [(1, 60, 60), (24, 3600, 24), (24 * 30, 86400, 30)])
def test_the_series_has_steps_that_fit_the_window(hours: int, step: float, points: int) -> None:
    counts = RequestCounts((END - hours * HOUR, END))
    counts.add(hour_of(END - HOUR, {58: minute({200: 5, 500: 1}, 0.02)}))
    evidence = measure_service(counts, CONFIG)
    assert (evidence.step_seconds, len(evidence.series)) == (step, points)
    assert sum(point.requests for point in evidence.series) == 6
    filled = [point for point in evidence.series if point.requests]
    assert [(point.requests, point.errors) for point in filled] == [(6, 1)]
    assert filled[0].start <= END - 2 * MINUTE < filled[0].start + timedelta(seconds=step)
    assert filled[0].latency.p99 == pytest.approx(0.02, rel=BOUNDS_RATIO - 1)


BAD = {
    "another minute": {"75": ServiceMinute(codes={"200": 1}, latency={})},
    "no minute": {"-1": ServiceMinute(codes={"200": 1}, latency={})},
    "a negative count": {"1": ServiceMinute(codes={"200": -1}, latency={})},
    "a huge count": {"1": ServiceMinute(codes={"200": 2**60}, latency={})},
    "no status": {"1": ServiceMinute(codes={"two hundred": 1}, latency={})},
    "no bucket": {"1": ServiceMinute(codes={"200": 1}, latency={"1000": 1})},
    "digits of another script": {"1": ServiceMinute(codes={"٢٠٠": 1}, latency={})},
}


@pytest.mark.parametrize("name", BAD)
def test_numbers_that_no_server_writes_are_refused_as_a_whole(name: str) -> None:
    counts = RequestCounts(BOUNDS)
    bad = replace(hour_of(END - HOUR, {}), minutes={"0": minute({200: 5}), **BAD[name]})
    with pytest.raises(ContractError):
        counts.add(bad)
    assert (counts.codes, counts.requests.sum()) == ({}, 0)


# -- reading ---------------------------------------------------------------------------------------------------------


def write_hour(world: World, hour: ServiceHour, name: str) -> None:
    folder = f"captures/shop/churn/service/{hour.hour:%Y-%m-%dT%H}"
    world.store.write(f"{folder}/{name}.json", dumps(hour).encode())


def gather(world: World, bounds: tuple[datetime, datetime] = BOUNDS) -> RequestCounts:
    config = world.config
    with ThreadPoolExecutor(2) as pool:
        return gather_requests(world.store, config.namespace, config.deployment, config.version.digest, bounds, pool)


def test_the_objects_of_the_version_in_the_window_s_hours_are_read(world: World) -> None:
    digest = world.config.version.digest
    for number in range(40):
        write_hour(world, hour_of(END - HOUR, {0: minute({200: 2, 500: 1})}, digest), f"pod-{number}")
    write_hour(world, hour_of(END - HOUR, {0: minute({500: 999})}), "another-version")
    write_hour(world, hour_of(END - 2 * HOUR, {59: minute({500: 999})}, digest), "earlier")
    write_hour(world, hour_of(END, {0: minute({500: 999})}, digest), "later")
    counts = gather(world)
    assert (counts.codes, counts.objects, counts.skipped) == ({200: 80, 500: 40}, 40, 0)


def test_damaged_objects_are_left_out_and_counted(world: World) -> None:
    digest, folder = world.config.version.digest, "captures/shop/churn/service/2026-03-01T11"
    write_hour(world, hour_of(END - HOUR, {0: minute({200: 60})}, digest), "good")
    write_hour(world, replace(hour_of(END - HOUR, {}, digest), format=FORMAT + 1), "newer")
    write_hour(world, hour_of(END - HOUR, {75: minute({200: 60})}, digest), "forged")
    for name, data in {"half": b'{"format": 1', "deep": b"[" * 100_000, "huge": b" " * (MAX_OBJECT_BYTES + 1)}.items():
        world.store.write(f"{folder}/{name}.json", data)
    world.store.write(f"{folder}/half-written.tmp", b"")
    counts = gather(world)
    assert (counts.codes, counts.objects, counts.skipped) == ({200: 60}, 1, 5)
    assert check(counts).message.endswith("; 5 damaged objects of servers' counts were left out")


def test_a_long_window_is_read_with_one_listing(world: World) -> None:
    digest = world.config.version.digest
    for hours in (1, 500, 1400):
        write_hour(world, hour_of(END - hours * HOUR, {0: minute({200: 1})}, digest), "pod")
    assert gather(world, (END - 1200 * HOUR, END)).codes == {200: 2}


def test_the_check_is_listed_last_where_it_is_configured_and_its_numbers_are_in_the_report(world: World) -> None:
    config = replace(world.config, service=ServiceConfig())
    reference = read_reference(world.store, config.version)
    world.send(draw_rows(60, seed=2))
    write_hour(world, hour_of(END - HOUR, {30: minute({200: 90, 503: 10})}, config.version.digest), "pod")
    gathered = gather_window(world.store, config, reference, BOUNDS, END)
    examination = examine_window(config, reference, gathered, BOUNDS)
    last = examination.result.checks[-1]
    assert (last.name, last.state, last.rows) == ("Service", "Breached", 100)
    assert b'"503": 10' in build_report(config, examination)

    without = gather_window(world.store, world.config, reference, BOUNDS, END)
    names = [check.name for check in examine_window(world.config, reference, without, BOUNDS).result.checks]
    assert "Service" not in names
