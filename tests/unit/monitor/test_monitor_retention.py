"""Old reports and summaries go, the newest report never, and a store that refuses costs nothing but a warning."""

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import unescape

import pytest

from modelkit.contract.config import StoreConfig, VersionRef
from modelkit.contract.files import REPORT_HTML, REPORT_JSON, report_directory, summaries_directory
from modelkit.contract.monitoring import MonitorConfig, ReportConfig
from modelkit.monitor.retention import MOST_REMOVALS, remove_old
from modelkit.store.store import Store

END = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = 86400.0
CONFIG = MonitorConfig(
    namespace="shop",
    name="churn",
    deployment="model",
    version=VersionRef(number=1, path="models/x", digest="sha256:abc"),
    version_since=END - timedelta(days=90),
    store=StoreConfig(uri="file:///x"),
    window_seconds=DAY,
    report=ReportConfig(retention_seconds=10 * DAY),
)


def paths(store: Store, folder: str = "") -> list[str]:
    return sorted(entry.path for entry in store.list(folder))


def add_report(store: Store, ago: timedelta, monitor: str = "churn") -> str:
    folder = report_directory("shop", monitor, END - ago)
    for name in (REPORT_HTML, REPORT_JSON):
        store.write(f"{folder}/{name}", b"x")
    return folder


def add_summary(store: Store, ago: timedelta, digest: str = "sha256:abc", deployment: str = "model") -> str:
    hour = (END - ago).strftime("%Y-%m-%dT%H")
    path = f"{summaries_directory('shop', deployment, digest, 'hash')}/{hour}.json"
    store.write(path, b"{}")
    return path


@contextmanager
def open_bucket(monkeypatch: pytest.MonkeyPatch, refuse: bool = False) -> Iterator[Store]:
    """As much of S3 as this needs: list, put and delete, in one bucket's memory. `refuse`: to delete anything."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    objects: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            prefix = parse_qs(urlsplit(self.path).query).get("prefix", [""])[0]
            entries = "".join(
                f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>x</ETag>"
                f"<Size>{len(data)}</Size></Contents>"
                for key, data in sorted(objects.items())
                if key.startswith(prefix)
            )
            self.answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode())

        def do_PUT(self) -> None:
            objects[self.key()] = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(200, b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if refuse:
                self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
                return
            keys = re.findall("<Key>(.*?)</Key>", body)
            for key in keys:
                objects.pop(unescape(key), None)
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            self.answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

        def key(self) -> str:
            return unquote(urlsplit(self.path).path).removeprefix("/bucket/")

        def answer(self, code: int, data: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", '"x"')
            self.end_headers()
            self.wfile.write(data)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        environ = {
            "MODELLOOP_STORE_AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "MODELLOOP_STORE_AWS_ACCESS_KEY_ID": "key",
            "MODELLOOP_STORE_AWS_SECRET_ACCESS_KEY": "secret",
        }
        yield Store.open(StoreConfig(uri="s3://bucket/prefix"), environ)
        server.shutdown()


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if request.param == "folder":
        yield Store.open(StoreConfig(uri=f"file://{tmp_path}"), {})
        return
    with open_bucket(monkeypatch) as bucket:
        yield bucket


def test_reports_older_than_the_retention_go_whole(store: Store) -> None:
    old, edge, new = (add_report(store, timedelta(days=days)) for days in (11, 10, 0))
    assert remove_old(store, CONFIG, END) == 1
    assert paths(store) == sorted(
        f"{folder}/{name}" for folder in (edge, new) for name in ("report.html", "report.json")
    )
    assert paths(store, old) == []


def test_the_newest_report_stays_however_old_it_is(store: Store) -> None:
    add_report(store, timedelta(days=60))
    newest = add_report(store, timedelta(days=50))
    assert remove_old(store, CONFIG, END) == 1
    assert paths(store) == [f"{newest}/report.html", f"{newest}/report.json"]


def test_what_is_another_monitor_s_or_no_report_of_a_window_stays(store: Store) -> None:
    add_report(store, timedelta(days=60), monitor="churn-2")
    add_report(store, timedelta(days=60), monitor="other")
    store.write("reports/shop/churn/notes/2020-01-01T00-00-00Z.txt", b"x")
    store.write("reports/shop/churn/2020-01-01/report.html", b"x")
    add_report(store, timedelta(0))
    before = paths(store)
    assert remove_old(store, CONFIG, END) == 0
    assert paths(store) == before


def test_summaries_stay_for_the_retention_and_the_window_before_it(store: Store) -> None:
    gone = [add_summary(store, timedelta(days=11, hours=1), digest) for digest in ("sha256:abc", "sha256:earlier")]
    kept = [add_summary(store, timedelta(days=11)), add_summary(store, timedelta(days=11, hours=2), deployment="other")]
    assert remove_old(store, CONFIG, END) == len(gone)
    assert paths(store) == sorted(kept)


def test_without_a_retention_everything_stays(store: Store) -> None:
    add_report(store, timedelta(days=6000))
    add_report(store, timedelta(0))
    add_summary(store, timedelta(days=6000))
    assert remove_old(store, replace(CONFIG, report=ReportConfig(retention_seconds=None)), END) == 0
    assert len(paths(store)) == 5


def test_a_long_backlog_goes_a_part_at_a_time_the_oldest_first(tmp_path: Path) -> None:
    store = Store.open(StoreConfig(uri=f"file://{tmp_path}"), {})
    for hours in range(150):
        add_report(store, timedelta(days=20, hours=hours))
    assert remove_old(store, CONFIG, END) == MOST_REMOVALS
    left = sorted({path.split("/")[3] for path in paths(store)})
    assert len(left) == 50
    assert left[0] == (END - timedelta(days=20, hours=49)).strftime("%Y-%m-%dT%H-%M-%SZ")
    assert remove_old(store, CONFIG, END) == 49
    assert remove_old(store, CONFIG, END) == 0


def test_a_folder_that_is_left_empty_goes_too(tmp_path: Path) -> None:
    store = Store.open(StoreConfig(uri=f"file://{tmp_path}"), {})
    old = add_report(store, timedelta(days=60))
    add_report(store, timedelta(0))
    remove_old(store, CONFIG, END)
    assert not (tmp_path / old).exists()


def test_a_store_that_refuses_is_only_told_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with open_bucket(monkeypatch, refuse=True) as store:
        add_report(store, timedelta(days=60))
        add_report(store, timedelta(0))
        add_summary(store, timedelta(days=60))
        with caplog.at_level(logging.WARNING):
            assert remove_old(store, CONFIG, END) == 0
        assert len(paths(store)) == 5
    assert caplog.messages == ["old reports can't be removed", "old summaries can't be removed"]
