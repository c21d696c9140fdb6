"""Whoever wants to be told hears of a change once, over real HTTP, and nothing secret gets anywhere else."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from modelkit.contract.config import StoreConfig, VersionRef
from modelkit.contract.monitoring import MonitorConfig, NotifyConfig
from modelkit.contract.result import CheckResult, FeatureFinding, WindowResult
from modelkit.monitor import notify
from modelkit.monitor.history import History, PastWindow, Retrain, Rollback
from modelkit.monitor.notify import build_message, decide_notification, notification_id, send
from tests.unit.monitor.webhooks import PATH, Receiver, serve
from tests.unit.store.store_servers import make_certificate

END = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
TOKEN = "very-secret-token"
CONFIG = MonitorConfig(
    namespace="shop",
    name="churn-monitor",
    deployment="churn",
    version=VersionRef(number=3, path="models/x", digest="sha256:abc"),
    version_since=END - timedelta(days=1),
    store=StoreConfig(uri="file:///x"),
    window_seconds=3600,
)
DRIFT = CheckResult(
    name="Drift",
    state="Breached",
    message="1 of 4 features drifted; worst: 'a<b&c>' PSI 1.5 > 0.2",
    value=0.25,
    limit=0.0,
    rows=120,
    worst=(FeatureFinding(name="a<b&c>", value=1.5),),
)
FINE = CheckResult(name="Drift", state="OK", message="0 of 4 features drifted")
QUALITY = CheckResult(name="Quality", state="Breached", message="drop 0.2 > 0.05", value=0.2, limit=0.05)
REPORT = "reports/shop/churn-monitor/2026-03-01T12-00-00Z/report.html"


def window(*checks: CheckResult, digest: str = "sha256:abc") -> WindowResult:
    return WindowResult(
        start=END - HOUR, end=END, version=3, digest=digest, rows=120, labels=40, checks=checks, report=REPORT
    )


def past(ago: int = 1, digest: str = "sha256:abc", **states: str) -> PastWindow:
    return PastWindow(end=END - ago * HOUR, version=3, digest=digest, states=states)


def reasons(found: WindowResult, *windows: PastWindow, **known: Any) -> tuple[str, ...]:
    notification = decide_notification(found, History(windows=windows, **known))
    return () if notification is None else notification.reasons


# -- when -----------------------------------------------------------------------------------------------------------


def test_the_first_window_of_a_version_is_told_only_when_it_is_breached() -> None:
    assert reasons(window(DRIFT)) == ("StateChanged",)
    assert reasons(window(FINE)) == ()
    assert reasons(window(FINE), past(digest="sha256:old", Drift="Breached")) == ()
    assert reasons(window(DRIFT), past(digest="sha256:old", Drift="Breached")) == ("StateChanged",)


def test_a_state_that_lasts_is_told_once() -> None:
    assert reasons(window(DRIFT), past(Drift="Breached")) == ()
    assert reasons(window(FINE), past(Drift="OK")) == ()
    assert reasons(window(DRIFT), past(2, Drift="OK"), past(1, Drift="Breached")) == ()


def test_a_change_is_told_either_way() -> None:
    assert reasons(window(DRIFT), past(Drift="OK")) == ("StateChanged",)
    assert reasons(window(FINE), past(Drift="Breached")) == ("StateChanged",)
    assert reasons(window(FINE), past(Drift="Unknown")) == ("StateChanged",)


def test_other_breached_checks_are_told_though_the_state_is_the_same() -> None:
    assert reasons(window(DRIFT, QUALITY), past(Drift="Breached", Quality="OK")) == ("ChecksChanged",)
    assert reasons(window(FINE, QUALITY), past(Drift="Breached", Quality="Breached")) == ("ChecksChanged",)


def retrain_at(time: datetime) -> Retrain:
    return Retrain(id="r", time=time, reason="2 of 3 windows", since=END - 3 * HOUR, until=END, policy="Append")


@pytest.mark.parametrize(("minutes", "told"), [(-61, False), (-60, False), (-59, True), (0, True), (1, False)], ids=str)
def test_a_request_is_told_by_the_first_window_that_ends_after_it(minutes: int, told: bool) -> None:
    time = END + timedelta(minutes=minutes)
    rollback = Rollback(digest="sha256:abc", time=time, reason="alarm")
    assert reasons(window(FINE), past(Drift="OK"), retrain=retrain_at(time)) == (("RetrainRequested",) if told else ())
    assert reasons(window(FINE), past(Drift="OK"), rollback=rollback) == (("RollbackRequested",) if told else ())


def test_a_request_is_told_by_the_next_version_s_window_too() -> None:
    known = retrain_at(END - timedelta(minutes=30))
    assert reasons(window(FINE), past(digest="sha256:old", Drift="OK"), retrain=known) == ("RetrainRequested",)


# -- what -----------------------------------------------------------------------------------------------------------


def message_of(config: MonitorConfig = CONFIG, **known: Any) -> dict[str, Any]:
    notification = decide_notification(window(DRIFT), History(windows=(past(Quality="OK", Drift="OK"),), **known))
    assert notification is not None
    return build_message(config, notification)


def test_the_message_tells_programs_everything() -> None:
    found = message_of(retrain=retrain_at(END))
    text = found.pop("text")
    assert found == {
        "format": 1,
        "id": "shop/churn-monitor/2026-03-01T12:00:00Z",
        "reasons": ["StateChanged", "RetrainRequested"],
        "namespace": "shop",
        "monitor": "churn-monitor",
        "deployment": "churn",
        "version": 3,
        "digest": "sha256:abc",
        "start": "2026-03-01T11:00:00Z",
        "end": "2026-03-01T12:00:00Z",
        "rows": 120,
        "labels": 40,
        "state": "Breached",
        "previousState": "OK",
        "breached": [
            {
                "name": "Drift",
                "message": DRIFT.message,
                "value": 0.25,
                "limit": 0.0,
                "rows": 120,
                "worst": [{"name": "a<b&c>", "value": 1.5}],
            }
        ],
        "recovered": [],
        "retrain": {
            "id": "r",
            "time": "2026-03-01T12:00:00Z",
            "reason": "2 of 3 windows",
            "since": "2026-03-01T09:00:00Z",
            "until": "2026-03-01T12:00:00Z",
            "policy": "Append",
        },
        "rollback": None,
        "report": REPORT,
    }
    assert text.splitlines() == [
        "Model monitor shop/churn-monitor: Breached (was OK), deployment churn, version 3, 120 rows until "
        "2026-03-01T12:00:00Z",
        "• Drift is Breached: 1 of 4 features drifted; worst: 'a<b&c>' PSI 1.5 > 0.2",
        "• a retrain was asked for: 2 of 3 windows",
        f"Report: {REPORT}",
    ]


def test_a_recovery_names_the_checks_that_are_ok_again() -> None:
    notification = decide_notification(window(FINE), History(windows=(past(Drift="Breached", Quality="Breached"),)))
    assert notification is not None
    found = build_message(CONFIG, notification)
    assert (found["previousState"], found["state"], found["recovered"]) == ("Breached", "OK", ["Drift"])
    assert "• no longer Breached: Drift" in found["text"]


def test_slack_gets_a_text_in_which_a_name_is_no_markup() -> None:
    config = replace(CONFIG, notify=NotifyConfig(directory="/x", format="Slack"))
    found = message_of(config)
    assert set(found) == {"text"}
    assert "'a&lt;b&amp;c&gt;' PSI 1.5 &gt; 0.2" in found["text"]


# -- how ------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    with serve(found):
        yield found


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    folder = tmp_path / "secret"
    folder.mkdir()
    return folder


def tell(secret: Path, url: str, token: str = "") -> str | None:
    (secret / "url").write_text(f"{url}\n")
    if token:
        (secret / "token").write_text(f"{token}\n")
    message = message_of()
    return send(NotifyConfig(directory=str(secret)), message, notification_id(CONFIG, END), (0.0, 0.0))


def test_the_message_arrives_with_a_key_that_is_the_same_each_time(receiver: Receiver, secret: Path) -> None:
    assert tell(secret, receiver.url, TOKEN) is None
    assert tell(secret, receiver.url, TOKEN) is None
    path, headers, body = receiver.requests[0]
    assert path == PATH
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["Idempotency-Key"] == body["id"] == "shop/churn-monitor/2026-03-01T12:00:00Z"
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert receiver.requests[1][2] == body


def test_without_a_token_none_is_sent(receiver: Receiver, secret: Path) -> None:
    assert tell(secret, receiver.url) is None
    assert "Authorization" not in receiver.requests[0][1]


@pytest.mark.parametrize("answer", [500, 503, 429, "hang up"])
def test_what_may_pass_is_tried_again(receiver: Receiver, secret: Path, answer: int | str) -> None:
    receiver.answers = [answer, answer]
    assert tell(secret, receiver.url) is None
    assert len(receiver.requests) == 3


def test_after_three_attempts_it_is_left(receiver: Receiver, secret: Path) -> None:
    receiver.answers = [500] * 9
    assert tell(secret, receiver.url) == "the webhook answered 500"
    assert len(receiver.requests) == 3


@pytest.mark.parametrize("answer", [400, 401, 404, 410])
def test_a_refusal_is_not_repeated(receiver: Receiver, secret: Path, answer: int) -> None:
    receiver.answers = [answer]
    assert tell(secret, receiver.url) == f"the webhook answered {answer}"
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("answer", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, secret: Path, answer: int) -> None:
    receiver.answers = [answer]
    assert tell(secret, receiver.url, TOKEN) == f"the webhook answered {answer}: redirects aren't followed"
    assert [path for path, _, _ in receiver.requests] == [PATH]


def test_one_that_does_not_answer_in_time_is_left(
    receiver: Receiver, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "TIMEOUT_SECONDS", 0.1)
    receiver.answers = ["sleep"] * 3
    assert tell(secret, receiver.url) == "the webhook can't be reached: TimeoutError"
    assert len(receiver.requests) == 3


def test_nobody_listening_is_a_warning_without_the_address(secret: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        problem = tell(secret, f"http://127.0.0.1:1{PATH}", TOKEN)
    assert problem == "the webhook can't be reached: ConnectionRefusedError"
    assert [record.message for record in caplog.records] == ["nobody was told"]


def test_an_authority_of_one_s_own_is_trusted_and_no_other(tmp_path: Path, secret: Path) -> None:
    certificate, authority = make_certificate(tmp_path)
    receiver = Receiver()
    with serve(receiver, certificate):
        assert tell(secret, receiver.url, TOKEN) == "the webhook's certificate isn't trusted"
        assert receiver.requests == []
        (secret / "ca.crt").write_text(authority)
        assert tell(secret, receiver.url, TOKEN) is None
        assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("url", "token", "problem"),
    [
        ("file:///etc/passwd", "", "`url` must be an address that begins with https:// or http://"),
        ("very-secret-path", "", "`url` must be an address that begins with https:// or http://"),
        ("http://[very-secret-path", "", "ValueError"),
        ("", "", "`url` must be an address that begins with https:// or http://"),
        ("http://127.0.0.1:1/", "very-secret\nX-Header: 1", "`token` must be one line of ASCII characters"),
        ("http://127.0.0.1:1/", "very-secret-tökèn", "`token` must be one line of ASCII characters"),
    ],
)
def test_a_secret_that_can_not_be_used_is_explained_but_not_told(
    secret: Path, caplog: pytest.LogCaptureFixture, url: str, token: str, problem: str
) -> None:
    found = tell(secret, url, token)
    assert found == f"the webhook's Secret can't be used: {problem}"
    assert "very-secret" not in caplog.text + str([record.__dict__ for record in caplog.records])


def test_an_address_that_no_client_can_use_is_not_told_either(secret: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = tell(secret, "http://127.0.0.1:very-secret/ very-secret")
    assert found is not None
    assert "very-secret" not in found + caplog.text + str([record.__dict__ for record in caplog.records])


def test_a_secret_without_an_address_says_which_key_it_needs(secret: Path) -> None:
    assert send(NotifyConfig(directory=str(secret)), {}, "key") == (
        "the webhook's Secret can't be used: it has no key `url`"
    )
