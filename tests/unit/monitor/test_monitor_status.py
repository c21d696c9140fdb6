"""The status is written over real HTTP: idempotent, retried, and clear about what is wrong."""

import json
import ssl
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.codec import format_time
from modelkit.contract.result import CheckResult, FeatureFinding, TimelinePoint, WindowResult
from modelkit.errors import RefusedError
from modelkit.monitor.history import merge_entries
from modelkit.monitor.status import ApiServer, Limits, MonitorStatus, StatusError, StatusForbiddenError

END = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WINDOW = WindowResult(
    start=END - timedelta(hours=1),
    end=END,
    version=3,
    digest="sha256:abc",
    rows=120,
    labels=40,
    checks=(
        CheckResult(
            name="Drift",
            state="Breached",
            message="1 of 4 features drifted",
            value=0.25,
            limit=0.0,
            rows=120,
            worst=(FeatureFinding(name="age", value=1.5),),
        ),
        CheckResult(name="Quality", state="Unknown", message="no feedback"),
    ),
    report="reports/shop/churn-monitor/2026-03-01T12-00-00Z/report.html",
)
POINT = TimelinePoint(end=END, version=3, state="Breached", rows=120, labels=40, feature="age", drift=1.5, quality=0.9)
NO_DELAYS = (0.0,) * 6


def server_of(api: Any, token_file: Path) -> ApiServer:
    return ApiServer(url=api.url, token_file=token_file, ca_file=None)


def status_at(server: ApiServer, delays: tuple[float, ...] = NO_DELAYS) -> MonitorStatus:
    return MonitorStatus(server=server, namespace="shop", name="churn-monitor", delays=delays)


def write(api: Any, token_file: Path, window: WindowResult = WINDOW, limit: int = 10, now: datetime = END) -> None:
    point = replace(POINT, end=window.end)
    status_at(server_of(api, token_file)).write(window, point, Limits(windows=limit, points=60), now)


def test_a_window_is_applied_server_side_to_the_status_of_that_monitor_only(api: Any, token_file: Path) -> None:
    write(api, token_file)
    (read, read_path, headers, _), (method, path, _, body) = api.requests
    base = "/apis/modelloop.dev/v1alpha1/namespaces/shop/modelmonitors/churn-monitor/status"
    assert (read, read_path) == ("GET", base)
    assert (method, path) == ("PATCH", f"{base}?fieldManager=modelloop-monitor&force=true")
    assert headers["Authorization"] == "Bearer a-token"
    assert api.requests[1][2]["Content-Type"] == "application/apply-patch+yaml"
    assert set(body) == {"apiVersion", "kind", "metadata", "status"}
    assert body["status"]["windows"] == [
        {
            "start": "2026-03-01T11:00:00Z",
            "end": "2026-03-01T12:00:00Z",
            "version": 3,
            "digest": "sha256:abc",
            "rows": 120,
            "labels": 40,
            "checks": [
                {
                    "name": "Drift",
                    "state": "Breached",
                    "message": "1 of 4 features drifted",
                    "value": 0.25,
                    "limit": 0.0,
                    "rows": 120,
                    "worst": [{"name": "age", "value": 1.5}],
                },
                {"name": "Quality", "state": "Unknown", "message": "no feedback", "rows": 0, "worst": []},
            ],
            "report": "reports/shop/churn-monitor/2026-03-01T12-00-00Z/report.html",
        }
    ]
    assert body["status"]["timeline"] == [
        {
            "end": "2026-03-01T12:00:00Z",
            "version": 3,
            "state": "Breached",
            "rows": 120,
            "labels": 40,
            "feature": "age",
            "drift": 1.5,
            "quality": 0.9,
        }
    ]
    assert set(body["status"]) == {"windows", "timeline"}


def test_writing_a_window_twice_leaves_it_once(api: Any, token_file: Path) -> None:
    write(api, token_file)
    first = json.dumps(api.status)
    write(api, token_file)
    assert json.dumps(api.status) == first


def test_the_newest_windows_are_kept_oldest_first(api: Any, token_file: Path) -> None:
    for minutes in (0, 10, 5, 20, 15):
        write(api, token_file, replace(WINDOW, end=END + timedelta(minutes=minutes)), limit=3)
    ends = [window["end"] for window in api.status["windows"]]
    assert ends == [format_time(END + timedelta(minutes=minutes)) for minutes in (10, 15, 20)]


def test_the_timeline_remembers_more_than_the_windows(api: Any, token_file: Path) -> None:
    for minutes in range(8):
        write(api, token_file, replace(WINDOW, end=END + timedelta(minutes=minutes)), limit=3)
    assert (len(api.status["windows"]), len(api.status["timeline"])) == (3, 8)


def test_a_window_of_a_clock_that_was_ahead_does_not_stay_the_newest(api: Any, token_file: Path) -> None:
    ahead = END + timedelta(days=365)
    write(api, token_file, replace(WINDOW, end=ahead), now=ahead)
    assert [window["end"] for window in api.status["windows"]] == [format_time(ahead)]
    write(api, token_file)
    assert [window["end"] for window in api.status["windows"]] == [format_time(END)]
    assert [point["end"] for point in api.status["timeline"]] == [format_time(END)]
    write(api, token_file, replace(WINDOW, end=END + timedelta(minutes=59)))
    assert len(api.status["windows"]) == 2


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(0, 30), st.integers(1, 10))
def test_merging_is_idempotent_bounded_and_sorted(ends: list[int], end: int, limit: int) -> None:
    windows = [{"end": format_time(END + timedelta(minutes=minutes)), "rows": 1} for minutes in ends]
    window = {"end": format_time(END + timedelta(minutes=end)), "rows": 2}
    merged = merge_entries(windows, window, limit, END)
    assert merge_entries(merged, window, limit, END) == merged
    assert len(merged) <= limit
    assert [item["end"] for item in merged] == sorted({item["end"] for item in merged})


@pytest.mark.parametrize("failure", [409, 429, 500, 503, 504, "hang up"])
def test_what_may_pass_is_tried_again(api: Any, token_file: Path, failure: int | str) -> None:
    api.failures = [failure, 200, failure]
    write(api, token_file)
    assert len(api.status["windows"]) == 1


def test_a_window_that_another_pod_wrote_meanwhile_is_kept(api: Any, token_file: Path) -> None:
    api.failures = ["write"]
    api.status = {"windows": [{"end": "2026-03-01T11:30:00Z"}]}
    write(api, token_file)
    assert [method for method, *_ in api.requests] == ["GET", "PATCH", "GET", "PATCH"]
    assert len(api.status["windows"]) == 2


def test_after_the_last_attempt_the_error_names_monitor_and_cause(api: Any, token_file: Path) -> None:
    api.failures = [503] * 50
    with pytest.raises(StatusError, match=r"shop/churn-monitor .* after 7 attempts: .* 503: told to answer 503"):
        write(api, token_file)


def test_a_missing_right_names_the_right(api: Any, token_file: Path) -> None:
    api.failures = [403]
    with pytest.raises(StatusForbiddenError, match=r"shop/churn-monitor \(403.* needs get and patch on modelmonitors"):
        write(api, token_file)
    assert len(api.requests) == 1


def test_a_monitor_that_is_gone_is_refused(api: Any, token_file: Path) -> None:
    api.failures = [404]
    with pytest.raises(RefusedError, match=r"there is no ModelMonitor shop/churn-monitor"):
        write(api, token_file)


def test_another_refusal_is_passed_on_in_the_server_s_words(api: Any, token_file: Path) -> None:
    api.failures = [200, 422]
    with pytest.raises(StatusError, match=r"\(422\): told to answer 422"):
        write(api, token_file)


def test_a_pod_without_a_token_says_what_it_needs(api: Any, tmp_path: Path) -> None:
    with pytest.raises(StatusForbiddenError, match="automountServiceAccountToken"):
        write(api, tmp_path / "missing")


def test_nobody_listening_is_tried_again_and_then_an_error(token_file: Path) -> None:
    server = ApiServer(url="http://127.0.0.1:1", token_file=token_file, ca_file=None)
    with pytest.raises(StatusError, match=r"after 2 attempts: GET http://127\.0\.0\.1:1: ConnectionRefusedError"):
        status_at(server, (0.0,)).read()


# -- where the API server is --------------------------------------------------------------------------------------


def test_the_pod_s_own_api_server_is_found() -> None:
    server = ApiServer.from_environment({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"})
    assert server.url == "https://10.0.0.1:6443"
    assert str(server.ca_file) == "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    assert ApiServer.from_environment({"KUBERNETES_SERVICE_HOST": "fd00::1"}).url == "https://[fd00::1]:443"


def test_outside_of_a_pod_the_variable_is_named() -> None:
    with pytest.raises(RefusedError, match="MODELLOOP_API_SERVER"):
        ApiServer.from_environment({})


def build_certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "apiserver")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "ca.crt", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(key.private_bytes(*pem))
    return paths


def test_the_server_is_trusted_by_the_given_certificate_and_by_no_other(
    api: Any, token_file: Path, tmp_path: Path
) -> None:
    ca_file, key_file = build_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    other_ca, _ = build_certificate(tmp_path / "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca_file, key_file)
    with ThreadingHTTPServer(("127.0.0.1", 0), api.handler) as https:
        https.socket = context.wrap_socket(https.socket, server_side=True)
        thread = threading.Thread(target=https.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            server = ApiServer(url=f"https://127.0.0.1:{https.server_port}", token_file=token_file, ca_file=ca_file)
            status_at(server).read()
            with pytest.raises(StatusError, match="isn't trusted by"):
                status_at(replace(server, ca_file=other_ca)).read()
        finally:
            https.shutdown()
            thread.join()
    assert len(api.requests) == 1
