"""`python -m modelkit.monitor` from captured traffic to status, report and exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from modelkit.contract.codec import dumps, format_time
from modelkit.contract.config import StoreConfig
from modelkit.contract.environment import ExitCode
from modelkit.contract.monitoring import AttributionConfig, MonitorConfig, MultivariateConfig, NotifyConfig
from modelkit.monitor.__main__ import main
from modelkit.monitor.window import window_bounds
from tests.unit.monitor.webhooks import Receiver, serve

END = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
REPORT = "reports/shop/churn-monitor/2026-03-01T12-00-00Z"
Rows = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(world: Any, api: Any, token_file: Path, tmp_path: Path) -> Callable[..., tuple[ExitCode, dict[str, str]]]:
    def run_main(config: MonitorConfig | None = None, **changes: str) -> tuple[ExitCode, dict[str, str]]:
        environ = {
            "MODELLOOP_CONFIG": dumps(config or world.config),
            "MODELLOOP_WINDOW_END": "2026-03-01T12:00:00Z",
            "MODELLOOP_API_SERVER": api.url,
            "MODELLOOP_TOKEN_FILE": str(token_file),
            "MODELLOOP_TERMINATION_LOG": str(tmp_path / "termination"),
        }
        code = main(environ | changes)
        message: dict[str, str] = json.loads((tmp_path / "termination").read_text())
        return code, message

    return run_main


def states(api: Any) -> dict[str, str]:
    return {check["name"]: check["state"] for check in api.status["windows"][-1]["checks"]}


def test_no_traffic_at_all_is_a_window_of_unknowns_and_a_success(run: Any, api: Any, world: Any) -> None:
    code, message = run()
    assert code == ExitCode.DONE
    assert message["outcome"] == "Succeeded"
    assert set(states(api).values()) == {"Unknown"}
    window = api.status["windows"][0]
    assert (window["rows"], window["labels"]) == (0, 0)
    assert b"Too little to look at" in world.store.read(window["report"])


def test_unchanged_traffic_is_ok(run: Any, api: Any, world: Any, rows: Rows) -> None:
    traffic = rows(300, seed=2)
    world.send(traffic, [index % 2 for index in range(300)])
    assert run()[0] == ExitCode.DONE
    assert states(api) == {"DataQuality": "OK", "Drift": "OK", "PredictionDrift": "OK", "Quality": "OK"}
    assert (api.status["windows"][0]["rows"], api.status["windows"][0]["labels"]) == (300, 300)


def test_shifted_traffic_and_wrong_answers_are_breached_and_named(run: Any, api: Any, world: Any, rows: Rows) -> None:
    world.send(rows(200, seed=2, shift=1.5), [0] * 100)
    code, message = run()
    assert code == ExitCode.DONE
    assert "Drift Breached" in message["message"]
    assert states(api)["Drift"] == "Breached"
    drift = next(check for check in api.status["windows"][0]["checks"] if check["name"] == "Drift")
    assert drift["message"].startswith("1 of 4 features drifted; worst: 'age' PSI ")
    report = json.loads(world.store.read(f"{REPORT}/report.json"))
    assert report["window"] == api.status["windows"][0]
    age = next(feature for feature in report["features"] if feature["name"] == "age")
    assert age["drifted"] is True
    assert sum(item["window"] for item in age["bins"]) == pytest.approx(1, abs=1e-4)


def test_wrong_answers_are_a_lost_quality(run: Any, api: Any, world: Any, rows: Rows) -> None:
    world.send(rows(200, seed=2), [1 - index % 2 if index % 3 == 0 else index % 2 for index in range(200)])
    run()
    assert states(api) == {"DataQuality": "OK", "Drift": "OK", "PredictionDrift": "OK", "Quality": "Breached"}


def test_rows_of_another_version_or_before_the_window_are_not_looked_at(
    run: Any, api: Any, world: Any, rows: Rows
) -> None:
    world.send(rows(100, seed=2, shift=3), digest="sha256:other", pod="old")
    world.send(rows(100, seed=3, shift=3), ago=7200, pod="early")
    world.send(rows(60, seed=4), pod="new")
    run()
    assert api.status["windows"][0]["rows"] == 60
    assert states(api)["Drift"] == "OK"


def test_looking_twice_at_a_window_changes_nothing(run: Any, api: Any, world: Any, rows: Rows) -> None:
    world.send(rows(200, seed=2, shift=1), [0] * 80)
    run()
    first = json.dumps(api.status), world.store.read(f"{REPORT}/report.json")
    run()
    assert (json.dumps(api.status), world.store.read(f"{REPORT}/report.json")) == first


def test_a_damaged_segment_is_mentioned(run: Any, api: Any, world: Any, rows: Rows) -> None:
    world.send(rows(100, seed=2))
    world.store.write_new("captures/shop/churn/requests/2026-03-01T11/x-1-000000.jsonl.gz", b"damaged")
    run()
    message = api.status["windows"][0]["checks"][0]["message"]
    assert message.endswith("; 1 damaged capture segment was left out")


def test_the_window_never_starts_before_the_version_served(world: Any) -> None:
    config = replace(world.config, version_since=END - timedelta(minutes=5, microseconds=7))
    assert window_bounds(config, END + timedelta(microseconds=5)) == (
        END - timedelta(minutes=5, seconds=1),
        END,
    )
    future = replace(world.config, version_since=END + timedelta(minutes=5))
    assert window_bounds(future, END) == (END, END)


def test_windows_become_a_timeline_that_the_next_report_shows(run: Any, api: Any, world: Any, rows: Rows) -> None:
    for hour in (10, 11, 12):
        world.send(rows(120, seed=hour, shift=2.0), ago=(12 - hour) * 3600 + 60, pod=f"pod-{hour}")
        run(MODELLOOP_WINDOW_END=f"2026-03-01T{hour}:00:00Z")
    timeline = api.status["timeline"]
    assert [point["end"][11:13] for point in timeline] == ["10", "11", "12"]
    assert {(point["state"], point["feature"], point["rows"]) for point in timeline} == {("Breached", "age", 120)}
    report = json.loads(world.store.read(f"{REPORT}/report.json"))
    assert report["timeline"] == timeline
    assert b"3 windows" in world.store.read(f"{REPORT}/report.html")


def test_looking_again_at_an_earlier_window_does_not_show_it_what_came_later(run: Any, api: Any, world: Any) -> None:
    for hour in (12, 11):
        run(MODELLOOP_WINDOW_END=f"2026-03-01T{hour}:00:00Z")
    report = json.loads(world.store.read("reports/shop/churn-monitor/2026-03-01T11-00-00Z/report.json"))
    assert [point["end"] for point in report["timeline"]] == ["2026-03-01T11:00:00Z"]
    assert len(api.status["timeline"]) == 2


def test_a_run_that_is_tried_again_looks_at_the_same_window(run: Any, api: Any) -> None:
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=3)
    job = f"churn-monitor-{int(minute.timestamp()) // 60}"
    for _ in range(2):
        assert run(MODELLOOP_WINDOW_END="", MODELLOOP_JOB_NAME=job)[0] == ExitCode.DONE
    assert [window["end"] for window in api.status["windows"]] == [format_time(minute)]


def test_a_webhook_that_can_not_be_reached_is_a_warning_and_no_failure(
    run: Any, api: Any, world: Any, rows: Rows, tmp_path: Path
) -> None:
    world.send(rows(200, seed=2, shift=1.5))
    (tmp_path / "url").write_text("ftp://very-secret")
    code, message = run(replace(world.config, notify=NotifyConfig(directory=str(tmp_path))))
    assert code == ExitCode.DONE
    assert message["message"].endswith(
        "; the webhook's Secret can't be used: `url` must be an address that begins with https:// or http://"
    )
    assert len(api.status["windows"]) == 1


def test_a_webhook_hears_of_a_change_after_the_status_was_written(
    run: Any, api: Any, world: Any, rows: Rows, tmp_path: Path
) -> None:
    config = replace(world.config, notify=NotifyConfig(directory=str(tmp_path)))
    with serve(Receiver()) as receiver:
        (tmp_path / "url").write_text(receiver.url)
        run(config, MODELLOOP_WINDOW_END="2026-03-01T11:00:00Z")
        assert receiver.requests == [], "nothing was known, and nothing is"
        world.send(rows(200, seed=2, shift=1.5))
        run(config)
        run(config)
    bodies = [body for _, _, body in receiver.requests]
    assert [body["id"] for body in bodies] == ["shop/churn-monitor/2026-03-01T12:00:00Z"] * 2, "read twice, told twice"
    assert (bodies[0]["previousState"], bodies[0]["state"]) == ("Unknown", "Breached")
    told = {check["name"]: check["message"] for check in bodies[0]["breached"]}
    written = {check["name"]: check["message"] for check in api.status["windows"][-1]["checks"]}
    assert told == {name: written[name] for name in ("DataQuality", "Drift")}


def test_old_reports_go_when_a_window_was_looked_at(run: Any, world: Any) -> None:
    old = "reports/shop/churn-monitor/2026-01-01T12-00-00Z/report.html"
    world.store.write(old, b"old")
    run()
    assert not world.store.exists(old)
    assert world.store.exists(f"{REPORT}/report.html")


# -- refusals -----------------------------------------------------------------------------------------------------


def test_a_configuration_that_does_not_fit_is_refused(run: Any) -> None:
    code, message = run(MODELLOOP_CONFIG='{"namespace": "x", "color": "red"}')
    assert code == ExitCode.REFUSED
    assert message["reason"] == "BadConfiguration"
    assert "unknown key 'color'" in message["message"]
    assert run(MODELLOOP_CONFIG="")[0] == ExitCode.REFUSED


def test_a_window_end_that_is_no_time_is_refused(run: Any) -> None:
    code, message = run(MODELLOOP_WINDOW_END="noon")
    assert code == ExitCode.REFUSED
    assert "MODELLOOP_WINDOW_END" in message["message"]


def test_a_version_with_another_digest_is_refused_and_nothing_is_written(run: Any, api: Any, world: Any) -> None:
    version = replace(world.config.version, digest="sha256:" + "0" * 64)
    code, message = run(replace(world.config, version=version))
    assert (code, message["reason"]) == (ExitCode.REFUSED, "VersionUnusable")
    assert api.requests == []
    assert list(world.store.list("reports")) == []


def test_a_profile_that_was_changed_after_it_was_written_is_refused(run: Any, world: Any) -> None:
    world.store.write(f"{world.config.version.path}/profile.json", b'{"format": 1}')
    code, message = run()
    assert (code, message["reason"]) == (ExitCode.REFUSED, "VersionUnusable")
    assert "profile.json" in message["message"]


def test_a_version_that_is_gone_is_refused(run: Any, world: Any) -> None:
    version = replace(world.config.version, path="models/shop/churn/9-00000000")
    code, message = run(replace(world.config, version=version))
    assert (code, message["reason"]) == (ExitCode.REFUSED, "VersionUnusable")
    assert "models/shop/churn/9-00000000" in message["message"]


def test_a_bad_store_address_is_an_error(run: Any, world: Any) -> None:
    code, message = run(replace(world.config, store=StoreConfig(uri="ftp://nowhere")))
    assert (code, message["reason"]) == (ExitCode.FAILED, "StoreUnavailable")


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [(403, ExitCode.FAILED, "PermissionDenied"), (404, ExitCode.REFUSED, "MonitorNotFound")],
)
def test_an_api_server_that_refuses_is_told_to_the_operator(
    run: Any, api: Any, answer: int, code: ExitCode, reason: str
) -> None:
    api.failures = [answer]
    found, message = run()
    assert (found, message["reason"]) == (code, reason)


def test_no_value_of_a_request_is_in_report_status_log_or_message(
    run: Any, api: Any, world: Any, rows: Rows, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    traffic = rows(200, seed=2)
    for index, row in enumerate(traffic):
        row |= {"city": f"secret-{index % 3}", "age": 4711.0815, "income": "secret-text"}
    world.send(traffic, ["secret-label"] * 100)
    _, message = run()
    written = b"".join(world.store.read(entry.path) for entry in world.store.list("reports")).decode()
    everything = written + json.dumps(api.status) + json.dumps(message) + caplog.text + "".join(capfd.readouterr())
    assert "secret" not in everything
    assert "4711" not in everything
    assert states(api)["DataQuality"] == "Breached"


def test_an_unexpected_error_is_told_without_its_text(run: Any, world: Any, api: Any, rows: Rows) -> None:
    world.send([{"age": {"nested": "secret"}, "city": ["secret"]}] * 60)
    code, message = run()
    assert "secret" not in json.dumps(message)
    assert code in (ExitCode.DONE, ExitCode.FAILED)


def test_the_module_runs_as_a_pod_does_and_imports_no_sklearn(
    world: Any, api: Any, token_file: Path, tmp_path: Path, rows: Rows
) -> None:
    world.send(rows(100, seed=2), [0] * 100)
    code = (
        "import sys, os; from modelkit.monitor.__main__ import main; code = main(os.environ);"
        "print([name for name in ('sklearn', 'plotly', 'scipy.stats', 'obstore') if name in sys.modules]);"
        "sys.exit(code)"
    )
    environ = os.environ | {
        "MODELLOOP_CONFIG": dumps(world.config),
        "MODELLOOP_WINDOW_END": "2026-03-01T12:00:00Z",
        "MODELLOOP_API_SERVER": api.url,
        "MODELLOOP_TOKEN_FILE": str(token_file),
        "MODELLOOP_TERMINATION_LOG": str(tmp_path / "termination"),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert json.loads(done.stderr.splitlines()[-1])["checks"]["Drift"] == "OK"


def test_a_version_from_before_there_were_rows_is_unknown_to_the_checks_that_need_them(
    run: Any, api: Any, world: Any, rows: Rows
) -> None:
    world.send(rows(300, seed=2))
    config = replace(world.config, multivariate=MultivariateConfig(), attribution=AttributionConfig())
    assert run(config)[0] == ExitCode.DONE
    found = {check["name"]: check for check in api.status["windows"][-1]["checks"]}
    for name in ("MultivariateDrift", "AttributionDrift"):
        assert (found[name]["state"], found[name]["rows"]) == ("Unknown", 300)
        assert found[name]["message"] == "version 3 has no reference.arrow: train again with this release"
